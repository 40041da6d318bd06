"""Whether attention is true: each measure on cases whose answer is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from analysis.grounding import draw_grounding
from glied import grounding
from glied.annotations import Boxed
from glied.attributes import AttributeDetector
from glied.data import Photograph, stack
from glied.errors import GliedError
from glied.grounding import REMOVED, Collocations, Spoken, deletion, ground, grouping_lift, locate, pointing
from glied.report import markdown
from glied.scene import Regions
from glied.trace import trace


def test_an_object_is_the_head_of_its_phrase() -> None:
    words = ["a", "dog", "in", "a", "red", "coat", "and", "a", "dog"]
    phrases = [("A dog", "dog", [0]), ("a red coat", "coat", [1]), ("a dog", "dog", [2, 3]), ("a cat", "cat", [4])]
    assert locate(words, phrases) == {1: [0], 5: [1], 8: [2, 3]}
    assert locate(words, [("a dog", "dog", [])]) == {}


def test_pointing() -> None:
    weights = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
    overlap = torch.tensor([[0.6, 0.1, 0.0], [0.0, 0.4, 0.5]])
    spoken = Spoken(["dog", "cat", "man"], [], {0: [0], 1: [0, 1], 2: [1]})
    assert pointing(weights, overlap, spoken).tolist() == [1, 1, 0]


def test_groups_of_entities() -> None:
    """Region 0 shows the dog, 1 the ball, 2 and 3 nothing named; 2 is the nearer to 0."""
    overlap = torch.tensor([[0.9, 0.0, 0.0, 0.0, 0.8], [0.0, 0.7, 0.0, 0.0, 0.0]])
    boxes = torch.tensor([[0.0, 0, 2, 2], [50, 0, 52, 2], [4, 0, 6, 2], [90, 0, 92, 2], [0, 1, 2, 3]])
    weights = torch.full((5, 5), 0.2)
    weights[0] = torch.tensor([0.5, 0.25, 0.05, 0.1, 0.1])
    spoken = Spoken(["dog", "ball"], [], {0: [0], 1: [1]})
    found = grouping_lift(weights, overlap, boxes, spoken)
    # from regions 0, 4 and 1; the even share of four others is a quarter, and region 0 keeps half to itself
    assert found["others"] == pytest.approx([0.5 * 4, 1, 1])
    assert found["near"] == pytest.approx([0.1 * 4, 1, 1])
    assert found["same"] == pytest.approx([0.2 * 4, 1])
    # the other regions take an even share of each, but region 0, who takes 2 of 1, 0.4 of 2, and 0.8 of 3 and 4
    usual = {take: (take + 1 + 1) / 3 for take in (2, 0.4, 0.8)}
    assert found["same_beyond"] == pytest.approx([0.8, 1])
    assert found["others_beyond"] == pytest.approx([2, 1 / usual[2], (1 + 1 / usual[0.8]) / 2])
    assert found["near_beyond"] == pytest.approx([0.4, 1 / usual[0.4], (1 / usual[0.4] + 1 / usual[0.8]) / 2])
    assert not any(grouping_lift(weights, overlap, boxes, Spoken([], [], {})).values())


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_removing_the_most_attended_is_what_the_trace_removes(architecture: str) -> None:
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    words = ["a", "dog", "runs"]
    traced = trace(checkpoint, scene, words, removals=True)
    ids = [1, *checkpoint.vocabulary.encode(words), 2]
    batch = stack([scene], checkpoint.vocabulary)
    for name, drops, field in (
        ({"base": "v", "glied": "vl"}[architecture], traced.visual_drop, "region_mask"),
        ({"base": "a", "glied": "al"}[architecture], traced.attribute_drop, "attribute_mask"),
    ):
        weights = torch.from_numpy(traced.attention[name].mean(0).copy())
        fall = deletion(checkpoint, batch, ids, [1, 2], weights, field, torch.Generator().manual_seed(0))
        assert fall.shape == (2, 2, len(REMOVED))
        expected = [drops[t, weights[t].argmax()] for t in (1, 2)]
        np.testing.assert_allclose(fall[0, :, 0], expected, atol=1e-5)
        assert any(np.isclose(fall[1, 0, 0], drops[1], atol=1e-5))
        assert np.isnan(fall[..., np.array(REMOVED) >= drops.shape[1]]).all(), "as many as there are cannot go"
        # two and four at once, by their order
        mask = torch.ones(1, drops.shape[1], dtype=torch.bool)
        mask[0, weights[2].argsort(descending=True)[:2]] = False
        model = checkpoint.model
        with torch.inference_mode():
            output = model(torch.tensor([[ids[:-1]]]), model.encode(batch._replace(**{field: mask})))
            left = model.logits(output.c_tilde).log_softmax(-1)[0, 0, 2, ids[3]].item()
        assert fall[0, 1, 1] == pytest.approx(traced.log_probabilities[2] - left, abs=1e-5)


def test_collocations_are_told_from_frequency() -> None:
    found = Collocations()
    attributes = ["ball", "grass", "dog", "the"]
    dog = (["dog", "a"], torch.tensor([[0.8, 0.05, 0.1, 0.05], [0.25] * 4]))
    rare = (["rare"], torch.tensor([[0.25] * 4]))
    for i in range(30):  # "dog" takes "ball" four times in five, and hardly "grass"
        found.add(f"{i}", [dog, dog, *([rare] * 5 if i < 5 else [])], attributes)  # 25 captions of 5 photographs are 5
    captions = [["dog", "grass"]] * 40 + [["ball", "man"]] * 40 + [["cat"]] * 20
    result = found.compare(captions)
    assert {(p["pivot"], p["attribute"]) for p in result["pairs"]} == {("dog", "ball"), ("dog", "grass")}
    assert [(p["pivot"], p["attribute"]) for p in result["learned_but_rare"]] == [("dog", "ball")]
    assert [(p["pivot"], p["attribute"]) for p in result["frequent_but_unlearned"]] == [("dog", "grass")]
    assert result["strongest"][0]["lift"] == pytest.approx(3.2)
    assert len(result["strongest"][0]["where"]) == 3
    grass = next(p for p in result["pairs"] if p["attribute"] == "grass")
    assert grass["pmi"] == pytest.approx(math.log(40.5 * 100 / (40 * 40)), abs=1e-4)
    assert result["rank_correlation"] == pytest.approx(-1)


class Painted:
    """The human boxes themselves, and two more."""

    name, feature_dim = tiny.SOURCE, tiny.WIDTH

    def find_regions(self, image) -> Regions:
        boxes = np.array([[5, 5, 25, 25], [40, 5, 60, 35], [0, 0, 80, 60], [60, 40, 79, 59]], np.float32)
        features = np.random.default_rng(image.size[0]).normal(size=(4, tiny.WIDTH)).astype(np.float32)
        return Regions(boxes, features, image.size, self.name)


def detector() -> AttributeDetector:
    return AttributeDetector(tuple(tiny.WORDS[:6]), tiny.WIDTH, tiny.SOURCE)


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_a_whole_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    boxes = [((5, 5, 25, 25), ("a dog", "the dog")), ((40, 5, 60, 35), ("a red ball",))]
    photographs = [("val", (80 + i, 60), boxes) for i in range(3)] + [("train", (80, 70), boxes)]
    data = tiny.boxed(tmp_path / "data", *photographs)
    entities = json.loads((data / "entities.json").read_text())
    phrases = [{"chain": g, "types": [], "phrase": text, "first_word": 0} for g, text in ((0, "a dog"), (1, "a ball"))]
    for record in entities.values():
        record["sentences"].append({"raw": "a dog has a ball .", "phrases": phrases})
    (data / "entities.json").write_text(json.dumps(entities))
    monkeypatch.setattr(grounding, "open_source", lambda name: Painted())
    monkeypatch.setattr(grounding, "PIVOTS", 2)
    checkpoint = tiny.checkpoint(architecture)
    found = ground(
        checkpoint,
        detector(),
        data,
        "val",
        tmp_path / "cache",
        dict.fromkeys(["0.png", "1.png", "2.png"], "a dog runs on grass"),
    )
    json.dumps(found)
    assert found["photographs"] == 3
    human = found["pointing"]["human"]
    assert human["chance"]["mean"] == 0.25
    assert human["ceiling"]["mean"] == 1
    assert found["pointing"]["generated"]["chance"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "count": 3}
    assert human.keys() - {"chance", "centre", "ceiling"} == (
        {"local"} if architecture == "base" else {"global", "local"}
    )
    assert [each["removed"] for each in found["deletion"]["regions"]["attended"]] == list(REMOVED)
    assert ("groupings" in found) == ("collocations" in found) == (architecture == "glied")
    if architecture == "glied":
        assert found["groupings"]["others"]["count"] == 3
        assert 0.99 < found["collocations"]["pairs"][0]["photographs"] < 4
    draw_grounding({"Base": found, "GLIED": found}, tmp_path / "grounding.png")
    assert (tmp_path / "grounding.png").read_bytes().startswith(b"\x89PNG")
    assert draw_grounding is not None
    scores = {
        "scores": {},
        "missing": {},
        "tokenizer": "ptb",
        "habits": {"length": 1.0},
        "human_habits": {"length": 2.0},
    }
    report = scores | {"title": "X", "checkpoint": "abc", "data": "d", "split": "val", "perplexity": 2.0}
    text = markdown([report | {"images": {"0": {"CIDEr": 1.0}}, "grounding": found}])
    assert "| X: human captions |" in text
    assert ("mutual information" in text) == (architecture == "glied")


def test_attention_of_a_word_is_in_the_row_that_produced_it_and_collocations_in_that_of_its_input() -> None:
    checkpoint, scene = tiny.checkpoint("glied"), tiny.scene()
    words = ["a", "dog", "runs"]
    traced = trace(checkpoint, scene, words)
    assert (traced.words[1], traced.inputs[2]) == ("dog", "dog")
    ids = [1, *checkpoint.vocabulary.encode(words), 2]
    [weights] = grounding.attend_all(checkpoint, stack([scene], checkpoint.vocabulary), [Spoken(words, ids, {})])
    np.testing.assert_allclose(weights["vl"][1], traced.attention["vl"][:, 1].mean(0), atol=1e-6)
    np.testing.assert_allclose(weights["ad"][1:][1], traced.attention["ad"][:, 2].mean(0), atol=1e-6)


def test_a_word_before_the_object_is_no_object() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]])
    phrases = [[("dog", ("black",))], [("black", ())]]
    photograph = Photograph("x", Path("x"), "val", ("a dog",))
    boxed = Boxed(photograph, boxes, phrases, [], [], [], "phrases", torch.ones(2))
    spoken = grounding.generated(boxed, tiny.checkpoint(), ["a", "black", "dog"], {})
    assert spoken.objects == {2: [0]}


def test_only_base_and_glied_are_grounded(tmp_path: Path) -> None:
    with pytest.raises(GliedError, match="updown"):
        ground(tiny.checkpoint("updown"), detector(), tmp_path, "val", tmp_path, {})
