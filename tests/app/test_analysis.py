"""Readings of attention against values worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
from jaxtyping import TypeCheckError

from analysis import attention, groups
from analysis.beam import beam_nodes
from analysis.diff import align, evidence_table
from analysis.numbers import decimal, percent, signed, times
from analysis.page import Account, page
from glied.captions import DecodeOptions
from glied.decode import caption
from glied.evaluation.metrics import rank_correlation
from glied.functions import AttentionFunction, find, key_share
from glied.replay import look_ahead, trace
from glied.traces import Trace

WEIGHTS = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0, 0, 1]], [[0.1, 0.1, 0.8], [0.3, 0.2, 0.5], [1, 0, 0]]])


def test_head_0_is_the_mean_and_heads_count_from_1():
    np.testing.assert_allclose(attention.pooled(WEIGHTS)[0], [0.3, 0.2, 0.5])
    np.testing.assert_allclose(attention.pooled(WEIGHTS, 2)[0], [0.1, 0.1, 0.8])


def test_local_attention_is_that_of_the_word_produced(traces: dict[str, Trace]):
    for name, (regions, attributes) in {"glied": ("vl", "al"), "base": ("v", "a")}.items():
        found = [sense.weights for sense in attention.senses(traces[name], 2)]
        np.testing.assert_array_equal(found[0], traces[name].attention[regions][1])
        np.testing.assert_array_equal(found[1], traces[name].attention[attributes][1])
        np.testing.assert_array_equal(found[0], attention.looked(traces[name], 2))


def test_agreements_are_rank_correlations_word_by_word(traces: dict[str, Trace]):
    for made in (*traces.values(), trace(tiny.checkpoint(), tiny.scene(1, 1), ["dog"], falls=True)):
        found = attention.agreements(made)
        assert found.shape == (made.heads + 1, len(made.words), 2)
        for head in range(made.heads + 1):
            for s, sense in enumerate(attention.senses(made, head)):
                expected = [rank_correlation(w, f) for w, f in zip(sense.weights, sense.falls, strict=True)]
                np.testing.assert_allclose(found[head, :, s], expected, atol=1e-12)
    bare = replace(traces["base"], region_falls=np.zeros((0, 5)), attribute_falls=np.zeros((0, 4)))
    assert attention.agreements(bare).shape == (3, 0, 2)


@pytest.mark.parametrize("name", ["base+aa", "glied-vl", "glied-al", "glied-global", "softatt", "updown", "ct"])
def test_any_captioner_is_read_by_its_declaration_alone(name: str):
    checkpoint, scene = tiny.checkpoint(name), tiny.scene()
    made = trace(checkpoint, scene, ["a", "dog", "runs"], falls=True)
    kinds = [sense.kind for sense in attention.senses(made)]
    table = attention.attention_table(made, 1)
    assert kinds == list(dict.fromkeys(sorted(table["kind"], reverse=True)))
    assert table.groupby("kind")["attention"].sum().to_numpy() == pytest.approx(np.ones(len(kinds)), abs=1e-5)
    assert table["fall"].notna().all()
    assert list(evidence_table(made, [1])) == ["word", *(f"{k}{p}" for k in kinds for p in ("", "_attention", "_fall"))]
    assert ("own share" in groups.region_table(made, 1)) == (groups.groupings(made) is not None)
    assert attention.agreements(made).shape == (made.heads + 1, 4, len(kinds))
    decoded = caption(checkpoint, [scene], DecodeOptions(), history=True)[0]
    outlook = look_ahead(checkpoint, scene, decoded.history.extended())
    nodes = beam_nodes(decoded.history, decoded.captions[0].words, outlook)
    written = page("T", "alt", "", "", b"", {made.captioner: Account(made, nodes)})
    assert ("Region groups" in written) == (groups.groupings(made) is not None)
    assert ("Attribute collocations" in written) == (find(made.functions, "attributes", "pivot") is not None)


def test_key_shares_are_of_every_function_but_the_context(traces: dict[str, Trace]):
    for made in traces.values():
        found = attention.key_shares(made)
        assert found.keys() == {f.name for f in made.functions if f.role != "context"}
        assert all(found[name] == key_share(made.attention[name]) for name in found)


def test_equations_are_cited_where_a_captioner_has_them(traces: dict[str, Trace]):
    glied = traces["glied"]
    assert attention.cited(glied, find(glied.functions, "regions", "grouping")) == "GLIED Eq. (9)"
    assert attention.cited(glied, None) == ""
    assert attention.cited(glied, AttentionFunction("v", None, "regions", "local")) == ""


def test_lift_of_even_attention_is_1():
    np.testing.assert_allclose(attention.lift(np.full((2, 4), 0.25)), 1)
    np.testing.assert_allclose(attention.lift(np.array([0.5, 0.25, 0.25, 0])), [2, 1, 1, 0])


@pytest.mark.parametrize(
    ("weights", "falls", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [5, 0, -1, -9], -1),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        ([1, 1, 2], [1, 2, 3], math.sqrt(0.75)),  # a tie takes the mean of its ranks
        ([1, 1, 1], [1, 2, 3], math.nan),
        ([1, 2, 3], [1, math.nan, 3], math.nan),
    ],
)
def test_agreement_is_spearmans(weights: list[float], falls: list[float], expected: float):
    found = rank_correlation(np.array(weights, float), np.array(falls, float))
    assert found == pytest.approx(expected, nan_ok=True)


def test_regions_are_called_by_label_or_place():
    boxes = np.array([[0, 0, 100, 90], [0, 0, 40, 90], [60, 60, 100, 90], [0, 60, 100, 90]], np.float32)
    found = replace(trace(tiny.checkpoint(), tiny.scene(4), ["dog"]), size=(100, 90), boxes=boxes)
    assert attention.region_names(found) == ["whole photograph", "left (40 %)", "bottom right (13 %)", "bottom (33 %)"]
    assert attention.region_names(replace(found, labels=("cat", "dog", "sky", "grass")))[2] == "sky"


def test_first_step_is_the_first_word_of_content(traces: dict[str, Trace]):
    assert traces["glied"].words[attention.first_step(traces["glied"])] == "dog"
    assert attention.first_step(replace(traces["glied"], words=("on", "a", "<eos>"))) == 0


def test_table_holds_every_region_and_attribute_with_its_fall(traces: dict[str, Trace]):
    base = traces["base"]
    table = attention.attention_table(base, 1)
    assert table["kind"].value_counts().to_dict() == {"region": 5, "attribute": 4}
    assert table["attention"].is_monotonic_decreasing
    third = table[table["region"] == 3].iloc[0]
    assert third["attention"] == pytest.approx(base.attention["v"][:, 1, 2].mean())
    assert third[["left", "top", "right", "bottom"]].tolist() == base.boxes[2].round().tolist()
    word = table[table["name"] == base.attributes[2]].iloc[0]
    assert word["attention"] == pytest.approx(base.attention["a"][:, 1, 2].mean())
    assert word["fall"] == pytest.approx(base.attribute_falls[1, 2])
    unknown = replace(base, region_falls=np.zeros((0, 5)), attribute_falls=np.zeros((0, 4)))
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


def blocks(own: float, sizes: tuple[int, ...] = (3, 2, 4), seed: int = 0) -> tuple[np.ndarray, list[set[int]]]:
    """Groupings of shuffled regions that gather `own` times as much within their block as elsewhere, and the blocks."""
    generator = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    order = generator.permutation(len(block))
    weights = np.where(block[:, None] == block, own, 1.0) * generator.uniform(0.9, 1.1, (len(block),) * 2)
    weights *= np.geomspace(1, 5, len(block))  # some are sought by all
    weights = (weights / weights.sum(1, keepdims=True))[np.ix_(order, order)]
    return weights, [set(np.flatnonzero(block[order] == b).tolist()) for b in range(len(sizes))]


@pytest.mark.parametrize("own", [4.0, 0.25])
def test_clustering_recovers_known_blocks(own: float):
    for seed in range(5):
        shares, expected = blocks(own, seed=seed)
        found = groups.cluster_regions(shares)
        assert sorted(map(sorted, found.members)) == sorted(map(sorted, expected))
        assert [region for members in found.members for region in members] == found.tree.order.tolist()
        assert len(found.tree.forks) == len(shares) - 1


def test_regions_that_only_differ_in_how_sought_they_are_make_no_groups():
    shares = np.tile(np.array([0.5, 0.2, 0.2, 0.1]), (4, 1))
    np.testing.assert_allclose(groups.over_usual(shares), 1)
    assert len(groups.cluster_regions(shares).members) == 4


def test_one_region_is_a_group_and_two_even_ones_are_two():
    assert groups.cluster_regions(np.ones((1, 1))).members == [[0]]
    assert sorted(groups.cluster_regions(np.full((2, 2), 0.5)).members) == [[0], [1]]


def test_regions_that_gather_alike_are_told_in_words():
    shares = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    names = ["grass", "dog", "grass"]
    tree = groups.cluster_regions(shares).tree
    assert groups.described(shares, groups.Alike(tree, [[0, 2], [1]]), names) == [
        "grass (1, 3). On average they gather 15 % from one another, the other regions 70 % from them.",
        "Like no other: dog (2).",
    ]
    assert groups.described(shares, groups.Alike(tree, [[0, 1, 2]]), names) == [
        "grass (1, 3), dog (2). On average they gather 50 % from one another."
    ]
    assert groups.most_sought(shares, names) == "1 grass 43 %, 3 grass 30 %, 2 dog 27 %"


def test_region_table_holds_box_attention_fall_and_group(traces: dict[str, Trace]):
    glied = traces["glied"]
    table = groups.region_table(glied, 1, 2)
    assert table["region"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(table[["left", "top", "right", "bottom"]], glied.boxes.round())
    np.testing.assert_allclose(table["attention"], glied.attention["vl"][1, 1])
    np.testing.assert_allclose(table["fall"], glied.region_falls[1])
    row = glied.attention["vd"][1, 3]
    assert table["own share"][3] == pytest.approx(row[3])
    best = max((i for i in range(5) if i != 3), key=lambda i: row[i])
    partners = table["group partners"][3].split(", ")
    assert partners[0].startswith(f"{best + 1} ")
    assert partners[0].endswith(percent(row[best]))
    assert len(partners) == 3
    assert not any(partner.startswith("4 ") for partner in partners)
    base = replace(traces["base"], region_falls=np.zeros((0, 5)), attribute_falls=np.zeros((0, 4)))
    found = groups.region_table(base, 1)
    assert found["fall"].isna().all()
    assert not {"own share", "group partners"} & set(found)


def test_numbers_are_written_one_way():
    shares = {
        0.0: "0 %",
        0.0004: "< 0.1 %",
        0.0005: "0.1 %",
        0.0994: "9.9 %",
        0.0995: "10 %",
        0.125: "13 %",
        1.0: "100 %",
    }
    assert {p: percent(p) for p in shares} == shares
    assert [signed(v) for v in (-0.004, -0.005, 0.0, 1.684, float("nan"))] == ["0.00", "−0.01", "0.00", "+1.68", "–"]
    assert [decimal(v) for v in (-0.004, -0.005, 0.0, 1.684, float("nan"))] == ["0.00", "−0.01", "0.00", "1.68", "–"]
    assert (signed(-0.0123, 3), times(1.25)) == ("−0.012", "1.3×")
