"""Every page with every kind of captioner: it shows what the captioner has, and says in a sentence what it lacks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import KINDS, save_tiny
from streamlit.testing.v1 import AppTest
from test_dataset import report

from app.engine.engine import PAIRS, Engine
from app.engine.reports import reports
from app.photographs.gallery import entries
from glied.checkpoint import load, read_card
from glied.errors import GliedError
from glied.functions import BASE, GLIED, lacking

Open = Callable[..., AppTest]
TITLES = {"updown-rl": "Up-Down", "hearsay": "hearsay", "lstm": "LSTM", "ct": "CT", "base+vd": "base+vd"}
LACKS = {
    "updown-rl": "Up\\-Down has no attention to attributes, region groups or collocations.",
    "hearsay": "hearsay has no attention to regions or region groups.",
    "lstm": "LSTM has no attention: it sees the photograph as a whole.",
    "ct": "CT has no attention to attributes or collocations. Of its 3 layers the last is shown",
    "base+vd": "base\\+vd has no collocations.",
}
OPENED = ("word.csv", "regions.csv", "export", "heads")


@pytest.fixture
def open_page(systems: Path, open_app: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A page over captioners of every kind, its address given as keywords."""

    def start(page: str, opened: tuple[str, ...] = OPENED, **address: str) -> AppTest:
        monkeypatch.setenv("GLIED_CHECKPOINTS", str(systems))
        app = open_app(opened, **address).switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert not app.error
        return app

    return start


def sent(app: AppTest, key: str) -> dict:
    """What the browser gets of the last component that has such a part."""
    found = [json.loads(part.proto.json) for part in app.get("bidi_component") if part.proto.json]
    return next(data for data in reversed(found) if key in data)


def told(app: AppTest) -> str:
    return " ".join(part.value for part in (*app.caption, *app.info, *app.markdown))


# The engine


def test_captioners_of_one_kind_stand_together_with_glied_and_base_first(systems: Path):
    engine = Engine(systems)
    assert engine.titles == {
        "glied": "GLIED",
        "my-run": "GLIED: my-run",
        "base": "Base",
        "base+vd": "base+vd",
        "ct": "CT",
        "hearsay": "hearsay",
        "lstm": "LSTM",
        "updown-rl": "Up-Down",
        "updown": "Up-Down before RL",
    }
    assert engine.pair == ("glied", "base")
    assert engine.pairs == [PAIRS[1]]


def test_a_damaged_or_foreign_file_is_named_and_the_others_work(systems: Path, open_page: Open):
    foreign, torn = Engine(systems).refused
    assert foreign.startswith("foreign.safetensors is left out. Expected a captioner")
    assert torn.startswith("torn.safetensors is left out. Expected a safetensors checkpoint")
    for page in ("gallery", "about"):
        warned = [warning.value.replace("\\", "") for warning in open_page(page).warning]
        assert [warning.split(" is left out")[0] for warning in warned] == ["foreign.safetensors", "torn.safetensors"]


def test_a_card_says_what_the_checkpoint_has(systems: Path):
    for name in (*KINDS, "glied"):
        file = systems / f"{name}.safetensors"
        card, checkpoint = read_card(file), load(file)
        assert card.functions == checkpoint.model.functions
        assert card.config == checkpoint.model.config
        assert (card.title, card.digest) == (checkpoint.model.title, checkpoint.digest)


def test_a_few_captioners_stay_in_memory_and_a_changed_file_is_refused(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
):
    for file in checkpoints.glob("*.safetensors"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("app.engine.engine.LOADED", 1)
    engine = Engine(tmp_path)
    assert not engine.loaded
    first = engine.load("glied")
    assert engine.load("glied") is first
    engine.load("base")
    assert list(engine.loaded) == ["base"]
    save_tiny(tmp_path, "glied", "glied-vl")
    with pytest.raises(GliedError, match="start the app again"):
        engine.load("glied")


@pytest.mark.parametrize(("names", "pair"), [(["lstm"], ("lstm", "lstm")), (["updown", "ct"], ("ct", "updown"))])
def test_a_folder_without_glied_and_base_is_opened(
    names: list[str], pair: tuple[str, str], checkpoints: Path, tmp_path: Path, open_app: Open, monkeypatch
):
    (tmp_path / "attributes.safetensors").write_bytes((checkpoints / "attributes.safetensors").read_bytes())
    for name in names:
        save_tiny(tmp_path, name, name)
    assert Engine(tmp_path).pair == pair
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(tmp_path))
    app = open_app()
    for page in ("gallery", "explore", "compare", "dataset", "about"):
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert not app.error


def test_a_folder_of_no_captioner_says_which_file_is_missing(tmp_path: Path, checkpoints: Path):
    with pytest.raises(GliedError, match=r"attributes\.safetensors is not there"):
        Engine(tmp_path)
    (tmp_path / "attributes.safetensors").write_bytes((checkpoints / "attributes.safetensors").read_bytes())
    with pytest.raises(GliedError, match="no captioner is there"):
        Engine(tmp_path)


def test_what_is_lacking():
    assert lacking(GLIED) == []
    assert lacking(BASE) == ["region groups", "collocations"]
    assert lacking(()) == ["attention"]


# The pages


def test_many_captioners_are_picked_from_a_list(open_page: Open):
    app = open_page("explore")
    assert app.selectbox(key="model").value == "glied"
    assert app.selectbox(key="model").options[:3] == ["GLIED", "GLIED: my-run", "Base"]
    app = open_page("explore", model="Up-Down before RL")
    assert app.selectbox(key="model").value == "updown"


@pytest.mark.parametrize("kind", KINDS)
def test_explore_shows_what_a_captioner_has(kind: str, open_page: Open):
    app = open_page("explore", model=TITLES[kind])
    assert LACKS[kind] in told(app)
    board = json.loads(sent(app, "reported")["trace"])
    has = {name for name in ("groups", "coarse", "fine", "read", "context") if board[name]}
    assert (
        has
        == {
            "updown-rl": {"fine"},
            "hearsay": {"read", "context"},
            "lstm": set(),
            "ct": {"groups", "fine", "context"},
            "base+vd": {"groups", "fine", "read", "context"},
        }[kind]
    )
    assert board["heads"] == {"updown-rl": 1, "lstm": 0}.get(kind, 2)
    assert np.isfinite(board["region_falls"]).all()
    senses = {"updown-rl": ["regions"], "hearsay": ["attributes"], "lstm": [], "ct": ["regions"]}
    assert board["senses"] == senses.get(kind, ["regions", "attributes"])
    tables = [table.value for table in app.dataframe]
    assert len(tables) == 2 - (kind == "lstm")
    assert ("attention" in tables[-1]) == ("fine" in has)
    if kind != "lstm":
        assert {f"{each}s" for each in tables[0]["kind"]} == set(board["senses"])
    pictures = [box.options for box in app.selectbox if box.label == "Picture"]
    offered = " ".join(pictures[0]) if pictures else ""
    assert ("looked" in offered) == ("fine" in has)
    assert ("Region groups" in offered) == ("groups" in has)
    assert ("collocations" in offered) == (kind == "hearsay")


@pytest.mark.parametrize("kind", KINDS)
def test_collocations_are_shown_where_a_captioner_has_pivots(kind: str, open_page: Open):
    app = open_page("collocations", model=TITLES[kind])
    assert bool(app.get("plotly_chart")) == (kind == "hearsay")
    if kind != "hearsay":
        assert "has no collocations: no word calls up attributes" in app.info[0].value
        assert "Choose GLIED to see them." in app.info[0].value


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_draws_the_tree(kind: str, open_page: Open):
    tree = sent(open_page("decoding", model=TITLES[kind]), "nodes")
    assert (tree["fine"] is None) == (kind in ("hearsay", "lstm"))
    assert (tree["read"] is None) == (kind not in ("hearsay", "base+vd"))
    assert tree["nodes"]


@pytest.mark.parametrize("kind", KINDS)
def test_compare_sets_any_two_side_by_side(kind: str, open_page: Open):
    app = open_page("compare", left=TITLES[kind], right="GLIED: my-run")
    assert sent(app, "titles")["titles"] == [TITLES[kind], "GLIED: my-run"]
    left, right = json.loads(sent(app, "titles")["traces"])
    assert (left["fine"] is None) == (kind in ("hearsay", "lstm"))
    assert right["fine"]
    moved = next(part.value for part in app.markdown if part.value.startswith("- "))
    assert ("LSTM has no attention function" in moved) == (kind == "lstm")
    app = open_page("compare", kind="Two photographs", model=TITLES[kind])
    assert len(sent(app, "titles")["photos"]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_if_takes_away_what_a_captioner_attends_to(kind: str, open_page: Open):
    app = open_page("whatif", model=TITLES[kind], out="1")
    scene = sent(app, "curve")
    over = {"hearsay": "attributes", "lstm": None}.get(kind, "regions")
    assert (scene["curve"] or {}).get("over") == over
    assert scene["after"]["words"]
    assert (scene["after"]["fine"] is None) == (kind in ("hearsay", "lstm"))
    assert json.loads(scene["scene"])["reads"] == (kind in ("hearsay", "base+vd"))


@pytest.mark.parametrize("kind", KINDS)
def test_how_it_works_follows_what_a_captioner_declares(kind: str, open_page: Open):
    app = open_page("how", model=TITLES[kind])
    flow = sent(app, "box")
    assert flow["box"] == {"updown-rl": "v", "hearsay": "al", "lstm": "next", "ct": "v2", "base+vd": "v"}[kind]
    names = [each["name"] for each in json.loads(flow["trace"])["about"]]
    assert ("attributes" in names) == (kind in ("hearsay", "base+vd"))
    assert LACKS[kind].split(". Of its")[0] in told(app)


def test_gallery_shows_the_captions_of_any_two(open_page: Open, systems: Path):
    app = open_page("gallery", left="Up-Down", right="LSTM")
    assert app.toggle(key="differ").label == "LSTM and Up-Down differ"
    assert "Also here: base\\+vd, CT, hearsay, LSTM, Up\\-Down." in told(app)


def test_reports_of_any_two_are_compared(open_page: Open, systems: Path):
    models = Engine(systems).models
    files = [systems / f"{name}.json" for name in ("glied", "base", "updown-rl", "lstm")]
    for file in files:
        made = report(models[file.stem].title, 0.1 * len(file.stem), models[file.stem].digest)
        file.write_text(
            json.dumps(made if file.stem != "lstm" else {k: v for k, v in made.items() if k != "grounding"})
        )
    try:
        app = open_page("dataset")
        assert list(app.dataframe[0].value["captioner"]) == ["GLIED", "Base", "LSTM", "Up-Down"]
        assert [part.value for part in app.header][1] == "GLIED minus Base"
        assert (
            "GLIED: my\\-run, base\\+vd, CT, hearsay and Up\\-Down before RL have no report yet." in app.info[0].value
        )
        assert len(app.info) == 1
        app = open_page("dataset", left="LSTM", right="Up-Down")
        assert [part.value for part in app.header][1] == "Up\\-Down minus LSTM"
        assert "Made without `--grounding`, so that no attention was measured: LSTM." in told(app)
        app.selectbox(key="point").select("coffee").run()
        assert not app.exception
        assert set(reports(systems)) == {file.stem for file in files}
    finally:
        for file in files:
            file.unlink()


def test_the_report_of_a_photograph_holds_the_captioner_in_view(open_page: Open):
    from app.engine.ask import engine
    from app.engine.engine import Question
    from app.photographs.gallery import open_entry
    from app.widgets.export import _report

    open_page("about")
    photograph = open_entry(entries(None)[0][0])
    for kind in KINDS:
        page = _report(engine(), photograph, engine().read(photograph, kind, Question()), "")
        names = [TITLES[kind], "GLIED", "Base"]
        assert [page.find(f"<b>{name}:</b>") > 0 for name in names] == [True] * 3
        assert ("where it looked, word by word" in page.split("GLIED: ")[0]) == (kind != "lstm")
