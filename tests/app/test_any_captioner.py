"""Every page with every kind of captioner: it shows what the captioner has, and says in a sentence what it lacks."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from test_dataset import report
from tiny import save_tiny

from analysis.components import board_payload
from app.components import flow, pair, removal, tree
from app.engine import ask
from app.engine.engine import PAIRS, Engine, Question
from app.engine.reports import reports
from app.photographs.gallery import entries, open_entry
from app.widgets.export import _report
from glied.baselines.variants import VARIANTS, Parts
from glied.checkpoint import load, read_card
from glied.config import PRESETS
from glied.errors import GliedError
from glied.functions import BASE, GLIED, feeding, lacking
from glied.scene import Edit
from glied.traces import unpack

Open = Callable[..., AppTest]
# What captioners can have: regions alone, attributes alone, nothing, several layers, groups without collocations.
KINDS = {"updown-rl": "updown", "glied-al": "glied-al", "lstm": "lstm", "ct": "ct", "base+vd": "base+vd"}


@pytest.fixture(scope="module")
def systems(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny captioners of every kind beside Base and GLIED, and files that are none: a torn one and a foreign one.
    `glied-al` attends to attributes alone, for these tests."""
    folder = Path(shutil.copytree(checkpoints, tmp_path_factory.mktemp("systems") / "many"))
    _, pivot, context, *_, local = GLIED
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "glied-al", Parts((pivot, context, local), ("ad", "x", "local")))
        for name, architecture in {**KINDS, "updown": "updown", "my-run": "glied"}.items():
            save_tiny(folder, name, architecture)
        whole = (folder / "glied.safetensors").read_bytes()
        (folder / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
        (folder / "foreign.safetensors").write_bytes(save({"weight": torch.zeros(2)}))
        yield folder


TITLES = {"updown-rl": "Up-Down", "glied-al": "glied-al", "lstm": "LSTM", "ct": "CT", "base+vd": "base+vd"}
LACKS = {
    "updown-rl": "Up\\-Down has no attention to attributes, region groups or collocations.",
    "glied-al": "glied\\-al has no attention to regions or region groups.",
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
        app = open_app(opened)
        for name, value in address.items():
            app.query_params[name] = value
        return fine(app.switch_page(f"views/{page}.py").run())

    return start


def fine(app: AppTest) -> AppTest:
    assert not app.exception
    assert not app.error
    return app


def each_kind(app: AppTest) -> Iterator[str]:
    """The page with a captioner of each kind in turn."""
    for kind in KINDS:
        fine(app.selectbox(key="model").select(kind).run())
        yield kind


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
        "glied-al": "glied-al",
        "lstm": "LSTM",
        "updown-rl": "Up-Down",
        "updown": "Up-Down before RL",
    }
    assert engine.pair == ("glied", "base")
    assert engine.pairs == [PAIRS[1]]


def test_a_damaged_or_foreign_file_is_named_and_the_others_work(systems: Path, open_page: Open):
    foreign, torn = Engine(systems).refused
    assert foreign.startswith("foreign.safetensors is left out: expected a captioner")
    assert torn.startswith("torn.safetensors is left out: expected a safetensors checkpoint")
    assert str(systems) not in foreign + torn
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


def test_explore_shows_what_a_captioner_has(open_page: Open):
    app = open_page("explore")
    for kind in each_kind(app):
        assert LACKS[kind] in told(app)
        drawn = json.loads(sent(app, "reported")["trace"])
        has = {name for name in ("groups", "coarse", "fine", "read", "context") if drawn[name]}
        assert (
            has
            == {
                "updown-rl": {"fine"},
                "glied-al": {"read", "context"},
                "lstm": set(),
                "ct": {"groups", "fine", "context"},
                "base+vd": {"groups", "fine", "read", "context"},
            }[kind]
        )
        assert drawn["heads"] == {"updown-rl": 1, "lstm": 0}.get(kind, 2)
        assert np.isfinite(drawn["region_falls"]).all()
        senses = {"updown-rl": ["regions"], "glied-al": ["attributes"], "lstm": [], "ct": ["regions"]}
        assert drawn["senses"] == senses.get(kind, ["regions", "attributes"])
        tables = [table.value for table in app.dataframe]
        assert len(tables) == 2 - (kind == "lstm")
        assert ("attention" in tables[-1]) == ("fine" in has)
        if kind != "lstm":
            assert {f"{each}s" for each in tables[0]["kind"]} == set(drawn["senses"])
        offered = " ".join(option for box in app.selectbox if box.label == "Picture" for option in box.options)
        assert ("looked" in offered) == ("fine" in has)
        assert ("Region groups" in offered) == ("groups" in has)
        assert ("collocations" in offered) == (kind == "glied-al")


def test_collocations_are_shown_where_a_captioner_has_pivots(open_page: Open):
    app = open_page("collocations")
    for kind in each_kind(app):
        assert bool(app.get("plotly_chart")) == (kind == "glied-al")
        if kind != "glied-al":
            assert "has no collocations: no word calls up attributes" in app.info[0].value
            assert "Choose GLIED to see them." in app.info[0].value


def test_decoding_draws_the_tree(open_page: Open):
    app = open_page("decoding")
    for kind in each_kind(app):
        drawn = sent(app, "nodes")
        assert (drawn["fine"] is None) == (kind in ("glied-al", "lstm"))
        assert (drawn["read"] is None) == (kind not in ("glied-al", "base+vd"))
        assert drawn["nodes"]


def test_compare_sets_any_two_side_by_side(open_page: Open):
    app = open_page("compare")
    assert sent(app, "titles")["titles"] == ["Base", "GLIED"]
    app.selectbox(key="right").select("my-run").run()
    for kind in KINDS:
        fine(app.selectbox(key="left").select(kind).run())
        assert sent(app, "titles")["titles"] == [TITLES[kind], "GLIED: my-run"]
        left, right = json.loads(sent(app, "titles")["traces"])
        assert (left["fine"] is None) == (kind in ("glied-al", "lstm"))
        assert right["fine"]
        moved = next(part.value for part in app.markdown if part.value.startswith("- "))
        assert ("LSTM has no attention function" in moved) == (kind == "lstm")
    fine(app.segmented_control(key="kind").set_value("Two photographs").run())
    fine(app.selectbox(key="model").select("lstm").run())
    assert len(sent(app, "titles")["photos"]) == 2


def test_what_if_takes_away_what_a_captioner_attends_to(open_page: Open):
    app = open_page("whatif", out="1")
    for kind in each_kind(app):
        scene = sent(app, "curve")
        over = {"glied-al": "attributes", "lstm": None}.get(kind, "regions")
        assert (scene["curve"] or {}).get("over") == over
        assert scene["after"]["words"]
        assert (scene["after"]["fine"] is None) == (kind in ("glied-al", "lstm"))
        assert json.loads(scene["scene"])["reads"] == (kind in ("glied-al", "base+vd"))


def test_how_it_works_follows_what_a_captioner_declares(open_page: Open):
    boxes = {"updown-rl": "v", "glied-al": "al", "lstm": "next", "ct": "v2", "base+vd": "v"}
    app = open_page("how")
    for kind in each_kind(app):
        drawn = sent(app, "box")
        assert drawn["box"] in (boxes[kind], app.query_params["box"], *app.query_params["box"])
        names = [each["name"] for each in json.loads(drawn["trace"])["about"]]
        assert drawn["box"] in names
        assert ("attributes" in names) == (kind in ("glied-al", "base+vd"))
        assert LACKS[kind].split(". Of its")[0] in told(app)


def test_gallery_shows_the_captions_of_any_two(open_page: Open, systems: Path):
    app = open_page("gallery")
    app.selectbox(key="by").select("updown-rl").run()
    fine(app.selectbox(key="beside").select("lstm").run())
    assert app.toggle(key="differ").label == "LSTM and Up-Down differ"
    assert "Also here: base\\+vd, CT, glied\\-al, LSTM, Up\\-Down." in told(app)


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
            "GLIED\\: my\\-run, base\\+vd, CT, glied\\-al and Up\\-Down before RL have no report yet."
            in app.info[0].value
        )
        assert sum("no report yet" in info.value for info in app.info) == 1
        app.selectbox(key="right").select("updown-rl").run()
        fine(app.selectbox(key="left").select("lstm").run())
        assert [part.value for part in app.header][1] == "Up\\-Down minus LSTM"
        assert "Reports made without `--grounding`, which measures attention: LSTM." in told(app)
        app.selectbox(key="point").select("coffee").run()
        assert not app.exception
        assert set(reports(systems)) == {file.stem for file in files}
    finally:
        for file in files:
            file.unlink()


def test_the_report_of_a_photograph_holds_the_captioner_in_view(open_page: Open):
    open_page("about")
    photograph = open_entry(entries(None)[0][0])
    for kind in ("glied-al", "lstm"):
        page = _report(ask.engine(), photograph, ask.engine().read(photograph, kind, Question()), "")
        names = [TITLES[kind], "GLIED", "Base"]
        assert [page.find(f"<b>{name}:</b>") > 0 for name in names] == [True] * 3
        assert ("where it looked, word by word" in page.split("GLIED: ")[0]) == (kind != "lstm")


def test_what_pages_draw_of_every_captioner(checkpoints: Path, tmp_path: Path):
    """Those of KINDS are on the pages above; of all others, what the pages send to the browser."""
    others = {config.architecture for config in PRESETS.values()} - set(KINDS.values())
    (tmp_path / "attributes.safetensors").write_bytes((checkpoints / "attributes.safetensors").read_bytes())
    for name in others:
        save_tiny(tmp_path, name, name)
    engine, photograph = Engine(tmp_path), open_entry(entries(None)[0][0])
    assert engine.titles.keys() == others
    assert not engine.refused
    for name in engine.titles:
        answer = engine.read(photograph, name)
        made = answer.trace
        drawn = [board_payload(made), removal.payload(made)]
        drawn += [pair.payload(made, made), tree.payload(answer), flow.packed(made)]
        assert json.dumps(drawn, allow_nan=False)
        assert unpack(made.packed())[0] == made
        words = made.words[:-1]
        assert engine.even(photograph, name, (), made.alternatives[0][:2]).shape == (1 + len(made.functions), 2)
        for over in ("regions", "attributes"):
            if feeding(made.functions, over):
                assert len(engine.deletion(photograph, name, words, 0, over).order) > 1
        fewer = engine.read(photograph, name, Question(words=words, edit=Edit(regions=(0,)), falls=False)).trace
        np.testing.assert_allclose(
            made.log_probabilities - fewer.log_probabilities, made.region_falls[:, 0], atol=1e-3, err_msg=name
        )
