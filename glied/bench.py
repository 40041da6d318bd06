"""Speed, always beside what this machine can do in the same run: figures are ratios, not promises."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from glied.config import preset
from glied.decode import DecodeOptions, beam_search
from glied.model import Inputs, Keys, Memory, build, explicit
from glied.vocabulary import BOS, SPECIAL, Vocabulary

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
    """Beam search as the field writes it: memory repeated for every beam, explicit attention, a full sort of the
    vocabulary. The yardstick, and a second opinion on the scores.

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
