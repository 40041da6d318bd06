"""Operations on boxes against worked values, against loops, and against torchvision where it is installed."""

import math

import numpy as np
import pytest
import torch
from pooling import roi_pool

from glied.regions.boxes import batched_nms, iou, nms, roi_align


def read(plane: np.ndarray, x: float, y: float) -> float:
    """Bilinear reading; cell (i, j) has its centre at (j + 0.5, i + 0.5), and the border goes on outside."""
    H, W = plane.shape
    x, y = min(max(x - 0.5, 0), W - 1), min(max(y - 0.5, 0), H - 1)
    left, top = min(math.floor(x), W - 2) if W > 1 else 0, min(math.floor(y), H - 2) if H > 1 else 0
    right, bottom = min(left + 1, W - 1), min(top + 1, H - 1)
    u, v = x - left, y - top
    above = (1 - u) * plane[top, left] + u * plane[top, right]
    below = (1 - u) * plane[bottom, left] + u * plane[bottom, right]
    return (1 - v) * above + v * below


def loops(features: np.ndarray, boxes: np.ndarray, stride: float, size: int, samples: int) -> np.ndarray:
    result = np.zeros((len(boxes), len(features), size, size))
    for n, (x1, y1, x2, y2) in enumerate(boxes / stride):
        for d, plane in enumerate(features):
            for i in range(size):
                for j in range(size):
                    readings = [
                        read(
                            plane,
                            x1 + (x2 - x1) * (j + (b + 0.5) / samples) / size,
                            y1 + (y2 - y1) * (i + (a + 0.5) / samples) / size,
                        )
                        for a in range(samples)
                        for b in range(samples)
                    ]
                    result[n, d, i, j] = sum(readings) / len(readings)
    return result


BOXES = [[0, 0, 80, 64], [8, 16, 24, 32], [3.5, 7.25, 70, 9], [40, 30, 79, 63], [0, 0, 16, 16]]


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (7, 1), (4, 2), (3, 3)])
def test_equals_loops(size: int, samples: int) -> None:
    features = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(BOXES)
    found = roi_align(features, boxes, 16, size, samples)
    assert found.shape == (len(BOXES), 3, size, size)
    np.testing.assert_allclose(found, loops(features.numpy(), boxes.numpy(), 16, size, samples), atol=1e-5)


def test_worked_values() -> None:
    """On a map whose value is its column, a bin's value is its centre in cells, minus the half cell."""
    columns = torch.arange(10.0).expand(1, 6, 10)
    boxes = torch.tensor([[32.0, 32, 64, 64], [0.0, 0, 160, 96]])
    found = roi_align(columns, boxes, 16, 2)
    np.testing.assert_allclose(found[0, 0], [[2.0, 3.0]] * 2, atol=1e-5)
    np.testing.assert_allclose(found[1, 0], [[2.0, 7.0]] * 2, atol=1e-5)
    constant = roi_align(torch.full((2, 3, 3), 7.0), torch.tensor([[0.0, 0, 48, 48], [5, 5, 6, 6]]), 16, 4)
    np.testing.assert_allclose(constant, 7, atol=1e-5)


def test_map_of_one_cell() -> None:
    found = roi_align(torch.full((1, 1, 1), 3.0), torch.tensor([[0.0, 0, 32, 32], [8, 8, 9, 9]]), 32, 4)
    np.testing.assert_allclose(found, 3, atol=1e-6)


def test_equals_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not needed and not installed")
    features = torch.randn(3, 14, 15, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[16.0, 16, 200, 180], [40, 33, 90, 61]])
    theirs = torchvision.ops.roi_align(features[None], [boxes], 4, 1 / 16, 2, aligned=True)
    torch.testing.assert_close(roi_align(features, boxes, 16, 4), theirs, rtol=0, atol=1e-4)


# RoIPool


def pool_loops(features: np.ndarray, boxes: np.ndarray, stride: int, size: int) -> np.ndarray:
    """Cell by cell, in whole numbers: cell c of n belongs to bin b of `size` if b n < (c + 1) size and
    c size < (b + 1) n."""
    D, H, W = features.shape
    result = np.zeros((len(boxes), D, size, size))
    for k, box in enumerate(boxes):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v) / stride + 0.5), v)) for v in box)
        width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for i in range(size):
            for j in range(size):
                inside = [
                    features[:, y1 + r, x1 + c]
                    for r in range(height)
                    for c in range(width)
                    if i * height < (r + 1) * size and r * size < (i + 1) * height
                    if j * width < (c + 1) * size and c * size < (j + 1) * width
                    if 0 <= y1 + r < H and 0 <= x1 + c < W
                ]
                if inside:
                    result[k, :, i, j] = np.max(inside, 0)
    return result


ODD = [[8, 8, 24, 24], [-40, -20, 30, 30], [60, 50, 130, 90], [200, 200, 300, 300], [-90, 0, -40, 9], [40, 30, 8, 8]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_roi_pool_equals_loops(size: int) -> None:
    features = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(BOXES + ODD, dtype=torch.float32)
    found = roi_pool(features, boxes, 16, size)
    np.testing.assert_array_equal(found, pool_loops(features.numpy(), boxes.numpy(), 16, size).astype(np.float32))


def test_roi_pool_worked_values() -> None:
    """Both ends of a box are included, halves round away from zero, bins overlap, and beyond the map is 0."""
    cells = torch.arange(30.0).view(1, 5, 6) + 1  # the cell of row r and column c is 6 r + c + 1
    one = roi_pool(cells, torch.tensor([[0.0, 0, 16, 16], [16, 16, 64, 48]]), 16, 2)
    assert one[0, 0].tolist() == [[1, 2], [7, 8]]
    assert one[1, 0].tolist() == [[15, 17], [21, 23]]
    assert roi_pool(cells, torch.tensor([[8.0, 8, 24, 24]]), 16, 1).item() == 15
    assert roi_pool(cells, torch.tensor([[0.0, 0, 32, 0]]), 16, 2)[0, 0].tolist() == [[2, 3], [2, 3]]
    assert roi_pool(cells, torch.tensor([[80.0, 64, 112, 96]]), 16, 3)[0, 0].tolist() == [[30, 0, 0], [0] * 3, [0] * 3]
    assert roi_pool(-cells, torch.tensor([[64.0, 0, 112, 0]]), 16, 2)[0, 0].tolist() == [[-5, 0]] * 2
    assert roi_pool(cells, torch.zeros(0, 4), 16, 2).shape == (0, 1, 2, 2)


# Overlap and suppression


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def suppress_loops(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(groups[i] != groups[k] or overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def crowd(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes with whole corners that overlap much, some twice; scores with ties; three groups."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 30, (n, 2))
    boxes = np.concatenate([corner, corner + random.integers(1, 30, (n, 2))], 1).astype(np.float32)
    boxes[n // 2 :: 5] = boxes[: len(boxes[n // 2 :: 5])]
    scores = random.integers(0, n, n).astype(np.float32) / n
    return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(random.integers(0, 3, n))


def test_iou() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 1], [5, 5, 6, 6], [1, 1, 1, 1]])
    expected = [[1, 1 / 7, 0.5, 0, 0], [1 / 7, 1, 0, 0, 0], [0.5, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    np.testing.assert_allclose(iou(boxes, boxes), expected, rtol=1e-6)
    assert iou(boxes, boxes[:2]).shape == (5, 2)
    assert iou(boxes[:0], boxes).shape == (0, 5)
    crowded = crowd(20, 0)[0]
    loops = [[overlap(a, b) for b in crowded.numpy()] for a in crowded[:7].numpy()]
    np.testing.assert_allclose(iou(crowded[:7], crowded), loops, rtol=1e-6)


def test_nms_worked_values() -> None:
    """A box goes if it overlaps a better one by more than the threshold, not if the better one itself went."""
    boxes = torch.tensor([[20.0, 0, 30, 10], [0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [0, 0, 10, 10]])
    scores = torch.tensor([0.1, 0.9, 0.8, 0.7, 0.9])
    assert nms(boxes, scores, 0.4).tolist() == [1, 3, 0]  # neighbours overlap by 6/14
    assert nms(boxes, scores, 0.43).tolist() == [1, 2, 3, 0]
    assert nms(boxes, scores, 1.0).tolist() == [1, 4, 2, 3, 0]
    halves = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]])
    assert nms(halves, torch.tensor([0.2, 0.4]), 0.5).tolist() == [1, 0]  # exactly the threshold stays
    assert batched_nms(boxes, scores, torch.tensor([0, 0, 1, 0, 1]), 0.4).tolist() == [1, 4, 3, 0]
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.zeros(2, 4), torch.tensor([0.1, 0.2]), 0.5).tolist() == [1, 0]  # no area, no overlap


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_nms_equals_loops(seed: int, threshold: float) -> None:
    boxes, scores, groups = crowd(60, seed)
    one, numbers = np.zeros(60), (boxes.double().numpy(), scores.numpy())
    assert nms(boxes, scores, threshold).tolist() == suppress_loops(*numbers, one, threshold)
    assert batched_nms(boxes, scores, groups, threshold).tolist() == suppress_loops(*numbers, groups.numpy(), threshold)
    first = batched_nms(boxes, scores, groups, threshold, 3).tolist()
    assert first == suppress_loops(*numbers, groups.numpy(), threshold)[:3]


@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_nms_of_more_boxes_than_are_compared_at_once(threshold: float) -> None:
    """1,300 boxes: those of one part of 100 suppress boxes of later parts, and are themselves suppressed by earlier."""
    boxes, scores, groups = crowd(1300, 7)
    boxes += 40 * torch.arange(1300)[:, None] // 130  # ten crowds, each at another place
    found = batched_nms(boxes, scores, groups, threshold).tolist()
    assert found == suppress_loops(boxes.double().numpy(), scores.numpy(), groups.numpy(), threshold)
    ranks = np.argsort(np.argsort(-scores.numpy(), kind="stable"))[found]
    assert [((part <= ranks) & (ranks < part + 500)).any() for part in (0, 500, 1000)] == [True] * 3


def test_suppression_and_pooling_equal_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not needed and not installed")
    boxes, scores, groups = crowd(200, 9)
    for threshold in (0.3, 0.7):
        assert nms(boxes, scores, threshold).tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()
        theirs = torchvision.ops.batched_nms(boxes, scores, groups, threshold)
        assert batched_nms(boxes, scores, groups, threshold).tolist() == theirs.tolist()
    np.testing.assert_allclose(iou(boxes, boxes), torchvision.ops.box_iou(boxes, boxes), rtol=1e-6)
    features = torch.randn(3, 14, 15, generator=torch.Generator().manual_seed(0))
    for size in (1, 3, 7, 14):
        theirs = torchvision.ops.roi_pool(features[None], [8 * boxes], size, 1 / 16)
        torch.testing.assert_close(roi_pool(features, 8 * boxes, 16, size), theirs, rtol=0, atol=0)
