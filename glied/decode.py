"""(model, scenes) -> captions: beam search, plain, in diverse groups or with words that must come; greedy; sampling.

The photograph's memory is computed once and shared by its beams; the context attention's cache is the only
state that follows a beam, so it alone is reordered. PAD, BOS and UNK are never produced, and a caption of
`max_length` words is closed by EOS, so every caption has the probability of a whole sentence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.batch import stack
from glied.captions import BeamHistory, Caption, Decoded, DecodeOptions, rank
from glied.checkpoint import Checkpoint
from glied.errors import GliedError
from glied.model import Captioner, Keys, Memory, fused
from glied.scene import Scene
from glied.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

NEVER = (PAD, BOS, UNK)
IMPOSSIBLE = (
    "No caption satisfies min_length together with max_length, no_repeat_ngram and the words that must or must not "
    "come; relax one of them."
)
OTHERS = 2  # words of a sample's history that could have been drawn instead, after every beginning


def caption(
    checkpoint: Checkpoint,
    scenes: Sequence[Scene],
    options: DecodeOptions = DecodeOptions(),
    history: bool = False,
    prefix: Sequence[str] = (),
) -> list[Decoded]:
    """Captions of a batch of scenes; `history` keeps every candidate of the search, `prefix` forces the first words.

    Raises:
        GliedError: a scene whose regions are not of the source that the checkpoint was trained on; words of `prefix`,
            `require` or `forbid` that the captioner does not know, contradict one another, or are too many.
    """
    checkpoint.vocabulary.check([*prefix, *options.require, *options.forbid])
    longest = options.max_length or checkpoint.model.config.max_length
    if len(prefix) > longest:
        raise GliedError(f"Expected at most {longest} words to begin with, got {len(prefix)}; take fewer.")
    if refused := [word for word in prefix if word in options.forbid]:
        raise GliedError(f"Expected to begin with words that may come, got {refused[0]}; allow it or begin otherwise.")
    if (asked := len({*options.require} - {*prefix})) > longest - len(prefix):
        after = f" after the {len(prefix)} that it begins with" if prefix else ""
        raise GliedError(
            f"Expected at most {longest - len(prefix)} words that must come{after}, got {asked}: a caption has "
            f"{longest} words at most; require fewer or raise max_length."
        )
    for scene in scenes:
        scene.regions.check_source(checkpoint.source)
    with torch.inference_mode():
        memory = checkpoint.model.encode(stack(scenes, checkpoint.vocabulary))
        if options.method == "sample":
            return sample(checkpoint.model, memory, checkpoint.vocabulary, options, prefix, history)
        return beam_search(checkpoint.model, memory, checkpoint.vocabulary, options, history, prefix)


def forbid(
    logits: Float[Tensor, "B C V"],
    tokens: Int[Tensor, "B C T"],
    options: DecodeOptions,
    last: int,
    never: Sequence[int] = NEVER,
) -> Tensor:
    """`logits` with -inf at every word that may not come after `tokens` (BOS first): those of `never` after any."""
    for word in never:  # one at a time: a list would be copied to the GPU, which would be waited for
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


def follow(cache: Any, parents: Int[Tensor, "B K"]) -> Any:
    """The cache of each hypothesis's parent; for an ensemble, the caches of its members."""
    if not isinstance(cache, Keys):
        return tuple(follow(each, parents) for each in cache)
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

    Stops once no unfinished hypothesis can still enter the `n_best`, so the result is that of a search to the longest
    length. Only a beam of 1 differs: it is greedy, and ends where EOS is the likeliest word.
    """
    if options.groups > 1 or options.require:
        return grouped_search(model, memory, vocabulary, options, history, prefix)
    never = (*NEVER, *vocabulary.encode(options.forbid))
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
            logits = forbid(logits, tokens, options, last, never)
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
            done[b] = done[b] or _decided(finished[b], log_p, length, last, K == 1, options.n_best, options)
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


def grouped_search(
    model: Captioner,
    memory: Memory,
    vocabulary: Vocabulary,
    options: DecodeOptions,
    history: bool = False,
    prefix: Sequence[str] = (),
) -> list[Decoded]:
    """Beam search in G groups (Vijayakumar et al. 2018), each in banks by how many of the n required words have come
    (Hokamp and Liu 2017).

    A group chooses after the earlier ones. Its hypotheses compete by log p less `diversity` for every hypothesis of
    an earlier group that took the same word at the same step; these penalties add up along a hypothesis. A bank keeps
    k = beam / G hypotheses. A required word leads from a bank to the next, and only the last bank may end. When no more
    words are left than are still required, only required words may come. Captions are ranked by the model's log p, as
    in `beam_search`; the search stops once `beam_search` would stop in every group. Without penalties each group does
    what a beam of k does.
    """
    G, n = options.groups, len(options.require)
    k = (1 if options.method == "greedy" else options.beam) // G
    last = options.max_length or model.config.max_length
    B, device = len(memory.regions), memory.regions.device
    own = torch.tensor(vocabulary.encode(options.require), dtype=torch.long, device=device)
    never = (*NEVER, *vocabulary.encode(options.forbid))
    begun = vocabulary.encode(prefix)
    tokens = torch.full((B, G * (n + 1) * k, 1), BOS, device=device)
    log_p = torch.full((B, G, n + 1, k), -torch.inf, device=device)
    log_p[:, :, 0, 0] = 0
    chosen_by = log_p  # log p less the penalties
    met = torch.zeros(B, G, n + 1, k, n, dtype=torch.bool, device=device)
    earlier = torch.arange(-k, n * k, k, device=device)[:, None]  # row at which the bank before begins
    cache: Keys | None = None
    finished: list[list[list[tuple[float, float, list[int]]]]] = [[[] for _ in range(G)] for _ in range(B)]
    steps: list[list[tuple]] = [[] for _ in range(B)]
    done = [False] * B
    for length in range(last + 1):
        output = model(tokens[..., -1:], memory, cache, fused)
        logits = model.logits(output.c_tilde[:, :, 0])
        norm = logits.logsumexp(-1, keepdim=True)
        if length < len(begun):
            may = torch.full_like(logits, -torch.inf)
            may[..., begun[length]] = logits[..., begun[length]]
        else:
            may = forbid(logits, tokens, options, last, never)
        own_log_p = (may - norm).view(B, G, n + 1, k, -1)
        own_log_p[:, :, :n, :, EOS] = -torch.inf
        meets = torch.zeros_like(own_log_p, dtype=torch.bool)  # a required word that has not come yet
        meets[..., own] = ~met
        # banks from which only required words still lead to the last in time
        hurried = min(n, max(0, n + 1 - (last - length)))
        own_log_p[:, :, :hurried] = own_log_p[:, :, :hurried].masked_fill(~meets[:, :, :hurried], -torch.inf)
        taken = torch.zeros(B, own_log_p.shape[-1], device=device)  # by how many hypotheses of earlier groups
        groups = []
        for g in range(G):
            total = chosen_by[:, g, ..., None] + own_log_p[:, g] - options.diversity * taken[:, None, None]
            into = total.masked_fill(~meets[:, g], -torch.inf)  # the next bank
            into = torch.cat([torch.full_like(into[:, :1], -torch.inf), into[:, :-1]], 1)
            pool = torch.cat([into, total.masked_fill(meets[:, g], -torch.inf)], 2)
            ranked, order = pool.flatten(2).topk(2 * k, -1)
            parents = (earlier + order // pool.shape[-1]).clamp(0)
            words = order % pool.shape[-1]
            totals = (log_p[:, g, ..., None] + own_log_p[:, g]).flatten(1)
            totals = totals.gather(1, (parents * pool.shape[-1] + words).flatten(1)).view_as(ranked)
            totals = torch.where(ranked.isfinite(), totals, -torch.inf)
            # as in `beam_search`, bank by bank
            ends = words == EOS
            place = torch.arange(2 * k, device=device)
            alive = ~ends & ranked.isfinite()
            keep = (torch.where(ends, 2 * k, 0) + place).argsort(-1)[..., :k]
            kept = torch.zeros_like(ends).scatter_(-1, keep, True) & alive
            finishing = ends & (place < k) & ranked.isfinite()
            taken.scatter_add_(1, words.flatten(1), (kept | finishing).flatten(1).float())
            lasting = torch.where(alive, ranked, -torch.inf)
            groups.append((parents + g * (n + 1) * k, words, totals, lasting, kept, finishing, keep))
        parents, words, totals, lasting, kept, finishing, keep = (
            torch.stack(each, 1) for each in zip(*groups, strict=True)
        )
        for b, g, c, i in finishing.nonzero().tolist():
            if not done[b]:
                found, spoken = float(totals[b, g, c, i]), tokens[b, parents[b, g, c, i], 1:].tolist()
                finished[b][g].append((rank(found, length + 1, options.length_penalty), found, spoken))
        if history:
            slots = chosen_by.flatten(1).isfinite().cumsum(1) - 1  # among those that live
            for b in range(B):
                if not done[b]:
                    flat = [t[b].flatten() for t in (parents, words, totals, kept, finishing)]
                    steps[b].append((slots[b][flat[0]].clamp(0), *flat[1:]))
        best = torch.where(kept, totals, -torch.inf).flatten(2).amax(-1).tolist()
        for b in range(B):
            done[b] = done[b] or all(
                _decided(found, p, length, last, k == 1 and not n, -(-options.n_best // G), options)
                for found, p in zip(finished[b], best[b], strict=True)
            )
        if all(done) or length == last:
            break
        chosen_by = lasting.gather(-1, keep)
        log_p = torch.where(chosen_by.isfinite(), totals.gather(-1, keep), -torch.inf)
        words, parents = words.gather(-1, keep), parents.gather(-1, keep).flatten(1)
        met = met.flatten(1, 3).gather(1, parents[..., None].expand(-1, -1, n)).view_as(met) | (words[..., None] == own)
        tokens = torch.cat(
            [tokens.gather(1, parents[..., None].expand(-1, -1, length + 1)), words.flatten(1)[..., None]], -1
        )
        cache = follow(output.cache, parents)
    histories = [_history(s, vocabulary, options) if history else None for s in steps]
    return [_in_turn(f, vocabulary, options.n_best, h) for f, h in zip(finished, histories, strict=True)]


def _decided(
    found: list, log_p: float, length: int, last: int, greedy: bool, n_best: int, options: DecodeOptions
) -> bool:
    """Whether no hypothesis of a group, of which `log_p` is the likeliest, can still enter its `n_best`."""
    # at best every word to come is certain, and the caption as short or as long as ranks it highest
    reachable = max(rank(log_p, words, options.length_penalty) for words in (length + 2, last + 1))
    decided = sum(score >= reachable for score, *_ in found) >= n_best
    return decided or (greedy and len(found) > 0) or log_p == -torch.inf


def _in_turn(found: list[list], vocabulary: Vocabulary, n_best: int, history: BeamHistory | None) -> Decoded:
    """The best caption of each group, then the second of each ..., each time the best ranked first."""
    ranked = [
        (place, Caption(tuple(vocabulary.decode(ids)), p, score, g))
        for g, each in enumerate(found)
        for place, (score, p, ids) in enumerate(sorted(each, key=lambda f: -f[0]))
    ]
    if not ranked:
        raise GliedError(IMPOSSIBLE)
    ranked.sort(key=lambda each: (each[0], -each[1].score))
    return Decoded(tuple(each for _, each in ranked[:n_best]), history)


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
    return BeamHistory(
        parents, tuple(words), scores, tuple(status), options.length_penalty, options.groups, options.require
    )


def _ranked(found: list, vocabulary: Vocabulary, n_best: int, history: BeamHistory | None = None) -> Decoded:
    if not found:
        raise GliedError(IMPOSSIBLE)
    found = sorted(found, key=lambda f: -f[0])[:n_best]
    return Decoded(tuple(Caption(tuple(vocabulary.decode(ids)), p, s) for s, p, ids in found), history)


def sample(
    model: Captioner,
    memory: Memory,
    vocabulary: Vocabulary,
    options: DecodeOptions,
    prefix: Sequence[str] = (),
    history: bool = False,
) -> list[Decoded]:
    """`n_best` captions that begin with `prefix`, drawn at random for each photograph, best ranked first."""
    generator = torch.Generator(memory.regions.device).manual_seed(options.seed)
    record: list[tuple[Tensor, Tensor]] | None = [] if history else None
    never = (*NEVER, *vocabulary.encode(options.forbid))
    tokens, scores = draw(model, memory, options, generator, vocabulary.encode(prefix), never, record)
    histories = [_draws(ids, b, record, vocabulary, options) if record else None for b, ids in enumerate(tokens)]
    results = []
    for drawn, log_p, told in zip(tokens[..., 1:].tolist(), scores.tolist(), histories, strict=True):
        captions = [ids[: ids.index(EOS)] for ids in drawn]
        found = [
            (rank(p, len(ids) + 1, options.length_penalty), p, ids) for p, ids in zip(log_p, captions, strict=True)
        ]
        results.append(_ranked(found, vocabulary, options.n_best, told))
    return results


def _draws(
    tokens: Int[Tensor, "C T"],
    photograph: int,
    record: list[tuple[Tensor, Tensor]],
    vocabulary: Vocabulary,
    options: DecodeOptions,
) -> BeamHistory:
    """The samples of a photograph as a tree: samples with the same words share them. `record`: as `draw` fills it."""
    drawn = tokens[:, 1:].tolist()
    live: dict[tuple[int, ...], float] = {(): 0.0}  # beginnings that have not ended -> log p
    steps = []
    for s, (log_p, probability) in enumerate(record):
        found = []
        for slot, (before, total) in enumerate(live.items()):
            with_it = [c for c, ids in enumerate(drawn) if tuple(ids[:s]) == before]
            said, c = {drawn[c][s] for c in with_it}, with_it[0]
            chances, likeliest = probability[photograph, c].topk(min(len(said) + OTHERS, len(vocabulary)))
            could = [w for w, p in zip(likeliest.tolist(), chances.tolist(), strict=True) if p > 0 and w not in said]
            words = [*said, *could[:OTHERS]]
            found += [(total + float(log_p[photograph, c, w]), slot, w, w in said, before) for w in words]
        found.sort(key=lambda each: -each[0])
        live = {(*before, w): total for total, _, w, taken, before in found if taken and w != EOS}
        kept = [taken and w != EOS for _, _, w, taken, _ in found]
        finished = [taken and w == EOS for _, _, w, taken, _ in found]
        steps.append(
            tuple(map(np.array, ([f[1] for f in found], [f[2] for f in found], [f[0] for f in found], kept, finished)))
        )
        if not live:
            break
    return _history(steps, vocabulary, options)


def draw(
    model: Captioner,
    memory: Memory,
    options: DecodeOptions,
    generator: torch.Generator | None = None,
    prefix: Sequence[int] = (),
    never: Sequence[int] = NEVER,
    record: list[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Int[Tensor, "B C T"], Float[Tensor, "B C"]]:
    """`n_best` captions drawn at random for each photograph: BOS, the ids of `prefix`, words, EOS and again EOS to the
    end; and their log-probabilities under the model. The words of `never` do not come. To `record` is added, for every
    step, the log p of all words and the probability with which each is drawn, both [B, C, V]."""
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
            probability = torch.zeros_like(log_p)
        else:
            logits = forbid(log_p.clone(), tokens, options, last, never) / options.temperature
            if length < options.min_length and not logits.isfinite().any(-1).all():  # later there is EOS at least
                raise GliedError(IMPOSSIBLE)
            probability = _truncate(logits, options).softmax(-1)
            # by inversion: torch.multinomial is twenty times slower on a CPU, and waits for a GPU
            below = probability.cumsum(-1, dtype=torch.float64)
            point = torch.rand(B, C, 1, generator=generator, device=below.device, dtype=below.dtype)
            word = torch.searchsorted(below, point * below[..., -1:], right=True)[..., 0]
        if record is not None:
            record.append((log_p, probability))
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
