"""(checkpoint, scene, words) -> Trace: replays a caption and keeps every attention. Torch ends here."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float

from glied.baselines.ensemble import Ensemble
from glied.batch import stack
from glied.checkpoint import Checkpoint
from glied.decode import NEVER
from glied.errors import GliedError
from glied.functions import Over, feeding, find
from glied.model import Captioner, Inputs, Memory, fused
from glied.scene import Attributes, Scene, frozen
from glied.states import Kind, States
from glied.traces import Deletion, Outlook, Trace
from glied.vocabulary import BOS, EOS, UNK, Vocabulary

TOP = 10


def trace(checkpoint: Checkpoint, scene: Scene, words: Sequence[str], falls: bool = False) -> Trace:
    """Replays a finished caption: the model's own, another's, a human's, or an edited one.

    Args:
        words: without EOS; a word outside the vocabulary is read as <unk>.
        falls: also remove each region and each attribute in turn and see how far every word falls.
    """
    scene.regions.check_source(checkpoint.source)
    limit = 100
    if len(words) > limit:
        raise GliedError(f"Expected a caption of at most {limit} words, got {len(words)}; shorten it.")
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    if isinstance(model, Ensemble):
        raise GliedError(f"Expected a single captioner to trace, got an {model.title}; choose one of its members.")
    scene = Scene(scene.regions, known_attributes(scene.attributes, checkpoint))
    ids = vocabulary.encode(words)
    inputs, targets = [BOS, *ids], [*ids, EOS]
    batch = stack([scene], vocabulary)
    with torch.inference_mode():
        memory = model.encode(batch)
        output = model(torch.tensor([[inputs]]), memory)
        log_p = model.logits(output.c_tilde).log_softmax(-1)[0, 0]
        likeliest, their_log_p = _likeliest(log_p, vocabulary)
        chosen = log_p.gather(-1, torch.tensor(targets)[:, None])[:, 0]
        regions, attributes = _falls(checkpoint, batch, memory, inputs, targets, chosen) if falls else (None, None)
    N, M = len(scene.regions.boxes), len(scene.attributes.words)
    weights = memory.weights | output.weights
    return Trace(
        captioner=model.title,
        architecture=model.config.architecture,
        checkpoint=checkpoint.digest,
        functions=model.functions,
        size=scene.regions.size,
        boxes=scene.regions.boxes,
        labels=scene.regions.labels,
        source=scene.regions.source,
        attributes=scene.attributes.words,
        attribute_scores=scene.attributes.scores,
        attribute_regions=scene.attributes.by_region,
        inputs=tuple(vocabulary.words[i] for i in inputs),
        words=tuple(vocabulary.words[i] for i in targets),
        log_probabilities=chosen.numpy(),
        alternatives=likeliest,
        alternative_log_probabilities=their_log_p,
        attention={name: w[0, 0].numpy() for name, w in weights.items() if w is not None},
        region_falls=np.zeros((0, N)) if regions is None else regions.numpy(),
        attribute_falls=np.zeros((0, M)) if attributes is None else attributes.numpy(),
    )


def look_ahead(checkpoint: Checkpoint, scene: Scene, prefixes: Sequence[Sequence[str]]) -> Outlook:
    """The attention with which the word after each prefix is chosen, all in one pass: attention comes before the word,
    so what follows a prefix shares it."""
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    longest = max(map(len, prefixes))
    rows = [[BOS, *vocabulary.encode(words), *[EOS] * (longest - len(words))] for words in prefixes]
    last = [len(words) for words in prefixes]
    P = torch.arange(len(rows))
    with torch.inference_mode():
        output = model(torch.tensor([rows]), model.encode(stack([scene], vocabulary)))
        log_p = model.logits(output.c_tilde[0, P, last]).log_softmax(-1)
        likeliest, their_log_p = _likeliest(log_p, vocabulary)
    feeding_words = {f.name for f in model.functions if f.role in ("global", "local")}
    return Outlook(
        tuple(map(tuple, prefixes)),
        {
            n: frozen(w[0, P, :, last].transpose(0, 1).numpy())
            for n, w in output.weights.items()
            if w is not None and n in feeding_words
        },
        likeliest,
        frozen(their_log_p),
    )


def evened(model: Captioner, function: str) -> Captioner:
    """The same captioner, except that one attention function attends to all its keys alike: they are projected to zero,
    so that every score is zero. All other weights are shared."""
    attention = model.H[function] if function in model.H else model.get_submodule("attention")
    keys = [p for name, p in attention.named_parameters() if "key" in name.split(".")]
    flat = {id(p): torch.nn.Parameter(torch.zeros_like(p)) for p in keys}
    return deepcopy(model, {id(p): p for p in model.parameters()} | flat)


def log_p_when_even(
    checkpoint: Checkpoint, scene: Scene, words: Sequence[str], candidates: Sequence[str]
) -> Float[np.ndarray, "rows W"]:
    """Log-probabilities of some words, each as the one that comes after `words`: in row 0 as the captioner is, then
    with each of its attention functions even in turn, in the order in which it declares them."""
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    batch, inputs = stack([scene], vocabulary), torch.tensor([[[BOS, *vocabulary.encode(words)]]])
    rows = []
    with torch.inference_mode():
        for variant in (model, *(evened(model, f.name) for f in model.functions)):
            c_tilde = variant(inputs, variant.encode(batch)).c_tilde[0, :, -1]
            rows.append(variant.logits(c_tilde).log_softmax(-1)[0, vocabulary.encode(candidates)])
    return frozen(torch.stack(rows).numpy())


def take_away(checkpoint: Checkpoint, scene: Scene, words: Sequence[str], step: int, over: Over) -> Deletion:
    """What becomes of a word of a caption as regions or attributes are taken away one after another, in the order of
    its attention to them (mean over heads), and the other way round. All in one batch.

    Args:
        words: without EOS. `step`: the word's position; len(words) is that of EOS.
    """
    function = feeding(checkpoint.model.functions, over)
    if not function:
        raise GliedError(
            f"Expected a captioner whose words come from {over}, got {checkpoint.model.title}; choose another."
        )
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    ids = [BOS, *vocabulary.encode(words), EOS]
    batch, inputs = stack([scene], vocabulary), torch.tensor([[ids[: step + 1]]])
    with torch.inference_mode():
        weights = model(inputs, model.encode(batch)).weights[function.name]
        assert weights is not None
        order = weights[0, 0, :, -1].mean(0).argsort(descending=True, stable=True)
        K = len(order)
        later = torch.arange(K) >= torch.arange(K)[:, None]  # [taken away, place in the order]: whether it is left
        masks = torch.cat([torch.zeros(K, K, dtype=torch.bool).index_copy(1, o, later) for o in (order, order.flip(0))])
        memory = model.encode(batch._replace(**{"region_mask" if over == "regions" else "attribute_mask": masks}))
        c_tilde = model(inputs.expand(2 * K, 1, -1), memory).c_tilde[:, 0, -1]
        log_p = model.logits(c_tilde).log_softmax(-1)[:, ids[step + 1]]
    return Deletion(tuple(order.tolist()), frozen(log_p[:K].numpy()), frozen(log_p[K:].numpy()))


def find_states(checkpoint: Checkpoint, scene: Scene, words: Sequence[str]) -> States:
    """The states of a caption. Words: the vector from which each word, and the end, is predicted, [L, d]. Regions: each
    region after distilling, [N, d]. Pivots: what each input word called up of the attributes, [L, d]. A captioner
    without groups has no states of regions, one without pivots none of pivots."""
    model = checkpoint.model
    with torch.inference_mode():
        memory = model.encode(stack([scene], checkpoint.vocabulary))
        output = model(torch.tensor([[[BOS, *checkpoint.vocabulary.encode(words)]]]), memory)
        found: dict[Kind, torch.Tensor] = {"words": output.c_tilde[0, 0]}
        if memory.groupings is not None:
            found["regions"] = memory.groupings[0]
        if pivot := find(model.functions, "attributes", "pivot"):
            found["pivots"] = model.H[pivot.name](output.x, memory.keys[pivot.name], fused)[0][0, 0]
    return {kind: states.numpy() for kind, states in found.items()}


def _likeliest(
    log_p: Float[torch.Tensor, "R W"], vocabulary: Vocabulary
) -> tuple[tuple[tuple[str, ...], ...], Float[np.ndarray, "R T"]]:
    """The TOP most probable words of each of R rows that can be said, and their log-probabilities."""
    sayable = log_p.index_fill(-1, torch.tensor(NEVER), -torch.inf)
    top = sayable.topk(min(TOP, log_p.shape[-1] - len(NEVER)), -1)
    return tuple(tuple(vocabulary.words[i] for i in row) for row in top.indices.tolist()), top.values.numpy()


def known_attributes(attributes: Attributes, checkpoint: Checkpoint) -> Attributes:
    """The attributes that the captioner has a word for; <unk> alone where it has none."""
    keep = [i for i, word in enumerate(attributes.words) if word in checkpoint.vocabulary]
    words = tuple(attributes.words[i] for i in keep) or (checkpoint.vocabulary.words[UNK],)
    keep = keep or [0]
    return Attributes(words, attributes.scores[keep], attributes.by_region[keep])


def _falls(
    checkpoint: Checkpoint,
    batch: Inputs,
    memory: Memory,
    inputs: list[int],
    targets: list[int],
    chosen: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[L, N] and [L, M]: log p(word) minus log p(word) without that region, without that attribute; None where nothing
    attends to attributes.

    A photograph with a single region or attribute cannot lose it: NaN. Without a region the others group anew, so the
    photograph is encoded once more under N masks. Without an attribute it stays as it is, and M captions of it each
    miss one, unless attributes group too.
    """
    N, M, L = batch.features.shape[1], batch.attributes.shape[1], len(inputs)
    model, words = checkpoint.model, torch.tensor([[inputs]])
    over_attributes = {f.name for f in model.functions if f.over == "attributes"}
    fewer = model.encode(batch._replace(region_mask=~torch.eye(N, dtype=torch.bool)))
    left = [model(words.expand(N, 1, L), fewer).c_tilde[:, 0]]
    if find(model.functions, "attributes", "grouping"):
        fewer = model.encode(batch._replace(attribute_mask=~torch.eye(M, dtype=torch.bool)))
        left.append(model(words.expand(M, 1, L), fewer).c_tilde[:, 0])
    elif over_attributes:
        others = ~torch.eye(M, dtype=torch.bool).repeat_interleave(L, 0)[None, None]
        keys = {name: k._replace(mask=others) if name in over_attributes else k for name, k in memory.keys.items()}
        left.append(model(words.expand(1, M, L), memory._replace(keys=keys)).c_tilde[0])
    log_p = model.logits(torch.cat(left)).log_softmax(-1)
    falls = (chosen - log_p.gather(-1, torch.tensor(targets).expand(len(log_p), -1)[..., None])[..., 0]).T
    return falls[:, :N], falls[:, N:] if over_attributes else None
