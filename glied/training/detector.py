"""Training of the bottom-up detector on boxes with phrases (Flickr30k Entities) and with classes (COCO)."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from glied.data.annotations import Boxed, Origin, count_beyond, read_boxes
from glied.data.dataset import Data, Dataset, load_dataset, report
from glied.data.phrases import KINDS, SYNONYMS, choose_names, name_object, singulars
from glied.data.split import draw_epoch
from glied.errors import GliedError
from glied.evaluation.recall import measure
from glied.images import open_image
from glied.regions.boxes import iou
from glied.regions.detector import (
    Detector,
    DetectorNet,
    apply_deltas,
    choose_proposals,
    clip,
    load_net,
    save_net,
    to_pixels,
)
from glied.terminal import track
from glied.training.loop import Training, fit, refuse_several, resolve, settings
from glied.training.options import DetectorOptions
from glied.training.provenance import provenance

LONG, SHORT = 448, 320  # pixels of a photograph in training, along its longer and its shorter side
POSITIVE, NEGATIVE = 0.5, 0.4  # IoU with a box from which an anchor holds it, and below which it holds nothing
CLOSEST = 4  # anchors that hold a box too small for any to overlap by POSITIVE
# How sure it is that places without a box show nothing. Boxes of classes leave out things of other classes.
BACKGROUND: dict[Origin, float] = {"phrases": 1.0, "classes": 0.5, "persons": 0.0, "teacher": 0.0}
EXAMINED = 40  # proposals of a photograph that the head learns from, besides the boxes given


class Targets(NamedTuple):
    """Boxes of one photograph in pixels of the network, and what they are called.

    Attributes:
        labels: for a box with phrases, the share of them that name each object; for a box with a class, 1 for the class
            and for each of its KINDS: any of them may be right. All zeros where no name is a label.
        attributes: share of the phrases that have each attribute.
        certainty: of a box: 1 if people drew it, else the teacher's score.
        naming: how much the names of a box count. A phrase of many boxes ("a crowd") counts as much as one of a single
            box.
        describing: how much its attributes count: `naming`, or 0 where nobody described the box.
        background: how sure it is that places without a box show nothing: 0 if objects may be unlabelled.
    """

    boxes: Float[Tensor, "G 4"]
    labels: Float[Tensor, "G L"]
    attributes: Float[Tensor, "G W"]
    certainty: Float[Tensor, " G"]
    naming: Float[Tensor, " G"]
    describing: Float[Tensor, " G"]
    background: float


def name_boxes(boxed: Boxed, singular: Mapping[str, str], labels: Sequence[str], attributes: Sequence[str]) -> Targets:
    """What each box of a photograph is called."""
    label_ids, attribute_ids = ({word: i for i, word in enumerate(words)} for words in (labels, attributes))
    L, W = torch.zeros(len(boxed.boxes), len(labels)), torch.zeros(len(boxed.boxes), len(attributes))
    for g, phrases in enumerate(boxed.phrases):
        for phrase in phrases:
            name = name_object(phrase, singular)
            for each in {name} if boxed.origin == "phrases" else {name} | KINDS.get(name, set()):
                if each in label_ids:
                    L[g, label_ids[each]] += 1
            for word in set(phrase[1]) & attribute_ids.keys():
                W[g, attribute_ids[word]] += 1 / len(phrases)
    boxes_of = Counter(chain for shown in boxed.chains for chain in shown)
    share = torch.tensor([np.mean([1 / boxes_of[c] for c in shown]) if shown else 1.0 for shown in boxed.chains])
    naming = boxed.certainty * share.float()
    describing = naming * (boxed.origin == "phrases")
    if boxed.origin == "phrases":
        L = L / L.sum(1, keepdim=True).clamp_min(1)
    return Targets(boxed.boxes, L, W, boxed.certainty, naming, describing, BACKGROUND[boxed.origin])


def crop(
    image: Image.Image, targets: Targets, wide: bool, random: np.random.Generator, zoom: float
) -> tuple[Float[Tensor, "3 H W"], Targets]:
    """Usually a random part of the photograph, with its contrast changed by up to a fifth, mirrored half of the time;
    and the boxes that lie mostly inside it."""
    size = np.array(image.size)
    part = size * random.uniform(zoom, 1, 2) if random.random() < 0.7 else size
    corner = random.uniform(0, 1, 2) * (size - part)
    width, height = (LONG, SHORT) if wide else (SHORT, LONG)
    x1, y1, x2, y2 = (float(v) for v in (*corner, *(corner + part)))
    seen = image.resize((width, height), Image.Resampling.BILINEAR, box=(x1, y1, x2, y2))
    scale = torch.tensor([width, height] / part, dtype=torch.float).repeat(2)
    boxes = (targets.boxes - torch.tensor(corner, dtype=torch.float).repeat(2)) * scale
    inside = torch.minimum(boxes.clamp_min(0), torch.tensor([width, height] * 2))
    area, whole = ((b[:, 2:] - b[:, :2]).clamp_min(0).prod(1) for b in (inside, boxes))
    kept = (area > 0.5 * whole) & (area > 64)
    pixels = to_pixels(seen) * random.uniform(0.8, 1.2)
    if random.random() < 0.5:
        pixels = pixels.flip(-1)
        inside[:, [0, 2]] = width - inside[:, [2, 0]]
    t = targets
    weights = (t.certainty[kept], t.naming[kept], t.describing[kept])
    return pixels, Targets(inside[kept], t.labels[kept], t.attributes[kept], *weights, t.background)


def pair_giou(a: Float[Tensor, "N 4"], b: Float[Tensor, "N 4"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """IoU and generalised IoU (Rezatofighi et al. 2019) of each box of `a` with its partner in `b`."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    return inner / union, inner / union - (outer - union) / outer


def match(
    boxes: Float[Tensor, "N 4"], truth: Float[Tensor, "G 4"]
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"], Float[Tensor, "N G"]]:
    """IoU of each box with the human box that it overlaps most, which that is, and all IoUs; 0 where there is none."""
    overlap = iou(boxes, truth)
    if not len(truth):
        return torch.zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.long), overlap
    return *overlap.max(1), overlap


def proposal_loss(
    scores: Float[Tensor, " A"], boxes: Float[Tensor, "A 4"], anchors: Float[Tensor, "A 4"], targets: Targets
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Losses of objectness and box over one photograph's anchors, summed, and the summed weights of those that hold a
    box.

    An anchor holds a box if the IoU is at least 0.5, or if it is above 0.1 and among the four closest of that box; it
    holds nothing if no IoU reaches 0.4. Objectness is to be the IoU of the moved anchor (quality focal loss, Li et al.
    2020, its weight without a gradient). A box that few anchors hold, a small one, counts more for each of them: by the
    square root of their mean number over its own.
    """
    truth = targets.boxes
    best, partner, overlap = match(anchors, truth)
    holding: Bool[Tensor, " A"] = best >= POSITIVE
    if len(truth):
        largest, which = overlap.topk(min(CLOSEST, len(overlap)), 0)
        closest = torch.zeros_like(overlap).scatter_(0, which, largest * (largest > 0.1))
        partner = torch.where(holding | ~closest.any(1), partner, closest.argmax(1))
        holding = holding | closest.any(1)
    held, generalised = pair_giou(boxes[holding], truth[partner[holding]])
    anchors_of = torch.bincount(partner[holding], minlength=len(truth)).float()
    even = (anchors_of[anchors_of > 0].mean() / anchors_of).sqrt()
    weight = (targets.certainty * even)[partner[holding]]
    target, weights = torch.zeros_like(scores), torch.zeros_like(scores)
    target[holding], weights[holding] = held.detach(), weight
    weights[~holding & (best < NEGATIVE)] = targets.background
    error = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
    focal = weights * error * (scores.sigmoid().detach() - target) ** 2
    return focal.sum(), (weight * (1 - generalised)).sum(), weight.sum()


def detector_loss(
    net: DetectorNet, pixels: Float[Tensor, "B 3 H W"], targets: Sequence[Targets], frozen: bool
) -> dict[str, Float[Tensor, ""]]:
    """Losses of the proposals, per anchor that holds a box, and of the head, per box (attributes: summed words).

    Args:
        frozen: no gradient for the trunk.
    """
    with torch.set_grad_enabled(not frozen):
        maps = net.trunk(pixels)
    levels = net.pyramid(maps)
    scores, boxes, anchors = net.propose(levels)
    parts = [proposal_loss(s, b, anchors, t) for s, b, t in zip(scores, boxes, targets, strict=True)]
    object_loss, box_loss, holding = (torch.stack(part).sum() for part in zip(*parts, strict=True))
    losses = {"object": object_loss / holding.clamp_min(1), "box": box_loss / holding.clamp_min(1)}

    size = torch.tensor([pixels.shape[3], pixels.shape[2]])
    candidates, overlaps, partners, backgrounds, offset = [], [], [], [], 0
    for s, b, t in zip(scores.detach(), boxes.detach(), targets, strict=True):
        b = clip(b, size)
        candidates.append(torch.cat([b[choose_proposals(b, s, EXAMINED)], t.boxes]))
        overlap, partner, _ = match(candidates[-1], t.boxes)
        overlaps.append(overlap)
        partners.append(partner + offset)
        backgrounds.append(torch.full_like(overlap, t.background))
        offset += len(t.boxes)
    with torch.autocast("cpu", enabled=False):
        read = torch.cat([net.read(level, c) for level, c in zip(levels[0], candidates, strict=True)])
    hidden = net.head(read)
    found = torch.cat(overlaps) >= POSITIVE
    partner = torch.cat(partners)[found]
    truth, labels, attributes, certainty, naming, describing = (
        torch.cat(part)[partner] for part in list(zip(*targets, strict=True))[:-1]
    )
    moved = apply_deltas(torch.cat(candidates), net.refine(hidden).float())
    held, generalised = pair_giou(moved[found], truth)
    target, weights = torch.zeros(len(hidden)), torch.cat(backgrounds)
    target[found], weights[found] = held.detach(), certainty
    quality = net.quality(hidden)[:, 0].float()
    error = functional.binary_cross_entropy_with_logits(quality, target, reduction="none")
    losses["quality"] = (weights * error).sum() / weights.sum().clamp_min(1)
    losses["refine"] = (certainty * (1 - generalised)).sum() / certainty.sum().clamp_min(1)
    logs = net.label(hidden[found]).float().log_softmax(1)
    surprise = -(labels * logs).sum(1)
    several = labels.sum(1) > 1.5  # a class, of which any kind is right
    surprise[several] = -logs[several].masked_fill(labels[several] == 0, -torch.inf).logsumexp(1)
    named = naming * (labels.sum(1) > 0)
    losses["label"] = (named * surprise).sum() / named.sum().clamp_min(1)
    fits = net.attribute(hidden[found]).float()
    error = functional.binary_cross_entropy_with_logits(fits, attributes, reduction="none").sum(1)
    losses["attribute"] = (describing * error).sum() / describing.sum().clamp_min(1)
    return losses


def compute_in_float32(conv: nn.Conv2d) -> None:
    """Takes a convolution out of autocast: the gradient of a depthwise convolution with a stride is ten times slower in
    bfloat16."""
    forward = conv.forward

    def convolve(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    conv.forward = convolve  # type: ignore[method-assign, assignment]


def batches(
    order: Int[Tensor, " I"], wide: Sequence[bool], size: int, random: np.random.Generator
) -> list[Int[Tensor, " _"]]:
    """The photographs of an epoch, in their order, each batch of one orientation; the batches in random order."""
    chosen: list[Tensor] = []
    for orientation in (False, True):
        ids = torch.tensor([i for i in order.tolist() if wide[i] == orientation], dtype=torch.long)
        chosen += ids.split(size) if len(ids) else ()
    return [chosen[i] for i in random.permutation(len(chosen))]


def start_from(net: DetectorNet, path: Path) -> dict[str, Any]:
    """Gives a detector the weights of a trained one, as far as the two know the same objects and attributes.

    Returns:
        the trained one's provenance.
    """
    known, card = load_net(path)
    if (known.channels, known.hidden) != (net.channels, net.hidden):
        raise GliedError(
            f"Expected a detector of {net.channels} channels and a head of {net.hidden} in {path}, found "
            f"{known.channels} and {known.hidden}; start from another."
        )
    weights = known.state_dict()
    for layer, words, others in (("label", net.labels, known.labels), ("attribute", net.attributes, known.attributes)):
        # the word itself where the trained one knows it, else its most frequent synonym
        row = {SYNONYMS.get(word, word): i for i, word in reversed(list(enumerate(others)))}
        row |= {word: i for i, word in enumerate(others)}
        shared = [i for i, word in enumerate(words) if word in row]
        rows = [row[words[i]] for i in shared]
        for kind in ("weight", "bias"):
            fresh = net.state_dict()[f"{layer}.{kind}"].clone()
            fresh[shared] = weights[f"{layer}.{kind}"][rows]
            weights[f"{layer}.{kind}"] = fresh
    net.load_state_dict(weights)
    return card


def read_readable(dataset: Dataset) -> tuple[list[Boxed], list[bool]]:
    """The photographs to train on whose files can be read and hold their boxes, and whether each is wide; the others
    are reported."""
    train, wide = [], []
    found, problems = read_boxes(dataset, dataset.split("train", "restval"))
    for boxed in track(found, desc="photographs", unit="image"):
        try:
            width, height = open_image(boxed.photograph.path, side=None).size
        except GliedError as error:
            problems.append(str(error))
            continue
        if count_beyond(boxed.boxes, (width, height)):
            problems.append(f"{boxed.photograph.id}: left out, its boxes reach beyond its {width} x {height} pixels")
            continue
        train.append(boxed)
        wide.append(width >= height)
    report(problems)
    if not train:
        raise GliedError(f"Expected readable photographs with boxes in {dataset.name}, found none; see above.")
    return train, wide


def train_detector(
    data: Data, run: Path, out: Path, options: DetectorOptions, initial: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Trains the detector on train and restval, writes it to `out`; goes on from the state in `run` if there is one.

    Args:
        initial: a trained detector to start from, instead of ImageNet's weights.

    Returns:
        by data set, recall and label accuracy on val (see `glied.evaluation.recall.measure`).

    Raises:
        GliedError: torchrun started several processes, the data cannot be used, or `run` is another training's.
    """
    refuse_several()
    options = resolve(options)
    dataset = load_dataset(data)
    report(dataset.problems)
    # raises before the training if there is nothing to measure on
    measurable = {boxed.photograph.dataset for boxed in read_boxes(dataset, dataset.split("val"), human=True)[0]}
    train, wide = read_readable(dataset)
    phrases = [phrase for boxed in train for phrase in boxed.said]
    singular = singulars(phrases)
    classes = {name_object(phrase, singular) for boxed in train if boxed.origin != "phrases" for phrase in boxed.said}
    labels, attributes = choose_names(phrases, options.least, classes)
    if not labels or not attributes:
        raise GliedError(
            f"Expected nouns and modifiers that come {options.least} times in the phrases of {dataset.name}, found "
            f"{len(labels)} and {len(attributes)}; lower --least."
        )
    targets = [name_boxes(boxed, singular, labels, attributes) for boxed in train]
    torch.manual_seed(options.seed)
    net = DetectorNet(labels, attributes, pretrained=True, area=LONG * SHORT)
    card = provenance(dataset, "train detector", options)
    if initial is not None:
        card["initial"] = start_from(net, initial)
    for module in (*net.trunk.middle.modules(), *net.trunk.high.modules()):
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride != (1, 1):
            compute_in_float32(module)
    trunk = set(net.trunk.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p not in trunk], "peak": options.rate},
            {"params": list(net.trunk.parameters()), "peak": options.trunk_rate},
        ],
        weight_decay=options.weight_decay,
    )
    photographs = [boxed.photograph for boxed in train]
    plan = []
    for epoch in range(options.epochs):
        seed = options.seed * 10_000 + epoch
        order = draw_epoch(photographs, dataset.subsets, torch.Generator().manual_seed(seed))
        plan.append(batches(order, wide, options.images, np.random.default_rng(seed)))
    steps = [(epoch, ids) for epoch, chosen in enumerate(plan) for ids in chosen]

    def cut_crops(step: int) -> list[tuple[Tensor, Targets]]:
        """The crops of a step."""
        random = np.random.default_rng((options.seed, step))
        return [
            crop(open_image(photographs[i].path, side=None), targets[i], wide[i], random, options.zoom)
            for i in steps[step][1].tolist()
        ]

    boxes = [
        (
            (boxed.photograph.dataset, boxed.photograph.id, boxed.boxes.tolist(), boxed.phrases),
            ([sorted(shown) for shown in boxed.chains], boxed.origin, boxed.certainty.tolist()),
        )
        for boxed in train
    ]
    weights, start = [subset.weight for subset in dataset.subsets], card.get("initial", {}).get("digest")
    depends_on = json.dumps([settings(options), labels, attributes, boxes, weights, start])
    identity = hashlib.sha256(depends_on.encode()).hexdigest()
    with ThreadPoolExecutor(1) as loader:
        begin = lru_cache(2)(lambda step: loader.submit(cut_crops, step))

        def objective(step: int, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
            crops = begin(step).result()
            if step + 1 < len(steps):
                begin(step + 1)  # read while this step computes
            pixels = torch.stack([p for p, _ in crops]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                losses = detector_loss(net, pixels, [t for _, t in crops], frozen=steps[step][0] < options.frozen)
            return torch.stack(list(losses.values())).sum(), {name: loss.item() for name, loss in losses.items()}

        fit(Training("detector", run, identity, net, optimizer, plan, objective, options))
    save_net(out, net, card)
    source = Detector(out, 100, 100)
    quality = {part.name: measure(part.folder, "val", source) for part in dataset.subsets if part.name in measurable}
    for name, found in quality.items():
        for key in ("recall@10", "recall@36", "recall@100", "label_accuracy"):
            card[f"{name} val {key}"] = None if found[key] is None else round(found[key], 4)
    report([p for found in quality.values() for p in found.pop("problems") if p not in dataset.problems])
    save_net(out, net, card)
    return {name: found | {"source": Detector(out, 100, 100).name} for name, found in quality.items()}
