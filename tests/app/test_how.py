"""How it works: the diagram follows what a captioner declares, and every box leads to its equation, code and view."""

import json
from collections.abc import Callable

import pytest
import tiny
from streamlit.testing.v1 import AppTest

from app.components.flow import NEXT, SOURCES, Edge, boxes, packed, title_of, wire
from glied.baselines.build import BASELINES
from glied.baselines.variants import VARIANTS
from glied.equations import EQUATIONS, code_lines
from glied.functions import BASE, GLIED, AttentionFunction
from glied.replay import trace
from glied.traces import Trace

Open = Callable[..., AppTest]


def test_base_is_glied_without_what_it_lacks():
    base, glied = wire(BASE), wire(GLIED)
    assert base.columns == {"regions": 0, "attributes": 0, "words": 0, "x": 1, "v": 2, "a": 2, NEXT: 3}
    assert set(base.edges) == {
        *(Edge(*pair, "query") for pair in (("words", "x"), ("x", "v"), ("x", "a"), ("v", NEXT), ("a", NEXT))),
        Edge("regions", "v", "keys"),
        Edge("attributes", "a", "keys"),
    }
    columns = {"vd": 1, "ad": 1, "x": 2, "v": 3, "vl": 4, "al": 4, NEXT: 5}
    assert glied.columns == dict.fromkeys(SOURCES, 0) | columns
    way = ("words", "ad"), ("ad", "x"), ("x", "v"), ("v", "vl"), ("v", "al"), ("vl", NEXT), ("al", NEXT)
    read = ("regions", "vd"), ("attributes", "ad"), ("vd", "v"), ("regions", "vl"), ("attributes", "al")
    assert set(glied.edges) == {*(Edge(*pair, "query") for pair in way), *(Edge(*pair, "keys") for pair in read)}


def test_variants_read_their_groupings_where_their_code_does():
    """glied/baselines/variants.py: without a global function the local one reads the groupings."""
    edges = {name: wire(parts.functions).edges for name, parts in VARIANTS.items()}
    assert Edge("vd", "v", "keys") in edges["base+vd"]
    assert Edge("regions", "v", "keys") not in edges["base+vd"]
    assert Edge("aa", "a", "keys") in edges["base+aa"]
    assert Edge("v", NEXT, "query") in edges["glied-global"]
    assert Edge("regions", "vl", "keys") in edges["glied-vl"]


def test_layers_of_a_transformer_follow_one_another():
    columns, edges = wire(BASELINES["ct"].functions)
    way = ["words", "x0", "v0", "x1", "v1", "x2", "v2", NEXT]
    assert [edge.target for edge in edges if edge.kind == "query"] == way[1:]
    assert [columns[box] for box in way] == sorted({columns[box] for box in way})
    for layer in range(3):
        assert Edge("self2", f"v{layer}", "keys") in edges


@pytest.mark.parametrize("functions", [BASE, GLIED, *(parts.functions for parts in VARIANTS.values())])
def test_every_box_is_reached_and_none_lies_on_another(functions: tuple[AttentionFunction, ...]):
    columns, edges = wire(functions)
    assert {edge.target for edge in edges} == columns.keys() - set(SOURCES)
    assert all(columns[edge.source] < columns[edge.target] for edge in edges)
    rows = {f.name: f.over for f in functions} | {name: name for name in SOURCES} | {NEXT: "words"}
    places = [(columns[box], rows[box]) for box in columns]
    assert len(set(places)) == len(places)
    assert all(title_of(box, functions) for box in boxes(functions))


def test_the_browser_gets_the_numbers_of_the_trace(traces: dict[str, Trace]):
    for made in traces.values():
        sent = json.loads(packed(made))
        assert [each["name"] for each in sent["about"]] == list(boxes(made.functions))
        weights = {each["name"]: each["weights"] for each in sent["about"] if each["role"]}
        assert weights.keys() == made.attention.keys()
        for name, rows in weights.items():
            assert rows[0][0] == pytest.approx(made.attention[name][0, 0].tolist(), abs=1e-5)
        assert sent["words"] == ["a", "dog", "runs", "(end)"]
        cited = {each["name"]: each["cited"] for each in sent["about"]}
        assert cited["v"] == {"GLIED": "GLIED Eq. (12)", "Base": "Base Eq. (8)"}[made.captioner]


def test_a_captioner_of_another_paper_has_boxes_and_no_equations():
    made = trace(tiny.checkpoint("updown"), tiny.scene(), ("a", "dog"))
    about = {each["name"]: each for each in json.loads(packed(made))["about"]}
    assert list(about) == ["regions", "words", "v", NEXT], "it reads no attributes"
    assert about["v"]["cited"] == ""


def how(open_app: Open, **address: str) -> AppTest:
    app = open_app(photo="camera", **address).switch_page("views/how.py").run()
    assert not app.exception
    assert not app.error
    return app


def drawn(app: AppTest) -> dict:
    """What the browser gets of the diagram."""
    return json.loads(app.get("bidi_component")[-1].proto.json)


@pytest.mark.parametrize(
    ("box", "equations", "page"),
    [
        ("vd", [9], "explore"),
        ("ad", [10], "collocations"),
        ("x", [11], "explore"),
        ("v", [12], "explore"),
        ("al", [13], "explore"),
        ("regions", [4], "explore"),
        ("attributes", [17, 5], "whatif"),
        ("words", [5, 6], "decoding"),
        (NEXT, [14], "decoding"),
    ],
)
def test_a_box_leads_to_its_equation_its_line_and_its_view(open_app: Open, box: str, equations: list[int], page: str):
    app = how(open_app, box=box, step="2")
    assert drawn(app)["box"] == box
    assert [part.value.strip("$\n ") for part in app.latex] == [EQUATIONS[number] for number in equations]
    assert [part.value for part in app.code] == [line.source for number in equations for line in code_lines()[number]]
    link = next(link.proto for link in app.get("page_link") if "photo=camera" in link.proto.query_string)
    assert link.page.endswith(page)
    assert "step=2" in link.query_string


def test_base_has_its_own_equations_and_lacks_a_box(open_app: Open):
    app = how(open_app, model="Base", box="vd")
    assert "no part “vd”" in app.toast[0].value
    assert drawn(app)["box"] == app.query_params["box"] == "v"
    assert [part.value.strip("$\n ") for part in app.latex] == [EQUATIONS[8]]


def test_a_box_that_is_chosen_goes_to_the_address(open_app: Open):
    app = how(open_app)
    sent = drawn(app)
    app.session_state["flow"] = {"choice": {"trace": sent["digest"], "step": 3, "head": 1, "box": "ad"}}
    app.run()
    assert drawn(app)["box"] == "ad"
    assert app.query_params["box"] == "ad"


def test_a_part_of_the_gallerys_diagram_opens_the_page(open_app: Open):
    app = open_app()
    *_, small, _tiles = app.get("bidi_component")
    sent = json.loads(small.proto.json)
    assert sent["compact"]
    assert sent["alt"].startswith("A kitten")
    text = " ".join(part.value for part in app.markdown)
    assert "**GLIED** and **Base** are two captioners" in text
