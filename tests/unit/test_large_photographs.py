"""Photographs larger than anything looks at: scaled down for that, while people's boxes stay in their own pixels."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from glied.data.features import FeatureCache
from glied.evaluation.recall import measure
from glied.images import open_image
from glied.regions.stored import StoredFiles
from glied.scene import Regions
from glied.training import detector as training

HUMAN = (200.0, 200.0, 1200.0, 800.0)  # on a photograph of 2666 x 1400


class Halved:
    """Finds the half of HUMAN."""

    name, feature_dim = "halved-1", 1

    def find_regions(self, image: Image.Image) -> Regions:
        assert image.size == (1333, 700)
        return Regions(np.array([HUMAN], np.float32) / 2, np.zeros((1, 1), np.float32), image.size, self.name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.boxed(tmp_path / "data", *[(s, (2666, 1400), [(HUMAN, ("a red dog",))]) for s in ("train", "val")])


def test_recall_is_measured_in_the_photographs_own_pixels(data: Path) -> None:
    assert measure(data, "val", Halved())["recall@10"] == 1


def test_the_cache_holds_boxes_in_the_photographs_own_pixels(data: Path, tmp_path: Path) -> None:
    cache, path = FeatureCache(tmp_path / "cache", Halved()), data / "images" / "0.png"
    keys, _ = cache.extract([path], progress=False)
    (stored,) = cache.read([keys[path]])
    assert (stored.size, stored.boxes.tolist()) == ((2666, 1400), [list(HUMAN)])
    again = cache.find_regions(open_image(path))
    assert (again.size, again.boxes.tolist()) == ((1333, 700), [[side / 2 for side in HUMAN]])


def test_stored_boxes_without_a_size_are_in_the_photographs_own_pixels(data: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", feat=np.ones((1, 3), np.float32), bbox=np.array([HUMAN], np.float32))
    regions = StoredFiles("vg", [tmp_path]).find_regions(open_image(data / "images" / "0.png"))
    assert regions.size == (1333, 700)
    np.testing.assert_allclose(regions.boxes, [[side / 2 for side in HUMAN]], rtol=1e-6)


def test_the_detector_is_trained_on_the_whole_photograph(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def crop(image, targets, *_):
        seen.append((image.size, targets.boxes.tolist()))
        raise InterruptedError

    monkeypatch.setattr(training, "crop", crop)
    with pytest.raises(InterruptedError):
        training.train_detector(data, tmp_path / "run", tmp_path / "out", training.DetectorOptions(least=1))
    assert seen == [((2666, 1400), [list(HUMAN)])]
