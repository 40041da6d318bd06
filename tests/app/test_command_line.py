"""The app and the command line see the same scene of a file."""

from pathlib import Path

import numpy as np
import tiny
from PIL import Image

from app.engine.engine import Engine
from app.photographs.gallery import Entry, read_entry
from app.photographs.photograph import own_photograph
from glied.data.features import FeatureCache
from glied.images import SIDE
from glied.regions.grid import Grid
from glied.traces import Trace


def test_a_large_photograph_is_the_same_scene_everywhere(checkpoints: Path, tmp_path: Path, monkeypatch) -> None:
    """Uploaded, in the gallery, on the command line, and in the cache that `evaluate` and training read."""
    path = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1100, 1600, 3), np.uint8)).save(path)
    engine = Engine(checkpoints)
    uploaded = own_photograph(path.read_bytes())
    assert uploaded.image.size == (SIDE, 916)
    assert read_entry(Entry("large", "", "", "", path)).image.tobytes() == uploaded.image.tobytes()
    ours = engine.read(uploaded, "glied").trace

    arguments = ["trace", path, "--checkpoint", checkpoints / "glied.safetensors", "--out", tmp_path / "a.npz"]
    assert tiny.run(monkeypatch, *arguments) == 0
    theirs = Trace.load(tmp_path / "a.npz")
    assert (theirs.words, theirs.size, theirs.attributes) == (ours.words, ours.size, ours.attributes)
    np.testing.assert_allclose(theirs.boxes, ours.boxes)
    np.testing.assert_allclose(theirs.attribute_regions, ours.attribute_regions, atol=1e-6)  # of features alone

    cache = FeatureCache(tmp_path / "cache", Grid())
    keys, _ = cache.extract([path], progress=False)
    (stored,) = cache.read(keys.values())
    seen = engine.scenes[uploaded.key].regions
    assert stored.size == (1600, 1100)
    np.testing.assert_allclose(stored.boxes, seen.boxes * ([1600 / SIDE, 1100 / 916] * 2), rtol=1e-5)
    np.testing.assert_allclose(stored.features, seen.features, rtol=1e-3, atol=1e-3)  # it holds float16
