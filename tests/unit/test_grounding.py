"""Whether attention is true: each measure on cases whose answer is known."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from analysis.grounding import draw_grounding
from glied.attributes import AttributeDetector
from glied.batch import stack
from glied.checkpoint import Checkpoint
from glied.data.annotations import Boxed, read_boxes
from glied.data.dataset import Photograph, load_dataset
from glied.data.phrases import find_classes
from glied.errors import GliedError
from glied.evaluation import evaluate, grounding
from glied.evaluation.grounding import (
    REMOVED,
    Collocations,
    Spoken,
    check_groundable,
    count_partners,
    fall,
    ground,
    grouping_lift,
    locate,
    pointing,
)
from glied.evaluation.report import markdown
from glied.replay import trace
from glied.scene import Regions


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


def test_top_partners() -> None:
    one = torch.full((4, 4), 0.1).index_fill(1, torch.tensor([2]), 0.7)
    one[2, 0] = 0.2
    assert count_partners(one) == 2, "all that of 2, and 2 itself another"
    ring = torch.eye(4) * 0.5 + torch.eye(4).roll(1, 1) * 0.4
    assert count_partners(ring) == 4, "itself is left out"


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_removing_the_most_attended_is_what_the_trace_removes(architecture: str) -> None:
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    words = ["a", "dog", "runs"]
    traced = trace(checkpoint, scene, words, falls=True)
    ids = [1, *checkpoint.vocabulary.encode(words), 2]
    batch = stack([scene], checkpoint.vocabulary)
    for name, alone, field in (
        ({"base": "v", "glied": "vl"}[architecture], traced.region_falls, "region_mask"),
        ({"base": "a", "glied": "al"}[architecture], traced.attribute_falls, "attribute_mask"),
    ):
        weights = torch.from_numpy(traced.attention[name].mean(0).copy())
        falls = fall(checkpoint, batch, ids, [1, 2], weights, field, torch.Generator().manual_seed(0))
        assert falls.shape == (2, 2, len(REMOVED))
        expected = [alone[t, weights[t].argmax()] for t in (1, 2)]
        np.testing.assert_allclose(falls[0, :, 0], expected, atol=1e-5)
        assert any(np.isclose(falls[1, 0, 0], alone[1], atol=1e-5))
        assert np.isnan(falls[..., np.array(REMOVED) >= alone.shape[1]]).all(), "as many as there are cannot go"
        # two and four at once, by their order
        mask = torch.ones(1, alone.shape[1], dtype=torch.bool)
        mask[0, weights[2].argsort(descending=True)[:2]] = False
        model = checkpoint.model
        with torch.inference_mode():
            output = model(torch.tensor([[ids[:-1]]]), model.encode(batch._replace(**{field: mask})))
            left = model.logits(output.c_tilde).log_softmax(-1)[0, 0, 2, ids[3]].item()
        assert falls[0, 1, 1] == pytest.approx(traced.log_probabilities[2] - left, abs=1e-5)


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


def grounded(checkpoint: Checkpoint, data: Path, captions: dict[str, str]) -> dict[str, Any]:
    """All measures on the split val."""
    dataset = load_dataset(data)
    scenes = evaluate.read_scenes(dataset, "val", data.parent / "cache", detector())
    return ground(checkpoint, scenes, read_boxes(dataset, dataset.split("val"), human=True)[0], captions)


@pytest.mark.parametrize("architecture", ["base", "glied", "updown"])
def test_a_whole_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    boxes = [((5, 5, 25, 25), ("a dog", "the dog")), ((40, 5, 60, 35), ("a red ball",))]
    photographs = [("val", (80 + i, 60), boxes) for i in range(3)] + [("train", (80, 70), boxes)]
    data = tiny.boxed(tmp_path / "data", *photographs)
    entities = json.loads((data / "entities.json").read_text())
    phrases = [{"chain": g, "types": [], "phrase": text, "first_word": 0} for g, text in ((0, "a dog"), (1, "a ball"))]
    for record in entities.values():
        record["sentences"].append({"raw": "a dog has a ball .", "phrases": phrases})
    (data / "entities.json").write_text(json.dumps(entities))
    monkeypatch.setattr(evaluate, "open_source", lambda name: Painted())
    monkeypatch.setattr(grounding, "PIVOTS", 2)
    checkpoint = tiny.checkpoint(architecture)
    found = grounded(checkpoint, data, dict.fromkeys(["0.png", "1.png", "2.png"], "a dog runs on grass"))
    json.dumps(found)
    assert (found["data"], found["photographs"]) == ("data", 3)
    functions = {"base": {"v", "a"}, "glied": {"vd", "ad", "v", "vl", "al"}, "updown": {"v"}}[architecture]
    assert found["key_share"].keys() == functions
    assert found["falls"].keys() == ({"regions"} if architecture == "updown" else {"regions", "attributes"})
    assert [function["name"] for function in found["functions"] if function["over"] != "words"] == list(
        found["key_share"]
    )
    assert all(0 < share["mean"] < 1 and share["count"] == 3 for share in found["key_share"].values())
    assert ("top_partners" in found) == (architecture == "glied")
    human = found["pointing"]["human"]
    assert human["chance"]["mean"] == 0.25
    assert human["ceiling"]["mean"] == 1
    assert found["pointing"]["generated"]["chance"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "count": 3}
    assert human.keys() - {"chance", "centre", "ceiling"} == (
        {"global", "local"} if architecture == "glied" else {"local"}
    )
    assert [each["removed"] for each in found["falls"]["regions"]["attended"]] == list(REMOVED)
    assert ("groupings" in found) == ("collocations" in found) == (architecture == "glied")
    if architecture == "glied":
        assert found["groupings"]["others"]["count"] == 3
        assert 1 < found["top_partners"]["mean"] <= 4
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
    assert "3 photographs of data " in text
    assert "| X: human captions |" in text
    assert ("mutual information" in text) == (architecture == "glied")


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_the_numbers_of_0_1_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    """On phrases with boxes every mean is what `ground` found at c0a6575, before it was cut into functions."""
    dog, ball, man = (5, 5, 25, 25), (40, 5, 60, 35), (60, 40, 79, 59)
    photographs = [
        ("val", (80, 60), [(dog, ("a dog", "the dogs")), (ball, ("a red ball",))]),
        ("val", (81, 60), [(dog, ("a cat",)), (ball, ("the ball",)), (man, ("a man in red",))]),
        ("val", (82, 60), [(man, ("a man",)), ((0, 0, 9, 9), ("grass",))]),
        ("train", (80, 70), [(dog, ("a dog runs",))]),
    ]
    data = tiny.boxed(tmp_path / "data", *photographs)
    entities = json.loads((data / "entities.json").read_text())
    phrases = [{"chain": g, "types": [], "phrase": text, "first_word": 0} for g, text in ((0, "a dog"), (1, "a ball"))]
    for record in entities.values():
        record["sentences"].append({"raw": "a dog has a ball on the beach .", "phrases": phrases})
    (data / "entities.json").write_text(json.dumps(entities))
    monkeypatch.setattr(evaluate, "open_source", lambda name: Painted())
    monkeypatch.setattr(grounding, "interval", lambda values: (0.0, 1.0))  # the slow part
    monkeypatch.setattr(grounding, "PIVOTS", 2)
    torch.manual_seed(0)
    captions = {"0.png": "a dog runs on grass", "1.png": "a red ball", "2.png": "the man sits on"}
    found = grounded(tiny.checkpoint(architecture), data, captions)
    golden = json.loads((Path(__file__).parent / "grounding.json").read_text())[architecture]
    assert {name: means(found)[name] for name in golden} == pytest.approx(golden, abs=1e-4)


def means(found: Any, path: str = "") -> dict[str, float | None]:
    """Every mean in a report, by its path."""
    if isinstance(found, dict) and "mean" not in found:
        return {name: m for key, each in found.items() for name, m in means(each, f"{path}/{key}").items()}
    if isinstance(found, list):
        return {n: m for each in found if "mean" in each for n, m in means(each, f"{path}/{each['removed']}").items()}
    return {path: found["mean"]} if isinstance(found, dict) else {path: found}


def test_attention_of_a_word_is_in_the_row_that_produced_it_and_collocations_in_that_of_its_input() -> None:
    checkpoint, scene = tiny.checkpoint("glied"), tiny.scene()
    words = ["a", "dog", "runs"]
    traced = trace(checkpoint, scene, words)
    assert (traced.words[1], traced.inputs[2]) == ("dog", "dog")
    ids = [1, *checkpoint.vocabulary.encode(words), 2]
    [weights] = grounding.attend_all(checkpoint, stack([scene], checkpoint.vocabulary), [Spoken(words, ids, {})])
    np.testing.assert_allclose(weights["vl"][:, 1], traced.attention["vl"][:, 1], atol=1e-6)
    np.testing.assert_allclose(weights["ad"][:, 1:][:, 1], traced.attention["ad"][:, 2], atol=1e-6)


def test_a_word_before_the_object_is_no_object() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]])
    phrases = [[("dog", ("black",))], [("black", ())]]
    photograph = Photograph("x", Path("x"), "val", ("a dog",))
    boxed = Boxed(photograph, boxes, phrases, [], [], [], "phrases", torch.ones(2))
    spoken = grounding.generated(boxed, tiny.checkpoint(), ["a", "black", "dog"], {})
    assert spoken.objects == {2: [0]}


def test_a_captioner_that_attends_to_no_region_is_not_grounded() -> None:
    with pytest.raises(GliedError, match="LSTM attends to none"):
        check_groundable(tiny.checkpoint("lstm"))


def test_words_that_name_a_class() -> None:
    classes = {"person", "traffic light", "dog", "skis", "scissors", "tennis racket", "knife", "bus"}
    words = ["two", "men", "with", "a", "tennis", "racket", "and", "people", "near", "traffic", "lights"]
    assert find_classes(words, classes) == {1: "person", 5: "tennis racket", 7: "person", 10: "traffic light"}
    assert find_classes(["a", "light", "and", "a", "hot", "dog", "under", "blue", "skies"], classes) == {}
    words = ["puppies", "dogs", "ski", "skis", "scissors", "knives", "buses", "racket", "player"]
    names = ["dog", "dog", "skis", "skis", "scissors", "knife", "bus", "tennis racket", "person"]
    assert find_classes(words, classes) == dict(enumerate(names))
    assert find_classes(["a", "man"], {"man", "person"}) == {1: "man"}, "a class of its own"
    assert find_classes(["a", "man"], {"dog"}) == {}
    assert find_classes([], classes) == {}


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_boxes_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    """The dog is region 0, the two persons are 1 and 3; "cat" has no box; the teacher's photograph is not measured."""
    data = tiny.boxed(tmp_path / "data", *[("val", (80, 60 + i), []) for i in range(2)])
    (data / "entities.json").unlink()
    captions = ["A dog and two men.", "A cat sits."]
    records = json.loads((data / "captions.json").read_text())
    for record in records["images"]:
        record["sentences"] = [{"raw": caption} for caption in captions]
    (data / "captions.json").write_text(json.dumps(records))
    boxes = [[5, 5, 25, 25, "dog", 1.0], [40, 5, 60, 35, "person", 1.0], [60, 40, 79, 59, "person", 1.0]]
    sources = {"0.png": "human", "1.png": "teacher"}
    (data / "boxes.json").write_text(json.dumps({id: {"source": s, "boxes": boxes} for id, s in sources.items()}))
    monkeypatch.setattr(evaluate, "open_source", lambda name: Painted())
    monkeypatch.setattr(grounding, "interval", lambda values: (0.0, 1.0))  # the slow part
    own = dict.fromkeys(sources, "the man on a dog")
    found = grounded(tiny.checkpoint(architecture), data, own)
    assert found["photographs"] == 1
    for kind in ("human", "generated"):
        assert found["pointing"][kind]["chance"]["mean"] == pytest.approx((1 / 4 + 2 / 4) / 2)
        assert found["pointing"][kind]["ceiling"]["mean"] == 1
        assert found["pointing"][kind]["local"]["count"] == 1
    assert found["falls"]["regions"]["attended"][0]["count"] == 1
    if architecture == "glied":
        assert {name: mean["count"] for name, mean in found["groupings"].items()} == dict.fromkeys(
            ("same", "others", "near", "same_beyond", "others_beyond", "near_beyond"), 1
        )


def test_pointing_at_a_class(tmp_path: Path) -> None:
    photograph = Photograph("0.png", tmp_path / "0.png", "val", ("A dog and two men.", "Dogs."))
    phrases = [[("dog", ())], [("person", ())], [("person", ())]]
    boxed = Boxed(photograph, torch.ones(3, 4), phrases, [], [], [], "classes", torch.ones(3))
    spoken = list(grounding.human(boxed, tiny.checkpoint()))
    assert [each.words for each in spoken] == [["a", "dog", "and", "two", "men"], ["dogs"]]
    assert [each.objects for each in spoken] == [{1: [0], 4: [1, 2]}, {0: [0]}]
    assert spoken[0].ids[:3] == [1, *tiny.vocabulary().encode(["a", "dog"])]
    assert grounding.generated(boxed, tiny.checkpoint(), ["the", "man"], {}).objects == {1: [1, 2]}
