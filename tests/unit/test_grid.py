"""The grid source on the real backbone: 36 windows inside the photograph, finite features that depend on it."""

import numpy as np
import pytest
from PIL import Image

from glied.errors import GliedError
from glied.regions import RegionSource, open_source
from glied.regions.grid import Grid, windows


@pytest.fixture(scope="module")
def grid() -> Grid:
    return open_source("grid")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_windows_are_36_and_cover_the_photograph() -> None:
    found = windows()
    assert found.shape == (36, 4)
    assert len(np.unique(found.round(4), axis=0)) == 36
    assert found.min() == 0
    assert found.max() == 1
    assert (found[:, 2:] > found[:, :2]).all()
    assert found[0].tolist() == [0, 0, 1, 1]
    x, y = np.meshgrid(np.linspace(0.01, 0.99, 40), np.linspace(0.01, 0.99, 40))
    for small in (found[1:4], found[4:7], found[7:11], found[11:20], found[20:]):  # each scale covers it by itself
        inside = [(x >= a) & (x <= c) & (y >= b) & (y <= d) for a, b, c, d in small]
        assert np.any(inside, axis=0).all()


@pytest.mark.parametrize("size", [(320, 240), (100, 500), (900, 180), (16, 16)])
def test_regions_of_any_shape(grid: Grid, size: tuple[int, int]) -> None:
    regions = grid.find_regions(noise(*size))
    assert regions.boxes.shape == (36, 4)
    assert regions.features.shape == (36, grid.feature_dim)
    assert np.isfinite(regions.features).all()
    assert regions.size == size
    assert regions.source == Grid.name
    width, height = size
    assert (regions.boxes >= 0).all()
    assert (regions.boxes[:, [0, 2]] <= width).all()
    assert (regions.boxes[:, [1, 3]] <= height).all()
    np.testing.assert_allclose(regions.boxes[0], [0, 0, width, height])
    assert regions.features.std(0).max() > 0.01, "windows differ"


def test_features_follow_their_window(grid: Grid) -> None:
    """Two photographs that differ on the right alone: the leftmost small windows hardly change."""
    left = noise(400, 300, 1)
    other = left.copy()
    other.paste(noise(130, 300, 2), (270, 0))
    a, b = grid.find_regions(left), grid.find_regions(other)
    change = np.linalg.norm(a.features - b.features, axis=1) / np.linalg.norm(a.features, axis=1)
    tiles = a.boxes[20:]  # 4 x 4
    leftmost, rightmost = tiles[:, 0] == tiles[:, 0].min(), tiles[:, 0] == tiles[:, 0].max()
    assert change[20:][rightmost].min() > 2 * change[20:][leftmost].max()


def test_same_photograph_same_regions(grid: Grid) -> None:
    a, b = grid.find_regions(noise(64, 48)), grid.find_regions(noise(64, 48))
    np.testing.assert_array_equal(a.features, b.features)


def test_sources_by_name(grid: Grid) -> None:
    assert isinstance(grid, RegionSource)
    assert isinstance(open_source(Grid.name), Grid)
    with pytest.raises(GliedError, match="grid"):
        open_source("detectron3")
