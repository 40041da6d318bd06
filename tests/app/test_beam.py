"""Beam search as a tree: against the captions it found, and against values worked by hand."""

import math

import numpy as np
import pytest
import tiny

from analysis.beam import END, Node, beam_nodes, finished_table, node_table, revisits
from glied.captions import BeamHistory, Caption, Decoded, DecodeOptions
from glied.decode import caption
from glied.replay import look_ahead, trace
from glied.traces import Outlook


def searched(
    beam: int, prefix: tuple[str, ...] = (), architecture: str = "glied", alpha: float = 1.0
) -> tuple[Decoded, Outlook]:
    """A tiny captioner's search with all its captions, and what it saw."""
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    options = DecodeOptions(beam=beam, n_best=beam, length_penalty=alpha)
    (found,) = caption(checkpoint, [scene], options, history=True, prefix=prefix)
    assert found.history
    return found, look_ahead(checkpoint, scene, found.history.extended())


def tree(beam: int, prefix: tuple[str, ...] = (), **more) -> tuple[tuple[Node, ...], Decoded]:
    found, outlook = searched(beam, prefix, **more)
    assert found.history
    return beam_nodes(found.history, found.captions[0].words, outlook, len(prefix)), found


@pytest.mark.parametrize("architecture", ["glied", "base"])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_the_tree_ends_in_the_captions_and_its_best_path_is_the_winner(beam: int, architecture: str):
    nodes, found = tree(beam, architecture=architecture)
    ended = {node.words: node for node in nodes if node.status == "finished"}
    assert all(words[-1] == END for words in ended)
    for one in found.captions:
        node = ended.pop((*one.words, END))
        assert node.total == pytest.approx(one.log_probability, abs=1e-5)
        assert node.score == pytest.approx(one.score, abs=1e-5)
    assert all(node.score <= found.captions[-1].score + 1e-6 for node in ended.values())  # the others rank below
    best = [node for node in nodes if node.best]
    assert tuple(node.word for node in best) == (*found.captions[0].words, END)
    assert best[-1].status == "finished"
    assert [node.parent for node in best] == [-1, *(node.id for node in best[:-1])]


def test_every_word_has_the_probability_that_a_replay_gives_it():
    nodes, _ = tree(3)
    for node in nodes[::5]:
        words = [word for word in node.words if word != END]
        found = trace(tiny.checkpoint(), tiny.scene(), words)
        assert node.own == pytest.approx(found.log_probabilities[node.step], abs=1e-4)
        assert node.total == pytest.approx(found.log_probabilities[: node.step + 1].sum(), abs=1e-4)


def test_parents_come_first_were_kept_and_share_their_outlook():
    found, outlook = searched(3)
    assert found.history
    nodes = beam_nodes(found.history, found.captions[0].words, outlook)
    assert [node.id for node in nodes] == list(range(len(nodes)))
    for node in nodes:
        assert outlook.prefixes[node.outlook] == node.words[:-1]
        assert -1 <= node.parent < node.id
        if node.parent >= 0:
            assert nodes[node.parent].status == "kept"
            assert nodes[node.parent].words == node.words[:-1]


def test_forced_words_are_alone_in_their_steps():
    nodes, found = tree(3, ("the", "red"))
    assert [(node.word, node.status) for node in nodes if node.step < 2] == [("the", "kept"), ("red", "kept")]
    assert {node.step for node in nodes if node.forced} == {0, 1}
    assert found.captions[0].words[:2] == ("the", "red")


def by_hand() -> tuple[Node, ...]:
    """Beam 2, two steps: "dog" and "cat" live; "dog" ends, "cat runs" lives on, "cat sits" is dropped."""
    no = -np.inf
    history = BeamHistory(
        np.array([[0, 0, 0, 0], [0, 1, 1, 0]]),
        (("dog", "cat", "man", "a"), (END, "runs", "sits", "a")),
        np.array([[-1.0, -2.0, -3.0, no], [-1.5, -2.25, -4.0, no]]),
        (("kept", "kept", "dropped", "dropped"), ("finished", "kept", "dropped", "dropped")),
        1.0,
    )
    outlook = Outlook(((), ("dog",), ("cat",)), {}, ((), (), ()), np.zeros((3, 0)))
    return beam_nodes(history, ("dog",), outlook)


def test_nodes_worked_by_hand():
    nodes = by_hand()
    assert [node.word for node in nodes] == ["dog", "cat", "man", END, "runs", "sits"]  # the impossible are left out
    assert [node.parent for node in nodes] == [-1, -1, -1, 0, 1, 1]
    assert [node.own for node in nodes] == [-1, -2, -3, -0.5, -0.25, -2]
    assert [node.outlook for node in nodes] == [0, 0, 0, 1, 2, 2]
    assert [node.id for node in nodes if node.best] == [0, 3]
    assert nodes[3].score == pytest.approx(-1.5 / (7 / 6))


def test_tables_worked_by_hand():
    assert finished_table(by_hand()).to_dict("list") == {
        "caption": ["dog"],
        "log p": [-1.5],
        "ranked by": [pytest.approx(-9 / 7)],
        "ended at step": [2],
    }
    table = node_table(by_hand())
    assert table["word"].tolist() == ["dog", "cat", "man", "(end)", "runs", "sits"]
    assert table["after"].tolist() == ["", "", "", "dog", "cat", "cat"]
    assert table["probability"][4] == pytest.approx(math.exp(-0.25))
    assert table["in the caption"].tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_finished_captions_are_ranked_as_the_search_ranks_them(alpha: float):
    nodes, found = tree(5, alpha=alpha)
    table = finished_table(nodes)
    assert table["ranked by"].tolist()[: len(found.captions)] == pytest.approx([one.score for one in found.captions])
    assert table["caption"].tolist()[: len(found.captions)] == [one.text for one in found.captions]
    assert table["ranked by"].is_monotonic_decreasing


def test_the_revisit_is_a_total_variation_distance():
    groups = np.array([[0.5, 0.3, 0.2], [1, 0, 0], [0.2, 0.2, 0.6]])
    regions = np.array([[0.1, 0.4, 0.5], [0, 0, 1], [0.2, 0.2, 0.6]])
    moved, gained, lost = revisits(groups, regions)
    np.testing.assert_allclose(moved, [0.4, 1, 0], atol=1e-12)
    assert gained.tolist()[:2] == [2, 2]
    assert lost.tolist()[:2] == [0, 0]


def test_a_search_that_dies_out_still_has_a_tree():
    no = -np.inf
    history = BeamHistory(np.array([[0, 0]]), ((END, "dog"),), np.array([[-1.0, no]]), (("finished", "dropped"),), 1.0)
    nodes = beam_nodes(history, Caption((), -1.0, -1.0).words, Outlook(((),), {}, ((),), np.zeros((1, 0))))
    assert [(node.word, node.best) for node in nodes] == [(END, True)]
