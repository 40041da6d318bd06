"""What if: every change is answered, remembered, named in the address, and nonsense gets one sentence."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import streamlit as st
import tiny
from streamlit.testing.v1 import AppTest
from test_uploads import PHOTOGRAPH, encoded

from analysis.changes import caption_table, change_table
from app.components import removal
from app.components.removal import After, changed, payload
from app.edits import ADDED, STEPS, WORDS, Change, History, address_of, change_of, in_words, sensible
from app.engine.ask import engine
from app.photographs.gallery import entries, open_entry
from app.photographs.photograph import Photograph
from app.state import Choice
from glied.replay import trace
from glied.scene import Edit
from glied.traces import Trace

Open = Callable[..., AppTest]


@pytest.fixture
def open_whatif(open_app: Open) -> Open:
    return lambda **address: open_app(**address).switch_page("views/whatif.py").run()


@pytest.fixture
def found() -> Trace:
    return trace(tiny.checkpoint(), tiny.scene(), ["a", "dog"], falls=True)


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def scene(app: AppTest) -> dict:
    """What the browser gets of the photograph; the gallery's strip comes first."""
    data = json.loads(app.get("bidi_component")[2].proto.json)
    return data | json.loads(data["scene"])


def app_photograph(id: str) -> Photograph:
    return open_entry(next(entry for entry in entries(None)[0] if entry.id == id))


def strike(app: AppTest, regions: list[int], attributes: list[int]) -> AppTest:
    """A click, as far as Python sees it."""
    data = scene(app)
    history = app.session_state["history"]
    words = tuple(data["attributes"][m] for m in attributes)
    app.session_state["history"] = history.then(Change(Edit(tuple(regions), words, history.now.edit.added)))
    return app.run()


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


# ---- tables


def test_change_is_split_into_falls_and_rises():
    checkpoint, scene = tiny.checkpoint(), tiny.scene()
    before = trace(checkpoint, scene, ["a", "dog", "runs"])
    after = trace(checkpoint, Edit((1,)).apply(scene), ["a", "dog", "runs"])
    table = change_table(before, after)
    np.testing.assert_allclose(table.rose - table.fell, after.log_probabilities - before.log_probabilities, rtol=1e-6)
    assert (np.minimum(table.rose, table.fell) == 0).all()
    assert table.word.tolist() == ["a", "dog", "runs", "(end)"]
    assert table.likeliest.tolist() == [words[0].replace("<eos>", "(end)") for words in after.alternatives]


def test_other_words_stand_beside_the_captioners_own():
    checkpoint, scene = tiny.checkpoint(), tiny.scene()
    own, said = trace(checkpoint, scene, ["a", "dog"]), trace(checkpoint, scene, ["a", "unicorn", "runs"])
    table = caption_table(["a", "unicorn", "runs"], said, own)
    assert table.word.tolist() == ["a", "unicorn", "runs", "(end)"]
    assert table.own.tolist()[:2] == ["a", "dog"]
    assert table.own.isna().tolist() == [False, False, True, False]
    np.testing.assert_allclose(table.log_p, said.log_probabilities, rtol=1e-6)
    np.testing.assert_allclose(table.likeliest_p, np.exp(said.alternative_log_probabilities[:, 0]), rtol=1e-6)
    assert table.own_log_p[1] == pytest.approx(own.log_probabilities[1])


# ---- history and address


def test_history_goes_back_and_forth_and_is_bounded():
    changes = [Change(Edit((i,))) for i in range(STEPS + 5)]
    history = History("photograph")
    assert history.then(Change()) == history
    for change in changes[:3]:
        history = history.then(change)
    assert history.to(1).now == changes[0]
    assert history.to(1).then(changes[9]).steps == (Change(), changes[0], changes[9])
    assert history.to(-4).at == 0
    for change in changes[3:]:
        history = history.then(change)
    assert len(history.steps) == STEPS
    assert history.now == changes[-1]


def test_an_address_brings_the_change_back(found: Trace):
    words = found.attributes
    change = Change(Edit((0, 3), words[:2], ("ball",) if "ball" not in words else ("beach",)), ("a", "dog"))
    again, problems = change_of(address_of(change))
    assert not problems
    assert sensible(again, found, tiny.vocabulary()) == (change, [])
    assert address_of(Change()) == {}


def test_only_what_makes_sense_is_kept_and_the_rest_is_named(found: Trace):
    there = found.attributes[0]
    wish, problems = change_of(
        {"out": "2,2,0,x,1e3,99", "without": f"nothing,{there}", "add": f"{there},unicorn,Two words"}
    )
    assert len(problems) == 3  # 0, x, 1e3
    change, more = sensible(wish, found, tiny.vocabulary())
    assert change == Change(Edit((1,), (there,)))
    assert len(more) == 5
    assert sensible(Change(words=("a",) * (WORDS + 1)), found, tiny.vocabulary())[0] == Change()
    many = Change(Edit(added=tuple(f"w{i}" for i in range(ADDED + 1))))
    assert f"got {ADDED + 1}; the first {ADDED} are kept" in sensible(many, found, tiny.vocabulary())[1][0]


def test_steps_are_told_in_words(found: Trace):
    there = found.attributes[0]
    first, second = Change(Edit((2,), (there,), ("zebra",))), Change(Edit(), ("a", "*dog*"))
    assert in_words(first, Change(), found).startswith("without region 3 (")
    assert in_words(first, Change(), found).endswith(f"without “{there}”, with “zebra”")
    assert in_words(second, first, found).endswith(r"“zebra” out again, caption “a \*dog\*”")
    assert in_words(Change(), second, found) == "the captioner’s own words"
    assert in_words(Change(), Change(), found) == "as it is"
    assert in_words(Change(Edit(tuple(range(5)))), Change(), found) == "without 5 regions"


def test_what_a_browser_sends_is_checked(found: Trace):
    def script():
        import streamlit as st

        from app.components.removal import requested_edit

        st.session_state.answer = requested_edit(st.session_state.trace)

    good = {"trace": found.digest, "made": 7, "regions": [3, 0, 3], "attributes": [1], "added": ["ball", "ball"]}
    bad = [
        None,
        3,
        {},
        good | {"trace": "t"},
        good | {"regions": [5]},
        good | {"regions": [-1]},
        good | {"regions": "0"},
    ]
    bad += [
        good | {"made": "7"},
        good | {"regions": [True]},
        good | {"attributes": [4]},
        good | {"attributes": ["dog"]},
        good | {"added": [1]},
        good | {"added": ["x" * 41]},
        good | {"added": [str(i) for i in range(51)]},
    ]
    for sent in [*bad, good]:
        app = AppTest.from_function(script)
        app.session_state["trace"] = found
        app.session_state["removal"] = {"edit": sent}
        expected = Edit((0, 3), (found.attributes[1],), ("ball",)) if sent is good else None
        assert app.run().session_state["answer"] == expected
        assert ("made" in app.session_state) == (sent is good)
        assert not app.exception


def test_payload_has_the_attention_and_falls_of_every_word_and_their_sums(found: Trace):
    data = payload(found)
    np.testing.assert_allclose(data["fine"], found.attention["vl"].mean(0), atol=1e-5)
    np.testing.assert_allclose(data["read"], found.attention["al"].mean(0), atol=1e-5)
    np.testing.assert_allclose(data["region_falls"], found.region_falls, atol=1e-5)
    np.testing.assert_allclose(data["attribute_falls"], found.attribute_falls, atol=1e-5)
    np.testing.assert_allclose(data["falls_of_caption"], found.attribute_falls.sum(0), atol=1e-4)
    lone = trace(tiny.checkpoint(), tiny.scene(1, 1), ["dog"], falls=True)
    assert payload(lone)["falls_of_caption"] == [None]
    assert json.dumps(payload(lone), allow_nan=False)


def test_what_comes_of_a_change_keeps_the_places_of_the_regions(found: Trace):
    edit, checkpoint, scene = Edit((1, 3)), tiny.checkpoint(), Edit((1, 3)).apply(tiny.scene())
    after = After(trace(checkpoint, scene, ["the", "dog", "sits"]), trace(checkpoint, scene, ["a", "dog"]))
    data = changed(found, edit, after)
    fine = np.array(data["fine"])
    assert fine.shape == found.attention["vl"].mean(0).shape
    assert (fine[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(fine[:, [0, 2, 4]], after.replayed.attention["vl"].mean(0), atol=1e-5)
    np.testing.assert_allclose(data["log_probabilities"], after.replayed.log_probabilities, atol=1e-5)
    assert data["words"] == ["the", "dog", "sits"]
    assert not data["same"]
    assert data["differs"] == (True, False, True, False)
    assert data["total"] == pytest.approx(float(after.said.log_probabilities.sum()), abs=1e-3)


@pytest.mark.parametrize(
    ("sent", "over"),
    [(None, "regions"), ({"over": "attributes"}, "attributes"), ({"over": "<b>"}, "regions"), (3, "regions")],
)
def test_what_the_curve_is_of_is_checked(found: Trace, sent: object, over: str):
    def script():
        import streamlit as st

        from app.components.removal import requested_over

        st.session_state.answer = [requested_over(found) for found in st.session_state.traces]

    app = AppTest.from_function(script)
    app.session_state["traces"] = [found, trace(tiny.checkpoint("updown"), tiny.scene(), ["a"])]
    app.session_state["removal"] = {"choice": sent}
    assert app.run().session_state["answer"] == [over, "regions"]  # the other captioner reads no attributes


# ---- the page


def test_the_curve_is_of_the_word_in_view(open_whatif: Open):
    app = open_whatif(photo="chelsea", step="1")
    assert fine(app)
    data, running = scene(app), engine()
    own = running.read(app_photograph("chelsea"), "glied").trace
    for step in (1, 2):
        app.session_state["choice"] = Choice(own.digest, step, 0)
        data = scene(app.run())
        found = running.deletion(app_photograph("chelsea"), "glied", own.words[:-1], step, "regions")
        assert (data["start"]["step"], data["curve"]["step"], data["curve"]["over"]) == (step, step, "regions")
        assert data["curve"]["order"] == list(found.order)
        assert len(data["curve"]["most_first"]) == len(data["boxes"])
        np.testing.assert_allclose(data["curve"]["most_first"], found.most_first, atol=1e-5)
        np.testing.assert_allclose(data["curve"]["least_first"], found.least_first, atol=1e-5)
        assert app.query_params["step"] in (str(step), [str(step)])
    # what the slider does: the second point of the curve is the word without the region it attended to most
    strike(app, [found.order[0]], [])
    assert scene(app)["after"]["log_probabilities"][2] == pytest.approx(data["curve"]["most_first"][1], abs=1e-4)


def test_a_change_is_answered_word_by_word_and_undone(open_whatif: Open):
    app = open_whatif(photo="chelsea")
    assert fine(app)
    assert not app.dataframe
    strike(app, [0, 4], [1])
    assert fine(app)
    table = app.dataframe[0].value
    assert {"word", "fell", "rose", "likeliest"} <= set(table)
    assert table[["fell", "rose"]].to_numpy().max() > 0
    data = scene(app)
    assert (data["regions"], data["struck"]) == ([0, 4], [1])
    assert app.query_params["out"] == "1,5"
    assert app.query_params["without"] == data["attributes"][1]
    press(app, "Undo")
    assert fine(app)
    assert not app.dataframe
    assert "out" not in app.query_params
    press(app, "Redo")
    assert app.query_params["out"] == "1,5"
    press(app, "Start over")
    assert "out" not in app.query_params
    app.radio[0].set_value(1).run()
    assert app.query_params["out"] == "1,5"


def test_an_address_is_restored(open_whatif: Open):
    app = open_whatif(photo="coffee", out="2,3", say="a dog")
    assert fine(app)
    assert not app.toast
    assert scene(app)["regions"] == [1, 2]
    assert scene(app)["made"] is None  # nothing yet in this session
    assert app.text_input(key="new_caption").value == "a dog"
    assert len(app.dataframe) == 2


def test_a_senseless_address_gets_toasts(open_whatif: Open):
    app = open_whatif(out="0,999", add="unicorn")
    assert fine(app)
    assert len(app.toast) == 3
    assert scene(app)["regions"] == []
    assert not {"out", "add"} & set(app.query_params)


def test_taking_everything_away_gets_one_sentence_and_can_be_undone(open_whatif: Open):
    app = open_whatif()
    strike(app, list(range(len(scene(app)["boxes"]))), [])
    assert not app.exception
    assert [error.value for error in app.error] == [
        "Expected at least one region and one attribute to be left; put some back."
    ]
    assert fine(press(app, "Undo"))


@pytest.fixture
def click(monkeypatch: pytest.MonkeyPatch) -> Callable[[AppTest, Edit], AppTest]:
    """What the page does once the browser has asked for an edit."""

    def asks(app: AppTest, edit: Edit) -> AppTest:
        real = removal.removal

        def clicked(*scene, on_edit, on_choice):
            monkeypatch.setattr(removal, "removal", real)
            on_edit()
            st.rerun()

        monkeypatch.setattr(removal, "requested_edit", lambda trace: edit)
        monkeypatch.setattr(removal, "removal", clicked)
        return app.run()

    return asks


@pytest.mark.parametrize(
    ("word", "why"), [("unicorn", "no word “unicorn”"), ("two words", "one word"), ("", "already")]
)
def test_a_word_that_cannot_be_added_is_told_and_the_rest_is_kept(open_whatif: Open, click, word: str, why: str):
    app = open_whatif()
    click(app, Edit((1,), (), (word or scene(app)["attributes"][0],)))
    assert why in app.warning[0].value.replace("\\", "")
    assert (scene(app)["regions"], scene(app)["added"]) == ([1], [])
    click(app, Edit())
    assert not app.warning


def test_words_are_added_and_taken_out_again(open_whatif: Open, click):
    app = open_whatif()
    known = engine().models["glied"].vocabulary.words[4:-1]
    missing = [word for word in known if word not in scene(app)["attributes"]][:2]
    assert missing, "the tiny detector finds every word in this photograph"
    click(app, Edit(added=tuple(missing)))
    assert fine(app)
    assert app.query_params["add"] in (",".join(missing), [",".join(missing)])
    assert scene(app)["added"] == missing
    assert len(app.dataframe) == 1
    click(app, Edit())
    assert "add" not in app.query_params


@pytest.mark.parametrize(("text", "sentence"), [("  ", "got no word"), ("!?", "got no word"), ("a " * 100, "got 100")])
def test_a_caption_that_cannot_be_read_gets_one_sentence(open_whatif: Open, text: str, sentence: str):
    app = open_whatif()
    own = app.text_input(key="new_caption").value
    app.text_input(key="new_caption").set_value(text).run()
    assert not app.exception
    assert len(app.warning) == 1
    assert sentence in app.warning[0].value
    assert not app.dataframe
    app.switch_page("views/about.py").run()
    app.switch_page("views/whatif.py").run()
    assert not app.warning
    assert app.text_input(key="new_caption").value == own
    app.text_input(key="new_caption").set_value("a dog").run()
    assert not app.warning
    assert app.dataframe[0].value["word"].tolist() == ["a", "dog", "(end)"]


def test_unknown_words_of_a_caption_are_named(open_whatif: Open):
    app = open_whatif()
    app.text_input(key="new_caption").set_value("A unicorn, on <b>").run()
    assert fine(app)
    assert "“unicorn”" in app.info[0].value
    assert app.dataframe[0].value["word"].tolist() == ["a", "unicorn", "on", "b", "(end)"]
    assert app.query_params["say"] == "a unicorn on b"
    press(app, "Undo")
    assert "say" not in app.query_params
    assert not app.info


def test_another_photograph_begins_anew_and_an_upload_stays_out_of_the_address(open_whatif: Open):
    app = strike(open_whatif(), [1], [])
    app.selectbox(key="photo").select("coffee").run()
    assert scene(app)["regions"] == []
    assert "out" not in app.query_params
    app.file_uploader[0].upload("a.png", encoded(PHOTOGRAPH, "PNG"), "image/png").run()
    strike(app, [1], [])
    assert fine(app)
    assert scene(app)["regions"] == [1]
    assert "out" not in app.query_params
    assert app.query_params["photo"] == "yours"  # no more than that


def test_the_change_stays_from_captioner_to_captioner_and_page_to_page(open_whatif: Open):
    app = strike(open_whatif(), [1], [])
    app.segmented_control(key="model").set_value("base").run()
    assert fine(app)
    assert scene(app)["regions"] == [1]
    app.switch_page("views/about.py").run()
    app.switch_page("views/whatif.py").run()
    assert scene(app)["regions"] == [1]


def test_changes_of_a_photograph_wait_for_one_to_come_back(open_whatif: Open):
    app = open_whatif(photo="chelsea", out="2")
    assert app.session_state["history"].now.edit.regions == (1,)
    app.selectbox(key="photo").select("coffee").run()
    assert app.session_state["history"].now.edit.regions == ()
    app.selectbox(key="photo").select("chelsea").run()
    assert app.session_state["history"].now.edit.regions == (1,)
    assert app.query_params["out"] in ("2", ["2"])
