"""Compare: any two captioners, the words that differ, and an address that brings the view back."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from streamlit.testing.v1 import AppTest
from test_uploads import PHOTOGRAPH

from analysis.diff import (
    differing,
    differing_words,
    evidence_table,
    moves_table,
    photograph_scores,
    rivals,
    strongest_move,
)
from app.engine import ask
from app.photographs.gallery import entries, open_entry
from app.state import Choice
from app.texts import plain
from glied.replay import log_p_when_even, trace

Open = Callable[..., AppTest]


@pytest.fixture
def open_compare(open_app: Open) -> Open:
    return lambda **address: open_app(**address).switch_page("views/compare.py").run()


@pytest.fixture
def with_rl(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_compare: Open) -> Open:
    folder = Path(shutil.copytree(checkpoints, tmp_path / "both"))
    for name in ("glied", "base"):
        shutil.copy(folder / f"{name}.safetensors", folder / f"{name}-rl.safetensors")

    def start(**address: str) -> AppTest:
        monkeypatch.setenv("GLIED_CHECKPOINTS", str(folder))
        return open_compare(**address)

    return start


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def shown(app: AppTest) -> dict:
    """What the browser gets of the two captions."""
    found = [json.loads(part.proto.json) for part in app.get("bidi_component") if part.proto.json]
    return next(data for data in found if "traces" in data)


def titles(app: AppTest) -> list[str]:
    return shown(app)["titles"]


def sentences(app: AppTest) -> list[str]:
    return ["".join(text for text, _ in parts) for parts in shown(app)["sentences"]]


def tables(app: AppTest, column: str) -> list[pd.DataFrame]:
    return [table.value for table in app.dataframe if column in table.value]


def test_words_that_differ_are_paired_in_order():
    assert differing(["a", "man", "sits", "here"], ["the", "man", "is", "sitting"]) == [(0, 0), (2, 2), (3, 3)]
    assert differing(["a", "dog"], ["a", "red", "dog"]) == [(None, 1)]
    assert differing(["a", "red", "big", "dog"], ["a", "dog"]) == [(1, None), (2, None)]
    assert differing(["a"], ["a"]) == []


def test_each_word_is_read_by_both_captioners():
    glied, base, scene = tiny.checkpoint("glied"), tiny.checkpoint("base"), tiny.scene()
    left, right = (
        trace(base, scene, ["a", "dog", "runs"], falls=True),
        trace(glied, scene, ["a", "red", "cat", "runs"]),
    )
    seen = trace(glied, scene, ["a", "dog", "runs"]), trace(base, scene, ["a", "red", "cat", "runs"])
    table = differing_words(left, right, *seen)
    assert table.left.tolist()[0] == "dog"
    assert pd.isna(table.left[1])
    assert table.right.tolist() == ["red", "cat"]
    assert table.left_own[0] == pytest.approx(left.log_probabilities[1])
    assert table.left_other[0] == pytest.approx(seen[0].log_probabilities[1])
    assert table.right_own.tolist() == pytest.approx(right.log_probabilities[1:3].tolist())
    assert table.right_other.tolist() == pytest.approx(seen[1].log_probabilities[1:3].tolist())
    assert math.isnan(table.left_own[1])


def test_evidence_is_the_top_region_and_attribute_and_their_falls():
    found = trace(tiny.checkpoint("glied"), tiny.scene(), ["a", "dog"], falls=True)
    row = evidence_table(found, [1]).iloc[0]
    regions, attributes = found.attention["vl"].mean(0)[1], found.attention["al"].mean(0)[1]
    assert row.region.startswith(f"{regions.argmax() + 1} ")
    assert row.region_attention == pytest.approx(regions.max())
    assert row.region_fall == pytest.approx(found.region_falls[1, regions.argmax()])
    assert row.attribute == found.attributes[attributes.argmax()]
    assert row.attribute_fall == pytest.approx(found.attribute_falls[1, attributes.argmax()])
    bare = trace(tiny.checkpoint("glied"), tiny.scene(), ["a", "dog"])
    assert math.isnan(evidence_table(bare, [1]).region_fall[0])
    none = evidence_table(bare, [])
    assert none.empty
    both = pd.concat([none, evidence_table(found, [1])])
    assert both.select_dtypes("float").columns.equals(evidence_table(found, [1]).select_dtypes("float").columns)


def test_scores_stand_beside_the_usual_size_of_their_difference():
    left = {"a": {"CIDEr": 0.5, "METEOR": 0.2}, "b": {"CIDEr": 0.1}, "c": {"CIDEr": 9}}
    right = {"a": {"CIDEr": 0.7}, "b": {"CIDEr": 0.2}, "d": {"CIDEr": 9}}
    table = photograph_scores(left, right, "a", ("CIDEr", "METEOR"))
    assert table.index.tolist() == ["CIDEr"]
    assert table.loc["CIDEr"].tolist() == pytest.approx([50, 70, 20, np.std([20, 10], ddof=1)])


def test_words_are_never_markup():
    assert plain("<b> *a* [x](y) $z$ :red[x]") == r"\<b\> \*a\* \[x\]\(y\) \$z\$ \:red\[x\]"


def test_a_word_stands_against_the_other_captions_at_its_place():
    glied, base, scene = tiny.checkpoint("glied"), tiny.checkpoint("base"), tiny.scene()
    left = trace(base, scene, ["a", "dog", "runs", "on", "grass"])
    right = trace(glied, scene, ["a", "red", "dog", "sits", "on", "grass"])
    assert rivals(left, right, 1) == ("dog", "red")  # where they part
    assert rivals(left, right, 2) == ("runs", "sits")  # at the same place later
    same = rivals(left, right, 4)
    assert same == ("grass", next(word for word in left.alternatives[4] if word != "grass"))
    assert rivals(right, left, 1) == ("red", "dog")
    assert rivals(right, left, 6)[1] != "<eos>"


def test_the_function_that_changes_the_difference_most_is_named():
    found = trace(tiny.checkpoint("base"), tiny.scene(), ["a", "dog"])
    table = moves_table(found, np.log([[0.5, 0.2], [0.1, 0.05], [0.4, 0.3], [0.5, 0.1]]))
    assert table["name"].tolist() == [
        "context attention to words",
        "local attention to regions",
        "local attention to attributes",
    ]
    assert table.equation.tolist() == ["Base Eq. (7)", "Base Eq. (8)", "Base Eq. (8)"]
    np.testing.assert_allclose(table[["word", "rival"]].to_numpy()[0], np.log([0.2, 0.25]))
    move = strongest_move(table, ("dog", "cat"))
    assert move
    assert (move.name, move.words) == ("local attention to attributes", ("cat", "dog"))
    assert move.changes == pytest.approx((np.log(0.5), 0))
    assert strongest_move(table.iloc[:0], ("dog", "cat")) is None


def test_compare_tells_the_words_that_differ_first(open_compare: Open):
    app = open_compare(photo="chelsea")
    assert fine(app)
    assert titles(app) == ["Base", "GLIED"]
    assert len(shown(app)["photos"]) == 1
    differ, evidence = tables(app, "Base says")[0], tables(app, "attention to it")[0]
    assert len(differ) >= 1
    assert set(evidence["side"]) <= {"Base", "GLIED"}
    assert len(evidence) == differ[["Base says", "GLIED says"]].notna().to_numpy().sum()
    assert len(sentences(app)) == len(differ)
    first = differ.iloc[0]
    for side, other in (("Base", "GLIED"), ("GLIED", "Base")):
        if pd.notna(first[f"{side} says"]):
            assert f"{side} says {first[f'{side} says']} (" in sentences(app)[0] or f"Only {side}" in sentences(app)[0]
            assert f"{other} would with" in sentences(app)[0]


def test_what_moves_the_word_where_they_part_is_said_of_both(open_compare: Open):
    app = open_compare(photo="chelsea")
    left, right = json.loads(shown(app)["traces"])
    step = left["differs"].index(True) if True in left["differs"] else right["differs"].index(True)
    assert app.query_params["step"] in (str(step), [str(step)])  # the first word that differs is in view
    moved = tables(app, "attention function")[0]
    assert moved.captioner.tolist() == ["Base"] * 3 + ["GLIED"] * 6
    words = [column.strip("“”") for column in moved.columns if column.startswith("“")]
    assert words == [left["words"][step], right["words"][step]]
    said = next(text.value for text in app.markdown if text.value.startswith("- "))
    assert [line.split("’")[0] for line in said.splitlines()] == ["- Base", "- GLIED"]
    base, checkpoint = moved[moved.captioner == "Base"], ask.engine().load("base")
    photograph = open_entry(next(entry for entry in entries(None)[0] if entry.id == "chelsea"))
    scene = ask.engine()._scene(photograph)
    raw = {"(end)": "<eos>", "(unknown)": "<unk>"}
    found = log_p_when_even(checkpoint, scene, left["words"][:step], [raw.get(word, word) for word in words])
    np.testing.assert_allclose(base.iloc[:, -2:].to_numpy(), found[1:] - found[0], atol=1e-5)
    app.session_state["choice"] = Choice(left["digest"], len(left["words"]) - 1, 0)
    app.run()
    assert tables(app, "attention function")[0].columns[-2] == "“(end)”"


def test_two_photographs_under_one_captioner(open_compare: Open):
    app = open_compare(photo="chelsea", kind="Two photographs", second="Coffee")
    assert fine(app)
    assert not app.toast
    assert titles(app)[1] == "Coffee"
    assert len(shown(app)["photos"]) == 2
    left, right = json.loads(shown(app)["traces"])
    assert left["boxes"] != right["boxes"]
    assert not tables(app, "attention function")
    assert any(text.value.startswith(("Both captions say", "The captions share")) for text in app.markdown)
    app.segmented_control(key="model").set_value("base").run()
    assert fine(app)
    assert json.loads(shown(app)["traces"])[0]["digest"] != left["digest"]
    app.selectbox(key="photo").select("coffee").run()  # the second has become the first
    assert fine(app)
    assert titles(app)[0] == "Coffee"
    assert titles(app)[1] != "Coffee"


def test_an_unknown_second_photograph_gets_a_toast(open_compare: Open):
    app = open_compare(kind="Two photographs", second="<b>")
    assert fine(app)
    assert len(app.toast) == 1
    assert len(shown(app)["photos"]) == 2


def test_swap_turns_the_sides_round_and_the_address_with_them(open_compare: Open):
    app = open_compare()
    first = tables(app, "GLIED says")[0]
    app.button(key="swap").click().run()
    assert fine(app)
    assert titles(app) == ["GLIED", "Base"]
    assert (app.query_params["left"], app.query_params["right"]) == ("GLIED", "Base")
    assert tables(app, "GLIED says")[0]["GLIED says"].tolist() == first["GLIED says"].tolist()


def test_any_two_captioners(with_rl: Open):
    app = with_rl(photo="chelsea")
    assert titles(app) == ["Base", "GLIED"]
    assert (app.selectbox(key="left").value, app.selectbox(key="right").value) == ("base-rl", "glied-rl")
    app.selectbox(key="left").select("glied").run()
    assert fine(app)
    assert titles(app) == ["GLIED before RL", "GLIED"]
    assert "say the same" in sentences(app)[0]  # the tiny one after RL is a copy


def test_a_captioner_beside_itself_gets_one_sentence(open_compare: Open):
    app = open_compare(left="GLIED")
    assert fine(app)
    assert "Both sides are GLIED" in app.info[0].value
    assert not app.dataframe


def test_an_unknown_captioner_in_the_address_gets_a_toast(open_compare: Open):
    app = open_compare(left="<b>", photo="chelsea")
    assert fine(app)
    assert len(app.toast) == 1
    assert titles(app) == ["Base", "GLIED"]


def test_the_address_names_the_word_and_head_of_the_left_board(open_compare: Open):
    app = open_compare(photo="chelsea", step="2", head="1")
    assert (app.query_params["step"], app.query_params["head"]) == ("2", "1")
    left, right = json.loads(shown(app)["traces"])
    pairs = right["pairs"]
    app.session_state["choice"] = Choice(left["digest"], 1, 2)
    app.run()
    assert (app.query_params["step"], app.query_params["head"]) == ("1", "2")
    partner = pairs.index(0)
    app.session_state["choice"] = Choice(right["digest"], partner, 0)
    app.run()
    assert (app.query_params["step"], app.query_params["head"]) == (str(pairs[partner]), "0")


def test_scores_of_the_photograph_where_both_have_a_report(
    open_compare: Open, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home, folder = tmp_path / "data", Path(shutil.copytree(checkpoints, tmp_path / "checkpoints"))
    (home / "images").mkdir(parents=True)
    PHOTOGRAPH.save(home / "images" / "a.png")
    record = {"filename": "a.png", "split": "val", "sentences": [{"raw": "A dog."}]}
    (home / "captions.json").write_text(json.dumps({"images": [record]}))
    monkeypatch.setenv("GLIED_IMAGES", str(home))
    app = open_compare(photo="a.png")
    assert [text.value for text in app.text] == ["A dog."]
    assert not any("its usual size" in table.value for table in app.dataframe)
    os.environ["GLIED_CHECKPOINTS"] = str(folder)  # the fixture puts it back
    digests = {name: model.digest for name, model in ask.engine().models.items()}
    for name, score in (("base", 0.5), ("glied", 0.75)):
        images = {"a.png": {"caption": "a dog", "CIDEr": score}, "b.png": {"caption": "a dog", "CIDEr": 0.1}}
        report = {"scores": {}, "images": images, "title": name, "checkpoint": digests[name], "data": "d"}
        rest = {"split": "val", "missing": {}, "tokenizer": "python", "perplexity": 1, "habits": {}, "human_habits": {}}
        (folder / f"{name}.json").write_text(json.dumps(report | rest))
    app = open_compare(photo="a.png")
    assert fine(app)
    scores = next(table.value for table in app.dataframe if "its usual size" in table.value)
    assert scores.loc["CIDEr", ["Base", "GLIED", "GLIED minus Base"]].tolist() == [50, 75, 25]
    assert any("2 photographs" in text.value for text in app.caption)
    (folder / "base.json").write_text((folder / "base.json").read_text().replace('"python"', '"PTB"'))  # cut otherwise
    app = open_compare(photo="a.png")
    assert fine(app)
    assert not any("its usual size" in table.value for table in app.dataframe)
