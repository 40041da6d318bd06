"""The report as a page: tables against values worked by hand, sentences that follow the numbers."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis import figures, scores
from app.engine.ask import engine
from app.engine.engine import Engine
from app.engine.reports import comparable
from glied.checkpoint import describe
from glied.evaluation.metrics import interval, paired
from glied.functions import GLIED as GLIED_FUNCTIONS

Open = Callable[..., AppTest]
HOSTILE = "<b>*x*_1.jpg"
IDS = ("grace_hopper", "coffee", HOSTILE, *(f"{i}.jpg" for i in range(21)))


def mean(value: float | None, width: float = 0.02) -> dict:
    if value is None:
        return {"mean": None, "low": None, "high": None, "count": 0}
    return {"mean": value, "low": value - width, "high": value + width, "count": 9}


def grounding(groups: bool) -> dict:
    names = {"local": 0.3, "chance": 0.1, "centre": 0.31, "ceiling": 0.8} | ({"global": 0.2} if groups else {})
    curves = {"attended": (0.5, 0.9, None), "random": (0.1, 0.2, None)}
    curve = {
        o: [{"removed": n} | mean(v) for n, v in zip((1, 2, 4), values, strict=True)] for o, values in curves.items()
    }
    found = {
        "photographs": len(IDS),
        "pointing": {
            "human": {n: mean(v) for n, v in names.items()},
            "generated": dict.fromkeys(names, mean(None)),
        },
        "falls": {"regions": curve, "attributes": curve},
    }
    return found | ({"groupings": {"same": mean(1.4), "others": mean(1.1), "near": mean(1.0)}} if groups else {})


def report(title: str, add: float = 0.0, digest: str = "d") -> dict:
    values = {id: float(v) + add for id, v in zip(IDS, np.random.default_rng(0).gamma(2, 0.3, len(IDS)), strict=True)}
    images = {id: {"caption": f"{title} says {id}", "CIDEr": v, "ROUGE_L": v / 3} for id, v in values.items()}
    habits = {"length": 9.5, "words": 30, "ends_in_function_word": 0.0, "repeats_content_word": 0.125}
    whole = {"Bleu_4": 0.25, "METEOR": None, "CIDEr": float(np.mean(list(values.values()))), "ROUGE_L": 0.9}
    return {
        "title": title,
        "scores": whole,
        "images": images,
        "missing": {"METEOR": ["java_missing", "METEOR needs Java."]},
        "tokenizer": "ptb",
        "perplexity": 16.5,
        "habits": habits,
        "human_habits": habits | {"words": 99},
        "checkpoint": digest,
        "data": "flickr8k",
        "split": "val",
        "options": {"beam": 3},
        "grounding": grounding(title == "GLIED"),
    }


BASE, GLIED = report("Base"), report("GLIED", 0.1)
BOTH = {"Base": BASE, "GLIED": GLIED}


def test_scores_have_an_interval_where_they_are_means():
    table = scores.score_table({"GLIED": GLIED, "Base": BASE}).set_index("captioner")
    own = np.array([100 * GLIED["images"][id]["CIDEr"] for id in sorted(IDS)])
    assert table.loc["GLIED", "CIDEr"] == pytest.approx(own.mean())
    assert tuple(table.loc["GLIED", ["CIDEr low", "CIDEr high"]]) == pytest.approx(interval(own))
    assert table.loc["Base", "Bleu_4"] == 25
    assert not {"METEOR", "SPICE", "ROUGE_L low", "Bleu_4 low"} & set(table.columns)


def test_differences_are_paired():
    table = scores.difference_table(BOTH).set_index("metric")
    assert list(table.index) == ["CIDEr", "ROUGE_L, mean over photographs"]  # the whole split has 90, they 40
    found = paired(scores.column(GLIED, "CIDEr"), scores.column(BASE, "CIDEr"))
    assert table.loc["CIDEr", "difference"] == pytest.approx(10)
    assert table.loc["CIDEr", "p"] == found["p"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 2, "GLIED scores more"), (-2, -0.1, "Base scores more"), (-1, 2, "do not tell them apart")],
)
def test_a_difference_is_claimed_only_where_the_interval_leaves_out_0(low: float, high: float, said: str):
    row = {"metric": "CIDEr", "difference": (low + high) / 2, "low": low, "high": high, "p": 0.04}
    assert said in scores.say_difference(row, "Base", "GLIED")


def test_photographs_stand_side_by_side():
    table = scores.photograph_table(BOTH, "CIDEr").set_index("id")
    assert table.loc["coffee", "GLIED"] == pytest.approx(100 * GLIED["images"]["coffee"]["CIDEr"])
    np.testing.assert_allclose(table["difference"], 10)
    assert table.loc["coffee", "Base caption"] == "Base says coffee"


def test_habits_are_percent_beside_peoples():
    table = scores.habit_table({"Base": BASE}).set_index("captioner")
    assert table.loc["Base", "repeat a content word (%)"] == 12.5
    assert table.loc["people, first caption", "different words"] == 99
    assert np.isnan(table.loc["people, first caption", "perplexity"])
    assert "not said in training (%)" not in table


def test_sentences_follow_the_intervals():
    rows = scores.pointing_table({"GLIED": GLIED["grounding"]}, "human")
    said = scores.say_pointing(rows)
    assert "30.0 % of object words (28.0 % to 32.0 %)" in said
    assert "more often than a region at random (10.0 %) and not clearly more or less often than a box in the " in said
    assert "global attention (groups) for 20.0 %" in said
    low = rows.assign(low=lambda t: t["low"].where(t["pointed by"] != "local", 0.01))
    low["high"] = low["high"].where(low["pointed by"] != "local", 0.05)
    assert "less often than a region at random" in scores.say_pointing(low)
    groups = scores.group_table({"GLIED": GLIED["grounding"], "Base": BASE["grounding"]})
    assert set(groups["captioner"]) == {"GLIED"}
    assert "more often than those that are merely near" in scores.say_groups(groups)


def test_falls_are_compared_where_both_are_known():
    table = scores.fall_table({"Base": BASE["grounding"]})
    rows = table[table["sense"] == "regions"]
    assert set(rows["removed"]) == {1, 2}
    assert "more at 2 of 2 numbers removed" in scores.say_falls(rows)
    swapped = rows.assign(order=rows["order"].map({"attended": "random", "random": "attended"}))
    assert "more at 0 of 2 numbers removed and less at 2" in scores.say_falls(swapped)


def test_key_shares_by_captioner_and_function():
    shares = {"vd": mean(0.6), "al": mean(None)}
    declared = [asdict(function) for function in GLIED_FUNCTIONS]
    table = scores.key_share_table({"GLIED": {"key_share": shares, "functions": declared}, "Base": BASE["grounding"]})
    assert table[["captioner", "attention", "mean"]].to_numpy().tolist() == [["GLIED", "regions, grouping (vd)", 0.6]]
    assert scores.key_share_table({"Base": BASE["grounding"]}).empty


def test_nothing_known_is_said_so():
    assert scores.pointing_table({"Base": BASE["grounding"]}, "generated").empty
    assert "No photograph" in scores.say_falls(pd.DataFrame({"order": [], "removed": [], "sense": []}))


def test_reports_of_other_photographs_are_told_apart():
    assert scores.are_comparable(GLIED, BASE)
    assert not scores.are_comparable(GLIED, BASE | {"split": "test"})
    assert not scores.are_comparable(GLIED, BASE | {"images": {}})


def test_the_papers_table_is_whole():
    table = scores.paper_table().set_index("captioner")
    assert len(table) == 11
    assert table.loc["GLIED, cross-entropy", "CIDEr"] == "118.2"
    assert table.loc["SCST*, cross-entropy", "B-1"] == "-"


def test_figures_hold_the_numbers():
    table = scores.photograph_table(BOTH, "CIDEr")
    _, points, ring = figures.score_scatter(table, "CIDEr", "coffee").data
    assert len(points.x) == len(IDS)
    assert [place[0] for place in points.customdata] == sorted(IDS)
    assert list(ring.y) == pytest.approx([100 * GLIED["images"]["coffee"]["CIDEr"]])
    both = {"Base": BASE["grounding"], "GLIED": GLIED["grounding"]}
    bars = figures.mean_bars(scores.pointing_table(both, "human"), "pointed by", scores.SEEN, "share")
    assert [bar.name for bar in bars.data] == ["Base", "GLIED"]
    assert bars.data[1].error_x.array == pytest.approx([0.02] * 5)
    assert bars.layout.yaxis.categoryarray[0] == scores.SEEN["global"]
    curves = figures.fall_curves(scores.fall_table(both), "regions").data
    assert [curve.line.dash for curve in curves] == ["solid", "dot", "solid", "dot"]
    assert list(curves[0].y) == [0.5, 0.9]


def test_learning_curves_are_coloured_by_captioner_and_end_where_the_checkpoints_say(root: Path):
    table = pd.read_csv(root / "docs" / "curves.csv")
    drawn = {curve.name: curve for curve in figures.training_curve(table, "val_CIDEr").data}
    assert {name: curve.line.color for name, curve in drawn.items()} == {
        f"{name}, {training}": colour
        for name, colour in figures.PAIR.items()
        for training in ("cross-entropy", "self-critical")
    }
    assert len({(curve.line.color, curve.line.dash) for curve in drawn.values()}) == 4
    assert len(figures.training_curve(table, "reward").data) == 2
    for name, title in (("base", "Base, cross-entropy"), ("glied-rl", "GLIED, self-critical")):
        card = describe(root / "checkpoints" / f"{name}.safetensors")["provenance"]
        best = max(zip(drawn[title].y, drawn[title].x, strict=True))
        assert best == (pytest.approx(card["val_CIDEr_beam_3"], abs=6e-4), card["epochs"])


@pytest.fixture
def folder(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoints with their reports."""
    place = Path(shutil.copytree(checkpoints, tmp_path / "reported"))
    models = Engine(place).models
    for name, base in (("glied", GLIED), ("base", BASE)):
        (place / f"{name}.json").write_text(json.dumps(base | {"checkpoint": models[name].digest}))
    return place


@pytest.fixture
def open_dataset(open_app: Open, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(folder))
    return lambda **address: open_app(**address).switch_page("views/dataset.py").run()


def rewrite(file: Path, **changes) -> None:
    file.write_text(json.dumps(copy.deepcopy(json.loads(file.read_text())) | changes))


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def test_the_page_shows_the_report(open_dataset: Open):
    app = open_dataset()
    assert fine(app)
    assert not [info for info in app.info if "report" in info.value]
    assert list(app.dataframe[0].value["captioner"]) == ["GLIED", "Base"]
    text = " ".join(part.value for part in app.markdown)
    assert f"{len(IDS)} photographs" in text
    assert "CIDEr: +10.0 (95 % interval +10.0 to +10.0" in text
    assert len(app.get("plotly_chart")) == 5 + 3  # learning curves
    assert {"Scores", "GLIED minus Base", "Is the attention true?"} <= {part.value for part in app.header}
    assert len(app.get("download_button")) >= 6


def test_key_shares_and_partners_are_shown_where_a_report_has_them(open_dataset: Open, folder: Path):
    app = open_dataset()
    assert "Does attention depend on the query" not in " ".join(part.value for part in app.markdown)
    more = {"data": "a*b", "key_share": {"vd": mean(0.6)}, "top_partners": mean(4.2, 0.3)}
    rewrite(folder / "glied.json", grounding=GLIED["grounding"] | more)
    app = open_dataset()
    assert fine(app)
    text = " ".join(part.value for part in app.markdown)
    assert "have 4.2 different top partners (3.9 to 4.5)" in text
    shown = next(part.value for part in app.dataframe if "attention" in part.value)
    assert shown[["captioner", "mean"]].to_numpy().tolist() == [["GLIED", 0.6]]
    rewrite(folder / "base.json", grounding=BASE["grounding"] | {"data": "a*b", "key_share": {"v": mean(0.3)}})
    app = open_dataset()
    assert fine(app)
    assert f"{len(IDS)} photographs of a\\*b in which" in " ".join(part.value for part in app.markdown)


def test_a_photograph_of_the_gallery_leads_to_the_other_pages(open_dataset: Open):
    app = open_dataset()
    app.selectbox(key="point").select("coffee").run()
    assert fine(app)
    assert {"GLIED says coffee", "Base says coffee"} <= {text.value for text in app.text}
    links = [link.proto for link in app.get("page_link")]
    assert [link.label for link in links] == ["Explore", "Compare"]
    assert all("photo=coffee" in str(link) for link in links)


def test_other_photographs_are_shown_without_links_or_markup(open_dataset: Open):
    app = open_dataset()
    app.selectbox(key="point").select(HOSTILE).run()
    assert fine(app)
    assert f"GLIED says {HOSTILE}" in {text.value for text in app.text}
    assert not app.get("page_link")
    assert any("\\<b\\>\\*x\\*" in caption.value for caption in app.caption)


def test_a_choice_never_draws_samples_again(open_dataset: Open, monkeypatch: pytest.MonkeyPatch):
    app = open_dataset()
    drawn: list[str] = []
    monkeypatch.setattr(scores, "score_table", lambda *a: drawn.append("scores"))
    monkeypatch.setattr(scores, "difference_table", lambda *a: drawn.append("differences"))
    app.selectbox(key="point").select("coffee").run()
    app.segmented_control(key="metric").set_value("ROUGE_L").run()
    assert fine(app)
    assert not drawn


def test_the_captioners_own_captions_without_boxes_get_a_sentence(open_dataset: Open):
    app = open_dataset()
    app.segmented_control(key="kind").set_value("generated").run()
    assert fine(app)
    assert any("No object word" in info.value for info in app.info)


def test_without_reports_the_page_names_the_command(open_dataset: Open, folder: Path):
    for name in ("glied", "base"):
        (folder / f"{name}.json").unlink()
    app = open_dataset()
    assert fine(app)
    assert all("python -m glied evaluate" in info.value for info in app.info)
    assert [info.value.split(". ")[0] for info in app.info] == ["GLIED and Base have no report yet"]
    assert len(app.get("plotly_chart")) == 3  # learning curves
    assert list(app.dataframe[0].value["CIDEr"])[-1] == "129.3"  # the paper's own table, alone


def test_half_a_pair_is_shown_without_comparison(open_dataset: Open, folder: Path):
    (folder / "base.json").write_text("{")
    app = open_dataset()
    assert fine(app)
    assert "could not be read" in app.info[0].value
    assert list(app.dataframe[0].value["captioner"]) == ["GLIED"]
    assert "GLIED minus Base" not in {part.value for part in app.header}


def test_another_split_is_left_out(open_dataset: Open, folder: Path):
    rewrite(folder / "base.json", split="test")
    app = open_dataset()
    assert fine(app)
    assert "Base (flickr8k test) is left out" in app.info[0].value


def test_reports_of_another_data_set_are_a_choice_away(open_dataset: Open, folder: Path):
    assert not [control for control in open_dataset().segmented_control if control.key == "set"]
    coco = json.loads((folder / "glied.json").read_text()) | {"data": "coco"}
    coco["images"] = {f"coco {id}": values for id, values in coco["images"].items()}
    (folder / "glied.coco.json").write_text(json.dumps(coco))
    app = open_dataset()
    app.segmented_control(key="set").set_value("coco val").run()
    assert fine(app)
    assert "of the data set **coco**" in " ".join(part.value for part in app.markdown)
    assert list(app.dataframe[0].value["captioner"]) == ["GLIED"]
    assert "Base has no report of this data set" in app.info[0].value
    app = open_dataset(set="coco val")
    assert list(app.dataframe[0].value["captioner"]) == ["GLIED"]
    assert len(comparable("base", "glied")) == 1


@pytest.mark.parametrize("without", [("glied",), ("base", "glied")])
def test_reports_without_grounding_say_so(open_dataset: Open, folder: Path, without: tuple[str, ...]):
    for name in without:
        kept = json.loads((folder / f"{name}.json").read_text())
        del kept["grounding"]
        (folder / f"{name}.json").write_text(json.dumps(kept))
    app = open_dataset()
    assert fine(app)
    told = ", ".join(engine().titles[name] for name in without)
    assert any("--grounding" in info.value and info.value.endswith(f": {told}.") for info in app.info)


def test_about_quotes_what_was_measured(open_dataset: Open):
    app = open_dataset().switch_page("views/about.py").run()
    assert fine(app)
    text = " ".join(part.value for part in app.markdown)
    assert "Measured on flickr8k val" in text
    assert text.count("covers the object for 30.0 %") == 2
