"""(model, scenes) -> captions: beam search, greedy, sampling.

The photograph's memory is computed once and shared by its beams; the context attention's cache is the only
state that follows a beam, so it alone is reordered. PAD, BOS and UNK are never produced, and a caption of
`max_length` words is closed by EOS, so every caption has the probability of a whole sentence.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.batch import stack
from glied.captions import BeamHistory, Caption, Decoded, DecodeOptions, rank
from glied.checkpoint import Checkpoint
from glied.errors import GliedError
from glied.model import Captioner, Keys, Memory, fused
from glied.scene import Scene, same_source
from glied.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, Vocabulary

NEVER = (PAD, BOS, UNK)
IMPOSSIBLE = "No caption satisfies min_length together with max_length and no_repeat_ngram; relax one of them."


def caption(
    checkpoint: Checkpoint,
    scenes: Sequence[Scene],
    options: DecodeOptions = DecodeOptions(),
    history: bool = False,
    prefix: Sequence[str] = (),
) -> list[Decoded]:
    """Captions of a batch of scenes; `history` keeps every candidate of beam search, `prefix` forces the first words.

    Raises:
        GliedError: a scene whose regions are not of the source that the checkpoint was trained on, or a prefix that the
            captioner cannot say.
    """
    if strange := [word for word in prefix if word not in checkpoint.vocabulary or word in SPECIAL]:
        raise GliedError(f"Expected words that the captioner knows, got {strange[0]}; choose another.")
    longest = options.max_length or checkpoint.model.config.max_length
    if len(prefix) > longest:
        raise GliedError(f"Expected at most {longest} words to begin with, got {len(prefix)}; take fewer.")
    for scene in scenes:
        if not same_source(scene.regions.source, checkpoint.source):
            raise GliedError(
                f"Expected regions of {checkpoint.source}, which this checkpoint was trained on, got "
                f"{scene.regions.source}; use that source or another checkpoint."
            )
    with torch.inference_mode():
        memory = checkpoint.model.encode(stack(scenes, checkpoint.vocabulary))
        if options.method == "sample":
            return sample(checkpoint.model, memory, checkpoint.vocabulary, options, prefix)
        return beam_search(checkpoint.model, memory, checkpoint.vocabulary, options, history, prefix)


def forbid(logits: Float[Tensor, "B C V"], tokens: Int[Tensor, "B C T"], options: DecodeOptions, last: int) -> Tensor:
    """`logits` with -inf at every word that may not come after `tokens` (BOS first)."""
    for word in NEVER:  # one at a time: a list would be copied to the GPU, which would be waited for
        logits[..., word] = -torch.inf
    words = tokens.shape[-1] - 1
    if words < options.min_length:
        logits[..., EOS] = -torch.inf
    n = options.no_repeat_ngram
    if n and words >= n:
        grams = tokens[..., 1:].unfold(-1, n, 1)
        seen = (grams[..., :-1] == tokens[..., None, tokens.shape[-1] - n + 1 :]).all(-1)
        seen &= grams[..., -1] != EOS  # a finished sample goes on repeating EOS
        # where nothing was seen, point at BOS, which is forbidden already
        logits.scatter_(-1, torch.where(seen, grams[..., -1], BOS), -torch.inf)
    if words == last:
        ended = logits[..., EOS].clone()
        logits.fill_(-torch.inf)
        logits[..., EOS] = ended
    return logits


def follow(cache: Keys, parents: Int[Tensor, "B K"]) -> Keys:
    """The cache of each hypothesis's parent."""
    index = parents[:, :, None, None, None]
    take = lambda t: t.gather(1, index.expand(-1, -1, *t.shape[2:]))  # noqa: E731
    return Keys(take(cache.key), take(cache.value))


def beam_search(
    model: Captioner,
    memory: Memory,
    vocabulary: Vocabulary,
    options: DecodeOptions,
    history: bool = False,
    prefix: Sequence[str] = (),
) -> list[Decoded]:
    """The best hypotheses of each photograph that begin with `prefix`.

    Stops once no unfinished hypothesis can still enter the `n_best`. These are those that a search to the longest
    length would end with, except that a beam of 1 is greedy: it ends where EOS is the likeliest word.
    """
    K = 1 if options.method == "greedy" else options.beam
    last = options.max_length or model.config.max_length
    B = len(memory.regions)
    tokens = torch.full((B, 1, 1), BOS, device=memory.regions.device)
    scores = torch.zeros(B, 1, device=tokens.device)
    forced = torch.tensor(vocabulary.encode(prefix), device=tokens.device)[:, None]
    cache: Keys | None = None
    finished: list[list[tuple[float, float, list[int]]]] = [[] for _ in range(B)]
    steps: list[list[tuple]] = [[] for _ in range(B)]
    done = [False] * B
    for length in range(last + 1):
        output = model(tokens[..., -1:], memory, cache, fused)
        logits = model.logits(output.c_tilde[:, :, 0])
        norm = logits.logsumexp(-1, keepdim=True)
        if length < len(prefix):
            logits = torch.full_like(logits, -torch.inf).index_copy(-1, forced[length], logits[..., forced[length]])
        else:
            logits = forbid(logits, tokens, options, last)
        best, words = logits.topk(min(2 * K, logits.shape[-1]), -1)
        total = (scores[..., None] + best - norm).flatten(1)
        ranked, order = total.topk(min(2 * K, total.shape[1]), -1)
        parents, words = order // best.shape[-1], words.flatten(1).gather(1, order)
        # An EOS among the first K finishes; the K best of the others live on.
        ends = words == EOS
        place = torch.arange(words.shape[1], device=tokens.device)
        live = torch.where(ends, len(place), 0) + place
        keep = live.argsort(-1)[:, :K]
        alive = ~ends & ranked.isfinite()
        kept = torch.zeros_like(ends).scatter_(1, keep, True) & alive
        finishing = ends & (place < K) & ranked.isfinite()
        if found := finishing.nonzero().tolist():
            origins, log_ps, spoken = parents.tolist(), ranked.tolist(), tokens[..., 1:].tolist()
            for b, c in found:
                if not done[b]:
                    log_p = log_ps[b][c]
                    score = rank(log_p, length + 1, options.length_penalty)
                    finished[b].append((score, log_p, spoken[b][origins[b][c]]))
        if history:
            for b in range(B):
                if not done[b]:
                    steps[b].append((parents[b], words[b], ranked[b], kept[b], finishing[b]))
        for b, log_p in enumerate(torch.where(kept, ranked, -torch.inf).amax(-1).tolist()):
            # at best every word to come is certain, and the caption as short or as long as ranks it highest
            reachable = max(rank(log_p, words, options.length_penalty) for words in (length + 2, last + 1))
            decided = sum(score >= reachable for score, *_ in finished[b]) >= options.n_best
            greedy = K == 1 and len(finished[b]) > 0
            done[b] = done[b] or decided or greedy or log_p == -torch.inf
        if all(done) or length == last:
            break
        scores = torch.where(alive, ranked, -torch.inf).gather(1, keep)
        parents = parents.gather(1, keep)
        tokens = torch.cat(
            [tokens.gather(1, parents[..., None].expand(-1, -1, length + 1)), words.gather(1, keep)[..., None]], -1
        )
        cache = follow(output.cache, parents)
    histories = [_history(s, vocabulary, options) if history else None for s in steps]
    return [_ranked(f, vocabulary, options.n_best, h) for f, h in zip(finished, histories, strict=True)]


def _history(steps: list, vocabulary: Vocabulary, options: DecodeOptions) -> BeamHistory:
    longest = max(len(step[0]) for step in steps)
    parents = np.zeros((len(steps), longest), np.int64)
    scores = np.full((len(steps), longest), -np.inf)
    words, status = [], []
    for s, (p, w, r, kept, finishing) in enumerate(steps):
        parents[s, : len(p)], scores[s, : len(r)] = p, r
        words.append(tuple(vocabulary.words[i] for i in w.tolist()))
        status.append(
            tuple(
                "finished" if f else "kept" if k else "dropped"
                for k, f in zip(kept.tolist(), finishing.tolist(), strict=True)
            )
        )
    return BeamHistory(parents, tuple(words), scores, tuple(status), options.length_penalty)


def _ranked(found: list, vocabulary: Vocabulary, n_best: int, history: BeamHistory | None = None) -> Decoded:
    if not found:
        raise GliedError(IMPOSSIBLE)
    found = sorted(found, key=lambda f: -f[0])[:n_best]
    return Decoded(tuple(Caption(tuple(vocabulary.decode(ids)), p, s) for s, p, ids in found), history)


def sample(
    model: Captioner, memory: Memory, vocabulary: Vocabulary, options: DecodeOptions, prefix: Sequence[str] = ()
) -> list[Decoded]:
    """`n_best` captions that begin with `prefix`, drawn at random for each photograph, best ranked first."""
    generator = torch.Generator(memory.regions.device).manual_seed(options.seed)
    tokens, scores = draw(model, memory, options, generator, vocabulary.encode(prefix))
    results = []
    for drawn, log_p in zip(tokens[..., 1:].tolist(), scores.tolist(), strict=True):
        captions = [ids[: ids.index(EOS)] for ids in drawn]
        found = [
            (rank(p, len(ids) + 1, options.length_penalty), p, ids) for p, ids in zip(log_p, captions, strict=True)
        ]
        results.append(_ranked(found, vocabulary, options.n_best))
    return results


def draw(
    model: Captioner,
    memory: Memory,
    options: DecodeOptions,
    generator: torch.Generator | None = None,
    prefix: Sequence[int] = (),
) -> tuple[Int[Tensor, "B C T"], Float[Tensor, "B C"]]:
    """`n_best` captions drawn at random for each photograph: BOS, the ids of `prefix`, words, EOS and again EOS to the
    end; and their log-probabilities under the model."""
    last = options.max_length or model.config.max_length
    B, C = len(memory.regions), options.n_best
    tokens = torch.full((B, C, 1), BOS, device=memory.regions.device)
    scores = torch.zeros(B, C, device=memory.regions.device)
    cache: Keys | None = None
    for length in range(last + 1):
        output = model(tokens[..., -1:], memory, cache, fused)
        log_p = model.logits(output.c_tilde[:, :, 0]).float().log_softmax(-1)
        if length < len(prefix):
            word = torch.full_like(tokens[..., 0], prefix[length])
        else:
            logits = forbid(log_p.clone(), tokens, options, last) / options.temperature
            if length < options.min_length and not logits.isfinite().any(-1).all():  # later there is EOS at least
                raise GliedError(IMPOSSIBLE)
            probability = _truncate(logits, options).softmax(-1)
            # as torch.multinomial draws one, which waits for a GPU to check the probabilities
            word = (probability / torch.empty_like(probability).exponential_(generator=generator)).argmax(-1)
        ended = tokens[..., -1] == EOS
        scores += torch.where(ended, 0, log_p.gather(-1, word[..., None])[..., 0])
        tokens = torch.cat([tokens, torch.where(ended, EOS, word)[..., None]], -1)
        cache = output.cache
        if (tokens[..., -1] == EOS).all():
            break
    return tokens, scores


def _truncate(logits: Float[Tensor, "B C V"], options: DecodeOptions) -> Float[Tensor, "B C V"]:
    """-inf outside the `top_k` best words and outside the smallest set that holds `top_p` of the probability."""
    if options.top_k:
        worst = logits.topk(min(options.top_k, logits.shape[-1]), -1).values[..., -1:]
        logits = logits.masked_fill(logits < worst, -torch.inf)
    if options.top_p < 1:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits = logits.scatter(-1, order, ordered.masked_fill(before >= options.top_p, -torch.inf))
    return logits
