"""The coloured data set of tests/colours.py, an attribute detector trained on it, and where a training goes; and tiny
models and photographs for the command line."""

import json
from pathlib import Path

import colours
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from glied.attributes import AttributeDetector
from glied.baselines.build import build
from glied.checkpoint import Checkpoint, save_attribute_detector
from glied.config import ModelConfig
from glied.regions.grid import Grid
from glied.training import attributes, material
from glied.training.attributes import AttributeOptions
from glied.training.material import Places
from glied.vocabulary import SPECIAL, Vocabulary


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (material, attributes):
        monkeypatch.setattr(module, "open_source", lambda name: colours.Colours())
    return colours.write(tmp_path / "colours")


@pytest.fixture
def detector(data: Path, tmp_path: Path) -> Path:
    out = tmp_path / "detector" / "attributes.safetensors"
    options = AttributeOptions(words=9, hidden=8, epochs=60, images=8, rate=0.02, folds=2, precision="fp32")
    quality = attributes.train_attributes(data, tmp_path / "cache", "colours", out.parent, out, options)
    assert quality["mean_AP"] > 0.8  # colours that were never seen in training are told apart
    return out


@pytest.fixture
def places(data: Path, detector: Path, tmp_path: Path) -> Places:
    return Places(data, tmp_path / "cache", detector, None, tmp_path / "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random models over the real regions, and a data set of four photographs of noise."""
    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    vocabulary = Vocabulary(SPECIAL + tiny.FEW)
    config = ModelConfig(vocabulary_size=len(vocabulary), feature_dim=1280, d=16, heads=2, d_head=8, max_length=6)
    Checkpoint(build(config), vocabulary, tiny.FEW, Grid.name, {"seed": 0}).save(folder / "glied.safetensors")
    save_attribute_detector(folder / "attributes.safetensors", AttributeDetector(tiny.FEW, 1280, Grid.name), {})
    (folder / "data" / "images").mkdir(parents=True)
    records = []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "data" / "images" / f"{i}.jpg")
        records.append({"filename": f"{i}.jpg", "split": "val", "sentences": [{"raw": "A dog runs on the grass."}]})
    (folder / "data" / "images" / "3.jpg").write_bytes(b"no image")
    (folder / "data" / "captions.json").write_text(json.dumps({"images": records}))
    return folder
