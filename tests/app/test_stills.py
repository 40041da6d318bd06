"""Pictures for papers: valid files that show what the trace holds, whatever its words are."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny
from conftest import HOSTILE
from matplotlib.figure import Figure
from PIL import Image

from analysis import stills
from analysis.attention import looked
from analysis.beam import beam_nodes
from glied.captions import DecodeOptions
from glied.decode import caption
from glied.replay import look_ahead, trace
from glied.traces import Trace

MATHS = "$\\frac{"  # what matplotlib would take for a formula
PHOTOGRAPH = Image.linear_gradient("L").convert("RGB").resize((100, 90))


def beam(name: str) -> tuple[Trace, tuple]:
    """A caption of a tiny scene, and its beam."""
    made, scene = tiny.checkpoint(name, (*tiny.WORDS, HOSTILE, MATHS)), tiny.scene()
    (found,) = caption(made, [scene], DecodeOptions(beam=3, n_best=3), history=True)
    words, history = found.captions[0].words, found.history
    assert history
    nodes = beam_nodes(history, words, look_ahead(made, scene, history.extended()))
    return trace(made, scene, words, falls=True), nodes


def figures(name: str) -> dict[str, Figure]:
    seen, nodes = beam(name)
    found = {
        "word": stills.word_still(seen, 0, PHOTOGRAPH),
        "caption": stills.caption_still(seen, PHOTOGRAPH, head=1),
        "beam": stills.beam_still(seen, nodes),
    }
    if name == "glied":
        found |= {"groups": stills.groups_still(seen), "collocations": stills.collocations_still(seen, head=2)}
        found["group"] = stills.group_still(seen, 2, PHOTOGRAPH)
    return found


@pytest.mark.parametrize("name", ["base", "glied"])
def test_every_picture_is_a_png_an_svg_and_a_pdf_that_names_its_checkpoint(name: str):
    for kind, figure in figures(name).items():
        image = Image.open(io.BytesIO(stills.drawn(figure, "png")))
        image.load()
        assert image.format == "PNG"
        assert len(set(image.convert("L").tobytes())) > 20, kind
        svg = stills.drawn(figure, "svg")
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert b"<path" in svg
        assert b"checkpoint tiny-0" in svg  # letters, not their outlines
        assert stills.drawn(figure, "pdf").startswith(b"%PDF")
        assert "checkpoint tiny-0" in figure.get_supxlabel()


def test_a_word_shows_every_function_that_feeds_it_and_a_region_its_group_beyond_the_usual():
    seen, _ = beam("glied")
    titles = [axes.get_title() for axes in stills.word_still(seen, 0, PHOTOGRAPH).axes]
    assert titles[:2] == ["groups first, GLIED Eq. (12)", "single regions, GLIED Eq. (13)"]
    assert stills.word_still(beam("base")[0], 0, PHOTOGRAPH).axes[0].get_title() == "regions, Base Eq. (8)"
    shares = np.full((1, 5, 5), 0.2)
    shares[0, 2] = [0.2, 0.2, 0.1, 0.1, 0.4]
    figure = stills.group_still(replace(seen, attention=seen.attention | {"vd": shares}), 2, PHOTOGRAPH)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["40.0%, 1.7×"]
    assert "region 3" in figure.get_suptitle()


def test_words_are_never_formulas_nor_markup():
    seen, nodes = beam("glied")
    words = (HOSTILE, MATHS, *seen.words[2:])
    named = replace(
        seen, words=words, attributes=(MATHS, HOSTILE, *seen.attributes[2:]), labels=(MATHS, HOSTILE) * 2 + ("a",)
    )
    named = replace(named, inputs=("<bos>", *words[:-1]))
    nodes = tuple(replace(node, words=(*node.words[:-1], MATHS)) for node in nodes)
    for figure in (
        stills.word_still(named, 0, PHOTOGRAPH),
        stills.caption_still(named, PHOTOGRAPH),
        stills.groups_still(named),
        stills.group_still(named, 0, PHOTOGRAPH),
        stills.collocations_still(named),
        stills.beam_still(named, nodes),
    ):
        svg = stills.drawn(figure, "svg").decode()
        elements = {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}
        assert "img" not in elements
        assert not re.search(r"<img", svg)


def test_heat_is_the_largest_lift_of_the_regions_that_lie_there(traces: dict[str, Trace]):
    boxes = np.array([[0, 0, 50, 90], [25, 0, 100, 90], [0, 0, 100, 90], [0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    seen = replace(traces["glied"], boxes=boxes, size=(100, 90))
    heat = stills.heat_of(seen, np.array([0.3, 0.5, 0.2, 0.0, 0.0]))  # the third has the even share
    columns = heat[0]
    assert (heat == columns).all()
    np.testing.assert_allclose(columns[:24], 1.5)
    np.testing.assert_allclose(columns[24:], 2.5)
    assert (stills.heat_of(seen, np.full(5, 0.2)) == stills.VEIL).all()
    np.testing.assert_allclose(stills.heat_of(seen, np.array([0.3, 0.5, 0.2, 0.0, 0.0]), 1)[:, :24], stills.VEIL)


def test_colours_are_dark_below_the_even_share_and_warm_above():
    dark, none, warm = stills.tinted(np.array([[0.25, 1.0, 4.0]]), 4.0)[0]
    assert dark[:3].max() < 0.1 < dark[3]
    assert none[3] == 0
    assert warm[0] > 0.7 > warm[1]
    assert warm[3] == pytest.approx(stills.COVER)


def test_the_most_attended_regions_are_named_on_the_photograph_and_apart(traces: dict[str, Trace]):
    seen = replace(traces["glied"], labels=("dog", "grass", "ball", "sky", "tree"))
    weights = np.array([0.4, 0.3, 0.25, 0.05, 0.0], np.float32)
    found = stills.tags(seen, weights, 4, 3.0)
    assert [tag.text for tag in found] == ["dog 40.0%", "grass 30.0%", "ball 25.0%"]  # 5 % is below the even share
    for i, tag in enumerate(found):
        assert tag.x >= 0
        assert tag.x + tag.wide <= 100
        assert tag.y >= 0
        assert tag.y + tag.tall <= 90
        for other in found[:i]:
            assert abs(tag.x - other.x) >= min(tag.wide, other.wide) or abs(tag.y - other.y) >= tag.tall
    assert not stills.tags(seen, np.full(5, 0.2, np.float32), 4, 3.0)
    assert len(looked(seen)) == len(seen.words)
