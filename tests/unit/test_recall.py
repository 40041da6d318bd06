"""How many human boxes regions cover, and whether their labels are right, counted by hand."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from glied.errors import GliedError
from glied.evaluation.recall import measure
from glied.regions import RegionSource
from glied.regions.selective_search import SelectiveSearch
from glied.scene import Regions

Box = tuple[float, float, float, float]
NOWHERE = (97.0, 97.0, 99.0, 99.0)


class Told:
    """A region source that finds in each photograph what it was told, at these places of its ranking."""

    name, feature_dim = "told-1", 1

    def __init__(self, count: int, found: dict[str, dict[int, tuple[Box, str]]], labelled: bool = True) -> None:
        self.count, self.found, self.labelled = count, found, labelled

    def find_regions(self, image: Image.Image) -> Regions:
        told = self.found.get(Path(image.info["name"]).name, {})
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
        (["a bike"], "red bicycle", 1),  # synonyms alike
        (["a lady"], "woman", 1),
        (["a tennis racket"], "racquet", 1),
        (["a tennis racket"], "tennis ball", 0),
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


def test_photographs_with_a_teachers_boxes_are_not_measured_on(tmp_path: Path) -> None:
    """Of three photographs one has boxes by people alone: of its two, regions cover one, with the right name."""
    data = tiny.classed(
        tmp_path / "data",
        ("val", "teacher", (100, 100), [(A, "dog", 0.9)]),
        ("val", "human", (100, 100), [(B, "cell phone", 1.0), (C, "hot dog", 1.0)]),
        ("val", "person", (100, 100), [(A, "person", 1.0), (B, "cat", 0.9)]),
        ("test", "teacher", (100, 100), [(A, "dog", 0.9)]),
    )
    result = measure(data, "val", Told(2, {"c1.png": {0: (B, "black cell phone")}}))
    assert (result["photographs"], result["human_boxes"], result["data"]) == (1, 2, "data")
    assert recalls(result) == [1 / 2] * 3
    assert result["label_accuracy"] == 1
    with pytest.raises(GliedError, match=r"human boxes .*boxes\.json .*found none"):
        measure(data, "test", Told(1, {}))


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("hot dog", "dog", 0),
        ("skis", "skis", 1),
        ("couch", "red sofa", 1),
        ("person", "young man", 1),  # a kind of person
        ("man", "person", 0),
        ("dog", "man", 0),
        ("tv", "television", 1),
    ],
)
def test_names_of_classes(tmp_path: Path, name: str, label: str, expected: float) -> None:
    data = tiny.classed(tmp_path / "data", ("val", "human", (100, 100), [(A, name, 1.0)]))
    assert measure(data, "val", Told(1, {"c0.png": {0: (A, label)}}))["label_accuracy"] == expected


def test_a_damaged_photograph_is_named_and_left_out(tmp_path: Path) -> None:
    two = [("val", (100, 100), [(A, ("a dog",))]), ("val", (100, 100), [(B, ("a dog",))])]
    data = tiny.boxed(tmp_path / "d", *two)
    (data / "images" / "0.png").write_bytes(b"no image")
    result = measure(data, "val", Told(2, {"1.png": {0: (B, "dog")}}))
    [problem] = result["problems"]
    assert "0.png is damaged" in problem
    assert (result["photographs"], result["human_boxes"], result["regions_per_image"]) == (1, 1, 2)
    assert recalls(result) == [1, 1, 1]
    (data / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(GliedError, match="found none"):
        measure(data, "val", Told(1, {}))


def test_a_phrase_of_many_boxes_counts_once(tmp_path: Path) -> None:
    """One person, and people who have eight boxes: "people" is still the plural of "person"."""
    data = tiny.boxed(tmp_path / "d", ("val", (100, 100), [(A, ("a person",)), (B, ("people",))]))
    path = data / "entities.json"
    entities = json.loads(path.read_text())
    entities["0.png"]["boxes"] += 7 * [entities["0.png"]["boxes"][1]]
    path.write_text(json.dumps(entities))
    assert measure(data, "val", Told(1, {"0.png": {0: (B, "person")}}))["label_accuracy"] == 1


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
