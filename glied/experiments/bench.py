"""Speed, always beside what this machine can do in the same run: figures are ratios, not promises."""

import math
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from glied.baselines.build import build
from glied.captions import DecodeOptions
from glied.config import preset
from glied.data.split import encode_captions
from glied.data.texts import read_texts
from glied.decode import beam_search, draw
from glied.model import Inputs, Keys, Memory, explicit
from glied.training.cross_entropy import live_words
from glied.training.cross_entropy import step_loss as xe_loss
from glied.training.loop import fastest
from glied.training.material import hide
from glied.training.options import ReinforceOptions, TrainOptions
from glied.training.reward import CiderD
from glied.training.self_critical import ended, references, rewards
from glied.training.self_critical import step_loss as rl_loss
from glied.vocabulary import BOS, EOS, SPECIAL, Vocabulary, tokenize

# COCO's vocabulary, Bottom-Up regions, 49 attributes, 16 steps (EOS is the last).
V, N, R, M, STEPS = 9487, 36, 2048, 49, 16
BEAMS, BATCHES = (1, 3, 5), (1, 10, 50)


def seconds(work: Callable[[], Any], least: float = 1.0) -> float:
    """Best time of one call over at least three calls and `least` seconds."""
    times: list[float] = []
    work()
    while len(times) < 3 or sum(times) < least:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def machine() -> dict[str, float]:
    """GFLOP/s of a large float32 matrix product, and GB/s of reading memory."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    big = torch.randn(64 * 2**20)  # 256 MB, far beyond every cache
    return {"gflops": 2 * 2048**3 / seconds(lambda: a @ b) / 1e9, "gb_per_s": big.numel() * 4 / seconds(big.sum) / 1e9}


def operations(batch: int, beam: int, d: int = 512) -> float:
    """Floating-point operations of decoding a batch with GLIED (two per multiply-add)."""
    image = R * N * d + 4 * N * d * d + 2 * N * N * d + 4 * (N + M) * d * d
    tokens = sum(12 * d * d + 2 * (2 * N + 2 * M + t) * d + d * V for t in range(1, STEPS + 1))
    # the first step has one hypothesis
    first = 12 * d * d + 2 * (2 * N + 2 * M + 1) * d + d * V
    return 2.0 * batch * (image + first + beam * (tokens - first))


@torch.inference_mode()
def plain_beam_search(model: Any, inputs: Inputs, beam: int) -> torch.Tensor:
    """Beam search as it is usually written: memory repeated for every beam, explicit attention, a full sort of the
    vocabulary. It is what ours is compared with, and checks the scores.

    Returns:
        [B, beam] log-probabilities after STEPS words, best first.
    """
    B = len(inputs.features)
    memory = model.encode(inputs)
    keys = {
        n: Keys(k.key.repeat_interleave(beam, 0), k.value.repeat_interleave(beam, 0)) for n, k in memory.keys.items()
    }
    memory = Memory(memory.regions, memory.attributes, memory.groupings, keys, {})
    tokens = torch.full((B * beam, 1, 1), BOS)
    scores = torch.tensor([0.0] + [-torch.inf] * (beam - 1)).repeat(B)
    cache = None
    for _ in range(STEPS):
        output = model(tokens[..., -1:], memory, cache, explicit)
        log_p = functional.linear(output.c_tilde[:, 0, 0], model.embedding, model.bias).log_softmax(-1)
        log_p[:, : len(SPECIAL)] = -torch.inf
        total, order = (scores[:, None] + log_p).view(B, -1).sort(-1, descending=True)
        parents = (order[:, :beam] // V + torch.arange(B)[:, None] * beam).flatten()
        scores = total[:, :beam].flatten()
        tokens = torch.cat([tokens[parents], (order[:, :beam] % V).view(-1, 1, 1)], -1)
        cache = Keys(output.cache.key[parents], output.cache.value[parents])
    return scores.view(B, beam)


def decode() -> dict[str, Any]:
    """Images per second of GLIED's beam search, its share of this machine's limits, and the plain version's."""
    torch.manual_seed(0)
    model = build(preset("glied", V, R)).eval()
    words = Vocabulary(SPECIAL + tuple(f"w{i}" for i in range(V - len(SPECIAL))))
    limits = machine()
    # bytes of weights that a step reads: query and output matrices, the key and value of x, E
    weights = 4 * (12 * 512**2 + 512 * V)
    rows = []
    for batch in BATCHES:
        inputs = Inputs(torch.randn(batch, N, R).relu(), None, torch.randint(4, V, (batch, M)), None)
        for beam in BEAMS:
            options = DecodeOptions(beam=beam, min_length=STEPS - 1, max_length=STEPS - 1, no_repeat_ngram=0)

            @torch.inference_mode()
            def ours(inputs: Inputs = inputs, options: DecodeOptions = options) -> Any:
                return beam_search(model, model.encode(inputs), words, options)

            fast = seconds(ours)
            plain = seconds(partial(plain_beam_search, model, inputs, beam))
            rows.append(
                {
                    "batch": batch,
                    "beam": beam,
                    "images_per_s": batch / fast,
                    "times_plain": plain / fast,
                    "share_of_gflops": operations(batch, beam) / fast / 1e9 / limits["gflops"],
                    "share_of_bandwidth": weights * STEPS / fast / 1e9 / limits["gb_per_s"],
                }
            )
    return {"machine": limits, "threads": torch.get_num_threads(), "rows": rows}


def reward(images: int = 2000) -> dict[str, Any]:
    """CIDEr-D on ids against pycocoevalcap's CIDEr, five captions of each COCO image: its own, each without every
    fourth word.

    Returns:
        `speedup`, with the references prepared, as from the second epoch of training on; `speedup_unprepared`, with
        their preparation; `max_difference` of any caption's score; microseconds per caption of both.
    """
    from pycocoevalcap.cider.cider import Cider

    texts = [
        [tokenize(caption) for caption in text[:5]] for text in list(read_texts("coco").captions.values())[:images]
    ]
    vocabulary = Vocabulary.build((words for text in texts for words in text), 1)
    spoken = [[[word for i, word in enumerate(words) if i % 4 < 3] for words in text] for text in texts]
    captions = [[vocabulary.encode(words) for words in text] for text in spoken]
    cider = CiderD([[vocabulary.encode(words) for words in text] for text in texts], len(texts))
    gts = {i: [" ".join(words) for words in text] for i, text in enumerate(texts)}
    res = [{i: [" ".join(text[c])] for i, text in enumerate(spoken)} for c in range(5)]

    def ours() -> list[np.ndarray]:
        return [cider.score(i, captions[i]) for i in range(len(texts))]

    def theirs() -> list[Any]:
        with redirect_stdout(StringIO()):
            return [Cider().compute_score(gts, each)[1] for each in res]

    start = time.perf_counter()
    found = torch.tensor(np.array(ours()))
    unprepared = time.perf_counter() - start
    times = [(seconds(ours), seconds(theirs, 0.0)) for _ in range(2)]  # in turn: other work slows both
    fast, slow = (min(column) for column in zip(*times, strict=True))
    count = found.numel()
    return {
        "captions": count,
        "speedup": slow / fast,
        "speedup_unprepared": slow / unprepared,
        "max_difference": (found.T - torch.tensor(np.array(theirs()))).abs().max().item(),
        "microseconds": fast / count * 1e6,
        "microseconds_pycocoevalcap": slow / count * 1e6,
    }


def reward_table(result: dict[str, Any]) -> str:
    """The figures, one per line."""
    return "\n".join(f"{name:26s} {value:.4g}" for name, value in result.items())


STEP = {"images": 10, "captions": 5, "regions": N, "d": 512}  # of a training step; each is varied in turn
VARIED = {"images": (5, 20), "captions": (2, 10), "regions": (10, 100), "d": (256, 1024)}


def train(images: int = 2000) -> dict[str, Any]:
    """Seconds of a cross-entropy step and of a self-critical step, for Base and GLIED, and the share of the latter that
    rewards take. Captions and vocabulary are COCO's. Features, attributes and weights are random, except that EOS is
    made as likely as in captions of ten words."""
    texts = [
        [tokenize(caption) for caption in text[:5]] * 2 for text in list(read_texts("coco").captions.values())[:images]
    ]
    vocabulary = Vocabulary.build((words for text in texts for words in text), 2)
    cider = CiderD([references(text[:5], vocabulary) for text in texts])
    rows = []
    cases = [STEP] + [STEP | {name: value} for name, values in VARIED.items() for value in values]
    for architecture in ("base", "glied"):
        for case in cases:
            rows.append({"model": architecture, **case, **_steps(architecture, case, texts, vocabulary, cider)})
    return {
        "threads": torch.get_num_threads(),
        "precision": fastest(),
        "vocabulary": len(vocabulary),
        "rows": rows,
    }


def _steps(
    architecture: str, case: dict[str, int], texts: list[list[list[str]]], vocabulary: Vocabulary, cider: CiderD
) -> dict[str, float]:
    torch.manual_seed(0)
    config = replace(preset(architecture, len(vocabulary), R), d=case["d"], heads=case["d"] // 64)
    model = build(config)
    with torch.no_grad():
        model.embedding.mul_(0.1)  # words about equally likely
        model.bias[EOS] = math.log(len(vocabulary) / 10)
    B, C = case["images"], case["captions"]
    tokens = encode_captions(texts[:B], vocabulary, config.max_length, C)
    features = torch.randn(B, case["regions"], R).relu()
    inputs = hide(Inputs(features, None, torch.randint(4, len(vocabulary), (B, M)), None), 0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    xe = TrainOptions(precision=fastest())  # on the CPU, whatever else is there
    rl = ReinforceOptions(samples=max(2, C), precision=fastest())

    def step(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    images = list(range(B))
    slow = seconds(lambda: step(rl_loss(model, inputs, images, cider, vocabulary, B * rl.samples, rl)[0]))
    with torch.no_grad():
        samples = ended(
            draw(model, model.encode(inputs), DecodeOptions(method="sample", n_best=C, no_repeat_ngram=0))[0]
        )
    return {
        "xe_seconds": seconds(lambda: step(xe_loss(model, inputs, tokens, live_words(tokens), xe))),
        "rl_seconds": slow,
        "reward_share": seconds(lambda: rewards(cider, images, samples)) / slow,
        "sampled_words": sum(map(len, samples)) / len(samples) - 1,
    }


def train_table(result: dict[str, Any]) -> str:
    """The steps as a table to read."""
    lines = [
        f"{result['precision']}, {result['threads']} threads",
        "model  images captions regions    d   XE s   RL s  RL / XE  reward's share of RL",
    ]
    lines += [
        f"{r['model']:6s} {r['images']:6d} {r['captions']:8d} {r['regions']:7d} {r['d']:4d} {r['xe_seconds']:6.3f} "
        f"{r['rl_seconds']:6.3f} {r['rl_seconds'] / r['xe_seconds']:8.2f} {r['reward_share']:21.1%}"
        for r in result["rows"]
    ]
    return "\n".join(lines)


def table(result: dict[str, Any]) -> str:
    """The figures as a table to read."""
    limits = result["machine"]
    lines = [
        f"float32, {result['threads']} threads; this machine now: {limits['gflops']:.0f} GFLOP/s in a large matrix "
        f"product, {limits['gb_per_s']:.0f} GB/s reading memory",
        "batch beam  images/s  times the plain version  of matrix rate  of bandwidth",
    ]
    lines += [
        f"{r['batch']:5d} {r['beam']:4d} {r['images_per_s']:9.1f} {r['times_plain']:24.2f} "
        f"{r['share_of_gflops']:15.0%} {r['share_of_bandwidth']:13.0%}"
        for r in result["rows"]
    ]
    return "\n".join(lines)
