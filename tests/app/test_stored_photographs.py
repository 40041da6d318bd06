"""The app over checkpoints that were trained on stored features."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from app.engine.engine import Engine
from app.photographs.photograph import own_photograph
from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint, save_attribute_detector
from glied.config import ModelConfig
from glied.data.features import FeatureCache
from glied.errors import GliedError
from glied.regions.stored import StoredFiles

SOURCE = f"stored/vg@{tiny.WIDTH}"


def test_a_photograph_of_the_cache_is_shown_and_another_is_refused(tmp_path: Path, monkeypatch) -> None:
    for i, name in enumerate(("dog", "cat")):
        pixels = np.random.default_rng(i).integers(0, 255, (1000, 1600, 3)).astype(np.uint8)  # larger than the app's
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    regions = tiny.regions(3)
    np.savez(tmp_path / "dog.npz", feat=regions.features, bbox=regions.boxes)
    FeatureCache(tmp_path / "cache", StoredFiles("vg", [tmp_path])).extract([tmp_path / "dog.jpg"], progress=False)
    for name in ("base", "glied"):
        config = ModelConfig(name, 4 + len(tiny.WORDS), tiny.WIDTH, d=16, heads=2, d_head=8, max_length=5)
        checkpoint = Checkpoint(tiny.model(config), tiny.vocabulary(), tiny.WORDS, SOURCE, {})
        checkpoint.save(tmp_path / f"{name}.safetensors")
    save_attribute_detector(tmp_path / "attributes.safetensors", AttributeDetector(tiny.WORDS, tiny.WIDTH, SOURCE), {})
    monkeypatch.setenv("GLIED_CACHE", str(tmp_path / "cache"))
    engine = Engine(tmp_path)
    shown = own_photograph((tmp_path / "dog.jpg").read_bytes())
    assert shown.image.size == (1333, 833)
    trace = engine.read(shown, "glied").trace
    np.testing.assert_allclose(trace.boxes, regions.boxes * 1333 / 1600, rtol=1e-3)
    with pytest.raises(GliedError, match=r"Expected the regions of your file in the cache of stored/vg@12"):
        engine.read(own_photograph((tmp_path / "cat.jpg").read_bytes()), "glied")
