"""How to decode: each way reaches the captioner, the tree, the tables, the pictures and the address."""

import json
from collections.abc import Callable

import pytest
import tiny
from streamlit.testing.v1 import AppTest

from analysis import stills
from analysis.beam import Node, beam_nodes, decoding_in_words, finished_table, node_table
from analysis.paper import ONE, TWO, drawn
from app.components.tree import nodes_of, payload
from app.engine.ask import engine
from app.engine.engine import Answer, Question
from app.photographs.gallery import entries, open_entry
from glied.captions import DecodeOptions
from glied.decode import caption
from glied.replay import look_ahead, trace
from glied.traces import Trace

Open = Callable[..., AppTest]
GROUPS = DecodeOptions(beam=6, n_best=6, groups=3, diversity=1.0)
REQUIRED = DecodeOptions(beam=2, n_best=2, require=("ball", "red"), forbid=("a",))
SAMPLED = DecodeOptions(method="sample", n_best=6, top_p=0.9, seed=2)


def searched(decoding: DecodeOptions) -> tuple[Trace, tuple[Node, ...]]:
    """The trace of a tiny captioner's caption, and the tree of its search."""
    made, scene = tiny.checkpoint(), tiny.scene()
    (found,) = caption(made, [scene], decoding, history=True)
    best, history = found.captions[0], found.history
    assert history
    samples = [each.words for each in found.captions] if decoding.method == "sample" else ()
    outlook = look_ahead(made, scene, history.extended())
    return trace(made, scene, best.words), beam_nodes(history, best.words, outlook, 0, best.group, samples)


@pytest.mark.parametrize("decoding", [GROUPS, REQUIRED, SAMPLED, DecodeOptions(beam=4, groups=2, require=("ball",))])
def test_every_tree_holds_its_words_once_and_its_winner(decoding: DecodeOptions):
    seen, nodes = searched(decoding)
    assert len({(node.group, node.words) for node in nodes}) == len(nodes)
    best = [node for node in nodes if node.best]
    assert tuple(node.word for node in best) == seen.words
    assert len({node.group for node in best}) == 1
    for node in nodes:
        assert node.met == tuple(word for word in decoding.require if word in node.words)
        assert 0 <= node.group < decoding.groups
        if node.parent >= 0:
            assert nodes[node.parent].group == node.group
            assert nodes[node.parent].words == node.words[:-1]
        if node.status == "finished":
            assert len(node.met) == len(decoding.require)
    assert {node.group for node in nodes} == set(range(decoding.groups))


def test_words_of_earlier_groups_are_counted():
    _, nodes = searched(GROUPS)
    first = [node for node in nodes if node.step == 0]
    for node in first:
        same = [n for n in first if n.word == node.word and n.group < node.group and n.status != "dropped"]
        assert node.taken == len(same)
    assert any(node.taken for node in first)


def test_samples_are_counted_along_the_tree():
    _, nodes = searched(SAMPLED)
    assert sum(node.drawn for node in nodes if node.step == 0) == 6
    for node in nodes:
        assert (node.drawn > 0) == (node.status != "dropped")
        after = [n.drawn for n in nodes if n.parent == node.id]
        assert node.status != "kept" or sum(after) == node.drawn


@pytest.mark.parametrize(
    ("decoding", "column", "told"),
    [
        (DecodeOptions(), None, "beam search, 3 hypotheses kept"),
        (GROUPS, "group", "diverse beam search, 3 groups of 2, diversity 1"),
        (REQUIRED, "required so far", "beam search, 2 hypotheses kept, with “ball”, “red”, without “a”"),
        (SAMPLED, "samples", "nucleus sampling, 6 samples, nucleus 0.9, seed 2"),
    ],
)
def test_tables_and_pictures_tell_the_way(decoding: DecodeOptions, column: str | None, told: str):
    seen, nodes = searched(decoding)
    extra = {"group", "required so far", "samples"}
    for table in (finished_table(nodes), node_table(nodes)):
        assert extra & set(table) == ({column} if column else set())
    assert decoding_in_words(decoding) == told
    still = stills.beam_still(seen, nodes, None, decoding)
    assert still.caption.startswith(told[0].upper() + told[1:])
    for width in (ONE, TWO):
        svg = drawn(still, "svg", width).decode()
        groups = [g for g in range(1, 5) if f">group {g}<" in svg]
        assert groups == (list(range(1, decoding.groups + 1)) if decoding.groups > 1 else [])
        assert ("■" in svg, "□" in svg) == (bool(decoding.require),) * 2


@pytest.fixture
def decoding(open_app: Open) -> Open:
    """The page, its address given as keywords."""
    return lambda **address: open_app(**address).switch_page("views/decoding.py").run()


def tree(app: AppTest) -> dict:
    """What the browser gets of the tree."""
    (found,) = (json.loads(each.proto.json) for each in app.get("bidi_component") if "nodes" in each.proto.json)
    return found


def best(app: AppTest) -> list[str]:
    found = tree(app)
    return [found["nodes"][i][2] for i in found["best"]]


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def read(question: Question) -> Answer:
    return engine().read(open_entry(entries()[0][0]), "glied", question)


def test_groups_come_from_the_address_and_are_told_apart(decoding: Open):
    app = decoding(how="Diverse groups", groups="2", each="2", diversity="1.0")
    assert fine(app)
    assert not app.toast
    found = tree(app)
    assert (found["groups"], found["diversity"]) == (2, 1.0)
    assert {node[7] for node in found["nodes"]} == {0, 1}
    asked = Question(DecodeOptions(beam=4, n_best=4, groups=2, diversity=1.0))
    assert found["nodes"] == json.loads(json.dumps(payload(read(asked))["nodes"]))
    finished, whole = (table.value for table in app.dataframe[:2])
    assert set(finished["group"]) == set(whole["group"]) == {1, 2}
    assert finished["ranked by"].is_monotonic_decreasing
    assert "2 groups of 2, diversity 1" in "".join(text.value for text in app.caption)
    app.segmented_control(key="how").set_value("Beam search").run()
    assert tree(app)["groups"] == 1
    assert "group" not in app.dataframe[0].value


def test_a_pinned_word_of_a_later_group_comes_back_from_the_address(decoding: Open):
    decoding()
    asked = Question(DecodeOptions(beam=6, n_best=6, groups=3))
    node = next(node for node in nodes_of(read(asked)) if node.group == 2 and node.step == 1)
    app = decoding(how="Diverse groups", pin=" ".join(node.words), lane="3")
    assert fine(app)
    assert (tree(app)["start"]["node"], tree(app)["start"]["pinned"]) == (node.id, True)
    assert app.query_params["lane"] in ("3", ["3"])
    app = decoding(how="Diverse groups", pin=" ".join(node.words), lane="9")
    assert not tree(app)["start"]["pinned"]
    assert len(app.toast) == 1


def test_words_must_or_must_not_come_and_the_free_caption_stays_beside_them(decoding: Open):
    app = decoding()
    free, weighed = best(app)[:-1], [node[2] for node in tree(app)["nodes"]]
    other = next(word for word in weighed if word in tiny.WORDS and word not in ("ball", "red"))
    app = decoding(require="ball red", forbid=other)
    assert fine(app)
    assert {"ball", "red"} <= set(best(app))
    assert other not in [node[2] for node in tree(app)["nodes"]]
    assert tree(app)["require"] == ["ball", "red"]
    assert [text.value for text in app.text] == [" ".join(free), " ".join(best(app)[:-1])]
    app.button(key="free").click().run()
    assert fine(app)
    assert best(app)[:-1] == free
    assert (app.text_input(key="require").value, app.text_input(key="forbid").value) == ("", "")
    app.text_input(key="require").set_value("Ball").run()  # as captions have it
    assert "ball" in best(app)


def test_words_stay_with_a_forced_beginning(decoding: Open):
    app = decoding(require="ball", prefix="a dog")
    assert fine(app)
    assert best(app)[:2] == ["a", "dog"]
    assert "ball" in best(app)
    assert "Beginning with “a dog”, with “ball”" in "".join(text.value for text in app.caption)


def test_samples_are_those_of_the_seed(decoding: Open):
    app = decoding(how="Sampling", seed="4", nucleus="0.95", samples="10")
    assert fine(app)
    assert not app.toast
    found = tree(app)
    assert found["samples"] == 10
    assert sum(node[10] for node in found["nodes"] if node[1] == 0) == 10
    assert app.dataframe[0].value["samples"].sum() == 10
    assert tree(decoding(how="Sampling", seed="4", nucleus="0.95", samples="10"))["nodes"] == found["nodes"]
    app.number_input(key="seed").set_value(5).run()
    assert fine(app)
    assert tree(app)["nodes"] != found["nodes"]
    assert not [each for each in app.text_input if each.key == "require"]  # nothing that sampling cannot do


@pytest.mark.parametrize(
    ("address", "toasts", "warning"),
    [
        ({"how": "Guessing"}, 1, ""),
        ({"how": "Diverse groups", "groups": "9"}, 1, ""),
        ({"how": "Diverse groups", "diversity": "many"}, 0, ""),
        ({"how": "Sampling", "nucleus": "7", "seed": "-1"}, 0, ""),
        ({"require": "doog"}, 0, "got doog"),
        ({"require": "dog", "forbid": "dog"}, 0, "both required and forbidden"),
        ({"require": "dog cat red man the ball"}, 0, "5 words at most"),
        ({"forbid": "dog", "prefix": "a dog"}, 0, "words that may come"),
        ({"require": "  ", "forbid": ""}, 0, ""),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(decoding: Open, address: dict, toasts: int, warning: str):
    app = decoding(**address)
    assert fine(app)
    assert len(app.toast) == toasts
    assert len(app.warning) == bool(warning)
    assert not warning or warning in app.warning[0].value
    assert not tree(app)["require"]
    assert tree(app)["nodes"]
