"""Readings of attention against values worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
from jaxtyping import TypeCheckError

from analysis import attention, figures
from analysis.diff import align
from glied.metrics import rank_correlation
from glied.trace import Trace, trace

WEIGHTS = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0, 0, 1]], [[0.1, 0.1, 0.8], [0.3, 0.2, 0.5], [1, 0, 0]]])


def test_head_0_is_the_mean_and_heads_count_from_1():
    np.testing.assert_allclose(attention.pooled(WEIGHTS)[0], [0.3, 0.2, 0.5])
    np.testing.assert_allclose(attention.pooled(WEIGHTS, 2)[0], [0.1, 0.1, 0.8])


def test_local_attention_is_that_of_the_word_produced(traces: dict[str, Trace]):
    for name, (regions, attributes) in {"glied": ("vl", "al"), "base": ("v", "a")}.items():
        found = attention.local(traces[name], 2)
        np.testing.assert_array_equal(found[0], traces[name].attention[regions][1])
        np.testing.assert_array_equal(found[1], traces[name].attention[attributes][1])


def test_lift_of_even_attention_is_1():
    np.testing.assert_allclose(attention.lift(np.full((2, 4), 0.25)), 1)
    np.testing.assert_allclose(attention.lift(np.array([0.5, 0.25, 0.25, 0])), [2, 1, 1, 0])


@pytest.mark.parametrize(
    ("weights", "drop", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [5, 0, -1, -9], -1),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        ([1, 1, 2], [1, 2, 3], math.sqrt(0.75)),  # a tie takes the mean of its ranks
        ([1, 1, 1], [1, 2, 3], math.nan),
        ([1, 2, 3], [1, math.nan, 3], math.nan),
    ],
)
def test_agreement_is_spearmans(weights: list[float], drop: list[float], expected: float):
    found = rank_correlation(np.array(weights, float), np.array(drop, float))
    assert found == pytest.approx(expected, nan_ok=True)


def test_seriation_puts_columns_that_go_together_side_by_side():
    up, down = np.array([1.0, 2, 4]), np.array([4.0, 2, 1])
    order = attention.seriation(np.stack([up, down, 1.1 * up, 0.9 * down], 1))
    assert {frozenset(order[:2].tolist()), frozenset(order[2:].tolist())} == {frozenset({0, 2}), frozenset({1, 3})}


def test_regions_are_called_by_label_or_place():
    boxes = np.array([[0, 0, 100, 90], [0, 0, 40, 90], [60, 60, 100, 90], [0, 60, 100, 90]], np.float32)
    found = replace(trace(tiny.checkpoint(), tiny.scene(4), ["dog"]), size=(100, 90), boxes=boxes)
    assert attention.region_names(found) == ["whole photograph", "left (40%)", "bottom right (13%)", "bottom (33%)"]
    assert attention.region_names(replace(found, labels=("cat", "dog", "sky", "grass")))[2] == "sky"


def test_first_step_is_the_first_word_of_content(traces: dict[str, Trace]):
    assert traces["glied"].words[attention.first_step(traces["glied"])] == "dog"
    assert attention.first_step(replace(traces["glied"], words=("on", "a", "<eos>"))) == 0


def test_table_holds_every_region_and_attribute_with_its_fall(traces: dict[str, Trace]):
    base = traces["base"]
    table = attention.attention_table(base, 1)
    assert table["kind"].value_counts().to_dict() == {"region": 5, "attribute": 4}
    assert table["attention"].is_monotonic_decreasing
    word = table[table["name"] == base.attributes[2]].iloc[0]
    assert word["attention"] == pytest.approx(base.attention["a"][:, 1, 2].mean())
    assert word["fall"] == pytest.approx(base.attribute_drop[1, 2])
    unknown = replace(base, visual_drop=np.zeros((0, 5)), attribute_drop=np.zeros((0, 4)))
    assert attention.attention_table(unknown, 1)["fall"].isna().all()


def test_shapes_are_checked():
    with pytest.raises(TypeCheckError):
        rank_correlation(np.zeros(3), np.zeros(4))


def test_words_are_aligned_and_differences_marked():
    found = align(["a", "dog", "runs", "on", "grass"], ["a", "brown", "dog", "sits", "on", "grass"])
    assert found.left == (0, 2, 3, 4, 5)
    assert found.right == (0, -1, 1, 2, 3, 4)
    assert found.left_differs == (False, False, True, False, False)
    assert found.right_differs == (False, True, False, True, False, False)


def test_alignment_of_nothing():
    assert align([], ["a"]).right == (-1,)


@pytest.mark.parametrize("similar", [True, False])
def test_collocation_map_shows_lift_of_input_words(traces: dict[str, Trace], similar: bool):
    glied = traces["glied"]
    heat = figures.collocation_map(glied, 1, similar).data[0]
    assert heat.y[:2] == ("0 (start)", "1 a")
    assert set(heat.x) == set(glied.attributes)
    column = list(heat.x).index(glied.attributes[3])
    assert heat.customdata[2][column][0] == pytest.approx(4 * glied.attention["ad"][0, 2, 3])
    assert heat.z[2][column] == pytest.approx(max(-6, np.log2(heat.customdata[2][column][0])), abs=1e-5)
    assert heat.zmid == 0
    assert heat.zmin == -heat.zmax


def test_collocation_ranks_put_the_strongest_first(traces: dict[str, Trace]):
    bars = figures.collocation_ranks(traces["glied"], 1, count=3).data[0]
    assert list(bars.x) == sorted(bars.x, reverse=True)
    assert bars.x[0] == pytest.approx(4 * traces["glied"].attention["ad"].mean(0)[1].max())
