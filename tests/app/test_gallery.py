"""The gallery is there without a network, and a folder of one's own may hold anything."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_uploads import PHOTOGRAPH, encoded

from app.engine import catalogue
from app.engine.catalogue import Catalogue, Record
from app.photographs import gallery
from app.photographs.gallery import entries, human_captions, open_entry, thumbnail
from glied.captions import Caption
from glied.errors import GliedError

OURS = len(gallery.INSIDE)


def test_every_photograph_of_ours_opens():
    found, skipped = entries()
    assert len(found) == OURS >= 10
    assert skipped == 0
    for entry in found:
        assert min(open_entry(entry).image.size) >= 200
        assert entry.alt
        assert entry.credit
        assert thumbnail(entry).startswith("data:image/jpeg;base64,")


def test_every_photograph_shipped_is_small_and_credited():
    folder = Path(gallery.__file__).parent
    told = (folder / "CREDITS.md").read_text(encoding="utf-8")
    shipped = sorted(folder.glob("*.jpg"))
    assert shipped == sorted(entry.path for entry in entries()[0] if entry.path.parent == folder)
    for file in shipped:
        assert f"`{file.name}`" in told
        assert file.stat().st_size < 100_000
        with Image.open(file) as image:
            assert max(image.size) <= 640


def test_bad_files_of_a_folder_are_counted_not_shown(tmp_path: Path):
    for name in ("b.jpg", "a.png", "<b>c.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8nonsense")
    (tmp_path / "tiny.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not counted")
    found, skipped = entries(str(tmp_path))
    assert [entry.id for entry in found[:3]] == ["<b>c.jpg", "a.png", "b.jpg"]
    assert len(found) == 3 + OURS
    assert skipped == 2


def test_only_the_first_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gallery, "MOST", 5)
    for i in range(8):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{i}.png")
    found, skipped = entries(str(tmp_path))
    assert [entry.id for entry in found[:5]] == [f"{i}.png" for i in range(5)]
    assert (len(found), skipped) == (5 + OURS, 3)


def test_photographs_that_nobody_trains_on_come_first(tmp_path: Path):
    (tmp_path / "images").mkdir()
    splits = {"a.png": "train", "b.png": "val", "c.png": "restval", "d.png": "test"}
    for name in splits:
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / name)
    records = [{"filename": n, "split": split, "sentences": [{"raw": "A dog."}]} for n, split in splits.items()]
    (tmp_path / "captions.json").write_text(json.dumps({"images": records}))
    for folder in (tmp_path, tmp_path / "images"):
        assert [entry.id for entry in entries(str(folder))[0][:4]] == ["b.png", "d.png", "a.png", "c.png"]


def test_names_that_no_page_can_show_are_escaped(tmp_path: Path, monkeypatch, open_app):
    names = [b"latin\xe9.png", b"new\nline.png", "\u202egnp.png".encode()]
    for name in names:
        Image.new("RGB", (200, 150)).save(tmp_path / "plain.png")
        (tmp_path / "plain.png").rename(tmp_path / os.fsdecode(name))
    records = [{"filename": os.fsdecode(n), "split": "val", "sentences": [{"raw": "A dog."}]} for n in names]
    (tmp_path / "captions.json").write_text(json.dumps({"images": records}))
    found = entries(str(tmp_path))[0][: len(names)]
    assert {entry.title for entry in found} == {"latin\\xe9", "new\\nline", "\\u202egnp"}
    assert {entry.id for entry in found} == human_captions(str(tmp_path)).keys()
    assert all(entry.title in entry.alt and entry.title.isprintable() and entry.id.encode() for entry in found)
    monkeypatch.setenv("GLIED_IMAGES", str(tmp_path))
    assert not open_app().exception
    for entry in found:
        app = open_app(photo=entry.id)
        app.switch_page("views/explore.py").run()
        assert not app.exception
        assert not app.error


def test_a_folder_of_folders_says_so(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(GliedError, match=r"found none, but 2 folder\(s\) such as train; name one of these with IMAGES"):
        entries(str(tmp_path))


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


def tiles(app: AppTest) -> list[dict]:
    """What the browser gets of each tile."""
    assert not app.exception
    assert not app.error
    *_, component = app.get("bidi_component")
    return json.loads(component.proto.json)["tiles"]


def titles(app: AppTest) -> list[str]:
    return [tile["title"] for tile in tiles(app)]


def caption(text: str, log_probability: float) -> Caption:
    return Caption(tuple(text.split()), float(log_probability), 0.0)


RECORDS: dict[str, Record | str] = {
    "Grace Hopper": Record(caption("a man", -3), caption("a dog", -1), {"hat": 0.9, "grass": 0.2}),
    "Photographer": Record(caption("a man", -9), caption("a man", -1), {"camera": 0.8}),
    "Coffee": "Expected a readable image.",
}


@pytest.fixture
def open_gallery(open_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The Gallery, when the photographs of RECORDS were looked at."""

    def fill(known: Catalogue) -> None:
        known.records.update({entry: RECORDS[entry.title] for entry in known.gallery if entry.title in RECORDS})

    monkeypatch.setattr(Catalogue, "start", fill)
    return open_app


def test_tiles_show_both_captions_and_where_they_differ(open_gallery: Callable[..., AppTest]):
    app = open_gallery()
    first, second, third = tiles(app)[:3]
    assert first["alt"] == "A naval officer in uniform, arms crossed"
    assert first["captions"] == [
        {"by": "GLIED", "words": ["a", "man"], "differs": [False, True]},
        {"by": "Base", "words": ["a", "dog"], "differs": [False, True]},
    ]
    assert first["notes"] == ["hat\xa090\xa0%, grass\xa020\xa0%"]
    assert [line["by"] for line in second["captions"]] == ["GLIED and Base"]
    assert (third["captions"], third["notes"]) == ([], ["Caption to come"])
    assert f"Captions of 3 of {OURS} photographs" in app.get("progress")[0].proto.text


def test_a_photograph_that_could_not_be_read_is_left_out_with_its_reason(open_gallery: Callable[..., AppTest]):
    app = open_gallery()
    assert len(tiles(app)) == OURS - 1
    assert "Coffee" not in titles(app)
    assert [text.value for text in app.text] == ["Coffee: Expected a readable image."]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("man", ["Grace Hopper", "Photographer"]),
        ("dog", ["Grace Hopper"]),
        ("CAM", ["Photographer"]),
        ("dahlia", ["Dahlia"]),
        ("grass", ["Grace Hopper"]),
    ],
)
def test_search_finds_titles_captions_and_attributes(
    open_gallery: Callable[..., AppTest], query: str, found: list[str]
):
    app = open_gallery()
    app.text_input(key="search").set_value(query).run()
    assert titles(app) == found
    if query == "grass":
        assert tiles(app)[0]["notes"] == ["grass\xa020\xa0%, hat\xa090\xa0%"]  # what was searched comes first
    assert titles(open_gallery(search=query)) == found


def test_nothing_found_is_said(open_gallery: Callable[..., AppTest]):
    app = open_gallery(search="**zebra**", differ="true")
    assert titles(app) == []
    assert "No photograph has “" in app.info[0].value
    assert "Not all captions are there yet" in app.info[0].value


def test_only_those_that_differ(open_gallery: Callable[..., AppTest]):
    app = open_gallery()
    app.toggle(key="differ").set_value(True).run()
    assert titles(app) == ["Grace Hopper"]


def test_the_least_confident_come_first_and_those_to_come_last(open_gallery: Callable[..., AppTest]):
    app = open_gallery()
    app.selectbox(key="sort").select("Lowest confidence first").run()
    assert titles(app)[:3] == ["Photographer", "Grace Hopper", "Kitten"]
    assert tiles(app)[0]["notes"][1] == "log p per word −3.00"


def test_the_biggest_gain_is_offered_where_reports_know_it(
    open_gallery: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
):
    app = open_gallery(sort="Biggest gain first")
    assert list(app.selectbox(key="sort").options) == ["Gallery order", "Lowest confidence first"]
    assert app.selectbox(key="sort").value == "Gallery order"
    images = {"glied": {"camera": 1.0, "grace_hopper": 0.1}, "base": {"camera": 0.5, "grace_hopper": 0.2}}
    found = [{id: {"CIDEr": score} for id, score in images[name].items()} for name in ("glied", "base")]
    monkeypatch.setattr("app.engine.catalogue.comparable", lambda first, second: [tuple(found)])
    app = open_gallery()
    app.selectbox(key="sort").select("Biggest gain first").run()
    assert titles(app)[:3] == ["Photographer", "Grace Hopper", "Kitten"]
    assert [tile["notes"][-1] for tile in tiles(app)[:2]] == ["CIDEr +50 against Base", "CIDEr −10 against Base"]


def test_a_folder_is_shown_a_page_at_a_time_without_its_damaged_files(
    open_app: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for i in range(30):
        Image.new("RGB", (200, 150), (i, 0, 0)).save(tmp_path / f"<b>{i:02}.png")
    (tmp_path / "<b>00.png").write_bytes((tmp_path / "<b>01.png").read_bytes()[:200])
    monkeypatch.setenv("GLIED_IMAGES", str(tmp_path))
    assert titles(open_app())[:2] == ["<b>01", "<b>02"]
    assert titles(open_app(page="2"))[0] == "<b>24"
    assert len(titles(open_app(page="99"))) == 23


def test_captions_come_by_themselves(open_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch):
    few = entries()[0][:2]
    monkeypatch.setattr(catalogue, "entries", lambda folder: (few, 0))
    monkeypatch.setattr(Catalogue, "start", lambda known: known.thread.start())
    app = open_app()
    catalogue.catalogue(("glied", "base")).thread.join(60)
    app.run()
    assert [len(tile["captions"]) > 0 for tile in tiles(app)] == [True, True]
    assert not app.get("progress")


def test_an_upload_in_the_gallery_opens_explore(open_app: Callable[..., AppTest]):
    app = open_app(sort="Lowest confidence first")  # which a widget owns
    app.file_uploader[0].upload("a.jpg", b"xx", "image/jpeg").run()
    assert "Expected a JPEG" in app.error[0].value
    app.file_uploader[0].upload("a.png", encoded(PHOTOGRAPH, "PNG"), "image/png").run()
    assert app.selectbox(key="photo").value == "yours"


def test_the_camera_is_only_started_when_asked_for(open_app: Callable[..., AppTest]):
    app = open_app()
    assert not app.get("camera_input")
    app.toggle(key="with_camera").set_value(True).run()
    assert len(app.get("camera_input")) == 1


def test_a_camera_picture_goes_through_the_guards():
    def script():
        from app.state import CAMERA
        from app.widgets.pick import _take

        _take(CAMERA, "The picture you took")

    app = AppTest.from_function(script)
    app.session_state["camera"] = io.BytesIO(b"no picture")
    assert "Expected a JPEG" in app.run().session_state["refused"]
    assert "yours" not in app.session_state
    app.session_state["camera"] = io.BytesIO(encoded(PHOTOGRAPH, "JPEG"))
    app.run()
    assert "refused" not in app.session_state
    assert app.session_state["photo"] == "yours"
    assert app.session_state["yours"].alt == "The picture you took"


def test_a_new_address_counts_and_an_old_one_does_not(open_app: Callable[..., AppTest]):
    app = open_app().switch_page("views/explore.py").run()
    app.query_params["photo"] = "coffee"
    assert app.run().selectbox(key="photo").value == "coffee"
    app.selectbox(key="photo").select("rocket").run()
    assert app.selectbox(key="photo").value == "rocket"
    assert app.query_params["photo"] == "rocket"
    app.file_uploader[0].upload("a.png", encoded(PHOTOGRAPH, "PNG"), "image/png").run()
    assert app.selectbox(key="photo").value == "yours"
    app.query_params["photo"] = "rocket"
    assert app.run().selectbox(key="photo").value == "rocket"
