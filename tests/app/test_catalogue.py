"""The captions of the gallery are found in the background, and nobody has to wait for them."""

import threading
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import MappingProxyType

import pytest
import streamlit as st
import tiny
from PIL import Image

from app.engine import reports
from app.engine.catalogue import KEPT, Catalogue, Record, catalogue, gains, matches
from app.engine.engine import Engine
from app.photographs.gallery import INSIDE, Entry, entries, open_entry
from glied.captions import Caption

start = Catalogue.start  # conftest keeps others from it


def said(text: str, log_probability: float = -1.0) -> Caption:
    return Caption(tuple(text.split()), log_probability, 0.0)


PAIR = ("glied-rl", "updown")
RECORD = Record(said("a man rides"), said("a dog rides"), MappingProxyType({"grass": 0.9, "t-shirt": 0.4}))


def folder_of(home: Path, count: int) -> tuple[Entry, ...]:
    for i in range(count):
        Image.new("RGB", (64, 48), (40 * i, 0, 0)).save(home / f"{i}.png")
    return entries(str(home))[0][:count]


@dataclass
class Gate:
    """An engine that answers when it is let; `asked` is every photograph it was asked about."""

    asked: list = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    fails: int = -1

    def skim(self, photograph, models):
        self.asked.append((photograph.title, models))
        assert self.open.wait(30)
        if len(self.asked) - 1 == self.fails:
            raise RuntimeError("secret")
        return [RECORD.first, RECORD.second], tiny.scene(3, 2).attributes


def finished(known: Catalogue) -> Catalogue:
    start(known)
    known.thread.join(60)
    assert not known.thread.is_alive()
    return known


def test_photographs_are_asked_one_at_a_time_of_the_pair(tmp_path: Path):
    engine = Gate()
    known = Catalogue(engine, folder_of(tmp_path, 3), PAIR)  # type: ignore[arg-type]
    start(known)
    while not engine.asked:
        pass
    assert not known.thread.join(0.2)
    assert (len(engine.asked), len(known.records), known.complete) == (1, 0, False)
    engine.open.set()
    known.thread.join(60)
    assert known.complete
    assert engine.asked == [(str(i), PAIR) for i in range(3)]


def test_what_somebody_looks_at_comes_first(tmp_path: Path):
    engine, gallery = Gate(), folder_of(tmp_path, 3)
    engine.open.set()
    known = Catalogue(engine, gallery, PAIR)  # type: ignore[arg-type]
    known.wanted = gallery[2:]
    finished(known)
    assert [title for title, _ in engine.asked] == ["2", "0", "1"]


def test_neither_a_damaged_file_nor_a_failure_stops_the_others(tmp_path: Path):
    gallery = folder_of(tmp_path, 4)
    whole = gallery[1].path.read_bytes()
    gallery[1].path.write_bytes(whole[: len(whole) // 2])
    gallery[3].path.unlink()
    engine = Gate(fails=1)
    engine.open.set()
    records = finished(Catalogue(engine, gallery, PAIR)).records  # type: ignore[arg-type]
    found = [records[entry] for entry in gallery]
    assert isinstance(found[0], Record)
    assert "damaged" in str(found[1])
    assert found[2] == "It could not be read (RuntimeError)."
    assert isinstance(found[3], str)


def test_a_catalogue_that_is_stopped_ends_after_the_photograph_in_hand(tmp_path: Path):
    engine = Gate()
    known = Catalogue(engine, folder_of(tmp_path, 3), PAIR)  # type: ignore[arg-type]
    start(known)
    while not engine.asked:
        pass
    known.stop()
    engine.open.set()
    known.thread.join(60)
    assert len(known.records) == 1


def test_what_is_skimmed_agrees_with_what_is_read_and_is_kept_nowhere(checkpoints: Path):
    engine, photograph = Engine(checkpoints), open_entry(entries()[0][1])
    (glied, base), attributes = engine.skim(photograph, ("glied", "base"))
    assert not engine.results
    assert not engine.scenes
    for name, caption in (("glied", glied), ("base", base)):
        answer = engine.read(photograph, name)
        assert answer.decoded
        assert answer.decoded.captions[0].words == caption.words
        assert float(answer.trace.log_probabilities.sum()) == pytest.approx(caption.log_probability, abs=1e-3)
        assert Record(caption, caption, {}).confidence == pytest.approx(
            float(answer.trace.log_probabilities.mean()), abs=1e-3
        )
    assert attributes.words[0] == answer.trace.attributes[0]


def test_a_process_has_a_catalogue_of_each_of_a_few_pairs_and_the_oldest_ends(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(checkpoints))
    monkeypatch.delenv("GLIED_IMAGES", raising=False)
    st.cache_resource.clear()
    first = catalogue(("glied", "base"))
    assert catalogue(("glied", "base")) is first
    folder_of(tmp_path, 1)
    monkeypatch.setenv("GLIED_IMAGES", str(tmp_path))
    others = [catalogue(pair) for pair in product(("glied", "base"), repeat=2)]
    assert len(others[0].gallery) == 1 + len(INSIDE)
    assert [known.pair for known in others][1] == ("glied", "base")
    assert len(others) == KEPT
    assert first.stopped.is_set()
    assert not any(known.stopped.is_set() for known in others)
    st.cache_resource.clear()
    assert all(known.stopped.is_set() for known in others)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("MAN", True),
        ("dog gra", True),
        ("shirt", True),
        ("summer_palace", True),
        ("an", False),
        ("man zebra", False),
        ("?!", True),
        ("(", True),
    ],
)
def test_a_query_is_the_beginnings_of_words(query: str, found: bool):
    entry = Entry("china", "Summer Palace", "", "", Path())
    assert matches(query, entry, RECORD) is found


def test_before_its_caption_a_photograph_is_found_by_its_title():
    entry = Entry("china", "Summer Palace", "", "", Path())
    assert matches("palace", entry, None)
    assert not matches("man", entry, None)


def test_gains_are_of_photographs_that_both_reports_know(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(checkpoints))
    st.cache_resource.clear()
    assert gains(("glied", "base")) == {}
    shared = {"data": "d", "split": "val", "tokenizer": "python"}
    glied = shared | {"images": {"a": {"CIDEr": 1.5}, "c": {"caption": "x"}}}
    base = shared | {"images": {"a": {"CIDEr": 1.2}, "c": {"CIDEr": 0.1}}}
    monkeypatch.setattr(reports, "report_files", lambda folder: {"d val": ""})
    known = {"glied": glied, "base": base}
    monkeypatch.setattr(reports, "report_or_why", lambda folder, name, kind: known.get(name, "It has none."))
    assert gains(("glied", "base")) == {"a": pytest.approx(30)}
    for other in ({"glied": glied}, {"glied": glied, "base": base | {"tokenizer": "PTB"}}):
        known = other
        assert gains(("glied", "base")) == {}
