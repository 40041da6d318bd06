"""Reports as tables: the same photographs, told apart, nothing mixed."""

import json
from pathlib import Path
from typing import Any

import pytest

from glied.errors import GliedError
from glied.evaluation.report import check_same, differences, distinguish, markdown, read_report


def report(shift: float = 0.0, **changes: Any) -> dict[str, Any]:
    images = {str(i): {"caption": "a dog", "CIDEr": 0.5 + i / 100 + shift, "ROUGE_L": 0.4} for i in range(20)}
    scores = {"Bleu_1": 0.61, "METEOR": None, "CIDEr": 0.595 + shift, "SPICE": None}
    return {
        "title": "GLIED, self-critical",
        "checkpoint": "aaaa",
        "data": "flickr8k",
        "split": "val",
        "scores": scores,
        "missing": {"METEOR": ("java_missing", "Expected Java, found none.")},
        "tokenizer": "python",
        "perplexity": 15.94,
        "habits": {"length": 9.73, "words": 1575},
        "human_habits": {"length": 11.4, "words": 12345},
        "images": images,
    } | changes


def test_the_papers_rows_and_ours_are_in_tables_of_their_own() -> None:
    text = markdown([report()])
    paper, ours = text.split("## Ours: flickr8k val, 20 photographs")
    assert "| GLIED, self-critical | 80.4 | - | - | 39.6 | 28.9 | 58.8 | 129.3 | 22.6 |" in paper
    assert "| GLIED, self-critical (`aaaa`) | 61.0 | - | - | - | - | - | 59.5 | - |" in ours
    assert "METEOR: Expected Java, found none." in ours
    assert "our tokenizer, for want of Java" in ours
    assert "| 15.9 | 9.73 | 1,575 |" in ours
    assert "| people, first caption |  |  | 11.4 | 12,345 |" in ours


def test_reports_of_one_title_are_told_apart() -> None:
    both = [report(), report(0.02, checkpoint="bbbb")]
    assert [each["title"] for each in distinguish(both)] == ["GLIED, self-critical aaaa", "GLIED, self-critical bbbb"]
    text = markdown(both)
    assert "GLIED, self-critical bbbb minus GLIED, self-critical aaaa | +2.0 (+2.0 to +2.0), p 0.0002 | +0.0" in text


def test_every_pair_is_compared() -> None:
    lines = differences([report(title="A"), report(title="B"), report(title="C")]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["B minus A", "C minus A", "C minus B"]
    assert lines[2].endswith("| - |"), "no METEOR for each photograph"


def test_a_report_without_cider_is_written_too() -> None:
    images = {"0": {"caption": "a dog", "ROUGE_L": 0.4}}
    text = markdown([report(scores={"CIDEr": None}, images=images, missing={"CIDEr": ("scorer_failed", "No words.")})])
    assert "| GLIED, self-critical | - | 15.9 |" in text
    assert "CIDEr: No words." in text


def test_key_shares_are_shown_where_a_report_has_them() -> None:
    mean = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    curve = {"attended": [{"removed": 1} | mean], "random": [{"removed": 1} | mean]}
    old = {"photographs": 9, "pointing": {}, "falls": {"regions": curve, "attributes": curve}}
    base = old | {"data": "coco", "key_share": {"v": mean}}
    glied = old | {"data": "coco", "key_share": {"vd": mean | {"mean": 0.75}, "v": mean}, "top_partners": mean}
    text = markdown([report(title="A", grounding=base), report(title="B", grounding=glied)])
    assert text.count("Measured on 9 photographs of coco") == 1
    assert "| key share | H_v | H_vd |" in text
    assert "| A | 0.500 (0.400 to 0.600) | - |" in text
    assert "| B | 0.500 (0.400 to 0.600) | 0.750 (0.400 to 0.600) |" in text
    assert "B: The regions of a photograph have 0.5 different top partners (0.4 to 0.6)." in text
    assert "A: The regions" not in text
    text = markdown([report(title="A", grounding=old)])
    assert not [word for word in ("Key share", "key share", "top partners", "Measured on") if word in text]


def test_a_report_of_0_1_0_is_read_as_one_of_today(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(report(grounding={"photographs": 9, "deletion": {"regions": {}}})))
    assert read_report(tmp_path / "old.json")["grounding"] == {"photographs": 9, "falls": {"regions": {}}}


@pytest.mark.parametrize("other", [{"split": "test"}, {"data": "coco"}, {"tokenizer": "ptb"}, {"images": {}}])
def test_other_photographs_or_tokenizers_are_refused(other: dict) -> None:
    with pytest.raises(GliedError, match="evaluate again"):
        markdown([report(), report(**other)])


def test_a_file_that_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with pytest.raises(GliedError, match=r"x\.json"):
        read_report(file)
    for content in ("no JSON", "[]", json.dumps({name: 1 for name in report() if name != "habits"})):
        file.write_text(content)
        with pytest.raises(GliedError, match=r"x\.json"):
            read_report(file)
    file.write_text(json.dumps(report()))
    check_same(read_report(file), "flickr8k", "val")
    with pytest.raises(GliedError, match="flickr8k val"):
        check_same(read_report(file), "flickr8k", "test")
