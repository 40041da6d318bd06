"""The nearest photographs on Explore and Collocations: found for what is in view, and told without markup."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from tiny import HOSTILE

from app.engine.ask import engine
from app.photographs.gallery import entries, open_entry
from glied.checkpoint import load
from glied.states import Archive, Photographed, reduce

Open = Callable[..., AppTest]
NAMES = ("chelsea", "coffee", "<b>x</b>.jpg")


@pytest.fixture
def kept(open_app: Open, checkpoints: Path) -> Path:
    """States of the tiny GLIED: its own of two photographs of the gallery, and made-up ones of a third, HOSTILE."""
    open_app()
    model, gallery = engine().load("glied"), {entry.id: entry for entry in entries()[0]}
    states, rows, photographs, boxes = {}, {}, [], []
    for name in NAMES:
        words = ("a", HOSTILE, "dog")
        if name in gallery:
            photograph = open_entry(gallery[name])
            words = engine().read(photograph, "glied").trace.words[:-1]
            found = engine().states(photograph, "glied", words)
        else:
            found = {kind: np.roll(each[0], 1, -1)[: len(words) + 1] for kind, each in states.items()}
        for kind, each in found.items():
            states.setdefault(kind, []).append(each)
            rows.setdefault(kind, []).extend((len(photographs), place) for place in range(len(each)))
        boxes += [[0.1, 0.2, 0.5, 0.6]] * len(found["regions"])
        photographs.append(Photographed(name, "tiny*", words))
    known = {kind: reduce(np.concatenate(each), *zip(*rows[kind], strict=True)) for kind, each in states.items()}
    labels = (HOSTILE,) * len(boxes)
    file = checkpoints / "glied.states.safetensors"
    Archive(model.digest, "val", tuple(photographs), known, np.array(boxes, np.float32), labels).save(file)
    yield file
    file.unlink()


def told(app: AppTest) -> str:
    """What the fold says, lists and links and small print."""
    links = [link.proto.label for link in app.get("page_link")]
    return "\n".join([part.value for part in (*app.markdown, *app.caption)] + links)


@pytest.mark.parametrize("page", ["explore", "collocations"])
def test_a_fold_tells_the_nearest_photographs(open_app: Open, kept: Path, page: str):
    app = open_app(photo="chelsea").switch_page(f"views/{page}.py").run()
    assert "cosine" not in told(app)
    app.session_state["nearest"] = True
    app = open_app(("nearest",), photo="chelsea").switch_page(f"views/{page}.py").run()
    assert not app.exception
    assert not app.error
    text = told(app)
    assert "among 3 photographs (tiny\\*, val), each with GLIED’s own caption" in text
    found = [link.proto for link in app.get("page_link") if ":orange-background[" in link.proto.label]
    assert [link.query_string for link in found] == ["photo=coffee"]  # not itself
    assert "1\\.00" not in text
    assert HOSTILE not in text


def test_the_group_of_a_pinned_region_is_a_choice(open_app: Open, kept: Path):
    app = open_app(("nearest",), photo="chelsea").switch_page("views/explore.py").run()
    assert not [each for each in app.segmented_control if each.key == "nearest_of"]
    choice = app.session_state["choice"]
    app.session_state["choice"] = type(choice)(choice.trace, 1, 0, 4)
    app.run()
    app.segmented_control(key="nearest_of").set_value("regions").run()
    assert not app.exception
    assert "the group of region 5" in told(app)
    assert "its vector after it has gathered its group" in told(app)
    [found] = [link.proto.label for link in app.get("page_link") if ":orange-background[" in link.proto.label]
    assert "in “" in found
    assert HOSTILE not in found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("gone", "over other photographs. `python -m glied states"),
        ("damaged", "could not be read"),
        ("other", "of another chec"),
    ],
)
def test_states_that_cannot_be_had_get_a_sentence(open_app: Open, kept: Path, change: str, sentence: str):
    if change == "other":
        archive = Archive.load(kept)
        Archive("000000000000", *[getattr(archive, name) for name in list(vars(archive))[1:]]).save(kept)
    else:
        kept.write_bytes(b"")
    if change == "gone":
        kept.rename(kept.with_suffix(".away"))
    app = open_app(("nearest",), photo="chelsea").switch_page("views/explore.py").run()
    assert not app.exception
    assert any(sentence in info.value for info in app.info)
    kept.touch()


def test_the_shipped_states_are_of_the_shipped_captioners(root: Path):
    for name, kinds in (("glied-rl", {"words", "regions", "pivots"}), ("base-rl", {"words"})):
        file = root / "checkpoints" / f"{name}.states.safetensors"
        archive = Archive.load(file)
        assert file.stat().st_size < 3e6
        assert archive.checkpoint == load(root / "checkpoints" / f"{name}.safetensors").digest
        assert (set(archive.known), archive.datasets) == (kinds, ("flickr8k", "coco"))
        assert len(archive.photographs) == 1495
