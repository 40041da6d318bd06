"""The gallery is there without a network, and a folder of one's own may hold anything."""

import json
from pathlib import Path

import pytest
from PIL import Image

from app.gallery import entries, human_captions, open_entry, thumbnail
from glied.errors import GliedError


def test_every_photograph_inside_the_packages_opens():
    found, skipped = entries()
    assert len(found) == 10
    assert skipped == 0
    for entry in found:
        assert min(open_entry(entry).image.size) >= 200
        assert entry.alt
        assert entry.credit
        assert thumbnail(entry).startswith("data:image/jpeg;base64,")


def test_bad_files_of_a_folder_are_counted_not_shown(tmp_path: Path):
    for name in ("b.jpg", "a.png", "<b>c.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8nonsense")
    (tmp_path / "tiny.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not counted")
    found, skipped = entries(str(tmp_path))
    assert [entry.id for entry in found[:3]] == ["<b>c.jpg", "a.png", "b.jpg"]
    assert len(found) == 13
    assert skipped == 2


def test_only_the_first_500_are_listed(tmp_path: Path):
    Image.new("RGB", (16, 16)).save(tmp_path / "000.png")
    for i in range(1, 510):
        (tmp_path / f"{i:03}.png").hardlink_to(tmp_path / "000.png")
    assert len(entries(str(tmp_path))[0]) == 500 + 10


def test_a_folder_that_is_not_there_gets_a_sentence(tmp_path: Path):
    with pytest.raises(GliedError, match="correct IMAGES"):
        entries(str(tmp_path / "none"))


@pytest.mark.parametrize("inside", ["", "images"])
def test_human_captions_of_a_data_set(tmp_path: Path, inside: str):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg")
    record = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "A dog runs."}, {"raw": "A dog."}]}
    (tmp_path / "captions.json").write_text(json.dumps({"images": [record]}))
    folder = str(tmp_path / inside)
    assert entries(folder)[0][0].id == "a.jpg"
    assert human_captions(folder) == {"a.jpg": ("A dog runs.", "A dog.")}


def test_without_a_data_set_there_are_none(tmp_path: Path):
    assert human_captions(None) == {}
    (tmp_path / "photographs").mkdir()
    assert human_captions(str(tmp_path / "photographs")) == {}
