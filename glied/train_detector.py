"""Training of the bottom-up detector on the boxes and phrases of Flickr30k Entities."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from glied.data import load_dataset, report
from glied.errors import GliedError, within
from glied.files import replacing
from glied.images import open_image
from glied.loop import StepOptions, learning_rate, resume, settings, write_log
from glied.phrases import choose_names
from glied.provenance import provenance
from glied.recall import Boxed, measure, read_entities
from glied.regions.boxes import iou, nms
from glied.regions.detector import Detector, DetectorNet, apply_deltas, save_net, to_pixels

LONG, SHORT = 384, 256  # pixels of a photograph in training, along its longer and its shorter side
POSITIVE, NEGATIVE = 0.5, 0.4  # IoU with a human box from which an anchor holds it, and below which it holds nothing
EXAMINED = 40  # proposals of a photograph that the head learns from, besides the human boxes


@dataclass(frozen=True)
class DetectorOptions(StepOptions):
    """How the detector is trained; recorded in its file.

    Attributes:
        frozen: epochs at the start in which EfficientNet-Lite2 keeps its ImageNet weights.
        trunk_rate: peak learning rate of EfficientNet-Lite2, on the same schedule as `rate`.
        zoom: smallest share of the sides that a random crop keeps.
        least: how often a noun or modifier must come in the training phrases to be a label.
    """

    epochs: int = 6
    images: int = 8
    warmup: int = 500
    weight_decay: float = 0.05
    clip: float = 5.0
    frozen: int = 3
    trunk_rate: float = 1e-4
    zoom: float = 0.6
    least: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, frozen=(0, 10_000), trunk_rate=(0, 1), zoom=(0.1, 1), least=(1, 10**6))


class Targets(NamedTuple):
    """Human boxes of one photograph in pixels of the network, and what they are called.

    Attributes:
        labels: share of each object among the phrases of a box; a row of zeros where none is known.
        attributes: share of the phrases that have each attribute.
    """

    boxes: Float[Tensor, "G 4"]
    labels: Float[Tensor, "G L"]
    attributes: Float[Tensor, "G W"]


def name_boxes(boxed: Boxed, heads: dict[str, str], labels: Sequence[str], attributes: Sequence[str]) -> Targets:
    """What each box of a photograph is called."""
    label_ids, attribute_ids = ({word: i for i, word in enumerate(words)} for words in (labels, attributes))
    L, W = torch.zeros(len(boxed.boxes), len(labels)), torch.zeros(len(boxed.boxes), len(attributes))
    for g, phrases in enumerate(boxed.phrases):
        for head, modifiers in phrases:
            if head in heads:
                L[g, label_ids[heads[head]]] += 1
            for word in set(modifiers) & attribute_ids.keys():
                W[g, attribute_ids[word]] += 1 / len(phrases)
    return Targets(boxed.boxes, L / L.sum(1, keepdim=True).clamp_min(1), W)


def crop(
    image: Image.Image, targets: Targets, wide: bool, random: np.random.Generator, zoom: float
) -> tuple[Float[Tensor, "3 H W"], Targets]:
    """Most often a random part of the photograph, its contrast changed by up to a fifth, mirrored half of the time, and
    the boxes that are mostly in it."""
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
    return pixels, Targets(inside[kept], targets.labels[kept], targets.attributes[kept])


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
    scores: Float[Tensor, " A"], boxes: Float[Tensor, "A 4"], anchors: Float[Tensor, "A 4"], truth: Float[Tensor, "G 4"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], int]:
    """Losses of objectness and box over one photograph's anchors, summed, and how many anchors hold a human box.

    An anchor holds a human box if the IoU is at least 0.5, or above 0.1 and no anchor overlaps that box more; it holds
    nothing if no IoU reaches 0.4. Objectness is to be the IoU of the moved anchor (quality focal loss, Li et al. 2020,
    its weight without a gradient).
    """
    best, partner, overlap = match(anchors, truth)
    holding: Bool[Tensor, " A"] = best >= POSITIVE
    if len(truth):
        closest = (overlap == overlap.amax(0)) & (overlap > 0.1)
        partner = torch.where(holding | ~closest.any(1), partner, closest.float().argmax(1))
        holding = holding | closest.any(1)
    held, generalised = pair_giou(boxes[holding], truth[partner[holding]])
    target = torch.zeros_like(scores)
    target[holding] = held.detach()
    error = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
    focal = error * (scores.sigmoid().detach() - target) ** 2
    return focal[holding | (best < NEGATIVE)].sum(), (1 - generalised).sum(), int(holding.sum())


def detector_loss(
    net: DetectorNet, pixels: Float[Tensor, "B 3 H W"], targets: Sequence[Targets], frozen: bool
) -> dict[str, Float[Tensor, ""]]:
    """Losses of the proposals, per anchor that holds a human box, and of the head, per box (attributes: summed words).

    Args:
        frozen: no gradient for the trunk.
    """
    with torch.set_grad_enabled(not frozen):
        maps = net.trunk(pixels)
    levels = net.pyramid(maps)
    scores, boxes, anchors = net.propose(levels)
    parts = [proposal_loss(s, b, anchors, t.boxes) for s, b, t in zip(scores, boxes, targets, strict=True)]
    object_losses, box_losses, holding = zip(*parts, strict=True)
    losses = {
        "object": torch.stack(object_losses).sum() / max(1, sum(holding)),
        "box": torch.stack(box_losses).sum() / max(1, sum(holding)),
    }

    candidates, overlaps, partners, offset = [], [], [], 0
    for s, b, t in zip(scores.detach(), boxes.detach(), targets, strict=True):
        best = s.topk(5 * EXAMINED).indices
        kept = best[nms(b[best], s[best], 0.7)[:EXAMINED]]
        candidates.append(torch.cat([b[kept], t.boxes]))
        overlap, partner, _ = match(candidates[-1], t.boxes)
        overlaps.append(overlap)
        partners.append(partner + offset)
        offset += len(t.boxes)
    with torch.autocast("cpu", enabled=False):
        read = torch.cat([net.read(level, c) for level, c in zip(levels[0], candidates, strict=True)])
    hidden = net.head(read)
    found = torch.cat(overlaps) >= POSITIVE
    partner = torch.cat(partners)[found]
    truth, labels, attributes = (torch.cat(part) for part in zip(*targets, strict=True))
    moved = apply_deltas(torch.cat(candidates), net.refine(hidden).float())
    held, generalised = pair_giou(moved[found], truth[partner])
    target = torch.zeros(len(hidden))
    target[found] = held.detach()
    losses["quality"] = functional.binary_cross_entropy_with_logits(net.quality(hidden)[:, 0].float(), target)
    losses["refine"] = (1 - generalised).sum() / max(1, len(partner))
    named = labels[partner]
    logs = net.label(hidden[found]).float().log_softmax(1)
    losses["label"] = -(named * logs).sum() / named.sum().clamp_min(1)
    losses["attribute"] = functional.binary_cross_entropy_with_logits(
        net.attribute(hidden[found]).float(), attributes[partner], reduction="sum"
    ) / max(1, len(partner))
    return losses


def batches(wide: Sequence[bool], size: int, seed: int) -> list[np.ndarray]:
    """All photographs in a random order, each batch of one orientation."""
    random = np.random.default_rng(seed)
    chosen = []
    for orientation in (False, True):
        ids = random.permutation([i for i, w in enumerate(wide) if w == orientation])
        chosen += [ids[i : i + size] for i in range(0, len(ids), size)]
    return [chosen[i] for i in random.permutation(len(chosen))]


def train_detector(data: Path, run: Path, out: Path, options: DetectorOptions) -> dict[str, Any]:
    """Trains the detector on train and restval, writes it to `out`; goes on from the state in `run` if there is one.

    Order, crops and mirrorings follow from the seed and the step, so a run that was stopped and resumed ends with the
    weights of an unbroken one, on the same machine and thread count.

    Returns:
        recall and label accuracy on val (see `glied.recall.measure`).
    """
    dataset = load_dataset(data)
    report(dataset.problems)
    read_entities(data, dataset.split("val"))  # nothing to measure: better said now than after the training
    train, wide, problems = [], [], []
    for boxed in tqdm(read_entities(data, dataset.split("train", "restval")), desc="photographs", unit="image"):
        try:
            width, height = open_image(boxed.photograph.path).size
        except GliedError as error:
            problems.append(str(error))
            continue
        if (boxed.boxes > torch.tensor([width + 1, height + 1] * 2)).any():
            problems.append(f"{boxed.photograph.id}: left out, its boxes reach beyond its {width} x {height} pixels")
            continue
        train.append(boxed)
        wide.append(width >= height)
    report(problems)
    if not train:
        raise GliedError(f"Expected readable photographs with boxes in {data}, none of them is; see above.")
    heads, attributes = choose_names((p for boxed in train for p in boxed.said), options.least)
    labels = tuple(dict.fromkeys(heads.values()))
    if not labels or not attributes:
        raise GliedError(
            f"Expected nouns and modifiers that come {options.least} times in the phrases of {data}, found "
            f"{len(labels)} and {len(attributes)}; lower --least."
        )
    targets = [name_boxes(boxed, heads, labels, attributes) for boxed in train]
    torch.manual_seed(options.seed)
    net = DetectorNet(labels, attributes, pretrained=True)
    trunk = set(net.trunk.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p not in trunk], "peak": options.rate},
            {"params": list(net.trunk.parameters()), "peak": options.trunk_rate},
        ],
        weight_decay=options.weight_decay,
    )
    per_epoch = len(batches(wide, options.images, 0))
    steps = per_epoch * options.epochs

    card = provenance(dataset, "train detector", options)
    boxes = [(boxed.photograph.id, boxed.boxes.tolist(), boxed.phrases) for boxed in train]
    described = json.dumps([settings(options), labels, attributes, boxes])
    identity = hashlib.sha256(described.encode()).hexdigest()
    fresh = {"identity": identity, "step": 0, "log": [], "losses": []}
    state_path = run / "state.pt"
    state = resume(state_path, fresh)
    if state is not fresh:
        net.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
        print(f"resuming {run} at step {state['step']} of {steps}")

    def save() -> None:
        with replacing(state_path) as aside:
            torch.save(state | {"model": net.state_dict(), "optimizer": optimizer.state_dict()}, aside)

    saved = time.monotonic()
    bar = tqdm(total=steps, initial=state["step"], desc="detector", unit="step", dynamic_ncols=True)
    while state["step"] < steps:
        epoch = state["step"] // per_epoch
        for chosen in batches(wide, options.images, options.seed * 10_000 + epoch)[state["step"] % per_epoch :]:
            random = np.random.default_rng((options.seed, state["step"]))
            seen = [
                crop(open_image(train[i].photograph.path), targets[i], wide[i], random, options.zoom) for i in chosen
            ]
            pixels = torch.stack([p for p, _ in seen]).contiguous(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state["step"], steps, group["peak"], options.warmup)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                losses = detector_loss(net, pixels, [t for _, t in seen], frozen=epoch < options.frozen)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), options.clip)
            optimizer.step()
            state["step"] += 1
            state["losses"].append([v.item() for v in losses.values()])
            bar.update()
            bar.set_postfix(loss=f"{np.sum(state['losses'][-100:], 1).mean():.3f}", refresh=False)
            if state["step"] % per_epoch and time.monotonic() - saved > 60 * options.save_minutes:
                save()
                saved = time.monotonic()
        means = np.mean(state["losses"], 0).round(4).tolist()
        state["log"].append({"epoch": epoch + 1, "step": state["step"], **dict(zip(losses, means, strict=True))})
        state["losses"] = []
        write_log(run / "log.csv", state["log"])
        save()
        saved = time.monotonic()
        bar.write(" ".join(f"{key} {value}" for key, value in state["log"][-1].items()))
    bar.close()
    save_net(out, net, card)
    quality = measure(data, "val", Detector(out, 100, 100))
    measured = {key: quality[key] for key in ("recall@10", "recall@36", "recall@100", "label_accuracy")}
    card |= {f"val_{key}": None if value is None else round(value, 4) for key, value in measured.items()}
    save_net(out, net, card)
    return quality | {"source": Detector(out, 100, 100).name}
