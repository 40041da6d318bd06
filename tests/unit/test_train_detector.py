"""Training of the detector: what it is shown, its losses by hand, and the same weights however often it is stopped."""

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import run

from glied.data.annotations import Boxed, Origin
from glied.data.dataset import Photograph
from glied.errors import GliedError
from glied.evaluation.recall import measure
from glied.regions import open_source
from glied.regions.boxes import iou
from glied.regions.detector import Detector, DetectorNet, load_net, save_net
from glied.training import detector as training
from glied.training.detector import (
    DetectorOptions,
    Targets,
    batches,
    crop,
    detector_loss,
    name_boxes,
    pair_giou,
    proposal_loss,
    start_from,
    train_detector,
)
from glied.training.loop import learning_rate

LABELS, ATTRIBUTES = ("dog", "shirt", "man"), ("red", "big")
LONG, SHORT = training.LONG, training.SHORT


# Names and crops


def named(
    phrases: list, chains: list[set[int]], origin: Origin = "phrases", certainty: Sequence[float] | None = None
) -> Boxed:
    """Boxes that are called so."""
    photograph = Photograph("x", Path("x"), "train", ("a dog",))
    sure = torch.tensor(certainty or [1.0] * len(phrases))
    return Boxed(photograph, torch.arange(4.0 * len(phrases)).view(-1, 4), phrases, [], chains, [], origin, sure)


def test_names_are_shares_of_the_phrases() -> None:
    phrases = [
        [("dog", ("red",)), ("dogs", ()), ("shirt", ("red", "big")), ("sofa", ("red", "soft"))],
        [("sofa", ("big",))],  # no label fits
        [],
        [("", ())],
        [("dog", ("big", "big"))],
        [("guy", ()), ("dog", ("hot",))],  # a synonym, and another object
    ]
    boxed = named(phrases, [{g} for g in range(6)])
    found = name_boxes(boxed, {"dogs": "dog"}, LABELS, ATTRIBUTES)
    assert torch.equal(found.boxes, boxed.boxes)
    shares = [[2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(found.labels, shares)
    np.testing.assert_allclose(found.attributes, [[3 / 4, 1 / 4], [0, 1], [0, 0], [0, 0], [0, 1], [0, 0]])
    assert found.certainty.tolist() == found.naming.tolist() == found.describing.tolist() == [1] * 6
    assert found.background == 1


def test_a_phrase_of_many_boxes_counts_once_in_total() -> None:
    """Entity 1 has three boxes, entity 2 two, entity 3 one; a box may show two entities, or none that is known."""
    dog = [("dog", ())]
    found = name_boxes(named([dog] * 6, [{1}, {1}, {1, 2}, {2}, {3}, set()]), {}, LABELS, ATTRIBUTES)
    expected = [1 / 3, 1 / 3, (1 / 3 + 1 / 2) / 2, 1 / 2, 1, 1]
    np.testing.assert_allclose(found.naming, expected, rtol=1e-6)
    np.testing.assert_allclose(found.describing, expected, rtol=1e-6)
    assert found.certainty.tolist() == [1] * 6  # where they are counts in full


@pytest.mark.parametrize(
    ("origin", "described", "background"),
    [("phrases", True, 1.0), ("classes", False, 0.5), ("persons", False, 0.0), ("teacher", False, 0.0)],
)
def test_attributes_are_taught_where_people_described_the_box(origin: Origin, described: bool, background) -> None:
    """And a box counts by the score that a teacher gave it."""
    boxed = named([[("dog", ())], [("man", ())]], [{0}, {1}], origin, [0.25, 1.0])
    found = name_boxes(boxed, {}, LABELS, ATTRIBUTES)
    assert found.certainty.tolist() == found.naming.tolist() == [0.25, 1]
    assert found.describing.tolist() == ([0.25, 1] if described else [0, 0])
    assert found.background == background


def told(boxes, labels, attributes, background: float = 1.0, **weights: Sequence[float]) -> Targets:
    """Boxes and their names, each of weight 1 where nothing else is said."""
    boxes, labels, attributes = (torch.tensor(values, dtype=torch.float32) for values in (boxes, labels, attributes))
    counts = [
        torch.tensor(weights.get(name, [1.0] * len(boxes)), dtype=torch.float32)
        for name in ("certainty", "naming", "describing")
    ]
    return Targets(boxes, labels, attributes, *counts, background)


def targets(*boxes: Sequence[float]) -> Targets:
    """Boxes of which the i-th is called by the i-th of five labels and by the first attribute; its weights are its
    own."""
    n = len(boxes)
    weights = {name: [start + g / 10 for g in range(n)] for name, start in WEIGHTS.items()}
    labels, attributes = torch.eye(5)[:n].tolist(), [[1.0, 0]] * n
    return told([list(map(float, box)) for box in boxes], labels, attributes, 0.5, **weights)


WEIGHTS = {"certainty": 0.5, "naming": 0.25, "describing": 0.125}  # of the first box


@pytest.mark.parametrize("wide", [True, False])
def test_without_zoom_boxes_scale_and_are_mirrored_half_of_the_time(wide: bool) -> None:
    image, human = Image.new("RGB", (200, 100)), targets([20, 10, 60, 90])
    width, height = (LONG, SHORT) if wide else (SHORT, LONG)
    left, right = [width * v / 200 for v in (20, 60)]
    upright, mirrored = ([a, height / 10, b, 0.9 * height] for a, b in ((left, right), (width - right, width - left)))
    seen = []
    for seed in range(40):
        pixels, found = crop(image, human, wide, np.random.default_rng(seed), 1.0)
        assert pixels.shape == (3, height, width)
        [box] = found.boxes.tolist()
        seen.append(box == pytest.approx(mirrored, abs=1e-3))
        assert seen[-1] or box == pytest.approx(upright, abs=1e-3)
    assert 10 < sum(seen) < 30
    assert human.boxes.tolist() == [[20, 10, 60, 90]]  # what was given stays


PAINTED = ([30, 20, 130, 120], [150, 10, 220, 60], [160, 80, 230, 170], [20, 140, 140, 190])


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.2, 0.6, 1.0]))
def test_colours_stay_under_their_boxes(seed: int, wide: bool, zoom: float) -> None:
    """Rectangles that do not overlap, each in its colour: it fills its box after the crop, and lies nowhere else."""
    image = Image.new("RGB", (240, 200))
    for colour, box in zip(tiny.COLOURS, PAINTED, strict=False):
        image.paste(colour, tuple(box))
    pixels, found = crop(image, targets(*PAINTED), wide, np.random.default_rng(seed), zoom)
    lit = (pixels > 0).long()  # at any brightness, 240 is above the middle and 30 below
    codes = (lit * torch.tensor([1, 2, 4])[:, None, None]).sum(0)
    expected = {g: sum(2**c for c in range(3) if colour[c] > 127) for g, colour in enumerate(tiny.COLOURS)}
    size = torch.tensor([pixels.shape[2], pixels.shape[1]] * 2)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= size).all()
    assert torch.equal(found.attributes, torch.tensor([[1.0, 0]] * len(found.boxes)).view(-1, 2))
    for name, start in WEIGHTS.items():  # each box keeps its own
        expected_weights = [start + g / 10 for g in found.labels.argmax(1).tolist()]
        assert getattr(found, name).tolist() == pytest.approx(expected_weights)
    assert found.background == 0.5
    for box, label in zip(found.boxes, found.labels, strict=True):
        assert label.sum() == 1
        mine = codes == expected[int(label.argmax())]
        x1, y1, x2, y2 = box.tolist()
        blur = 10  # pixels at the border of a rectangle, at the strongest zoom
        inner = mine[math.ceil(y1) + blur : int(y2) - blur, math.ceil(x1) + blur : int(x2) - blur]
        assert inner.all()
        outside = mine.clone()
        outside[max(0, int(y1) - blur) : math.ceil(y2) + blur, max(0, int(x1) - blur) : math.ceil(x2) + blur] = False
        assert not outside.any()


@given(st.integers(0, 2**32 - 1))
def test_boxes_of_which_half_is_in_the_crop_are_kept_and_cut(seed: int) -> None:
    """Red says the column and green the row of a pixel, so that the crop itself tells where it was."""
    ramp = np.arange(200, dtype=np.uint8)
    image = Image.fromarray(np.stack([*np.meshgrid(ramp, ramp), np.full((200, 200), 255, np.uint8)], 2))
    corner = np.random.default_rng(seed).uniform(0, 150, (5, 2))
    humans = np.concatenate([corner, corner + np.random.default_rng(seed + 1).uniform(20, 50, (5, 2))], 1)
    pixels, found = crop(image, targets(*humans.tolist()), True, np.random.default_rng(seed), 0.3)
    brightness = pixels[2].mean()  # blue is 255, which is 1
    expected = np.empty((5, 4))
    for axis, shown in ((0, pixels[0].mean(0)), (1, pixels[1].mean(1))):
        places = 128 * (shown / brightness).double().numpy() + 127 + 0.5
        slope, start = np.polyfit(np.arange(len(places))[5:-5] + 0.5, places[5:-5], 1)
        expected[:, axis::2] = np.sort((humans[:, axis::2] - start) / slope)  # a mirrored crop has a slope below 0
    inside = np.clip(expected, 0, [LONG, SHORT, LONG, SHORT])
    areas, wholes = (np.prod(boxes[:, 2:] - boxes[:, :2], 1) for boxes in (inside, expected))
    kept = {int(label.argmax()): box.numpy() for box, label in zip(found.boxes, found.labels, strict=True)}
    for g, share in enumerate(areas / wholes):
        if abs(share - 0.5) > 0.02:
            assert (g in kept) == (share > 0.5)
    for g, box in kept.items():
        np.testing.assert_allclose(box, inside[g], atol=1.5)


@pytest.mark.parametrize(("side", "kept"), [(8.5, 1), (7.5, 0)])
def test_boxes_of_64_pixels_and_less_are_left_out(side: float, kept: int) -> None:
    box = [100, 50, 100 + side * 400 / LONG, 50 + side * 100 / SHORT]
    _, found = crop(Image.new("RGB", (400, 100)), targets(box), True, np.random.default_rng(0), 1.0)
    assert len(found.boxes) == kept


@pytest.mark.parametrize("size", [(16, 16), (3000, 16), (17, 900)])
def test_crops_of_any_shape(size: tuple[int, int]) -> None:
    for seed in range(5):
        human = targets([0, 0, *size])
        pixels, found = crop(Image.new("RGB", size), human, True, np.random.default_rng(seed), 0.1)
        assert pixels.shape == (3, SHORT, LONG)
        assert found.labels.shape[1] == 5


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_batches_are_the_photographs_in_their_order_and_one_orientation_each(wide, size: int, seed: int) -> None:
    """Some photographs come twice in the order, some never."""
    order = torch.randint(len(wide), (len(wide),), generator=torch.Generator().manual_seed(seed))
    found = [b.tolist() for b in batches(order, wide, size, np.random.default_rng(seed))]
    for orientation in (True, False):
        own = [i for i in order.tolist() if wide[i] == orientation]
        parts = [own[start : start + size] for start in range(0, len(own), size)]
        assert sorted(batch for batch in found if wide[batch[0]] == orientation) == sorted(parts)
    assert all(1 <= len(batch) <= size and len({wide[i] for i in batch}) == 1 for batch in found)
    assert [b.tolist() for b in batches(order, wide, size, np.random.default_rng(seed))] == found


def test_another_seed_is_another_order_of_batches() -> None:
    order, wide = torch.arange(40), [True, False] * 20
    found = {tuple(i for b in batches(order, wide, 4, np.random.default_rng(s)) for i in b.tolist()) for s in range(5)}
    assert len(found) == 5


# Losses


@pytest.mark.parametrize(
    ("a", "b", "shared", "generalised"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1, 1),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([0, 0, 1, 1], [2, 0, 3, 1], 0, -1 / 3),
        ([0, 0, 1, 1], [9, 9, 10, 10], 0, -98 / 100),
        ([0, 0, 2, 4], [0, 0, 2, 1], 1 / 4, 1 / 4),
        ([1, 1, 2, 2], [0, 0, 4, 4], 1 / 16, 1 / 16),
    ],
)
def test_overlap_worked_values(a: list[float], b: list[float], shared: float, generalised: float) -> None:
    boxes = torch.tensor([a, b], dtype=torch.float32)
    found = pair_giou(boxes, boxes.flip(0))
    np.testing.assert_allclose(found[0], [shared] * 2, atol=1e-6)
    np.testing.assert_allclose(found[1], [generalised] * 2, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_overlap_is_that_of_all_pairs(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    corner = 30 * torch.rand(2, 9, 2, generator=random)
    a, b = torch.cat([corner, corner + 1 + 20 * torch.rand(2, 9, 2, generator=random)], 2)
    shared, generalised = pair_giou(a, b)
    torch.testing.assert_close(shared, iou(a, b).diagonal())
    assert (generalised <= shared + 1e-6).all()
    assert (generalised > -1).all()


def row(*lefts: float) -> torch.Tensor:
    """Boxes of 10 x 10 at these places; two that lie d apart overlap by (10 - d) / (10 + d)."""
    return torch.tensor([[left, 0, left + 10, 10] for left in lefts], dtype=torch.float32)


def focal(logit: float, target: float) -> float:
    """Quality focal loss, spelled out."""
    p = 1 / (1 + math.exp(-logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p)) * (p - target) ** 2


def propose(
    scores: Sequence[float],
    moved: torch.Tensor,
    anchors: torch.Tensor,
    truth: torch.Tensor,
    background=1.0,
    certainty=(),
) -> list[float]:
    """Losses of objectness and box, and the weights of the anchors that hold a box."""
    n = len(truth)
    human = Targets(truth, torch.zeros(n, 3), torch.zeros(n, 2), *[torch.ones(n)] * 3, background)
    if certainty:
        human = human._replace(certainty=torch.tensor(certainty))
    return [v.item() for v in proposal_loss(torch.tensor(scores), moved, anchors, human)]


NONE = Targets(torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0, 2), *[torch.zeros(0)] * 3, 1.0)


@pytest.mark.parametrize("background", [1.0, 0.5])
def test_without_a_human_box_every_anchor_is_empty(background: float) -> None:
    scores = torch.tensor([0.0, 2.0, -3.0], requires_grad=True)
    boxes = row(0, 20, 40).requires_grad_()
    objects, shapes, holding = proposal_loss(scores, boxes, row(0, 20, 40), NONE._replace(background=background))
    assert objects.item() == pytest.approx(background * sum(focal(s, 0) for s in (0, 2, -3)))
    assert (shapes.item(), holding.item()) == (0, 0)
    (objects + shapes).backward()
    assert (scores.grad > 0).all()  # all are to fall


def test_where_objects_may_be_unlabelled_no_place_is_empty() -> None:
    """The anchors that hold the box are taught, those beside it not."""
    assert propose([0.0, 2.0], row(0, 20), row(0, 20), NONE.boxes, background=0.0) == [0, 0, 0]
    objects, shapes, holding = propose([1.0, 3.0, -2.0], row(5, 9, 9), row(0, 50, 100), row(0), background=0.0)
    assert objects == pytest.approx(focal(1, 1 / 3), rel=1e-4)
    assert shapes == pytest.approx(1 - 1 / 3)
    assert holding == 1


def test_anchors_hold_are_empty_or_do_not_count() -> None:
    """A human box at 0; anchors 0, 1, 2 and 3 (7/13), 4 (6/14, neither), 5 (1/3, empty) and 100 (empty)."""
    scores = [1.0, 0.5, 0.5, 0.5, 3.0, -1.0, 0.0]
    boxes = row(5, 0, 0, 0, 0, 0, 0)  # as moved: the first overlaps by 1/3 now, with 15 between the outer sides
    objects, shapes, holding = propose(scores, boxes, row(0, 1, 2, 3, 4, 5, 100), row(0))
    assert holding == 4
    expected = focal(1, 1 / 3) + 3 * focal(0.5, 1) + focal(-1, 0) + focal(0, 0)
    assert objects == pytest.approx(expected, rel=1e-4)
    assert shapes == pytest.approx(1 - 1 / 3)


def test_a_human_box_that_no_anchor_fits_gets_the_four_closest() -> None:
    """Anchors at 6 (IoU 4/16), -7 and 7 (3/17), 7.5 (2.5/17.5) and 8 (2/18) of a box at 0: the last is empty."""
    objects, shapes, holding = propose([0.0] * 5, row(*[0] * 5), row(6, 7.5, 8, 7, -7), row(0))
    assert holding == 4
    assert objects == pytest.approx(4 * focal(0, 1) + focal(0, 0), rel=1e-4)
    assert shapes == pytest.approx(0)
    two = propose([0.0] * 4, row(*[0] * 4), row(6, 8, 9, 100), row(0))  # 1/19: too far to learn from
    assert two[2] == 2
    assert two[0] == pytest.approx(2 * focal(0, 1) + 2 * focal(0, 0), rel=1e-4)
    assert propose([0.0] * 2, row(0, 0), row(9, 100), row(0)) == [pytest.approx(2 * focal(0, 0)), 0, 0]


def test_each_human_box_gets_its_own_closest_anchor() -> None:
    """Boxes at 0 and 20 with anchors at 6 and 14, each of which overlaps its own by 4/16 and the other not at all."""
    _, shapes, holding = propose([0.0] * 3, row(20, 0, 50), row(14, 6, 50), row(0, 20))
    assert holding == 2
    assert shapes == pytest.approx(0)


def test_a_closest_anchor_leaves_the_box_that_it_overlaps_more() -> None:
    """Boxes at 0 and 10; the anchor at 4 overlaps the first by 6/14, but four others are closer to that, and the second
    by 4/16. Each of the four counts by the root of 2.5 (anchors of a box on average) over 4, the other over 1."""
    _, shapes, holding = propose([0.0] * 5, row(0, 0, 0, 0, 10), row(0, 0.5, 1, 1.5, 4), row(0, 10))
    assert shapes == pytest.approx(0)
    assert holding == pytest.approx(4 * math.sqrt(2.5 / 4) + math.sqrt(2.5))


def test_an_anchor_that_is_among_the_closest_of_two_boxes_holds_the_nearer() -> None:
    """Boxes at 0 and 13; the anchor at 6 overlaps the first by 4/16 and the second by 3/17."""
    assert propose([0.0], row(0), row(6), row(13, 0)) == [pytest.approx(focal(0, 1), rel=1e-4), 0, 1]


def test_an_anchor_that_holds_a_box_keeps_it() -> None:
    """Boxes at 0 and 6; the anchor at 2 holds the first (8/12), as four closer ones do, and is the closest to the
    second (6/14)."""
    _, shapes, holding = propose([0.0] * 5, row(*[0] * 5), row(0, 0.5, 1, 1.5, 2), row(0, 6))
    assert holding == 5
    assert shapes == pytest.approx(0)


def test_a_box_counts_by_its_certainty_and_the_more_the_fewer_anchors_hold_it() -> None:
    """A box at 0 of certainty 0.5 with anchors 0, 1 and 2, and one at 100 with one: 2 on average."""
    moved = row(5, 0, 0, 105)
    objects, shapes, holding = propose(
        [1.0, 1.0, 1.0, 2.0], moved, row(0, 1, 2, 100), row(0, 100), certainty=(0.5, 1.0)
    )
    many, one = 0.5 * math.sqrt(2 / 3), math.sqrt(2)
    assert holding == pytest.approx(3 * many + one)
    assert objects == pytest.approx(many * (focal(1, 1 / 3) + 2 * focal(1, 1)) + one * focal(2, 1 / 3), rel=1e-4)
    assert shapes == pytest.approx((many + one) * 2 / 3, rel=1e-4)


@pytest.fixture
def net() -> DetectorNet:
    """A small head on the trunk as ImageNet made it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DetectorNet(LABELS, ATTRIBUTES, channels=16, hidden=16, pretrained=True)


def two_photographs() -> tuple[torch.Tensor, list[Targets]]:
    """128 x 96 pixels each: a bright box and a dark one; a bright one alone."""
    pixels = 0.1 * torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    boxes = [[[16, 16, 60, 80], [70, 8, 120, 60]], [[30, 20, 110, 70]]]
    labels = [[[1, 0, 0], [0, 0.5, 0.5]], [[0, 0, 0]]]
    attributes = [[[1, 0], [0, 0]], [[0, 0.5]]]
    for i, found in enumerate(boxes):
        for g, (x1, y1, x2, y2) in enumerate(found):
            pixels[i, g, y1:y2, x1:x2] += 1
    return pixels, [told(*of) for of in zip(boxes, labels, attributes, strict=True)]


NAMES = ("object", "box", "quality", "refine", "label", "attribute")


def untouched(net: DetectorNet) -> set[str]:
    """Parameters that no gradient reaches."""
    return {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_gradients_reach_all_but_the_first_layers_shifts_and_depthwise_filters_of_the_trunk(net: DetectorNet) -> None:
    pixels, humans = two_photographs()
    with torch.no_grad():
        for layer in (net.objectness, net.deltas, net.refine, net.quality):
            layer.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    losses = detector_loss(net, pixels, humans, frozen=False)
    assert tuple(losses) == NAMES
    assert all(math.isfinite(v.item()) and v.item() > 0 for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert untouched(net) == {
        name
        for name, _ in net.named_parameters()
        if name.startswith(("trunk.stem.", "trunk.low."))
        or (name.startswith("trunk.") and (name.endswith(".bias") or "_depthwise_conv" in name))
    }


def test_no_gradient_reaches_a_frozen_trunk(net: DetectorNet) -> None:
    pixels, humans = two_photographs()
    losses, free = (detector_loss(net, pixels, humans, frozen) for frozen in (True, False))
    assert all(torch.equal(losses[name], free[name]) for name in NAMES)
    torch.stack(list(losses.values())).sum().backward()
    assert untouched(net) == {n for n, _ in net.named_parameters() if n.startswith("trunk.")}


def test_photographs_without_boxes_teach_emptiness_alone(net: DetectorNet) -> None:
    losses = detector_loss(net, two_photographs()[0], [NONE, NONE], frozen=True)
    assert {name for name in NAMES if losses[name].item() > 0} == {"object", "quality"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert not any(detector_loss(net, two_photographs()[0], [NONE._replace(background=0.0)] * 2, True).values())


def say_the_same(net: DetectorNet) -> None:
    """Heads that say the same of every box, and move it right by half its width."""
    with torch.no_grad():
        for layer, bias in (
            (net.refine, [0.5, 0, 0, 0]),
            (net.quality, [-1.0]),
            (net.label, [1.0, 0, -2]),
            (net.attribute, [0.0, 2]),
        ):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))


SMALL = [[8, 8, 18, 18], [60, 40, 70, 50]], [[30, 70, 40, 80], [90, 10, 100, 20]]


def test_losses_of_the_head_worked_values(net: DetectorNet) -> None:
    """Human boxes so small that no proposal overlaps one by half: what counts are the four human boxes, moved right by
    half their width (IoU 1/3), among 2 x 40 proposals."""
    say_the_same(net)
    one = told(SMALL[0], [[1, 0, 0], [0, 0.5, 0.5]], [[1, 0], [0, 0]])
    two = told(SMALL[1], [[0, 0, 1], [0, 0, 0]], [[0, 0.5], [0, 0]])
    losses = detector_loss(net, two_photographs()[0], [one, two], frozen=True)
    p, total = 1 / (1 + math.e), math.log(math.e + 1 + math.exp(-2))
    assert losses["refine"].item() == pytest.approx(2 / 3, rel=1e-4)
    # -log(1 - p) for a proposal; for a human box, whose target is 1/3, that less a third of the logit
    assert losses["quality"].item() == pytest.approx(-math.log(1 - p) + 4 / 84 / 3, rel=1e-4)
    assert losses["label"].item() == pytest.approx(total - (1 + (0 - 2) / 2 - 2) / 3, rel=1e-4)
    each = math.log(2) + math.log(1 + math.exp(2))  # for a box without attributes
    assert losses["attribute"].item() == pytest.approx(each - (1 * 0 + 0.5 * 2) / 4, rel=1e-4)


def test_weighted_losses_of_the_head_worked_values(net: DetectorNet) -> None:
    """The first photograph has phrases: one of two boxes, and one that nobody doubts; the second a teacher's boxes."""
    say_the_same(net)
    one = told(SMALL[0], [[1, 0, 0], [0, 0, 1]], [[0, 1], [0, 0]], naming=[0.5, 1], describing=[0.5, 1])
    sure = {"certainty": [0.25, 0.5], "naming": [0.25, 0.5], "describing": [0, 0]}
    two = told(SMALL[1], [[0, 1, 0], [0, 0, 0]], [[1, 1], [1, 1]], background=0.0, **sure)
    losses = detector_loss(net, two_photographs()[0], [one, two], frozen=True)
    p, total = 1 / (1 + math.e), math.log(math.e + 1 + math.exp(-2))
    assert losses["refine"].item() == pytest.approx(2 / 3, rel=1e-4)
    # 40 proposals of the first photograph count, those of the second not; boxes by their certainty
    boxes = 1 + 1 + 0.25 + 0.5
    expected = -math.log(1 - p) + boxes / 3 / (40 + boxes)
    assert losses["quality"].item() == pytest.approx(expected, rel=1e-4)
    weights = 0.5 + 1 + 0.25  # the last box has no name
    assert losses["label"].item() == pytest.approx(total - (0.5 * 1 + 1 * -2 + 0.25 * 0) / weights, rel=1e-4)
    each = math.log(2) + math.log(1 + math.exp(2))
    assert losses["attribute"].item() == pytest.approx(each - 0.5 * 2 / 1.5, rel=1e-4)


def test_a_crowd_of_boxes_names_as_much_as_one_box(net: DetectorNet) -> None:
    """A phrase of one box and one of three: the label loss is the mean of the two, whatever the second's count."""
    say_the_same(net)
    boxes = [*SMALL[0], *SMALL[1]]
    dog, man = [("dog", ("red",))], [("man", ("big",))]
    found = name_boxes(named([dog, man, man, man], [{1}, {2}, {2}, {2}]), {}, LABELS, ATTRIBUTES)
    human = found._replace(boxes=torch.tensor(boxes, dtype=torch.float32))
    losses = detector_loss(net, two_photographs()[0], [human, NONE], frozen=True)
    total = math.log(math.e + 1 + math.exp(-2))
    assert losses["label"].item() == pytest.approx(total - (1 - 2) / 2, rel=1e-4)
    each = math.log(2) + math.log(1 + math.exp(2))
    assert losses["attribute"].item() == pytest.approx(each - (0 + 2) / 2, rel=1e-4)


def test_the_head_learns_from_the_proposals_of_use(net: DetectorNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without proposals only human boxes are left to learn from."""
    counts = []

    def no_proposals(boxes, scores, count):
        counts.append(count)
        return torch.zeros(0, dtype=torch.long)

    say_the_same(net)
    monkeypatch.setattr(training, "choose_proposals", no_proposals)
    pixels, humans = two_photographs()
    losses = detector_loss(net, pixels, humans, frozen=True)
    assert counts == [training.EXAMINED] * 2
    p = 1 / (1 + math.e)
    assert losses["quality"].item() == pytest.approx(-math.log(1 - p) + 1 / 3, rel=1e-4)


# Starting from a trained detector


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A detector that knows synonyms apart, as one did that was trained on phrases alone."""
    torch.manual_seed(5)
    net = DetectorNet(("man", "dog", "bike", "guy", "hat"), ("red", "ski", "old"), channels=16, hidden=16)
    save_net(tmp_path / "trained.safetensors", net, {"data": "mine"})
    return tmp_path / "trained.safetensors"


def test_a_start_copies_the_rows_of_shared_words(trained: Path) -> None:
    """A synonym's row stands in where the word itself was not known; new words keep what they were."""
    known = load_net(trained)[0].state_dict()
    net = DetectorNet(("dog", "cat", "bicycle", "man"), ("old", "big", "ski"), channels=16, hidden=16)
    fresh = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    card = start_from(net, trained)
    assert card["data"] == "mine"
    assert card["digest"] == load_net(trained)[1]["digest"]
    found = net.state_dict()
    expected = {"label": {0: 1, 1: None, 2: 2, 3: 0}, "attribute": {0: 2, 1: None, 2: 1}}
    for layer, rows in expected.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            assert len(found[name]) == len(rows)
            for new, old in rows.items():
                assert torch.equal(found[name][new], fresh[name][new] if old is None else known[name][old])
    others = [name for name in found if not name.startswith(("label.", "attribute."))]
    assert all(torch.equal(found[name], known[name]) for name in others)
    assert not torch.equal(found["refine.weight"], fresh["refine.weight"])
    stranger = DetectorNet(("zebra",), ("big",), channels=16, hidden=16)
    bias = stranger.label.bias.clone()
    start_from(stranger, trained)
    assert torch.equal(stranger.label.bias, bias)
    assert torch.equal(stranger.refine.weight, known["refine.weight"])


def test_a_start_from_another_size_or_no_detector_is_one_sentence(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(GliedError, match=r"head of 32 in .*trained\.safetensors, found 16 and 16") as raised:
        start_from(DetectorNet(("dog",), ("red",), channels=16, hidden=32), trained)
    assert "\n" not in str(raised.value)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(GliedError, match="damaged"):
        start_from(DetectorNet(("dog",), ("red",), channels=16, hidden=16), tmp_path / "empty")


def test_a_few_steps_on_two_photographs_find_their_boxes(net: DetectorNet) -> None:
    pixels, humans = two_photographs()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        losses = detector_loss(net, pixels, humans, frozen=True)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert sum(history[-1].values()) < 0.6 * sum(history[0].values())
    assert all(history[-1][name] < history[0][name] for name in ("box", "quality", "label", "attribute"))
    with torch.inference_mode():
        scores, boxes, _ = net.propose(net.pyramid(net.trunk(pixels)))
    for i, human in enumerate(humans):
        assert iou(boxes[i, scores[i].argmax(), None], human.boxes).max() > 0.6


# A whole run

OPTIONS = DetectorOptions(
    epochs=2, images=2, frozen=1, warmup=2, least=1, zoom=0.8, precision="fp32", save_minutes=10_000.0
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three photographs to train on and one to measure on; the network is small and sees few pixels."""
    monkeypatch.setattr(training, "DetectorNet", partial(DetectorNet, channels=16, hidden=16))
    monkeypatch.setattr(training, "LONG", 96)
    monkeypatch.setattr(training, "SHORT", 64)
    wide, tall = (120, 80), (80, 120)
    humans = [((4, 4, 70, 70), ("a red dog", "the dog")), ((30, 20, 78, 78), ("A big man",))]
    yield tiny.boxed(
        tmp_path / "data",
        ("train", wide, humans),
        ("train", tall, humans[:1]),
        ("restval", wide, humans[1:]),
        ("train", wide, []),  # nobody mentioned anything
        (
            "val",
            (96, 64),
            [
                ((x, y, x + side, y + side), ("a big dog",))
                for side in (20, 34, 48)
                for x in range(2, 96 - side, 8)
                for y in range(2, 64 - side, 8)
            ],
        ),
    )
    shutil.rmtree(tmp_path)  # a state is 40 MB


def test_a_run_ends_with_a_detector_and_its_card(data: Path, tmp_path: Path) -> None:
    found = train_detector(data, tmp_path / "run", tmp_path / "out.safetensors", OPTIONS)
    assert list(found) == ["data"]
    quality = found["data"]
    net, card = load_net(tmp_path / "out.safetensors")
    assert (net.labels, net.attributes) == (("dog", "man"), ("big", "red"))
    assert card["options"]["epochs"] == 2
    assert card["splits"] == {"train": 3, "restval": 1, "val": 1}
    again = measure(data, "val", Detector(tmp_path / "out.safetensors", 100, 100))
    for key in ("recall@10", "recall@36", "recall@100", "label_accuracy"):
        assert quality[key] == again[key]
        assert card[f"data val {key}"] == round(quality[key], 4)
    assert 0 < quality["recall@100"] < 1
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4")]
    assert all(math.isfinite(float(row[name])) for row in rows for name in NAMES)
    assert not list(tmp_path.rglob("*.part"))


def state(run: Path) -> dict:
    return torch.load(run / "state.pt", weights_only=True)


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, *calls: int, module: ModuleType = training) -> list[int]:
    """Ctrl-C where training calls that function for the n-th time; the calls so far."""
    original, made = getattr(module, name), []

    def stops(*arguments, **options):
        made.append(1)
        if len(made) in calls:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, stops)
    return made


@pytest.fixture
def both(data: Path) -> list[Path]:
    """These photographs, and some whose boxes have classes, by people and by a teacher."""
    wide, tall = (120, 80), (80, 120)
    return [
        data,
        tiny.classed(
            data / "classes",
            ("train", "human", wide, [((4, 4, 60, 70), "hot dog", 1.0), ((50, 20, 110, 78), "person", 1.0)]),
            ("train", "teacher", wide, [((10, 10, 90, 70), "dog", 0.5)]),
            ("train", "person", tall, [((4, 4, 60, 110), "person", 1.0), ((30, 50, 78, 110), "bicycle", 0.75)]),
            ("val", "human", (96, 64), [((x, y, x + 16, y + 16), "person", 1.0) for x in (2, 30, 60) for y in (2, 40)]),
            ("val", "teacher", (96, 64), [((2, 2, 90, 60), "dog", 0.5)]),
        ),
    ]


def test_phrases_and_classes_train_one_detector(both: list[Path], tmp_path: Path, monkeypatch) -> None:
    """A set's part of an epoch goes by its weight, its classes are labels, and it is measured on human boxes."""
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps({"data": 1, "data/classes": 2}))
    given = []
    original = training.crop
    monkeypatch.setattr(
        training, "crop", lambda image, targets, *a: given.append(targets) or original(image, targets, *a)
    )
    found = train_detector(sets, tmp_path / "run", tmp_path / "out.safetensors", OPTIONS)
    assert list(found) == ["data", "classes"]
    assert {name: found[name]["human_boxes"] for name in found} == {"data": 104, "classes": 6}
    net, card = load_net(tmp_path / "out.safetensors")
    assert (set(net.labels), net.attributes) == ({"dog", "man", "hot dog", "person", "bicycle"}, ("big", "red"))
    assert card["data"] == "data + classes"
    assert card["weights"] == {"data": 1, "classes": 2}
    for name in found:
        assert card[f"{name} val recall@100"] == round(found[name]["recall@100"], 4)
    said, classes = ([t for t in given if (t.background == 1) == phrases] for phrases in (True, False))
    assert (len(said), len(classes)) == (4, 8)  # two epochs of six photographs, 2 and 4 of each set
    assert {tuple(t.certainty.tolist()) for t in classes} == {(1, 1), (0.5,), (1, 0.75)}
    assert all((t.describing > 0).all() for t in said)
    assert not any(t.describing.any() for t in classes)


def test_a_start_from_a_trained_detector_is_where_training_begins(data: Path, tmp_path: Path, trained: Path) -> None:
    """With steps of next to nothing the weights are still those of the trained one."""
    options = replace(OPTIONS, epochs=1, rate=1e-12, trunk_rate=1e-12)
    train_detector(data, tmp_path / "run", tmp_path / "out.safetensors", options, trained)
    (net, card), (known, old) = load_net(tmp_path / "out.safetensors"), load_net(trained)
    assert card["initial"] == old
    torch.testing.assert_close(net.label.weight[net.labels.index("dog")], known.label.weight[1])
    torch.testing.assert_close(net.head[1].weight, known.head[1].weight)
    with pytest.raises(GliedError, match="other options, data or processes"):
        train_detector(data, tmp_path / "run", tmp_path / "out.safetensors", options)


def test_other_weights_of_data_sets_are_another_run(both: list[Path], tmp_path: Path, monkeypatch) -> None:
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps({"data": 1, "data/classes": 2}))
    stop_at(monkeypatch, "detector_loss", 2)
    options = replace(OPTIONS, save_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train_detector(sets, tmp_path / "run", tmp_path / "out", options)
    sets.write_text(json.dumps({"data": 1, "data/classes": 3}))
    with pytest.raises(GliedError, match="other options, data or processes"):
        train_detector(sets, tmp_path / "run", tmp_path / "out", options)


@pytest.mark.parametrize(("several", "precision"), [(False, "bf16"), (False, "fp32"), (True, "fp32")])
def test_a_stopped_and_resumed_run_is_bit_identical(both, tmp_path, monkeypatch, several, precision) -> None:
    """Stopped within the first epoch, at the start of the second, where the trunk thaws, and within that."""
    data = both if several else both[0]
    options = replace(OPTIONS, precision=precision, save_minutes=0.0)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = train_detector(data, whole, tmp_path / "whole.safetensors", options)
    steps = state(whole)["step"]
    assert steps == (6 if several else 4)
    made = stop_at(monkeypatch, "detector_loss", 2, steps // 2 + 2, steps + 2)
    for _ in range(3):
        torch.manual_seed(len(made) + 77)  # whatever the process did before must not matter
        with pytest.raises(KeyboardInterrupt):
            train_detector(data, stopped, tmp_path / "stopped.safetensors", options)
    assert not (tmp_path / "stopped.safetensors").exists()
    found = train_detector(data, stopped, tmp_path / "stopped.safetensors", options)
    assert len(made) == steps + 3
    a, b = state(whole), state(stopped)
    assert (a["step"], a["log"]) == (b["step"], b["log"])
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    nets = [load_net(tmp_path / f"{run}.safetensors")[0] for run in ("whole", "stopped")]
    assert all(torch.equal(p, q) for p, q in zip(*(net.parameters() for net in nets), strict=True))
    assert list(found) == (["data", "classes"] if several else ["data"])
    for name in found:
        assert found[name] | {"ms_per_image": 0} == expected[name] | {"ms_per_image": 0}


def test_a_run_stopped_while_it_saves_an_epoch_logs_that_epoch(data, tmp_path, monkeypatch) -> None:
    """Saves 1 and 2 are of the steps, save 3 of the epoch's end, and the log says the same."""
    options = replace(OPTIONS, save_minutes=0.0)
    train_detector(data, tmp_path / "whole", tmp_path / "whole.safetensors", options)
    made = stop_at(monkeypatch, "save", 3, module=torch)
    with pytest.raises(KeyboardInterrupt):
        train_detector(data, tmp_path / "run", tmp_path / "out.safetensors", options)
    assert (len(made), state(tmp_path / "run")["step"], state(tmp_path / "run")["log"]) == (3, 2, [])
    train_detector(data, tmp_path / "run", tmp_path / "out.safetensors", options)
    assert [row["epoch"] for row in state(tmp_path / "run")["log"]] == [1, 2]
    assert state(tmp_path / "run")["log"] == state(tmp_path / "whole")["log"]


def test_a_finished_run_is_only_measured_again(data: Path, tmp_path: Path, monkeypatch) -> None:
    train_detector(data, tmp_path / "run", tmp_path / "a", OPTIONS)
    made = stop_at(monkeypatch, "detector_loss", 1)
    train_detector(data, tmp_path / "run", tmp_path / "b", OPTIONS)
    assert made == []
    a, b = (load_net(tmp_path / name)[0] for name in "ab")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_run_with_other_options_or_data_or_a_damaged_state_is_refused(data, tmp_path, monkeypatch) -> None:
    stop_at(monkeypatch, "detector_loss", 2)
    with pytest.raises(KeyboardInterrupt):
        train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, save_minutes=0.0))
    with pytest.raises(GliedError, match="other options"):
        train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, save_minutes=0.0, rate=1e-4))
    entities = data / "entities.json"
    entities.write_text(entities.read_text().replace("a red dog", "a red cat"))
    with pytest.raises(GliedError, match="other options, data or processes"):
        train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, save_minutes=0.0))
    whole = (tmp_path / "run" / "state.pt").read_bytes()
    (tmp_path / "run" / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GliedError, match="damaged"):
        train_detector(data, tmp_path / "run", tmp_path / "out", OPTIONS)


def test_the_trunk_thaws_after_the_frozen_epochs(data: Path, tmp_path: Path, monkeypatch) -> None:
    """Until then it is ImageNet's to the bit, afterwards still below stride 8; its rate is its own."""
    start = dict(DetectorNet(("dog", "man"), ("big", "red"), 16, 16, pretrained=True).named_parameters())
    stop_at(monkeypatch, "detector_loss", 3, 5)
    for steps in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, save_minutes=0.0))
        found = state(tmp_path / "run")
        assert found["step"] == steps
        changed = {n for n, p in start.items() if n.startswith("trunk.") and not torch.equal(found["model"][n], p)}
        if steps == 2:
            assert not changed
    thawed = {n for n in start if n.startswith(("trunk.middle.", "trunk.high."))}
    assert {n for n in thawed if n.endswith(".weight") and "_depthwise_conv" not in n} <= changed <= thawed
    rates = [group["lr"] for group in found["optimizer"]["param_groups"]]
    rate = learning_rate(2, 4, OPTIONS.rate, OPTIONS.warmup)
    assert rates == pytest.approx([rate, rate * OPTIONS.trunk_rate / OPTIONS.rate])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be between"),
        ({"zoom": 0.05}, "zoom must be between"),
        ({"zoom": 1.5}, "zoom must be between"),
        ({"least": 0}, "least must be between"),
        ({"frozen": -1}, "frozen must be between"),
    ],
)
def test_options_have_limits(changes: dict, message: str) -> None:
    with pytest.raises(GliedError, match=message):
        DetectorOptions(**changes)


def test_too_few_words_are_refused_in_one_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(GliedError, match=r"nouns and modifiers that come 99 times .* found 0 and 0; lower --least"):
        train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, least=99))


def test_val_without_a_noun_does_not_stop_the_end_of_a_run(data: Path, tmp_path: Path) -> None:
    entities = data / "entities.json"
    entities.write_text(entities.read_text().replace("a big dog", "several others"))
    quality = train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, epochs=1))
    assert quality["data"]["label_accuracy"] is None


def test_a_data_set_without_val_is_refused_before_the_work(data: Path, tmp_path: Path, monkeypatch) -> None:
    captions = data / "captions.json"
    captions.write_text(captions.read_text().replace('"val"', '"test"'))
    made = stop_at(monkeypatch, "detector_loss")
    with pytest.raises(GliedError, match="split val"):
        train_detector(data, tmp_path / "run", tmp_path / "out", replace(OPTIONS, epochs=1))
    assert made == []


def test_a_rate_of_zero_is_refused_or_trains_nothing(data: Path, tmp_path: Path) -> None:
    try:
        options = replace(OPTIONS, rate=0.0)
    except GliedError:
        return
    train_detector(data, tmp_path / "run", tmp_path / "out", options)


# The command line


def test_commands_train_and_measure_and_describe_a_detector(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    small = ("--epochs", 1, "--images", 4, "--least", 1, "--warmup", 1)
    assert run(monkeypatch, "train", "detector", "--data", data, "--run", tmp_path / "run", *small) == 0
    target = tmp_path / "run" / "detector.safetensors"
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"wrote {target}; use it with GLIED_DETECTOR={target}"
    [line] = [line for line in out.splitlines() if line.startswith("data val: ")]
    told = dict(pair.split(" ", 1) for pair in line.removeprefix("data val: ").split(", "))
    told = {key: value for key, value in told.items() if key.startswith(("recall@", "label_accuracy"))}

    monkeypatch.setenv("GLIED_DETECTOR", str(target))
    measured = ("recall", "--data", data, "--split", "val", "--json", tmp_path / "recall.json")
    assert run(monkeypatch, *measured) == 0
    result = json.loads((tmp_path / "recall.json").read_text())
    assert result["source"] == open_source("detector@100").name
    assert {key: str(result[key]) for key in told} == told
    assert len(told) == 4
    assert f"recall@36          {result['recall@36']:.4f}" in capsys.readouterr().out

    assert run(monkeypatch, *measured, "--source", "detector@5-10") == 0
    assert json.loads((tmp_path / "recall.json").read_text())["source"] == open_source("detector@5-10").name
    capsys.readouterr()

    assert run(monkeypatch, "info", target) == 0
    about = capsys.readouterr().out
    parameters = sum(p.numel() for p in load_net(target)[0].parameters())
    assert re.search(rf"parameters +{parameters:,}", about)
    assert '"kind": "detector"' in about


def test_commands_take_several_data_sets_and_a_start(
    both: list[Path], trained: Path, tmp_path, monkeypatch, capsys
) -> None:
    small = ("--epochs", 1, "--images", 4, "--least", 1, "--warmup", 1, "--run", tmp_path / "run")
    sets = ("--data", both[0], "--data", both[1], "--initial", trained)
    assert run(monkeypatch, "train", "detector", *sets, *small) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if " val: " in line] == ["data val", "classes val"]
    card = load_net(tmp_path / "run" / "detector.safetensors")[1]
    assert (card["data"], card["weights"], card["initial"]["data"]) == ("data + classes", {}, "mine")


def test_a_detector_can_be_written_elsewhere(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    small = ("--epochs", 1, "--images", 4, "--least", 1, "--warmup", 1)
    out = tmp_path / "new" / "mine.safetensors"
    assert run(monkeypatch, "train", "detector", "--data", data, "--run", tmp_path / "run", "--out", out, *small) == 0
    assert load_net(out)[1]["data"] == "data"
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == ["log.csv", "state.pt"]


@pytest.mark.parametrize(
    "change", ["no data", "no entities", "a folder for a file", "least too high", "no photograph can be read"]
)
def test_training_errors_are_one_sentence_and_status_2(data, tmp_path, monkeypatch, capsys, change) -> None:
    arguments = {"--data": data, "--run": tmp_path / "run", "--least": 1}
    if change == "no data":
        arguments["--data"] = tmp_path / "nowhere"
    elif change == "no entities":
        (data / "entities.json").unlink()
    elif change == "a folder for a file":
        arguments["--out"] = data
    elif change == "least too high":
        arguments["--least"] = 500
    else:
        for path in (data / "images").iterdir():
            path.write_bytes(b"no image")
    assert run(monkeypatch, "train", "detector", *(word for pair in arguments.items() for word in pair)) == 2
    *progress, sentence = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("glied: Expected ")
    assert all(line.startswith("photographs: ") for line in progress if line)
    if change == "no photograph can be read":
        assert "readable photographs" in sentence


def test_boxes_beyond_the_photograph_are_reported_and_left_out(data: Path, tmp_path: Path, capsys) -> None:
    path = data / "entities.json"
    entities = json.loads(path.read_text())
    for record in entities.values():
        for box in record["boxes"]:
            box["box"] = [500, 500, 600, 600]
    path.write_text(json.dumps(entities))
    with pytest.raises(GliedError, match=r"boxes reach beyond its 96 x 64 pixels: expected x1, y1, x2, y2"):
        train_detector(data, tmp_path / "run", tmp_path / "d.safetensors", OPTIONS)
    for record in entities.values():
        del record["width"]  # so that only the opened photograph tells
    path.write_text(json.dumps(entities))
    with pytest.raises(GliedError, match="readable photographs"):
        train_detector(data, tmp_path / "run", tmp_path / "d.safetensors", OPTIONS)
    assert "reach beyond" in capsys.readouterr().out
