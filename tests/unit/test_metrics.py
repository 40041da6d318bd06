"""Scores against reference values; the captions and values of TOY were computed by coco-caption itself."""

import errno
import json
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from glied.data.texts import read_texts
from glied.errors import GliedError
from glied.evaluation import metrics
from glied.evaluation.java import Unavailable
from glied.evaluation.metrics import METRICS, habits, interval, paired
from glied.evaluation.metrics import score as score_all

# Captions invented for this test; values of coco-caption's scorers with its Java tokenizer (no punctuation here,
# so that ours cuts the same words and the values agree to rounding).
REFERENCES = {
    "1": ["a dog runs on the green grass", "the dog is running in a field", "a brown dog playing outside"],
    "2": ["a red car parked on the street", "a car is on the side of the road"],
    "3": [
        "two men ride horses on the beach",
        "people riding horses near the ocean",
        "two riders on horseback by the sea",
    ],
}
CAPTIONS = {
    "1": "a dog running on the grass",
    "2": "a red car on the road",
    "3": "two people riding horses on a beach",
}
CORPUS = {
    "Bleu_1": 0.9473684209529085,
    "Bleu_2": 0.7299963950079877,
    "Bleu_3": 0.434419546653193,
    "Bleu_4": 5.350963868941263e-05,
    "ROUGE_L": 0.6962805022506515,
    "CIDEr": 1.8669181776997499,
}
METEOR = 0.41015413690336433
METEOR_IMAGES = [0.38475839723668076, 0.38475839723668076, 0.709080557927697]
IMAGES = {
    "Bleu_1": [0.9999999998333334, 0.8464817246084536, 0.8571428568979593],
    "Bleu_2": [0.6324555319177259, 0.757116271161685, 0.6546536705131399],
    "Bleu_3": [4.641588832658679e-06, 0.4950255155463765, 0.4409111381704973],
    "Bleu_4": [1.3512001544861246e-08, 7.648825823211366e-05, 6.803749330907337e-05],
    "ROUGE_L": [0.7587064676616916, 0.7587064676616916, 0.5714285714285714],
    "CIDEr": [1.410093204303772, 2.410365776788066, 1.7802955520074117],
}


score = partial(score_all, names=tuple(CORPUS), ptb=False)  # Java takes seconds to start


def test_toy_values() -> None:
    found = score(REFERENCES, CAPTIONS)
    assert found.corpus == pytest.approx(CORPUS, rel=1e-9)
    assert list(found.images) == ["1", "2", "3"]
    for name, values in IMAGES.items():
        assert [found.images[id][name] for id in ("1", "2", "3")] == pytest.approx(values, rel=1e-9)


def test_toy_values_are_those_of_the_shared_file(shared: Path) -> None:
    toy = json.loads((shared / "data" / "coco_demo" / "toy_expected.json").read_text())
    assert toy["gts"] == REFERENCES
    assert {id: text for id, (text,) in toy["res"].items()} == CAPTIONS
    assert [*toy["BLEU"], toy["ROUGE_L"], toy["CIDEr"]] == list(CORPUS.values())
    assert (toy["METEOR"], toy["METEOR_per"]) == (METEOR, METEOR_IMAGES)


def test_order_of_images_does_not_matter() -> None:
    turned = score(dict(reversed(REFERENCES.items())), {id: CAPTIONS[id] for id in ("2", "3", "1")})
    assert turned.corpus == pytest.approx(CORPUS, rel=1e-9)
    assert turned.images["3"]["CIDEr"] == pytest.approx(IMAGES["CIDEr"][2], rel=1e-9)


def test_only_the_metrics_asked_for() -> None:
    found = score(REFERENCES, CAPTIONS, names=("CIDEr",))
    assert found.corpus == pytest.approx({"CIDEr": CORPUS["CIDEr"]})
    assert found.images["1"].keys() == {"CIDEr"}


def test_case_and_punctuation_do_not_count() -> None:
    shouted = {id: f"{text.upper()} . " for id, text in CAPTIONS.items()}
    assert score(REFERENCES, shouted).corpus == pytest.approx(CORPUS, rel=1e-9)


def test_every_metric_on_the_toy() -> None:
    found = score_all(REFERENCES, CAPTIONS)
    assert found.tokenizer == "ptb"
    assert found.corpus == CORPUS | {"METEOR": METEOR, "SPICE": None}
    assert [each["METEOR"] for each in found.images.values()] == METEOR_IMAGES
    assert found.missing.keys() == {"SPICE"}
    assert found.missing["SPICE"][0] == "spice_models_missing"
    assert tuple(found.corpus) == METRICS


def test_coco_demo_reference_values(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 captions of the coco-caption demo, digit by digit; SPICE's models can be had nowhere here."""
    demo = shared / "data" / "coco_demo"
    expected = json.loads((demo / "expected.json").read_text())["corpus"]
    del expected["SPICE_published_only"]
    captions = {id: text for id, (text,) in read_texts(demo / "captions_val2014_fakecap_results.json").captions.items()}
    references = read_texts(demo / "fakecap_refs_1000.json").captions
    assert score_all(references, captions).corpus == expected | {"SPICE": None}
    assert capsys.readouterr().out == "", "scorers print; ours are silent"
    # our own tokenizer moves a word here and there: 0.02 percent was seen, in CIDEr
    found = score(references, captions).corpus
    assert found == pytest.approx({name: expected[name] for name in found}, rel=5e-4)


def test_single_image_has_no_cider() -> None:
    found = score({"1": REFERENCES["1"]}, {"1": CAPTIONS["1"]})
    assert found.corpus["CIDEr"] == 0
    assert found.corpus["Bleu_1"] == pytest.approx(1)


@pytest.mark.parametrize(
    "captions",
    [{}, {"1": "a dog"}, {**CAPTIONS, "4": "a cat"}, {"1": "a", "2": "b", "4": "c"}],
)
def test_other_images_are_refused(captions: dict) -> None:
    with pytest.raises(GliedError, match="exactly the 3 images"):
        score(REFERENCES, captions)
    with pytest.raises(GliedError):
        score({}, {})


@pytest.mark.parametrize("empty", ["", "  ", " . , !"])
def test_empty_caption_scores_nothing(empty: str) -> None:
    found = score(REFERENCES, {**CAPTIONS, "1": empty})
    assert found.images["1"]["CIDEr"] == 0
    assert found.images["1"]["ROUGE_L"] == 0
    assert found.images["1"]["Bleu_4"] == pytest.approx(0, abs=1e-9)
    assert found.images["2"]["ROUGE_L"] == pytest.approx(IMAGES["ROUGE_L"][1])
    assert 0 < found.corpus["CIDEr"] < CORPUS["CIDEr"]
    assert score(REFERENCES, dict.fromkeys(REFERENCES, empty)).corpus["CIDEr"] == 0


def test_image_without_references_is_one_sentence() -> None:
    with pytest.raises(GliedError, match="reference"):
        score({**REFERENCES, "1": []}, CAPTIONS)


def test_habits_of_captions():
    found = habits(["A dog with a", "a hat and a hat on a man", "two dogs run", ""])
    assert found == {"length": 15 / 4, "words": 10, "ends_in_function_word": 0.25, "repeats_content_word": 0.25}


def test_novel_captions():
    assert habits(["A dog.", "a cat"], ["a dog!", "two men"])["novel"] == 0.5


def test_intervals_and_paired_differences():
    random = np.random.default_rng(1)
    base = random.normal(0.5, 0.4, 400)
    low, high = interval(base)
    assert low < base.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * base.std() / 20, rel=0.1)
    better = paired(base + random.normal(0.05, 0.1, 400), base)
    assert 0.03 < better["low"] < better["difference"] < better["high"] < 0.07
    assert better["p"] < 0.001
    same = paired(base + random.normal(0, 0.3, 400), base)
    assert same["low"] < 0 < same["high"]
    assert same["p"] > 0.05
    assert paired(base, base)["p"] == 1
    assert paired(base + 1, base)["p"] == pytest.approx(2 / 10_001)


@pytest.mark.parametrize("error", [OSError("disk full"), MemoryError(), Unavailable("timeout", "too slow")])
def test_what_java_files_and_memory_raise_stops_one_metric(monkeypatch: pytest.MonkeyPatch, error: Exception):
    monkeypatch.setattr(metrics, "meteor", Mock(side_effect=error))
    found = score(REFERENCES, CAPTIONS, names=("METEOR", "ROUGE_L"))
    assert found.corpus == {"METEOR": None, "ROUGE_L": pytest.approx(CORPUS["ROUGE_L"])}
    reason, why = found.missing["METEOR"]
    assert reason == getattr(error, "reason", "scorer_failed")
    assert why


def test_a_full_temporary_folder_is_a_reason_and_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(metrics, "meteor", Mock(side_effect=full))
    monkeypatch.setattr(metrics, "ptb_tokenize", Mock(side_effect=full))
    found = score(REFERENCES, CAPTIONS, names=("METEOR", "CIDEr"))
    said = "It could not be computed for want of room in the temporary folder (TMPDIR): No space left on device."
    assert found.missing == {"METEOR": ("scorer_failed", said)}
    assert found.corpus["CIDEr"] > 0
    assert found.tokenizer == "python"


def test_a_bug_of_ours_is_no_missing_metric(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "meteor", Mock(side_effect=TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        score(REFERENCES, CAPTIONS, names=("METEOR",))


def test_a_metric_that_fails_takes_no_other_with_it():
    found = score({"1": ["!!!"], "2": ["."]}, {"1": "a", "2": "b"})
    assert found.corpus["CIDEr"] is None
    assert found.missing["CIDEr"] == ("scorer_failed", "Expected words in the references, got none.")
    assert found.corpus["ROUGE_L"] == 0
