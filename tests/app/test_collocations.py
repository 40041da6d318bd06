"""Collocations: the tables against values worked by hand, the page over tiny checkpoints and a report of them."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from streamlit.testing.v1 import AppTest
from tiny import HOSTILE

from analysis import figures
from analysis.attention import collocations
from analysis.collocations import cluster, frequent, lift_grid, lift_table, pair_table, ranked
from app import state
from app.engine.ask import engine
from app.engine.reports import report_or_why, reports
from app.texts import plain
from glied.checkpoint import load
from glied.evaluation.report import NEEDED
from glied.replay import trace
from glied.traces import Trace

Open = Callable[..., AppTest]
DATASET = "The whole data set"


def pair(pivot: str, attribute: str, lift: float, pmi: float, photographs: int = 30) -> dict:
    where = ["coffee", f"<b>{attribute}</b>.jpg", "c.jpg"]
    counts = {"together": 7, "photographs": photographs, "where": where}
    return {"pivot": pivot, "attribute": attribute, "lift": lift, "pmi": pmi, **counts}


PAIRS = [
    pair("dog", "grass", 2.0, 1.5),
    pair("dog", "ball", 4.0, -0.5, 90),
    pair("dog", "red", 0.5, 1.0),
    pair("man", "grass", 0.25, -1.0, 40),
    pair("man", "beach", 1.0, 0.0),
    pair("man", "red", 3.0, 0.5),
]


@pytest.fixture
def report(checkpoints: Path) -> dict:
    """Of the tiny GLIED."""
    found = {
        "rank_correlation": 0.314,
        "rank_correlation_within_pivots": {"mean": None, "low": None, "high": None, "count": 0},
        "strongest": PAIRS[1:2],
        "learned_but_rare": PAIRS[1:2],
        "frequent_but_unlearned": [],
        "pairs": PAIRS,
    }
    facts = {"checkpoint": load(checkpoints / "glied.safetensors").digest, "data": "tiny", "split": "val"}
    told = {"title": "GLIED <b>", "images": {"c.jpg": {"caption": "a *dog* runs"}}}
    return {name: {} for name in NEEDED} | facts | told | {"grounding": {"photographs": 1234, "collocations": found}}


@pytest.fixture
def reported(checkpoints: Path, report: dict) -> Callable[[dict], Path]:
    """Puts a report beside the tiny checkpoints; gone afterwards."""
    file = checkpoints / "glied.json"

    def put(changes: dict) -> Path:
        file.write_text(json.dumps(report | changes))
        return file

    yield put
    file.unlink(missing_ok=True)


def opened(open_app: Open, **address: str) -> AppTest:
    """The page, as its address opens it."""
    app = open_app(**address)
    return app.switch_page("views/collocations.py").run()


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def figure(app: AppTest, at: int = 0) -> dict:
    return json.loads(app.get("plotly_chart")[at].proto.spec)


def cells(app: AppTest) -> np.ndarray:
    """What the map shows, as Plotly packs it."""
    packed = figure(app)["data"][0]["z"]
    return np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])


# Tables


def test_a_tree_joins_what_is_alike_and_puts_it_side_by_side():
    rows = pd.DataFrame({"x": [1, 8, 1, 16], "y": [4, 1, 4, 1]}, ["a", "b", "c", "d"], dtype=float)
    tree = cluster(rows)
    assert {frozenset(tree.order[:2]), frozenset(tree.order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    heights = sorted(joint[1, 1] for joint in tree.forks)
    across = (np.hypot(3, 2) + np.hypot(4, 2)) / 2  # log2 lifts: 0 2, 3 0, 0 2, 4 0
    np.testing.assert_allclose(heights, [0, 1, across])
    assert np.all((tree.forks[..., 0] >= 0) & (tree.forks[..., 0] <= 3))


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_to_join_makes_no_tree(rows: int):
    tree = cluster(pd.DataFrame(np.ones((rows, 3))))
    assert len(tree.order) == rows
    assert not len(tree.forks)


def test_an_unknown_or_vanishing_lift_can_be_compared():
    tree = cluster(pd.DataFrame([[0.0, np.nan], [1.0, 1.0], [4.0, 4.0]]))
    assert np.isfinite(tree.forks).all()


def test_a_word_asked_is_the_row_of_its_own_trace(traces: dict[str, Trace]):
    alone = trace(tiny.checkpoint(), tiny.scene(), ["cat"])
    table = lift_table(traces["glied"], {"cat": alone}, 2)
    assert list(table.index) == ["0 (start)", "1 a", "2 dog", "3 runs", "+ cat"]
    assert tuple(table.columns) == traces["glied"].attributes
    np.testing.assert_allclose(table.loc["2 dog"], 4 * traces["glied"].attention["ad"][1, 2])
    np.testing.assert_allclose(table.loc["+ cat"], collocations(alone, 2)[1])


def test_a_word_asked_first_is_the_same_pivot_as_in_a_caption_that_begins_with_it():
    found = [trace(tiny.checkpoint(), tiny.scene(), words) for words in (["dog"], ["dog", "runs", "on"])]
    np.testing.assert_allclose(collocations(found[0])[1], collocations(found[1])[1], rtol=1e-4)


def test_ranks_stand_beside_what_captions_say():
    pairs = pair_table({"grounding": {"collocations": {"pairs": PAIRS}}})
    lifts = pd.Series({"grass": 1.5, "sky": 9.0, "ball": 0.1})
    table = ranked(lifts, "dog", pairs, np.array([0.1, 0.2, 0.3]))
    assert table["attribute"].tolist() == ["sky", "grass", "ball"]
    assert table["fall"].tolist() == [0.2, 0.1, 0.3]
    assert table["pmi"].tolist()[1:] == [1.5, -0.5]
    assert table.loc[0, ["pmi", "together"]].isna().all()
    assert table["together"].tolist()[1:] == [7, 7]
    assert list(ranked(lifts, "dog", None)) == ["attribute", "lift"]


def test_a_report_without_collocations_has_no_pairs():
    assert pair_table({}).empty
    assert pair_table({"grounding": {"pointing": {}}}).empty


def test_the_grid_shows_the_attributes_that_tell_its_pivots_apart():
    pairs = pair_table({"grounding": {"collocations": {"pairs": [*PAIRS, pair("cat", "sky", 64.0, 0.0)]}}})
    assert frequent(pairs) == ["dog", "man", "cat"]
    grid = lift_grid(pairs, ["man", "dog"], 2)
    assert list(grid.index) == ["man", "dog"]
    assert list(grid) == ["grass", "red"]  # log2: -2, 1 and log2(6) apart; ball and beach met one of the two
    assert grid.loc["man", "grass"] == 0.25
    assert np.isnan(lift_grid(pairs, ["man", "dog"], 9).loc["dog", "beach"])


# Figures


def test_the_map_follows_its_trees_and_hides_what_is_low():
    lifts = pd.DataFrame({"x": [1, 8, 1], "y": [4, 1, 2], "z": [1, 8, np.nan]}, ["a", "b", "c"], dtype=float)
    across, down = cluster(lifts.T), cluster(lifts)
    drawn = figures.collocation_map(lifts, across, down, least=1.5)
    cells = drawn.data[0]
    assert drawn.layout.xaxis.ticktext == tuple(lifts.columns[across.order])
    assert drawn.layout.yaxis.ticktext == tuple(lifts.index[down.order])
    row, column = drawn.layout.yaxis.ticktext.index("b"), drawn.layout.xaxis.ticktext.index("x")
    assert (cells.z[row][column], cells.customdata[row][column]) == (3, 8)
    assert "pivot b<br>attribute x" in cells.text[row][column]
    assert np.isfinite(np.array(cells.z, float)).sum() == 4
    assert cells.zmin == -cells.zmax == -3
    assert len(drawn.data) == 4  # cells, hatching, two trees
    hatched, z = drawn.data[1], drawn.layout.xaxis.ticktext.index("z")
    assert hatched.fillpattern.shape == "/"
    row = drawn.layout.yaxis.ticktext.index("c")
    assert {v for v in hatched.x if v is not None} == {z - 0.5, z + 0.5}
    assert {v for v in hatched.y if v is not None} == {row - 0.5, row + 0.5}
    assert [v for v in drawn.data[2].x if v is not None] == across.forks[..., 0].ravel().tolist()
    assert len(figures.collocation_map(lifts.fillna(1)).data) == 1
    assert min(drawn.layout.xaxis.tickfont.size, drawn.data[0].colorbar.tickfont.size) == 12
    assert drawn.layout.margin.t > 30  # the toolbar's


def test_small_maps_have_the_colours_of_the_large_one():
    small = figures.head_map(np.array([[1.0, 4.0], [0.25, 0.0]]), reach=2, cell=3)
    assert small.size == (6, 6)
    pixels = [
        f"#{small.getpixel(at)[0]:02x}{small.getpixel(at)[1]:02x}{small.getpixel(at)[2]:02x}"
        for at in ((0, 0), (5, 0), (0, 5), (5, 5))
    ]
    ends = dict(figures.DIVERGING)
    assert pixels == [ends[0.5], ends[1.0], ends[0.0], ends[0.0]]
    assert figures.reach_of(np.array([0.1, 5.0, np.nan])) == 3


def test_the_scatter_sets_one_pivot_apart():
    pairs = pair_table({"grounding": {"collocations": {"pairs": PAIRS}}})
    others, own = figures.lift_against_pmi(pairs, "dog").data
    assert (len(others.x), len(own.x)) == (3, 3)
    assert own.name == "dog"
    assert dict(zip(own.customdata[:, 1], zip(own.x, own.y, strict=True), strict=True))["ball"] == (-0.5, 4.0)


# The page


def test_a_photograph_shows_its_map_and_the_ranks_of_a_pivot(open_app: Open):
    app = opened(open_app, photo="chelsea")
    assert fine(app)
    assert len(figure(app)["layout"]["yaxis"]["ticktext"]) == len(app.pills[0].options)
    assert len(figure(app)["data"]) == 2  # cells, tree
    table = app.dataframe[0].value
    assert table["lift"].is_monotonic_decreasing
    assert "fall" in table
    assert "pmi" not in table
    assert any("has no report yet" in caption.value for caption in app.caption)
    before = cells(app)
    assert np.isfinite(before).all()
    app.selectbox(key="head_chosen").set_value(1).run()
    assert not np.array_equal(cells(app), before)
    app.segmented_control(key="order").set_value("by score").run()
    assert len(figure(app)["data"]) == 1
    app.slider(key="least").set_value(4.0).run()
    assert fine(app)
    assert np.isnan(cells(app)).any()


def test_any_word_can_be_asked_and_an_unknown_one_gets_a_sentence(open_app: Open):
    app = opened(open_app, photo="chelsea")
    rows = len(app.pills[0].options)
    app.multiselect(key="ask").set_value(["beach", HOSTILE, "Red Zebra", "<bos>", "&"]).run()
    assert fine(app)
    assert figure(app)["layout"]["yaxis"]["ticktext"][rows:] == ["+ beach", f"+ {HOSTILE}", "+ red"]
    assert list(app.pills[0].options)[rows:] == [plain(f"+ {word}") for word in ("beach", HOSTILE, "red")]
    assert app.pills[0].value == rows + 2
    assert "fall" not in app.dataframe[0].value
    assert "does not know “zebra”, “<bos>”, “&”; ask one" in app.text[0].value
    app.pills[0].set_value(1).run()
    assert "fall" in app.dataframe[0].value


def test_word_and_head_come_from_other_pages_and_go_there(open_app: Open):
    app = opened(open_app, photo="chelsea", step="1", head="2")
    assert fine(app)
    assert (app.pills[0].value, app.selectbox(key="head_chosen").value) == (2, 2)
    app.pills[0].set_value(1).run()
    app.selectbox(key="head_chosen").set_value(1).run()
    assert (app.query_params["step"], app.query_params["head"]) == ("0", "1")
    app.pills[0].set_value(0).run()  # the start is no word that another page could show
    assert app.query_params["step"] == "0"
    assert app.pills[0].value == 0


def test_every_head_has_a_small_map_that_chooses_it(open_app: Open):
    app = opened(open_app, photo="chelsea")
    assert not app.get("bidi_component") or "glied_maps" not in str(app.get("bidi_component"))
    app = opened(lambda **address: open_app(("heads",), **address), photo="chelsea")
    assert fine(app)
    [drawn] = [part.proto for part in app.get("bidi_component") if "maps" in str(part.proto)]
    data = json.loads(drawn.json)
    assert [each["title"] for each in data["maps"]] == ["Mean of heads", "Head 1", "Head 2"]
    assert len({each["picture"] for each in data["maps"]}) == 3
    assert data["picked"] == 0


@pytest.mark.parametrize(("picked", "head"), [(2, 2), (0, 0), (3, 1), (-1, 1), ("2", 1), (None, 1)])
def test_a_small_map_that_is_none_changes_nothing(monkeypatch: pytest.MonkeyPatch, picked: object, head: int):
    session = {"choice": state.Choice("t", 3, 1), "maps": {"picked": picked}}
    monkeypatch.setattr(state.st, "session_state", session)
    state.choose_map(2)
    assert session["choice"] == state.Choice("t", 3, head)


def test_base_has_none_on_a_photograph_or_a_data_set(open_app: Open):
    for scope in ("This photograph", DATASET):
        app = opened(open_app, model="Base", scope=scope)
        assert fine(app)
        assert "Base has no collocations" in app.info[0].value
        assert not app.get("plotly_chart")


def test_a_report_brings_the_captions_statistics_to_a_photograph(open_app: Open, reported: Callable):
    reported({})
    app = opened(open_app)
    app.multiselect(key="ask").set_value(["dog"]).run()
    assert fine(app)
    table = app.dataframe[0].value.set_index("attribute")
    known = [row for row in PAIRS if row["pivot"] == "dog" and row["attribute"] in table.index]
    assert known
    for row in known:
        assert table.loc[row["attribute"], "pmi"] == row["pmi"]
    assert table["pmi"].notna().sum() == len(known)


def test_without_a_report_the_data_set_says_which_command_makes_one(open_app: Open):
    app = opened(open_app, scope=DATASET)
    assert fine(app)
    assert "evaluate --data DIR --split val" in app.info[0].value
    assert "--grounding" in app.info[0].value


def test_a_data_set_shows_map_ranks_scatter_and_lists(open_app: Open, reported: Callable):
    reported({})
    app = opened(open_app, scope=DATASET)
    assert fine(app)
    assert any("**+0.31**" in text.value and "1,234 photographs" in text.value for text in app.markdown)
    assert len(app.get("plotly_chart")) == 2
    assert len(figure(app, 1)["data"]) == 4  # cells, hatching, two trees
    assert app.selectbox(key="pivot").value == "dog"
    assert app.dataframe[0].value["attribute"].tolist() == ["ball", "grass", "red"]
    assert [len(table.value) for table in app.dataframe[1:]] == [1, 1, 0]
    app.selectbox(key="pivot").set_value("man").run()
    assert app.dataframe[0].value["lift"].tolist() == [3.0, 1.0, 0.25]
    app.multiselect(key="pivots").set_value([]).run()
    assert fine(app)
    assert "at least one pivot" in app.info[0].value
    app.multiselect(key="pivots").set_value(["man"]).run()
    assert fine(app)
    assert figure(app, 1)["layout"]["yaxis"]["ticktext"] == ["man"]


def test_an_address_opens_pivot_and_attribute_and_nonsense_falls_back(open_app: Open, reported: Callable):
    reported({})
    app = opened(open_app, scope=DATASET, pivot="man", attribute="beach")
    assert fine(app)
    assert (app.selectbox(key="pivot").value, app.selectbox(key="attribute").value) == ("man", "beach")
    app = opened(open_app, scope=DATASET, pivot="<b>")
    assert fine(app)
    assert [toast.value for toast in app.toast] == [
        r"The address asked for the pivot “\<b\>”, which is not here; the usual one is shown."
    ]
    app = opened(open_app, scope="?", pivot="<b>", head="x", ask="")
    assert fine(app)


def test_the_photographs_where_it_fires_open_on_explore(open_app: Open, reported: Callable):
    reported({})
    app = opened(open_app, scope=DATASET, pivot="dog", attribute="ball")
    assert any("- “a \\*dog\\* runs”" in text.value for text in app.markdown)
    assert any("GLIED \\<b\\> says of photographs that this gallery lacks" in text.value for text in app.caption)
    assert not any("jpg" in part.value for part in (*app.text, *app.markdown))
    assert not any("where" in table.value for table in app.dataframe)
    links = [link.proto for link in app.get("page_link")]
    assert [(link.page, link.label, link.query_string) for link in links] == [("explore", "Coffee", "photo=coffee")]


def test_a_point_of_the_scatter_chooses_its_pivot():
    def script():
        import streamlit as st

        from app.state import PIVOT, choose_point

        choose_point(PIVOT, {"dog"})
        st.text(st.session_state.get("pivot", "none"))

    for customdata, expected in ((["dog", "ball"], "dog"), (["<b>", "x"], "none"), ([], "none"), (None, "none")):
        app = AppTest.from_function(script)
        app.session_state["scatter"] = {"selection": {"points": [{"customdata": customdata}]}}
        assert app.run().text[-1].value == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"checkpoint": "000000000000"}, "is of another checkpoint"), ({"grounding": {}}, "has no collocations")],
)
def test_another_report_gets_a_sentence(open_app: Open, reported: Callable, changes: dict, sentence: str):
    reported(changes)
    app = opened(open_app, scope=DATASET)
    assert fine(app)
    assert sentence in app.info[0].value


def test_reports_are_those_of_these_checkpoints(open_app: Open, checkpoints: Path, reported: Callable):
    open_app()
    assert reports(checkpoints) == {}
    file = reported({})
    assert list(reports(checkpoints)) == ["glied"]
    assert engine().folder == checkpoints
    file.write_text("{")
    assert "could not be read" in report_or_why(checkpoints, "glied")
    assert "Base has no report yet" in report_or_why(checkpoints, "base")
