"""What a notebook gets of `glied.show`, without a browser: the state of the widget, and the HTML that is saved."""

import base64
import json
import re
import sys
import tomllib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import glied
from analysis.components import read_files
from analysis.notebook import View
from glied.errors import GliedError
from glied.readings import Reading

HOSTILE = "</script><b>"


@pytest.fixture(scope="module")
def reading(folder: Path) -> Reading:
    """Of a photograph of noise by a tiny captioner."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.info["name"] = HOSTILE
    return glied.read(image, glied.load(folder / "glied.safetensors"), beam=2)


@pytest.fixture(params=["show", "show_beam", "show_collocations"])
def view(reading: Reading, request: pytest.FixtureRequest) -> View:
    return getattr(glied, request.param)(reading)


def test_reading_holds_what_the_functions_of_the_api_give(reading: Reading, folder: Path) -> None:
    captioner = glied.load(folder / "glied.safetensors")
    scene = glied.find_scene(reading.photograph, captioner)
    caption = glied.caption(scene, captioner, beam=2)
    assert reading.trace == glied.trace(scene, captioner, caption.words)
    assert reading.decoded.captions[0] == caption
    assert repr(reading) == f"Reading(GLIED: {caption.text!r})"
    assert glied.read(reading.photograph, captioner, words=["a", "dog"]).trace.text == "a dog"


def test_widget_and_page_have_the_same_script_and_data(view: View) -> None:
    state = view.get_state()
    assert "function component({ data" in state["_esm"]
    assert state["_esm"].count("export default") == 1  # that of anywidget
    bundle, _ = view._repr_mimebundle_()
    page = bundle["text/html"]
    assert state["_esm"] in page
    drawn = re.search(r'drawSaved\("(\w+)", (\{.*\})\)\n</script>$', page)
    assert drawn[1] == state["place"]
    assert json.loads(drawn[2]) == json.loads(json.dumps(state["data"]))


def test_page_shows_a_picture_with_words_where_no_script_runs(view: View) -> None:
    bundle, _ = view._repr_mimebundle_()
    still = re.match(
        r'<div data-glied="\w+"><img src="data:image/jpeg;base64,(.*?)" alt="(.*?)"></div>\n', bundle["text/html"]
    )
    assert still[1] == bundle["image/jpeg"]
    assert min(Image.open(BytesIO(base64.b64decode(still[1]))).size) > 100
    assert view.reading.trace.text in still[2]
    assert bundle["text/html"].count("</script>") == 1
    assert "<b>" not in bundle["text/html"]


def test_board_draws_the_trace_that_was_read(reading: Reading) -> None:
    payload = json.loads(glied.show(reading).data["trace"])
    assert tuple(payload["words"][:-1]) == reading.trace.words[:-1]
    assert np.allclose(payload["region_falls"], reading.trace.region_falls, atol=1e-4)


def test_words_set_in_the_tree_are_decoded_on_from(reading: Reading) -> None:
    view = glied.show_beam(reading)
    before = view.data
    view.forced = {"prefix": ["red", "ball"]}  # as the browser sends it
    assert view.reading.trace.words[:2] == ("red", "ball")
    assert view.data["forced"] == 2
    assert view.data["start"]["step"] == 1
    assert view.data["digest"] != before["digest"]
    assert (view.forced, view.problem) == ({}, "")  # so that the same can be sent again
    after = view.data
    view.forced = {"prefix": ["unheard"]}
    assert "unheard" in view.problem
    view.forced = {"prefix": "no list"}
    assert view.data == after


def test_collocations_have_a_lift_for_every_word_attribute_and_head(reading: Reading) -> None:
    data, trace = glied.show_collocations(reading).data, reading.trace
    lifts = np.array(data["lifts"])
    assert lifts.shape == (trace.heads + 1, len(trace.inputs), len(trace.attributes))
    assert np.allclose(lifts.mean(-1), 1, atol=1e-3)
    assert [sorted(tree["order"]) for tree in data["trees"]] == [list(range(len(trace.attributes)))] * len(lifts)


def test_what_is_not_there_is_one_sentence(reading: Reading) -> None:
    with pytest.raises(GliedError, match="with a search behind it"):
        glied.show_beam(replace(reading, decoded=None))
    base = replace(reading, trace=glied.api.replay.trace(tiny.checkpoint("base"), tiny.scene(), ["a", "dog"]))
    with pytest.raises(GliedError, match="Base does not"):
        glied.show_collocations(base)


def test_without_anywidget_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "analysis.notebook")
    monkeypatch.delattr(sys.modules["analysis"], "notebook")
    with pytest.raises(GliedError, match=r"pip install 'glied-studio\[notebook\]'"):
        _ = glied.show


def test_colours_are_those_of_the_app(root: Path) -> None:
    [config] = [*root.glob(".streamlit/config.toml"), *root.glob("app/.streamlit/config.toml")]
    theme = tomllib.loads(config.read_text())["theme"]
    css, _ = read_files("notebook")
    for name, rule in {"light": r"^\.notebook \{(.*?)\}", "dark": r"^\.notebook\.dark \{(.*?)\}"}.items():
        found = dict(re.findall(r"--st-([a-z-]+)-color: (#\w+)", re.search(rule, css, re.DOTALL | re.MULTILINE)[1]))
        kebab = {"primary": "primaryColor", "text": "textColor", "border": "borderColor"}
        kebab["secondary-background"] = "secondaryBackgroundColor"
        assert found == {ours: theme[name][theirs] for ours, theirs in kebab.items()}


def test_example_is_saved_with_what_it_shows(root: Path) -> None:
    file = root / "docs" / "notebook.ipynb"
    assert file.stat().st_size < 1.5e6
    notebook = json.loads(file.read_text())
    assert "widgets" not in notebook["metadata"]  # no output needs them
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    shown = [output["data"] for output in outputs if "text/html" in output["data"]]
    assert len(shown) == 3
    for data in shown:
        page = "".join(data["text/html"])
        assert page.startswith("<div data-glied=")
        assert "drawSaved(" in page
        assert {"image/jpeg", "text/plain"} <= data.keys()
