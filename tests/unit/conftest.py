"""The coloured data set of tests/colours.py, an attribute detector trained on it, and where a training goes."""

from pathlib import Path

import colours
import pytest

from glied.training import attributes, material
from glied.training.attributes import AttributeOptions
from glied.training.material import Places


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
