"""Pictures for papers: valid files that show what the trace holds, whatever its words are."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import tiny
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image
from tiny import HOSTILE

from analysis import stills
from analysis.attention import looked
from analysis.beam import beam_nodes
from analysis.paper import ONE, SMALL, TWO, Still, breadth, drawn, source
from glied.captions import DecodeOptions
from glied.decode import caption
from glied.replay import look_ahead, trace
from glied.scene import Edit
from glied.traces import Deletion, Trace

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


def pictures(name: str) -> dict[str, Still]:
    seen, nodes = beam(name)
    lifts = pd.DataFrame([[0.5, np.nan, 3.0], [1.0, 2.0, 0.2]], ["dog", HOSTILE], ["red", MATHS, "ball"])
    deletion = Deletion((2, 0, 1), np.array([-1.0, -2.0, -2.5]), np.array([-1.0, -1.1, -1.0]))
    edit = Edit((0, 3), seen.attributes[:1], (HOSTILE,))
    found = {
        "word": stills.word_still(seen, 0, PHOTOGRAPH),
        "caption": stills.caption_still(seen, PHOTOGRAPH, head=1),
        "beam": stills.beam_still(seen, nodes, nodes[-1].id),
        "pair": stills.pair_still([("Base", seen, 0, PHOTOGRAPH), (HOSTILE, seen, 1, PHOTOGRAPH)], 1),
        "alone": stills.pair_still([("Base", seen, 0, PHOTOGRAPH), ("GLIED", seen, None, PHOTOGRAPH)]),
        "change": stills.change_still("GLIED", seen, seen, seen, edit, PHOTOGRAPH),
        "curve": stills.curve_still(seen, 0, "regions", deletion),
        "lifts": stills.lifts_still("Map", "A map.", lifts, source(seen), least=0.4),
        "pivot": stills.pivot_still(lifts.iloc[0], "dog", source(seen)),
    }
    if name == "glied":
        found |= {"groups": stills.groups_still(seen), "collocations": stills.collocations_still(seen, head=2)}
        found["group"] = stills.group_still(seen, 2, PHOTOGRAPH)
    return found


@pytest.mark.parametrize("name", ["base", "glied"])
def test_every_picture_is_a_png_an_svg_and_a_pdf_that_says_what_it_is(name: str):
    for kind, still in pictures(name).items():
        image = Image.open(io.BytesIO(drawn(still, "png")))
        image.load()
        assert image.format == "PNG"
        assert len(set(image.convert("L").tobytes())) > 20, kind
        assert image.info["Title"] == still.title
        assert image.info["Description"] == still.caption
        svg = drawn(still, "svg")
        tree = ElementTree.fromstring(svg)
        assert tree[0].tag.endswith("title")
        assert tree[0].text == still.title
        assert still.caption in [each.text for each in tree.iter()]
        assert b"checkpoint tiny-0" in svg  # letters, not their outlines
        pdf = drawn(still, "pdf")
        assert pdf.startswith(b"%PDF")
        assert b"/Subject" in pdf
        assert "tiny-0" in still.caption or kind in ("lifts",)


@pytest.mark.parametrize("width", [ONE, TWO])
def test_pictures_have_their_size_on_paper_with_letters_and_lines_that_can_be_read(width: float):
    for kind, still in pictures("glied").items():
        figure = still.draw(width)
        assert figure.get_size_inches()[0] == pytest.approx(width)
        assert figure.get_size_inches()[1] < 9.5
        assert not figure.get_suptitle()  # that is for the caption
        FigureCanvasAgg(figure).draw()
        page = figure.bbox.expanded(1.01, 1.02)
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip():
                assert 7 <= text.get_fontsize() <= 9, (kind, text.get_text())
                if kind == "curve":
                    continue  # it knows ticks that it does not draw
                box = text.get_window_extent()
                assert page.x0 <= box.x0, (kind, text.get_text())
                assert box.x1 <= page.x1, (kind, text.get_text())
        for line in figure.findobj(lambda artist: isinstance(artist, Line2D | Patch)):
            assert not 0 < line.get_linewidth() < 0.4, (kind, line)
        svg = ElementTree.fromstring(drawn(still, "svg", width))
        assert float(svg.get("width").removesuffix("pt")) == pytest.approx(72 * width)


def test_letters_stand_on_labels_and_no_line_runs_through_them():
    seen, _ = beam("glied")
    figure = stills.group_still(replace(seen, labels=("dog",) * 5), 2, PHOTOGRAPH).draw(TWO)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert texts
    grounds = [p for p in figure.axes[0].patches if p.get_facecolor()[3] == 1 and p.get_linewidth() == 0]
    outlines = [p for p in figure.axes[0].patches if not p.get_fill()]
    assert len(grounds) == len(texts)
    assert min(p.get_zorder() for p in grounds) > max(p.get_zorder() for p in outlines)


def test_a_word_shows_every_function_that_feeds_it_and_a_region_its_group_beyond_the_usual():
    seen, _ = beam("glied")
    still = stills.word_still(seen, 0, PHOTOGRAPH)
    headings = [text.get_text() for text in still.draw(TWO).axes[0].texts]
    assert headings[:2] == ["groups first, Eq. (12)", "regions revisited, Eq. (13)"]
    assert "Eq. (12) and (13), mean over 2 heads" in still.draw(TWO).texts[0].get_text()
    assert "GLIED Eq. (12) (left)" in still.caption
    assert "Base Eq. (8), mean over 2 heads" in stills.word_still(beam("base")[0], 0, PHOTOGRAPH).caption
    shares = np.full((1, 5, 5), 0.2)
    shares[0, 2] = [0.2, 0.2, 0.1, 0.1, 0.4]
    still = stills.group_still(replace(seen, attention=seen.attention | {"vd": shares}), 2, PHOTOGRAPH)
    labels = [text.get_text() for text in still.draw(TWO).axes[0].texts]
    assert labels == ["5: 40 %, 1.7×"]
    assert "region 3" in still.title


def test_two_captioners_are_seen_on_one_scale():
    base, glied = beam("base")[0], beam("glied")[0]
    still = stills.pair_still([("Base", base, 0, PHOTOGRAPH), ("GLIED", glied, 1, PHOTOGRAPH)], 2)
    figure = still.draw(TWO)
    assert [text.get_text().split(":")[0] for text in figure.axes[0].texts[:2]] == ["Base", "GLIED"]
    assert "Base Eq. (8), head 2" in still.caption
    assert "GLIED Eq. (13), head 2" in still.caption
    assert "has no such word" in pictures("glied")["alone"].caption


def test_edges_of_the_beam_go_from_word_to_word_and_the_end_is_said_once():
    seen, nodes = beam("glied")
    for width in (ONE, TWO):
        places, _ = stills._beam_rows(nodes, 72 * width - breadth("88", SMALL) - 6, None)
        (axes,) = stills.beam_still(seen, nodes).draw(width).axes
        words = [text for text in axes.texts if text.get_text() not in ("…",)]
        assert [text.get_text() for text in words].count("(end)") == 1
        assert all(node.id in places for node in nodes if node.status != "dropped")
        stands = {round(text.get_position()[0], 3) for text in words}
        lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 20]
        assert len(lines) == len(places)
        for line in lines:
            assert {round(line[0, 0], 3), round(line[-1, 0], 3)} <= stands
            assert line[-1, 1] > line[0, 1]
        leaders = {text.get_color() for text in words if text.get_fontweight() == "bold"}
        assert leaders == {"#0b6e6e"}  # the app's


def test_dropped_words_give_way_where_a_row_is_full():
    _, nodes = beam("glied")
    places, ends = stills._beam_rows(nodes, 130.0, nodes[-1].id)
    assert len(places) < len(nodes)
    assert any(ends)
    assert nodes[-1].id in places
    assert {node.id for node in nodes if node.status != "dropped"} <= set(places)
    assert max(place.x + place.wide / 2 for place in places.values()) <= 131


def test_cells_that_are_not_known_are_hatched_and_hidden_ones_are_empty():
    figure = pictures("glied")["lifts"].draw(TWO)
    axes = next(axes for axes in figure.axes if axes.collections)
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == 1
    assert np.ma.getmaskarray(axes.collections[0].get_array()).sum() == 2  # unknown, and below 0.4
    told = pictures("glied")["lifts"].caption
    assert "hatched" in told
    assert "0.4×" in told
    assert "hatched" not in pictures("glied")["collocations"].caption


def test_words_are_never_formulas_nor_markup():
    seen, nodes = beam("glied")
    words = (HOSTILE, MATHS, *seen.words[2:])
    named = replace(
        seen, words=words, attributes=(MATHS, HOSTILE, *seen.attributes[2:]), labels=(MATHS, HOSTILE) * 2 + ("a",)
    )
    named = replace(named, inputs=("<bos>", *words[:-1]))
    nodes = tuple(replace(node, words=(*node.words[:-1], MATHS)) for node in nodes)
    for still in (
        stills.word_still(named, 0, PHOTOGRAPH),
        stills.caption_still(named, PHOTOGRAPH),
        stills.groups_still(named),
        stills.group_still(named, 0, PHOTOGRAPH),
        stills.collocations_still(named),
        stills.beam_still(named, nodes),
        *pictures("glied").values(),
    ):
        for width in (ONE, TWO):
            svg = drawn(still, "svg", width).decode()
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
    assert [tag.text for tag in found] == ["1 dog 40 %", "2 grass 30 %", "3 ball 25 %"]  # 5 % is below the even share
    for i, tag in enumerate(found):
        assert tag.x >= 0
        assert tag.x + tag.wide <= 100
        assert tag.y >= 0
        assert tag.y + tag.tall <= 90
        for other in found[:i]:
            assert abs(tag.x - other.x) >= min(tag.wide, other.wide) or abs(tag.y - other.y) >= tag.tall
    assert not stills.tags(seen, np.full(5, 0.2, np.float32), 4, 3.0)
    assert len(looked(seen)) == len(seen.words)
