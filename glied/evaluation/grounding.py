"""Is the attention true? Measures of a captioner on photographs in which people drew boxes.

The boxes are those of Flickr30k Entities (Plummer et al. 2015), of what captions mention, or of objects of known
classes, as in COCO (Lin et al. 2014). Attention is averaged over heads, except for the key share.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from heapq import nlargest
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glied.batch import stack
from glied.checkpoint import Checkpoint
from glied.data.annotations import Boxed, LayoutError, check_within
from glied.data.phrases import find_classes, singulars
from glied.errors import GliedError
from glied.evaluation.evaluate import Scenes
from glied.evaluation.metrics import interval, rank_correlation
from glied.evaluation.recall import MATCH
from glied.functions import Functions, Over, feeding, find, key_share
from glied.images import open_image
from glied.model import Inputs
from glied.records import shown
from glied.regions.boxes import iou
from glied.scene import Scene
from glied.terminal import track
from glied.vocabulary import BOS, EOS, FUNCTION_WORDS, Vocabulary, tokenize

SENSES: tuple[tuple[Over, str], ...] = (("regions", "region_mask"), ("attributes", "attribute_mask"))  # what is removed
GROUPED = ("same", "others", "near")
REMOVED = (1, 2, 4, 8, 16)  # regions or attributes removed at once
FALL_PHOTOGRAPHS = 300  # photographs over which falls are measured: each removal is another pass
PIVOTS = 20  # photographs in which a pivot and an attribute must meet to count as a collocation
SHOWN = 3  # photographs named where a collocation is strongest


class Spoken(NamedTuple):
    """A caption as a captioner reads and makes it.

    Attributes:
        words: of the caption. ids: BOS, words, EOS.
        objects: position of an object word -> boxes of what it names, rows of the photograph's.
    """

    words: list[str]
    ids: list[int]
    objects: dict[int, list[int]]


def locate(words: Sequence[str], phrases: Sequence[tuple[str, str, list[int]]]) -> dict[int, list[int]]:
    """Position of the head noun of every phrase with boxes, phrases (text, head, boxes) in the order of the words."""
    found: dict[int, list[int]] = {}
    start = 0
    for text, head, boxes in phrases:
        cut = tokenize(text)
        places = (i for i in range(start, len(words) - len(cut) + 1) if list(words[i : i + len(cut)]) == cut)
        place = next(places, None)
        if place is None or not cut:
            continue
        start = place + len(cut)
        if head in cut and boxes:
            found[place + len(cut) - 1 - cut[::-1].index(head)] = boxes
    return found


def speak(words: list[str], objects: dict[int, list[int]], vocabulary: Vocabulary) -> Spoken:
    """A caption with its ids."""
    return Spoken(words, [BOS, *vocabulary.encode(words), EOS], objects)


def human(boxed: Boxed, checkpoint: Checkpoint) -> Iterator[Spoken]:
    """The human captions, with the boxes that people tied to their phrases, or else of the classes that they name."""
    longest, vocabulary = checkpoint.model.config.max_length, checkpoint.vocabulary
    if boxed.origin == "classes":
        for tokens in boxed.photograph.tokens:
            yield speak(tokens[:longest], name_boxes(tokens[:longest], boxed), vocabulary)
    for text, phrases in boxed.sentences:
        words = tokenize(text)[:longest]
        tied = [
            (phrase, parsed[0], [g for g, shown in enumerate(boxed.chains) if entity in shown])
            for phrase, parsed, entity in phrases
        ]
        yield speak(words, locate(words, tied), vocabulary)


def generated(boxed: Boxed, checkpoint: Checkpoint, words: list[str], singular: dict[str, str]) -> Spoken:
    """The captioner's caption. Its object words name a class with boxes. Where people tied boxes to phrases, they are
    instead words that head such a phrase and are not followed by another object word ("a black dog", although someone
    is "in black")."""
    if boxed.origin == "classes":
        return speak(words, name_boxes(words, boxed), checkpoint.vocabulary)
    named: dict[str, set[int]] = defaultdict(set)
    for g, phrases in enumerate(boxed.phrases):
        for head, _ in phrases:
            named[singular.get(head, head)].add(g)
    nouns = [singular.get(word, word) for word in words]
    heads = [t for t, noun in enumerate(nouns) if noun in named and not set(nouns[t + 1 : t + 2]) & named.keys()]
    return speak(words, {t: sorted(named[nouns[t]]) for t in heads}, checkpoint.vocabulary)


def name_boxes(words: Sequence[str], boxed: Boxed) -> dict[int, list[int]]:
    """Position of every word that names a class with boxes in the photograph -> all boxes of that class."""
    boxes: dict[str, list[int]] = defaultdict(list)
    for g, ((name, _),) in enumerate(boxed.phrases):
        boxes[name].append(g)
    return {t: boxes[name] for t, name in find_classes(words, boxes.keys()).items()}


def hit(overlap: Float[Tensor, "G N"], boxes: list[int]) -> Bool[Tensor, " N"]:
    """Which regions cover one of some human boxes."""
    return overlap[boxes].amax(0) >= MATCH


def pointing(
    weights: Float[Tensor, "L N"], overlap: Float[Tensor, "G N"], spoken: Spoken
) -> Float[np.ndarray, " objects"]:
    """For every object word: does the region that it attends to most cover a box of what it names?"""
    return np.array([bool(hit(overlap, boxes)[weights[t].argmax()]) for t, boxes in spoken.objects.items()], float)


def grouping_lift(
    weights: Float[Tensor, "N N"], overlap: Float[Tensor, "G N"], boxes: Float[Tensor, "N 4"], spoken: Spoken
) -> dict[str, list[float]]:
    """How often over the even share a region's group takes in other regions, itself left out.

    Returns:
        for every region of an entity of the sentence, the mean lift on `same`, regions of that entity; `others`,
        regions of the other entities of the sentence; `near`, equally many of the closest regions that show no named
        entity. The same names with `_beyond`: divided by what the other regions of the photograph take of those
        regions, because some regions are sought by all.
    """
    N = len(boxes)
    group = weights.clone().fill_diagonal_(0)
    group = group / group.sum(1, keepdim=True).clamp_min(1e-12) * (N - 1)
    beyond = group * (N - 2) / (group.sum(0) - group).clamp_min(1e-12)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = torch.cdist(centres, centres)
    covers = [hit(overlap, found) for found in spoken.objects.values()]
    none = ~torch.stack(covers).any(0) if covers else torch.ones(N, dtype=torch.bool)
    lifts: dict[str, list[float]] = {name + kind: [] for kind in ("", "_beyond") for name in GROUPED}
    for i, own in enumerate(covers):
        others = torch.stack([own, *covers[:i], *covers[i + 1 :]]).any(0) & ~own
        for q in own.nonzero()[:, 0].tolist():
            same = own.clone()
            same[q] = False
            near = none.nonzero()[:, 0]
            near = near[distance[q, near].argsort()[: int(others.sum())]]
            for kind, lift in (("", group), ("_beyond", beyond)):
                if others.any() and len(near):
                    lifts["others" + kind].append(lift[q, others].mean().item())
                    lifts["near" + kind].append(lift[q, near].mean().item())
                if same.any():
                    lifts["same" + kind].append(lift[q, same].mean().item())
    return lifts


def count_partners(weights: Float[Tensor, "N N"]) -> int:
    """How many regions are the top partner of some region: the one, other than itself, that it attends to most."""
    return len(weights.clone().fill_diagonal_(-1).argmax(1).unique())


@torch.inference_mode()
def fall(
    checkpoint: Checkpoint,
    inputs: Inputs,
    ids: list[int],
    positions: list[int],
    weights: Float[Tensor, "L keys"],
    field: str,
    random: torch.Generator,
) -> Float[np.ndarray, "2 words counts"]:
    """How far log p of words falls when the regions or attributes they attend to most are removed, and when as many at
    random are; NaN where a count would leave none.

    Args:
        positions: of the words. `field`: the mask of `inputs` to take from.
    """
    model, keys = checkpoint.model, weights.shape[1]
    kept = []
    for t in positions:
        for order in (weights[t].argsort(descending=True), torch.randperm(keys, generator=random)):
            for count in REMOVED:
                mask = torch.ones(keys, dtype=torch.bool)
                mask[order[: min(count, keys - 1)]] = False  # one stays
                kept.append(mask)
    masks = torch.stack([torch.ones(keys, dtype=torch.bool), *kept])
    B = len(masks)
    features, attributes = inputs.features.expand(B, -1, -1), inputs.attributes.expand(B, -1)
    full = Inputs(features, None, attributes, None, inputs.boxes)
    memory = model.encode(full._replace(**{field: masks}))
    log_p = model.logits(model(torch.tensor([[ids[:-1]]]).expand(B, -1, -1), memory).c_tilde[:, 0]).log_softmax(-1)
    rows = torch.tensor(positions)
    chosen = log_p[:, rows, torch.tensor(ids[1:])[rows]]
    left = chosen[1:].view(len(positions), 2, len(REMOVED), len(positions)).diagonal(dim1=0, dim2=3)
    falls = (chosen[0] - left).permute(0, 2, 1).numpy()
    falls[..., np.array(REMOVED) >= keys] = np.nan
    return falls


class Collocations:
    """Lift of attributes for pivots over many photographs, beside how captions pair them."""

    def __init__(self) -> None:
        self.lifts: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)

    def add(
        self, id: str, captions: Sequence[tuple[Sequence[str], Float[Tensor, "_ M"]]], attributes: Sequence[str]
    ) -> None:
        """One photograph: input words of its captions, and what each attends to; function words, and an attribute for
        itself, are left out."""
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for inputs, weights in captions:
            for word, row in zip(inputs, (weights * len(attributes)).tolist(), strict=True):
                for attribute, value in zip(attributes, row, strict=True):
                    if word not in FUNCTION_WORDS and attribute != word:
                        found[word, attribute].append(value)
        for pair, values in found.items():
            self.lifts[pair][id] = float(np.mean(values))

    def compare(self, captions: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Rank correlation of lift with pointwise mutual information in the captions of the training photographs, and
        the pairs on which the two differ most; pairs that met in at least PIVOTS photographs.

        Args:
            captions: the words of all captions of each training photograph.
        """
        bags = [set(words) for words in captions]
        single = Counter(word for bag in bags for word in bag)
        pairs = {pair: np.mean(list(values.values())) for pair, values in self.lifts.items() if len(values) >= PIVOTS}
        pivots = {pivot for pivot, _ in pairs}
        both: Counter[tuple[str, str]] = Counter()
        for bag in bags:
            both.update((pivot, word) for pivot in bag & pivots for word in bag)
        rows: list[dict[str, Any]] = [
            {"pivot": w, "attribute": a, "lift": round(float(lift), 4), "together": both[w, a]}
            | {"pmi": round(float(np.log((both[w, a] + 0.5) * len(bags) / (single[w] * single[a]))), 4)}
            | {"photographs": len(self.lifts[w, a]), "where": _strongest(self.lifts[w, a])}
            for (w, a), lift in pairs.items()
            if single[w] and single[a]
        ]
        lift, pmi = (np.array([row[name] for row in rows]) for name in ("lift", "pmi"))
        by_pivot = defaultdict(list)
        for i, row in enumerate(rows):
            by_pivot[row["pivot"]].append(i)
        each = [rank_correlation(lift[i], pmi[i]) for i in by_pivot.values() if len(i) >= 10]
        rare = sorted((row for row in rows if row["pmi"] < 0), key=lambda row: -row["lift"])
        common = sorted(
            (row for row in rows if row["lift"] < 1 and row["together"] >= PIVOTS), key=lambda row: -row["pmi"]
        )
        whole = rank_correlation(lift, pmi)
        return {
            "rank_correlation": whole if np.isfinite(whole) else None,
            "rank_correlation_within_pivots": _mean(each),
            "strongest": sorted(rows, key=lambda row: -row["lift"])[:10],
            "learned_but_rare": rare[:10],
            "frequent_but_unlearned": common[:10],
            "pairs": rows,
        }


def _strongest(values: Mapping[str, float]) -> list[str]:
    return nlargest(SHOWN, values, key=lambda id: values[id])


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """Mean over photographs (or pivots) that have a value, with its 95 percent interval."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return {"mean": None, "low": None, "high": None, "count": 0}
    low, high = interval(known)
    return {"mean": float(known.mean()), "low": low, "high": high, "count": len(known)}


class View(NamedTuple):
    """A photograph as people boxed it (G boxes) and as a captioner attends to it (N regions).

    Attributes:
        attributes: the words of `inputs.attributes`.
        boxes: of the regions, in pixels.
        overlap: IoU of human boxes and regions.
        centre: IoU of human boxes and a box in the centre.
        people: every human caption, and its attention by `attend_all`.
        own: the captioner's caption, likewise.
    """

    inputs: Inputs
    attributes: list[str]
    boxes: Float[Tensor, "N 4"]
    overlap: Float[Tensor, "G N"]
    centre: Float[Tensor, "G 1"]
    people: list[tuple[Spoken, dict[str, Tensor]]]
    own: tuple[Spoken, dict[str, Tensor]]


def read_captions(checkpoint: Checkpoint, scene: Scene, boxed: Boxed, own: Spoken, sides: Float[Tensor, " 2"]) -> View:
    """Replays all captions of a photograph, human and generated.

    Args:
        sides: width and height of the box in the centre, as shares of the photograph's.
    """
    inputs = stack([scene], checkpoint.vocabulary)
    known = [word for word in scene.attributes.words if word in checkpoint.vocabulary]  # as `stack` gives them
    boxes, size = torch.from_numpy(scene.regions.boxes.copy()), torch.tensor(scene.regions.size)
    centre = torch.cat([size - sides * size, size + sides * size])[None] / 2
    captions = [*human(boxed, checkpoint), own]
    *people, last = zip(captions, attend_all(checkpoint, inputs, captions), strict=True)
    overlaps = iou(boxed.boxes, boxes), iou(boxed.boxes, centre)
    return View(inputs, known or ["<unk>"], boxes, *overlaps, people, last)


def measure_pointing(view: View, functions: Functions) -> dict[str, dict[str, list[float]]]:
    """Kind of caption -> pointer (attention, by its role; or a baseline) -> for every object word, whether the pointer
    covers the object, or the probability that it does."""
    values: dict[str, dict[str, list[float]]] = {}
    for kind, captions in (("human", view.people), ("generated", [view.own])):
        named = [boxes for spoken, _ in captions for boxes in spoken.objects.values()]
        covering = [hit(view.overlap, boxes) for boxes in named]
        values[kind] = {
            f.role: [
                value
                for spoken, weights in captions
                for value in pointing(weights[f.name].mean(0), view.overlap, spoken).tolist()
            ]
            for f in functions
            if f.over == "regions" and f.role in ("global", "local")
        }
        values[kind]["chance"] = [covers.float().mean().item() for covers in covering]
        values[kind]["centre"] = [float(hit(view.centre, boxes).item()) for boxes in named]
        values[kind]["ceiling"] = [float(covers.any()) for covers in covering]
    return values


def measure_groupings(view: View, name: str) -> dict[str, list[float]]:
    """`grouping_lift` of all human captions, by the attention function of this name."""
    values: dict[str, list[float]] = defaultdict(list)
    for spoken, weights in view.people:
        for kind, lifts in grouping_lift(weights[name].mean(0), view.overlap, view.boxes, spoken).items():
            values[kind] += lifts
    return values


def measure_key_share(view: View, functions: Functions) -> dict[str, list[float]]:
    """Attention function -> `key_share` over the queries of all captions. Not of context attention: its keys are the
    words of one caption, so that no key meets the queries of all."""
    read = [weights for _, weights in (*view.people, view.own)]
    names = [f.name for f in functions if f.role != "context"]
    return {name: [key_share(torch.cat([weights[name] for weights in read], 1).numpy())] for name in names}


def measure_falls(
    view: View, checkpoint: Checkpoint, random: torch.Generator
) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Sense -> order -> number removed -> mean fall over the content words of the captioner's caption."""
    spoken, weights = view.own
    content = [t for t, word in enumerate(spoken.words) if word not in FUNCTION_WORDS]
    values: dict[str, dict[str, dict[int, list[float]]]] = {}
    for sense, field in SENSES:
        if not (function := feeding(checkpoint.model.functions, sense)):
            continue
        falls = np.full((2, len(REMOVED)), np.nan)
        if content:
            attention = weights[function.name].mean(0)
            falls = fall(checkpoint, view.inputs, spoken.ids, content, attention, field, random).mean(1)
        values[sense] = {
            order: {n: [value] for n, value in zip(REMOVED, curve, strict=True)}
            for order, curve in zip(("attended", "random"), falls.tolist(), strict=True)
        }
    return values


def tally(photographs: Sequence[Any]) -> dict[Any, Any]:
    """Means over photographs of values that are nested alike (name -> ... -> list), nested likewise. A photograph
    counts once, by the mean of its values, and not at all where it has none."""
    if isinstance(photographs[0], Mapping):
        names = dict.fromkeys(chain.from_iterable(photographs))
        return {name: tally([values[name] for values in photographs if name in values]) for name in names}
    return _mean([float(np.mean(values)) for values in photographs if values])


def ground(
    checkpoint: Checkpoint, scenes: Scenes, boxed: Sequence[Boxed], captions: Mapping[str, str]
) -> dict[str, Any]:
    """All measures; means over photographs with 95 percent bootstrap intervals.

    Args:
        boxed: photographs of the split in which people drew all boxes; those without a caption are left out.
        captions: the captioner's own, by photograph.

    Returns:
        `data`: name of the data set; `photographs`: how many the measures are about; `pointing`: for human and
        generated captions, the share of object words whose most attended region covers (IoU >= 0.5) a human box of what
        they name, by role of the attention, beside a region at random (`chance`), a box of the split's mean human size
        in the centre (`centre`) and the best region there is (`ceiling`); `functions`: the attention functions as the
        captioner declares them; `key_share` of each but the context's; `falls` of log p of the content words of
        generated captions when REMOVED regions or attributes go, over the first FALL_PHOTOGRAPHS photographs;
        `problems`: what was not measured on. For a captioner that groups regions also `groupings`, and `top_partners`,
        how many regions of a photograph are the top partner of some other; with pivots over attributes, `collocations`.
    """
    functions = check_groundable(checkpoint)
    grouping, pivot = find(functions, "regions", "grouping"), find(functions, "attributes", "pivot")
    boxed = [each for each in boxed if each.photograph.id in captions]
    if not boxed:
        raise GliedError("Expected captions of photographs with boxes, got none; evaluate without --grounding.")
    singular = singulars(parsed for each in boxed if each.origin == "phrases" for parsed in each.said)
    opened, problems = [], []
    for each in boxed:
        size = open_image(each.photograph.path).info["size"]
        try:
            check_within(each.boxes, size)
        except LayoutError as error:
            problems.append(f"{shown(each.photograph.id)}: not measured on, {error}")
        else:
            opened.append((each, torch.tensor(size)))
    if not opened:
        raise GliedError(f"Expected boxes within their photographs, none are: {problems[0]}; correct them.")
    boxed, sizes = [each for each, _ in opened], [size for _, size in opened]
    sides = torch.cat([(b.boxes[:, 2:] - b.boxes[:, :2]) / s for b, s in zip(boxed, sizes, strict=True)]).mean(0)
    collocations = Collocations()
    values: list[dict[str, Any]] = []
    random = torch.Generator().manual_seed(0)
    bar = track(boxed, desc=f"grounding of {scenes.split}", unit="image")
    for each, scene in zip(bar, scenes.read([each.photograph for each in boxed]), strict=True):
        own = generated(each, checkpoint, captions[each.photograph.id].split(), singular)
        view = read_captions(checkpoint, scene, each, own, sides)
        found: dict[str, Any] = {
            "pointing": measure_pointing(view, functions),
            "key_share": measure_key_share(view, functions),
        }
        if len(values) < FALL_PHOTOGRAPHS:
            found["falls"] = measure_falls(view, checkpoint, random)
        if grouping:
            found["groupings"] = measure_groupings(view, grouping.name)
            found["top_partners"] = [count_partners(view.own[1][grouping.name].mean(0))]
        if pivot:
            read = [(spoken.words, weights[pivot.name].mean(0)[1:]) for spoken, weights in view.people]
            collocations.add(each.photograph.id, read, view.attributes)
        values.append(found)
    result = {"data": scenes.dataset.name, "photographs": len(boxed), **tally(values), "problems": problems}
    result["functions"] = [asdict(function) for function in functions]
    for orders in result["falls"].values():
        orders |= {order: [{"removed": n} | mean for n, mean in each.items()] for order, each in orders.items()}
    if collocations.lifts:
        training = [list(chain(*p.tokens)) for p in scenes.dataset.photographs if p.split in ("train", "restval")]
        result["collocations"] = collocations.compare(training)
    return result


def check_groundable(checkpoint: Checkpoint) -> Functions:
    """The attention functions of a captioner; raises GliedError if none of them feeds words from regions."""
    model = checkpoint.model
    if not feeding(model.functions, "regions"):
        raise GliedError(
            f"Expected a captioner that attends to regions, {model.title} attends to none; choose another checkpoint."
        )
    return model.functions


@torch.inference_mode()
def attend_all(checkpoint: Checkpoint, batch: Inputs, captions: Sequence[Spoken]) -> list[dict[str, Tensor]]:
    """Attention of every caption of a photograph by name, head by head, [k, rows, keys], as in `glied.traces.Trace`."""
    memory = checkpoint.model.encode(batch)
    found = []
    for spoken in captions:
        weights = checkpoint.model(torch.tensor([[spoken.ids[:-1]]]), memory).weights
        found.append({name: w[0, 0] for name, w in (memory.weights | weights).items() if w is not None})
    return found
