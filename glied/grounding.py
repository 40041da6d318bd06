"""Is the attention true? Four measures of a captioner on photographs whose phrases people tied to boxes.

Attention is averaged over heads. Entities and boxes are those of Flickr30k Entities (Plummer et al. 2015).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from glied.annotations import Boxed, read_boxes
from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint
from glied.data import FeatureCache, load_dataset, stack
from glied.errors import GliedError
from glied.images import open_image
from glied.metrics import interval, rank_correlation
from glied.model import Inputs
from glied.phrases import singulars
from glied.recall import MATCH
from glied.regions import open_source
from glied.regions.boxes import iou
from glied.scene import Scene
from glied.vocabulary import BOS, EOS, FUNCTION_WORDS, tokenize

# The attention that feeds a word: over groupings (global) or regions (local), and over attributes.
FEEDS = {
    "base": {"local": "v", "attributes": "a"},
    "glied": {"global": "v", "local": "vl", "attributes": "al"},
}
GROUPED = ("same", "others", "near")
REMOVED = (1, 2, 4, 8, 16)  # regions or attributes taken away at once
FELLED = 300  # photographs that things are removed from: each removal is another pass
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


def human(boxed: Boxed, checkpoint: Checkpoint) -> Iterator[Spoken]:
    """The human captions, with the boxes that people tied to their phrases."""
    for text, phrases in boxed.sentences:
        words = tokenize(text)[: checkpoint.model.config.max_length]
        tied = [
            (phrase, parsed[0], [g for g, shown in enumerate(boxed.chains) if entity in shown])
            for phrase, parsed, entity in phrases
        ]
        yield Spoken(words, [BOS, *checkpoint.vocabulary.encode(words), EOS], locate(words, tied))


def generated(boxed: Boxed, checkpoint: Checkpoint, words: list[str], singular: dict[str, str]) -> Spoken:
    """The captioner's caption; its object words are those that head a human phrase of the photograph with boxes, unless
    another follows ("a black dog", although someone is "in black")."""
    named: dict[str, set[int]] = defaultdict(set)
    for g, phrases in enumerate(boxed.phrases):
        for head, _ in phrases:
            named[singular.get(head, head)].add(g)
    nouns = [singular.get(word, word) for word in words]
    heads = [t for t, noun in enumerate(nouns) if noun in named and not set(nouns[t + 1 : t + 2]) & named.keys()]
    objects = {t: sorted(named[nouns[t]]) for t in heads}
    return Spoken(words, [BOS, *checkpoint.vocabulary.encode(words), EOS], objects)


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
        for every region of an entity of the sentence, the mean lift of `same`, regions of that entity; `others`,
        regions of the other entities of the sentence; `near`, as many of the nearest regions that are of none. And the
        same with `_beyond`: over what the photograph's other regions take of those regions, since some are sought by
        all.
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


@torch.inference_mode()
def deletion(
    checkpoint: Checkpoint,
    inputs: Inputs,
    ids: list[int],
    positions: list[int],
    weights: Float[Tensor, "L keys"],
    field: str,
    random: torch.Generator,
) -> Float[np.ndarray, "2 words counts"]:
    """How far log p of words falls when the regions or attributes they attend to most are taken away, and when as many
    at random are; NaN where there are not more than that.

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
    full = Inputs(inputs.features.expand(B, -1, -1), None, inputs.attributes.expand(B, -1), None)
    memory = model.encode(full._replace(**{field: masks}))
    log_p = model.logits(model(torch.tensor([[ids[:-1]]]).expand(B, -1, -1), memory).c_tilde[:, 0]).log_softmax(-1)
    rows = torch.tensor(positions)
    chosen = log_p[:, rows, torch.tensor(ids[1:])[rows]]
    left = chosen[1:].view(len(positions), 2, len(REMOVED), len(positions)).diagonal(dim1=0, dim2=3)
    fall = (chosen[0] - left).permute(0, 2, 1).numpy()
    fall[..., np.array(REMOVED) >= keys] = np.nan
    return fall


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


def ground(
    checkpoint: Checkpoint,
    detector: AttributeDetector,
    data: Path,
    split: str,
    cache: Path,
    captions: Mapping[str, str],
) -> dict[str, Any]:
    """The four measures; means over photographs with 95 percent bootstrap intervals.

    Args:
        captions: the captioner's own, by photograph.

    Returns:
        `pointing`: for human and generated captions, the share of object words whose most attended region covers
        (IoU >= 0.5) a human box of what they name, beside a region at random (`chance`), a box of the split's mean
        human size in the centre (`centre`) and the best region there is (`ceiling`); `groupings` and `collocations`
        (GLIED alone); `deletion`: fall of log p of the content words of generated captions when REMOVED regions or
        attributes go, over the first FELLED photographs.
    """
    feeds = FEEDS[check_groundable(checkpoint)]
    dataset = load_dataset(data)
    features = FeatureCache(cache, open_source(checkpoint.source))
    photographs = [p for p in dataset.split(split) if p.id in captions]
    keys, _ = features.extract([p.path for p in photographs])
    entities = read_boxes(dataset, [p for p in photographs if p.path in keys], human=True)
    singular = singulars(parsed for boxed in entities for parsed in boxed.said)
    sizes = [torch.tensor(open_image(boxed.photograph.path).info["size"]) for boxed in entities]
    sides = torch.cat([(b.boxes[:, 2:] - b.boxes[:, :2]) / s for b, s in zip(entities, sizes, strict=True)]).mean(0)
    names = [name for name in feeds if name != "attributes"]
    columns: dict[tuple, list[float]] = {
        ("pointing", kind, name): []
        for kind in ("human", "generated")
        for name in (*names, "chance", "centre", "ceiling")
    }
    for sense in ("regions", "attributes"):
        columns |= {("deletion", sense, order, n): [] for order in ("attended", "random") for n in REMOVED}
    collocations = Collocations()
    random = torch.Generator().manual_seed(0)
    for count, boxed in enumerate(tqdm(entities, desc=f"grounding of {split}", unit="image")):
        (regions,) = features.read([keys[boxed.photograph.path]])
        scene = Scene(regions, detector.find_attributes(regions))
        batch = stack([scene], checkpoint.vocabulary)
        boxes = torch.from_numpy(regions.boxes.copy())
        overlap = iou(boxed.boxes, boxes)
        half = sides * torch.tensor(regions.size) / 2
        middle = torch.tensor(regions.size) / 2
        centre = iou(boxed.boxes, torch.cat([middle - half, middle + half])[None])
        people = list(human(boxed, checkpoint))
        own = generated(boxed, checkpoint, captions[boxed.photograph.id].split(), singular)
        attention = attend_all(checkpoint, batch, [*people, own])
        values: dict[tuple, list[float]] = defaultdict(list)
        for spoken, weights in zip([*people, own], attention, strict=True):
            kind = "generated" if spoken is own else "human"
            for name in names:
                values["pointing", kind, name] += pointing(weights[feeds[name]], overlap, spoken).tolist()
            for at in spoken.objects.values():
                covering = hit(overlap, at)
                values["pointing", kind, "chance"].append(covering.float().mean().item())
                values["pointing", kind, "centre"].append(float(hit(centre, at).item()))
                values["pointing", kind, "ceiling"].append(float(covering.any()))
            if kind == "human" and "vd" in weights:
                for name, lifts in grouping_lift(weights["vd"], overlap, boxes, spoken).items():
                    values["groupings", name] += lifts
        if "ad" in attention[0]:
            known = [word for word in scene.attributes.words if word in checkpoint.vocabulary]  # as `stack` gives them
            rows = zip(people, attention, strict=False)
            said = [(spoken.words, weights["ad"][1:]) for spoken, weights in rows]
            collocations.add(boxed.photograph.id, said, known or ["<unk>"])
        content = [t for t, word in enumerate(own.words) if word not in FUNCTION_WORDS]
        for sense, field, name in (("regions", "region_mask", "local"), ("attributes", "attribute_mask", "attributes")):
            if content and count < FELLED:
                fall = deletion(checkpoint, batch, own.ids, content, attention[-1][feeds[name]], field, random)
                for order, curve in zip(("attended", "random"), fall.mean(1).tolist(), strict=True):
                    for n, value in zip(REMOVED, curve, strict=True):
                        values["deletion", sense, order, n].append(value)
        for key, each in values.items():
            columns.setdefault(key, []).extend([float(np.mean(each))] if each else [])
    result: dict[str, Any] = {"photographs": len(entities)}
    for (*path, last), each in columns.items():
        place = result
        for name in path:
            place = place.setdefault(name, {})
        place[last] = _mean(each)
    for orders in result["deletion"].values():
        orders |= {order: [{"removed": n} | mean for n, mean in each.items()] for order, each in orders.items()}
    if collocations.lifts:
        training = [list(chain(*p.tokens)) for p in dataset.photographs if p.split in ("train", "restval")]
        result["collocations"] = collocations.compare(training)
    return result


def check_groundable(checkpoint: Checkpoint) -> str:
    """The architecture, one whose attention is known."""
    architecture = checkpoint.model.config.architecture
    if architecture not in FEEDS:
        raise GliedError(f"Expected Base or GLIED to ground, got {architecture}; choose another checkpoint.")
    return architecture


@torch.inference_mode()
def attend_all(checkpoint: Checkpoint, batch: Inputs, captions: Sequence[Spoken]) -> list[dict[str, Tensor]]:
    """Attention of every caption of a photograph by name, mean over heads: vd [N, N]; row t of v, vl, al, a feeds word
    t, row t of ad is that of input t (<bos> first)."""
    memory = checkpoint.model.encode(batch)
    found = []
    for spoken in captions:
        weights = checkpoint.model(torch.tensor([[spoken.ids[:-1]]]), memory).weights
        found.append({name: w[0, 0].mean(0) for name, w in (memory.weights | weights).items() if w is not None})
    return found
