"""How many human boxes regions cover, and whether their labels are right, counted by hand."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from glied.data import load_dataset
from glied.errors import GliedError
from glied.recall import SelectiveSearch, measure, read_entities
from glied.regions import RegionSource
from glied.scene import Regions

Box = tuple[float, float, float, float]
NOWHERE = (97.0, 97.0, 99.0, 99.0)


class Told:
    """A region source that finds in each photograph what it was told, at these places of its ranking."""

    name, feature_dim = "told-1", 1

    def __init__(self, count: int, found: dict[str, dict[int, tuple[Box, str]]], labelled: bool = True) -> None:
        self.count, self.found, self.labelled = count, found, labelled

    def find_regions(self, image: Image.Image) -> Regions:
        told = self.found.get(image.info["name"], {})
        regions = [told.get(i, (NOWHERE, "nothing")) for i in range(self.count)]
        boxes = np.array([box for box, _ in regions], np.float32)
        labels = tuple(label for _, label in regions) if self.labelled else ()
        scores = np.ones(len(labels), np.float32)
        return Regions(boxes, np.zeros((self.count, 1), np.float32), image.size, self.name, labels, scores)


A, B, C, D = (0, 0, 40, 40), (50, 50, 90, 90), (0, 60, 20, 100), (60, 0, 100, 20)


def told(folder: Path, humans: Sequence[tiny.Human], found: dict[int, tuple[Box, str]], **options) -> dict:
    """Measured on one photograph of 100 x 100."""
    data = tiny.boxed(folder / "data", ("val", (100, 100), humans))
    return measure(data, "val", Told(options.pop("count", 100), {"0.png": found}, **options))


def recalls(result: dict) -> list[float]:
    return [result[f"recall@{k}"] for k in (10, 36, 100)]


def test_recall_by_hand(tmp_path: Path) -> None:
    """Of four boxes in two photographs one is covered by the first 10 regions, two by 36, three by 100."""
    assert isinstance(Told(1, {}), RegionSource)
    humans = [(box, ("a dog",)) for box in (A, B, C)]
    data = tiny.boxed(
        tmp_path / "data",
        ("val", (100, 100), humans),
        ("val", (120, 100), [(D, ("a hat",))]),
        ("val", (100, 100), []),  # nobody mentioned anything that has a box
        ("test", (100, 100), [(A, ("a dog",))]),
    )
    found = {9: (A, "dog"), 10: ((52, 50, 92, 90), "dog"), 36: (C, "dog"), 99: (A, "dog")}  # B by 38 / 42
    result = measure(data, "val", Told(101, {"0.png": found, "1.png": {100: (D, "hat")}}))
    assert recalls(result) == [1 / 4, 2 / 4, 3 / 4]
    assert (result["source"], result["split"]) == ("told-1", "val")
    assert (result["photographs"], result["human_boxes"], result["regions_per_image"]) == (2, 4, 101)
    assert result["ms_per_image"] > 0
    assert recalls(measure(data, "test", Told(10, {"3.png": {0: (A, "dog")}}))) == [1, 1, 1]
    assert recalls(measure(data, "test", Told(3, {}))) == [0, 0, 0]


@pytest.mark.parametrize(("height", "expected"), [(20, 1), (19.9, 0), (80, 1), (80.2, 0)])
def test_a_box_is_covered_from_half_its_union(tmp_path: Path, height: float, expected: int) -> None:
    result = told(tmp_path, [(A, ("a dog",))], {0: ((0, 0, 40, height), "dog")})
    assert recalls(result) == [expected] * 3
    assert result["label_accuracy"] == (1 if expected else None)


def test_one_region_may_cover_two_boxes(tmp_path: Path) -> None:
    assert recalls(told(tmp_path, [(A, ("a dog",)), (A, ("a cat",))], {0: (A, "dog")})) == [1] * 3


@pytest.mark.parametrize(
    ("phrases", "label", "expected"),
    [
        (["a red shirt"], "red shirt", 1),
        (["a red shirt"], "blue shirt", 1),  # the object counts
        (["a red shirt"], "red", 0),
        (["a red shirt"], "shirt", 1),
        (["The Man 's red shirt"], "red shirt", 1),
        (["a girl", "a child"], "child", 1),  # any of the nouns that people used
        (["a girl", "a child"], "person", 0),
        (["a t-shirt"], "white t-shirt", 1),
        (["several others"], "man", None),  # no noun
        (["several others", "a man"], "man", 1),
    ],
)
def test_a_label_is_right_if_people_used_its_noun(
    tmp_path: Path, phrases: list[str], label: str, expected: float | None
) -> None:
    assert told(tmp_path, [(A, tuple(phrases))], {3: (A, label)})["label_accuracy"] == expected


@pytest.mark.parametrize(
    ("plural", "singular", "label"),
    [("two dogs", "a dog", "brown dog"), ("Three men", "a man", "man"), ("a dog", "dogs", "dogs")],
)
def test_plurals_are_the_same_noun(tmp_path: Path, plural: str, singular: str, label: str) -> None:
    """The other box, which no region covers, shows that the singular is a word."""
    result = told(tmp_path, [(A, (plural,)), (B, (singular,))], {0: (A, label)})
    assert result["label_accuracy"] == 1


def test_label_accuracy_is_over_the_boxes_that_one_of_36_covers(tmp_path: Path) -> None:
    """Two of three are right; the fourth box is covered too late."""
    humans = [(A, ("a dog",)), (B, ("a hat",)), (C, ("a girl",)), (D, ("a ball",))]
    found = {0: (A, "dog"), 1: (B, "coat"), 35: (C, "girl"), 36: (D, "bird")}
    assert told(tmp_path, humans, found)["label_accuracy"] == pytest.approx(2 / 3)


def test_the_label_is_that_of_the_closest_region(tmp_path: Path) -> None:
    found = {0: ((0, 0, 40, 30), "hat"), 7: ((0, 0, 40, 38), "dog"), 8: ((0, 0, 40, 37), "cat")}
    assert told(tmp_path, [(A, ("a dog",))], found)["label_accuracy"] == 1


def test_a_source_without_labels_has_no_label_accuracy(tmp_path: Path) -> None:
    result = told(tmp_path, [(A, ("a dog",))], {0: (A, "dog")}, labelled=False)
    assert recalls(result) == [1] * 3
    assert result["label_accuracy"] is None


# What people mentioned


def test_a_box_has_the_phrases_of_all_its_chains(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (100, 90), [(A, ("a dog", "The brown dog")), (B, ()), (C, ("him",))]))
    entities = json.loads((data / "entities.json").read_text())
    entities["0.png"]["boxes"][1]["chains"] = [2, 0]
    entities["0.png"]["boxes"][2]["chains"] = [77]  # nobody speaks of it
    (data / "entities.json").write_text(json.dumps(entities))
    [boxed] = read_entities(data, load_dataset(data).photographs)
    assert boxed.photograph.id == "0.png"
    assert boxed.boxes.tolist() == [list(A), list(B), list(C)]
    dog, brown = ("dog", ()), ("dog", ("brown",))
    assert boxed.phrases == [[dog, brown], [("", ()), dog, brown], []]


def test_entities_of_other_photographs_are_left_alone(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", *[("val", (60, 60), [((1, 2, 30, 40), ("a dog",))])] * 3)
    dataset = load_dataset(data)
    entities = json.loads((data / "entities.json").read_text())
    del entities["1.png"]
    (data / "entities.json").write_text(json.dumps(entities))
    assert [b.photograph.id for b in read_entities(data, dataset.photographs)] == ["0.png", "2.png"]
    with pytest.raises(GliedError, match="found none"):
        read_entities(data, dataset.photographs[1:2])


SENTENCE = {"raw": "a dog", "phrases": [{"chain": 1, "phrase": "a dog"}]}
BOX = {"chains": [1], "box": [0, 0, 9, 9]}
GOOD = {"width": 9, "height": 9, "sentences": [SENTENCE], "boxes": [BOX]}


def broken(**changes: object) -> str:
    return json.dumps({"0.png": GOOD | changes})


DAMAGED = {
    "empty": "",
    "cut": broken()[:-9],
    "no JSON": "<!DOCTYPE html>",
    "a list": "[]",
    "a number": "3",
    "a photograph that is a list": '{"0.png": []}',
    "a photograph that is a word": '{"0.png": "boxes"}',
    "no boxes": '{"0.png": {"sentences": []}}',
    "boxes that are a word": broken(boxes="many"),
    "a box of three numbers": broken(boxes=[{"chains": [1], "box": [0, 0, 9]}]),
    "a box of words": broken(boxes=[{"chains": [1], "box": ["a", "b", "c", "d"]}]),
    "a box without chains": broken(boxes=[{"box": [0, 0, 9, 9]}]),
    "ragged boxes": broken(boxes=[{"chains": [1], "box": [0, 0, 9, 9]}, {"chains": [1], "box": [0, 0]}]),
    "no sentences": '{"0.png": {"boxes": [{"chains": [1], "box": [0, 0, 9, 9]}]}}',
    "sentences without phrases": broken(sentences=[{"raw": "a dog"}]),
    "a phrase that is a number": broken(sentences=[{"raw": "a dog", "phrases": [{"chain": 1, "phrase": 7}]}]),
    "a phrase without a chain": broken(sentences=[{"raw": "a dog", "phrases": [{"phrase": "a dog"}]}]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_entities_are_one_sentence(tmp_path: Path, kind: str) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken())
    assert recalls(measure(data, "val", Told(1, {"0.png": {0: ((0, 0, 9, 9), "dog")}}))) == [1] * 3
    (data / "entities.json").write_text(DAMAGED[kind])
    with pytest.raises(GliedError, match=r"entities\.json") as raised:
        measure(data, "val", Told(1, {}))
    assert "\n" not in str(raised.value)


def test_four_boxes_of_three_numbers_are_refused(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken(boxes=[{"chains": [1], "box": [0, 0, 9]}] * 4))
    with pytest.raises(GliedError, match=r"entities\.json"):
        read_entities(data, load_dataset(data).photographs)


def test_missing_entities_say_where_to_put_them(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), [(A, ("a dog",))]))
    (data / "entities.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GliedError, match=r"put entities\.json beside captions\.json"):
        measure(data, "val", Told(1, {}))
    (data / "entities.json").unlink()
    with pytest.raises(GliedError, match=r"put entities\.json beside captions\.json"):
        measure(data, "val", Told(1, {}))
    with pytest.raises(GliedError, match="split test"):
        measure(data, "test", Told(1, {}))


def test_a_damaged_photograph_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    two = [("val", (100, 100), [(A, ("a dog",))]), ("val", (100, 100), [(B, ("a dog",))])]
    data = tiny.boxed(tmp_path / "d", *two)
    (data / "images" / "0.png").write_bytes(b"no image")
    result = measure(data, "val", Told(2, {"1.png": {0: (B, "dog")}}))
    assert "0.png is damaged" in capsys.readouterr().out
    assert (result["photographs"], result["human_boxes"], result["regions_per_image"]) == (1, 1, 2)
    assert recalls(result) == [1, 1, 1]
    (data / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(GliedError, match="none of them is"):
        measure(data, "val", Told(1, {}))


def test_a_phrase_of_many_boxes_counts_once(tmp_path: Path) -> None:
    """One person, and people who have eight boxes: "people" is still the plural of "person"."""
    data = tiny.boxed(tmp_path / "d", ("val", (100, 100), [(A, ("a person",)), (B, ("people",))]))
    path = data / "entities.json"
    entities = json.loads(path.read_text())
    entities["0.png"]["boxes"] += 7 * [entities["0.png"]["boxes"][1]]
    path.write_text(json.dumps(entities))
    assert measure(data, "val", Told(1, {"0.png": {0: (B, "person")}}))["label_accuracy"] == 1


def test_entities_of_flickr8k(shared: Path) -> None:
    data = shared / "data" / "flickr8k"
    photographs = load_dataset(data).split("val")
    found = read_entities(data, photographs)
    assert len(found) > 0.9 * len(photographs)
    assert all(len(b.boxes) == len(b.phrases) > 0 for b in found)
    assert all((b.boxes[:, 2:] > b.boxes[:, :2]).all() for b in found)
    with Image.open(found[0].photograph.path) as image:
        assert (found[0].boxes[:, 2:].amax(0).numpy() <= image.size).all()


def test_selective_search_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(GliedError, match="pip install opencv-contrib-python-headless"):
        SelectiveSearch()


def test_selective_search_finds_what_is_painted(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not needed and not installed")
    if not hasattr(cv2, "ximgproc"):
        pytest.skip("this OpenCV has no contributed modules")
    data = tiny.boxed(tmp_path / "d", ("val", (200, 160), [((20, 30, 100, 120), ("a dog",))]))
    result = measure(data, "val", SelectiveSearch())
    assert recalls(result)[2] == 1
    assert result["label_accuracy"] is None
    assert result["regions_per_image"] <= 100


@pytest.mark.parametrize("box", [[40, 0, 0, 40], [10, 10, 10, 10], [0, 0, float("nan"), 9]])
def test_boxes_without_area_are_refused(tmp_path: Path, box: list[float]) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken(boxes=[{"chains": [1], "box": box}]))
    with pytest.raises(GliedError, match="box without area"):
        read_entities(data, load_dataset(data).photographs)
