"""What is shipped: small, loadable, a pair, and what its card says of it."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from glied.attributes import find_scene
from glied.captions import DecodeOptions
from glied.checkpoint import describe, load_pair
from glied.decode import caption
from glied.images import open_image
from glied.regions import open_source

CAPTIONERS = ("base", "glied", "updown", "base-rl", "glied-rl")
NAMES = (*CAPTIONERS, "attributes", "detector")


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_small_and_named_in_the_model_cards(root: Path, name: str) -> None:
    file = root / "checkpoints" / f"{name}.safetensors"
    assert file.stat().st_size < 25e6
    cards = (root / "checkpoints" / "README.md").read_text()
    assert hashlib.sha256(file.read_bytes()).hexdigest() in cards
    assert re.search(rf"`{describe(file)['digest']}`", (root / "README.md").read_text() + cards)


@pytest.mark.parametrize("name", CAPTIONERS)
def test_each_captioner_says_where_it_comes_from_and_captions_a_photograph(root: Path, name: str) -> None:
    folder = root / "checkpoints"
    checkpoint, detector = load_pair(folder / f"{name}.safetensors", folder / "attributes.safetensors")
    assert checkpoint.model.config.architecture == name.removesuffix("-rl")
    assert checkpoint.provenance["splits"] == {"train": 14796, "val": 1495}
    assert describe(folder / "detector.safetensors")["digest"] in checkpoint.source
    assert checkpoint.provenance["detector"] == describe(folder / "attributes.safetensors")["digest"]
    photograph = open_image(root / "app" / "photographs" / "astronaut.png")
    [decoded] = caption(checkpoint, [find_scene(photograph, open_source(checkpoint.source), detector)], DecodeOptions())
    if name.endswith("-rl"):
        started = describe(folder / f"{name.removesuffix('-rl')}.safetensors")
        assert checkpoint.provenance["initial"]["digest"] == started["digest"]
    words = decoded.captions[0].words
    assert 5 <= len(words) <= 20
    assert set(words) <= set(checkpoint.vocabulary.words[4:])


@pytest.mark.parametrize("name", ["detector", "grid"])
def test_regions_have_not_changed_since_the_checkpoints_were_trained(root: Path, name: str) -> None:
    """If this fails on purpose, give the source (glied/regions/) a new number and train again."""
    golden = json.loads((root / "tests" / "unit" / f"{name}_golden.json").read_text())
    regions = open_source(name).find_regions(open_image(root / "app" / "photographs" / "astronaut.png"))
    assert regions.source == golden["source"]
    for region, values in golden["features"].items():
        ends = [*regions.features[int(region), :6], *regions.features[int(region), -6:]]
        assert ends == pytest.approx(values, rel=0.02, abs=0.02)
    for region, (box, label) in golden.get("boxes", {}).items():
        assert regions.boxes[int(region)].tolist() == pytest.approx(box, abs=1)
        assert regions.labels[int(region)] == label
