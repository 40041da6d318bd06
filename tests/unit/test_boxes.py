"""RoIAlign against worked values, against loops, and against torchvision where it is installed."""

import math

import numpy as np
import pytest
import torch

from glied.regions.boxes import roi_align


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


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (4, 2), (3, 3)])
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
