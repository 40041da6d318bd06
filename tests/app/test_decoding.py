"""Decoding: the tree reaches the browser, forced words reach the captioner, and nonsense is answered in a sentence."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from tiny import HOSTILE

from analysis.beam import END
from analysis.components import words_in
from app.components.tree import node_in, nodes_of, payload
from app.engine.ask import engine
from app.engine.engine import Answer, Question, beam_of
from app.photographs.gallery import entries, open_entry
from app.state import Choice

Open = Callable[..., AppTest]
SMALL = "a dog"


@pytest.fixture
def decoding(open_app: Open) -> Open:
    """The page, its address given as keywords."""
    return lambda **address: open_app(**address).switch_page("views/decoding.py").run()


def read(model: str, question: Question) -> Answer:
    return engine().read(open_entry(entries()[0][0]), model, question)


def drawn(app: AppTest) -> dict:
    """What the browser gets of the tree."""
    (found,) = (json.loads(each.proto.json) for each in app.get("bidi_component") if "nodes" in each.proto.json)
    return found


def best(app: AppTest) -> list[str]:
    """The words of the winning path."""
    found = drawn(app)
    return [found["nodes"][i][2] for i in found["best"]]


def beginning(app: AppTest) -> list[str]:
    """The texts shown above the tree of a forced beginning: the free caption and the other."""
    return [text.value for text in app.text]


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def test_the_tree_its_captions_and_its_tables_agree(decoding: Open):
    app = decoding()
    assert fine(app)
    finished, whole = (table.value for table in app.dataframe[:2])
    assert " ".join(best(app)[:-1]) == finished["caption"][0]
    assert best(app)[-1] == END
    assert len(whole) == len(drawn(app)["nodes"])
    assert (whole["status"] == "finished").sum() == len(finished) >= 3
    assert finished["ranked by"].is_monotonic_decreasing
    assert not beginning(app)


def test_the_beam_is_that_of_the_address(decoding: Open):
    app = decoding(beam="1")
    assert fine(app)
    assert not app.toast
    assert len(app.dataframe[0].value) == 1
    assert app.dataframe[1].value.groupby("step")["status"].apply(lambda s: (s == "kept").sum()).max() == 1
    app.segmented_control(key="beam").set_value(5).run()
    assert app.dataframe[1].value.groupby("step")["status"].apply(lambda s: (s == "kept").sum()).max() == 5


def test_forced_words_are_said_and_the_free_caption_stays_beside_them(decoding: Open):
    free = best(decoding())[:-1]
    app = decoding(prefix=SMALL)
    assert fine(app)
    assert best(app)[:2] == SMALL.split()
    assert drawn(app)["forced"] == 2
    assert beginning(app) == [" ".join(free), " ".join(best(app)[:-1])]
    assert app.dataframe[1].value["forced"].sum() == 2
    app.button(key="free").click().run()
    assert best(app)[:-1] == free
    assert "prefix" not in app.query_params


def test_a_chosen_beginning_is_decoded_and_written_into_the_address(decoding: Open):
    app = decoding()
    app.session_state["beginning"] = (open_entry(entries()[0][0]).key, ("red", HOSTILE))
    app.run()
    assert fine(app)
    assert best(app)[:2] == ["red", HOSTILE]
    assert app.query_params["prefix"] in (f"red {HOSTILE}", [f"red {HOSTILE}"])
    assert not [text for text in [*app.caption, *app.markdown] if HOSTILE in text.value]  # escaped in Markdown


def in_view(app: AppTest) -> tuple[list[str], bool]:
    """The words up to the one in view, and whether it is pinned."""
    found = drawn(app)
    words, id = [], found["start"]["node"]
    while id >= 0:
        id, _, word, *_ = found["nodes"][id]
        words.insert(0, word)
    return words, found["start"]["pinned"]


def test_the_word_in_view_is_that_of_the_address_and_of_the_other_pages(decoding: Open, open_app: Open):
    app = decoding(step="1", prefix=SMALL)
    assert in_view(app) == (SMALL.split(), False)
    app = open_app(prefix=SMALL)
    digest = read("glied", Question(prefix=("a", "dog"))).trace.digest
    app.session_state["followed"] = True
    app.session_state["choice"] = Choice(digest, step=1)
    app.switch_page("views/decoding.py").run()
    assert in_view(app) == (SMALL.split(), False)
    assert app.query_params["step"] in ("1", ["1"])


def test_a_pinned_word_of_the_tree_is_in_the_address_and_comes_back_from_it(decoding: Open):
    answer = read("glied", Question())
    node = next(node for node in nodes_of(answer) if not node.best and node.step == 2)
    step = str(min(2, len(answer.trace.words) - 1))
    app = decoding(pin=" ".join(node.words))
    assert fine(app)
    assert in_view(app) == (list(node.words), True)
    assert app.query_params["step"] in (step, [step])
    app.selectbox(key="head_chosen").select(2).run()
    assert fine(app)
    assert in_view(app) == (list(node.words), True)
    assert drawn(app)["head"] == 2
    app.segmented_control(key="beam").set_value(1).run()  # another search, in which the word is not pinned
    assert not in_view(app)[1]
    assert "pin" not in app.query_params
    app = decoding(pin="zebra zebra")
    assert (len(app.toast), in_view(app)[1]) == (1, False)
    assert not app.run().toast


def test_what_the_tree_sends_is_checked(open_app: Open):
    open_app()
    nodes = nodes_of(read("glied", Question()))
    for nonsense in (None, {}, {"node": len(nodes), "pinned": True}, {"node": -1, "pinned": True}, {"node": "1"}, 5):
        assert node_in(nonsense, nodes) is None
    assert node_in({"node": 1, "pinned": True}, nodes) == (nodes[1], True)


def test_after_decode_on_the_last_word_that_was_set_is_in_view(decoding: Open):
    app = decoding()
    app.session_state["beginning"] = (open_entry(entries()[0][0]).key, ("a", "dog", "red"))
    app.session_state["choice"] = Choice(step=2)
    app.run()
    assert in_view(app) == (["a", "dog", "red"], False)


def test_another_photograph_begins_freely(decoding: Open):
    app = decoding(prefix=SMALL)
    app.selectbox(key="photo").select("coffee").run()
    assert fine(app)
    assert not beginning(app)
    assert drawn(app)["forced"] == 0


def test_base_has_no_revisit(decoding: Open):
    app = decoding(model="Base")
    assert fine(app)
    assert drawn(app)["coarse"] is None
    assert drawn(app)["revisits"] is None


@pytest.mark.parametrize(
    ("address", "toasts", "warnings"),
    [
        ({"beam": "7"}, 1, 0),
        ({"beam": "many"}, 1, 0),
        ({"prefix": "x" * 41}, 1, 0),
        ({"prefix": "a " * 101}, 1, 0),
        ({"prefix": "  "}, 0, 0),
        ({"prefix": "zebra"}, 0, 1),  # a word, but none that the captioner knows
        ({"prefix": "<eos>"}, 0, 1),
        ({"prefix": "a dog a dog a dog"}, 0, 1),  # longer than the captioner's captions
        ({"prefix": SMALL, "beam": "2"}, 0, 0),
    ],
)
def test_an_address_that_makes_no_sense_falls_back_with_a_sentence(
    decoding: Open, address: dict, toasts: int, warnings: int
):
    app = decoding(**address)
    assert fine(app)
    assert (len(app.toast), len(app.warning)) == (toasts, warnings)
    assert drawn(app)["forced"] == (2 if address.get("prefix") == SMALL else 0)
    assert not app.run().toast  # it is said once
    assert not app.warning


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        "a dog",
        {"prefix": "a dog"},
        {"prefix": ["a", 3]},
        {"prefix": ["a dog"]},
        {"prefix": [""]},
        {"prefix": ["x" * 41]},
        {"prefix": ["a"] * 101},
    ],
)
def test_what_a_browser_sends_is_checked(sent: object):
    assert words_in(sent) == ()
    assert words_in({"prefix": ["a", "dog"]}) == ("a", "dog")


@pytest.mark.parametrize(("model", "prefix"), [("glied", ()), ("base", ()), ("glied", ("a", "dog"))])
def test_payload_is_a_function_of_the_answer(open_app: Open, model: str, prefix: tuple[str, ...]):
    open_app()
    answer = read(model, Question(beam_of(5), prefix))
    found = payload(answer)
    payload.cache_clear()
    assert json.dumps(found, allow_nan=False) == json.dumps(payload(answer))
    other, seen = payload(read(model, Question(beam_of(2), prefix))), payload(answer, 2)
    assert found["forced"] == len(prefix)
    assert other["tree"] != found["tree"] == seen["tree"]  # another head sees the same tree
    assert len({each["digest"] for each in (found, other, seen)}) == 3


@pytest.mark.parametrize("head", [0, 2])
def test_each_node_gets_the_attention_before_it(open_app: Open, head: int):
    open_app()
    for model, (fine_name, read_name) in {"glied": ("vl", "al"), "base": ("v", "a")}.items():
        answer = read(model, Question(beam_of(3)))
        found = payload(answer, head)
        assert answer.outlook
        for parent, _, _, _, own, status, row, *_ in found["nodes"]:
            before = answer.outlook.prefixes[row]
            assert (len(before) == 0) == (parent == -1)
            for weights, name in ((found["fine"][row], fine_name), (found["read"][row], read_name)):
                attention = answer.outlook.attention[name][:, row]
                np.testing.assert_allclose(weights, attention[head - 1] if head else attention.mean(0), atol=1e-4)
            assert own <= 0
            assert status in ("kept", "finished", "dropped")
        if model == "glied":
            for row, (moved, gained, lost) in enumerate(found["revisits"]):
                change = np.array(found["fine"][row]) - np.array(found["coarse"][row])
                assert moved == pytest.approx(np.abs(change).sum() / 2, abs=2e-3)
                assert change[gained] == pytest.approx(change.max(), abs=2e-4)
                assert change[lost] == pytest.approx(change.min(), abs=2e-4)
