"""Boxes and their names as files have them: phrases, classes, COCO's instances; what is damaged is one sentence."""

import json
from pathlib import Path

import pytest
import tiny
from PIL import Image

from glied.data.annotations import Boxed, read_boxes, read_class_boxes, read_entities, read_instances
from glied.data.dataset import load_dataset
from glied.errors import GliedError
from glied.training.detector import BACKGROUND

A, B, C = (0, 0, 40, 40), (50, 50, 90, 90), (0, 60, 20, 100)


def read(data: Path, *, human: bool = False) -> tuple[list[Boxed], list[str]]:
    """All boxes of a data set, and what was left out."""
    dataset = load_dataset(data)
    return read_boxes(dataset, dataset.photographs, human)


def boxes_of(data: Path, *, human: bool = False) -> list[Boxed]:
    """All boxes of a data set."""
    return read(data, human=human)[0]


# Flickr30k Entities


def test_a_box_has_the_phrases_of_all_its_chains(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (100, 90), [(A, ("a dog", "The brown dog")), (B, ()), (C, ("him",))]))
    entities = json.loads((data / "entities.json").read_text())
    entities["0.png"]["boxes"][1]["chains"] = [2, 0]
    entities["0.png"]["boxes"][2]["chains"] = [77]  # nobody speaks of it
    (data / "entities.json").write_text(json.dumps(entities))
    [boxed] = boxes_of(data)
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
    assert [b.photograph.id for b in read_boxes(dataset, dataset.photographs)[0]] == ["0.png", "2.png"]
    assert read_entities(data / "entities.json", dataset.photographs[1:2]) == ([], [])
    with pytest.raises(GliedError, match="found none"):
        read_boxes(dataset, dataset.photographs[1:2])


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
    "a number that no float can hold": broken(boxes=[{"chains": [1], "box": [0, 0, 9, 10**400]}]),
    "a phrase without a chain": broken(sentences=[{"raw": "a dog", "phrases": [{"phrase": "a dog"}]}]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_entities_are_one_sentence(tmp_path: Path, kind: str) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken())
    assert boxes_of(data)[0].phrases == [[("dog", ())]]
    (data / "entities.json").write_text(DAMAGED[kind])
    with pytest.raises(GliedError, match=r"entities\.json") as raised:
        boxes_of(data)
    assert "\n" not in str(raised.value)


def test_four_boxes_of_three_numbers_are_refused(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken(boxes=[{"chains": [1], "box": [0, 0, 9]}] * 4))
    with pytest.raises(GliedError, match=r"entities\.json"):
        boxes_of(data)


def test_missing_entities_say_where_to_put_them(tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), [(A, ("a dog",))]))
    (data / "entities.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GliedError, match=r"put entities\.json beside captions\.json"):
        boxes_of(data)
    (data / "entities.json").unlink()
    with pytest.raises(
        GliedError,
        match=r"boxes for the photographs of d in .*d/entities\.json \(or boxes\.json, .* beside captions\.json",
    ):
        boxes_of(data)


def test_entities_of_flickr8k(shared: Path) -> None:
    data = shared / "data" / "flickr8k"
    photographs = load_dataset(data).split("val")
    found, problems = read_entities(data / "entities.json", photographs)
    assert problems == []
    assert all(b.origin == "phrases" and b.human and b.certainty.tolist() == [1] * len(b.boxes) for b in found)
    assert len(found) > 0.9 * len(photographs)
    assert all(len(b.boxes) == len(b.phrases) > 0 for b in found)
    assert all((b.boxes[:, 2:] > b.boxes[:, :2]).all() for b in found)
    with Image.open(found[0].photograph.path) as image:
        assert (found[0].boxes[:, 2:].amax(0).numpy() <= image.size).all()


@pytest.mark.parametrize("box", [[40, 0, 0, 40], [10, 10, 10, 10], [0, 0, float("nan"), 9]])
def test_boxes_without_area_are_refused(tmp_path: Path, box: list[float]) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), []))
    (data / "entities.json").write_text(broken(boxes=[{"chains": [1], "box": box}]))
    with pytest.raises(GliedError, match=r"box without area|1 of 1 boxes end before they start"):
        boxes_of(data)


# Boxes with classes


def test_class_boxes_worked_values(tmp_path: Path) -> None:
    """A class is a phrase without modifiers, said once however many boxes have it; a score is a certainty."""
    found = [(A, "hot dog", 0.5), (B, "person", 1.0), (C, "person", 0.25)]
    [boxed] = boxes_of(tiny.classed(tmp_path / "d", ("train", "teacher", (100, 100), found)))
    assert boxed.photograph.id == "c0.png"
    assert boxed.boxes.tolist() == [list(A), list(B), list(C)]
    dog, person = ("hot dog", ()), ("person", ())
    assert boxed.phrases == [[dog], [person], [person]]
    assert boxed.said == [dog, person]
    assert boxed.chains == [{0}, {1}, {2}]  # each its own object
    assert boxed.sentences == []
    assert boxed.certainty.tolist() == [0.5, 1.0, 0.25]


@pytest.mark.parametrize(
    ("source", "origin", "human", "background"),
    [
        ("human", "classes", True, 0.5),
        ("person", "persons", False, 0.0),
        ("teacher", "teacher", False, 0.0),
    ],
)
def test_who_drew_the_boxes(tmp_path: Path, source: str, origin: str, human: bool, background: float) -> None:
    """Only people's measure anything, and only where they drew all objects can a place without a box be empty."""
    data = tiny.classed(tmp_path / "d", ("train", source, (100, 100), [(A, "person", 1.0)]))
    [boxed] = boxes_of(data)
    assert (boxed.origin, boxed.human, BACKGROUND[boxed.origin]) == (origin, human, background)
    if human:
        assert len(boxes_of(data, human=True)) == 1
    else:
        with pytest.raises(GliedError, match=r"Expected human boxes for the photographs of d in .*boxes\.json .*none"):
            boxes_of(data, human=True)


def test_photographs_without_boxes_are_left_out(tmp_path: Path) -> None:
    data = tiny.classed(
        tmp_path / "d",
        ("train", "human", (100, 100), []),
        ("train", "human", (100, 100), [(A, "dog", 1.0)]),
        ("val", "human", (100, 100), [(A, "dog", 1.0)]),
    )
    records = json.loads((data / "boxes.json").read_text())
    del records["c2.png"]
    records["elsewhere.png"] = {"source": "unheard of", "boxes": [[0, 0, 0, 0, 1, 2]]}  # nobody asks for it
    (data / "boxes.json").write_text(json.dumps(records))
    assert [boxed.photograph.id for boxed in boxes_of(data)] == ["c1.png"]


def class_box(*row: object, source: object = "human") -> str:
    return json.dumps({"c0.png": {"source": source, "boxes": [list(row)]}})


DAMAGED_CLASSES = {
    "empty": "",
    "no JSON": "<!DOCTYPE html>",
    "a list": "[]",
    "a photograph that is a list": '{"c0.png": []}',
    "no boxes": '{"c0.png": {"source": "human"}}',
    "no source": json.dumps({"c0.png": {"boxes": [[0, 0, 9, 9, "dog", 1.0]]}}),
    "another source": class_box(0, 0, 9, 9, "dog", 1.0, source="robot"),
    "a source that is a list": class_box(0, 0, 9, 9, "dog", 1.0, source=[]),
    "no score": class_box(0, 0, 9, 9, "dog"),
    "a number too many": class_box(0, 0, 9, 9, 9, "dog", 1.0),
    "a row that is a number": json.dumps({"c0.png": {"source": "human", "boxes": [5]}}),
    "ragged": json.dumps({"c0.png": {"source": "human", "boxes": [[0, 0, 9, 9, "dog", 1.0], [0, 0, 9, 9, "dog"]]}}),
    "a class that is a number": class_box(0, 0, 9, 9, 18, 1.0),
    "a class that is null": class_box(0, 0, 9, 9, None, 1.0),
    "a score of 0": class_box(0, 0, 9, 9, "dog", 0.0),
    "a score above 1": class_box(0, 0, 9, 9, "dog", 1.01),
    "a score that is no number": class_box(0, 0, 9, 9, "dog", float("nan")),
    "a score that is a word": class_box(0, 0, 9, 9, "dog", "sure"),
    "a corner that is a word": class_box(0, 0, 9, "wide", "dog", 1.0),
    "a corner that no float can hold": class_box(0, 0, 9, 10**400, "dog", 1.0),
    "a corner that is infinite": class_box(0, 0, 9, float("inf"), "dog", 1.0),
    "width and height instead of a corner": class_box(50, 50, 9, 9, "dog", 1.0),
}


@pytest.mark.parametrize("kind", DAMAGED_CLASSES)
def test_damaged_class_boxes_are_one_sentence(tmp_path: Path, kind: str) -> None:
    data = tiny.classed(tmp_path / "d", ("val", "human", (60, 60), [(A, "dog", 1.0)]))
    (data / "boxes.json").write_text(class_box(0, 0, 9, 9, "dog", 1.0))
    assert boxes_of(data)[0].boxes.tolist() == [[0, 0, 9, 9]]
    (data / "boxes.json").write_text(DAMAGED_CLASSES[kind])
    with pytest.raises(GliedError, match=r"boxes\.json.*could not read them .*correct the file") as raised:
        boxes_of(data)
    assert "\n" not in str(raised.value)


# COCO's instances

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 58, "name": "hot dog"}]
INSTANCES = [
    {"image_id": 7, "category_id": 58, "bbox": [10, 20, 30, 40], "iscrowd": 0},
    {"image_id": 7, "category_id": 1, "bbox": [0, 0, 90, 50], "iscrowd": 1},  # a crowd
    {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 9], "iscrowd": 0},  # empty
    {"image_id": 7, "category_id": 1, "bbox": [5, 5, 9, 0], "iscrowd": 0},
    {"image_id": 8, "category_id": 1, "bbox": [0, 0, 90, 50], "iscrowd": 1},  # nothing else in that photograph
    {"image_id": 7, "category_id": 1, "bbox": [0.5, 1.5, 2, 3]},
    {"image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5]},
]


def instances(folder: Path) -> Path:
    """Photographs c0.png to c2.png, the first two in instances_train.json and the third in instances_val.json."""
    data = tiny.classed(folder / "d", *[("train", "human", (100, 100), [])] * 2, ("val", "human", (100, 100), []))
    (data / "boxes.json").unlink()
    (data / "annotations").mkdir()
    for split, images in (("train", {7: "c0.png", 8: "c1.png"}), ("val", {9: "c2.png"})):
        content = {
            "categories": CATEGORIES,
            "images": [{"id": i, "file_name": name} for i, name in images.items()],
            "annotations": [each for each in INSTANCES if each["image_id"] in images],
        }
        (data / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return data


def test_instances_worked_values(tmp_path: Path) -> None:
    """Corners instead of width and height; crowds and boxes without area are left out, and that is told."""
    data = instances(tmp_path)
    assert "instances_train.json: 2 box(es) of crowds were left out" in read(data)[1]
    first, last = boxes_of(data, human=True)
    assert (first.photograph.id, last.photograph.id) == ("c0.png", "c2.png")
    assert first.boxes.tolist() == [[10, 20, 40, 60], [0.5, 1.5, 2.5, 4.5]]
    assert first.phrases == [[("hot dog", ())], [("person", ())]]
    assert first.certainty.tolist() == [1, 1]
    assert (first.origin, first.human) == ("classes", True)
    assert last.boxes.tolist() == [[0, 0, 5, 5]]
    photographs = load_dataset(data).split("val")
    assert [b.photograph.id for b in read_instances(sorted(data.glob("annotations/*")), photographs)[0]] == ["c2.png"]
    with pytest.raises(GliedError, match=r"annotations/instances_\*\.json \(or .* found none"):
        read_boxes(load_dataset(data), load_dataset(data).photographs[1:2])


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("categories", None),
        ("categories", [{"id": 1}]),
        ("images", {"7": "c0.png"}),
        ("images", [{"id": 7}]),
        ("annotations", 5),
        ("annotations", None),
    ],
)
def test_damaged_instances_are_one_sentence(tmp_path: Path, key: str, content: object) -> None:
    data = instances(tmp_path)
    path = data / "annotations" / "instances_train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: content}))
    with pytest.raises(GliedError, match=r"COCO's instances in .*instances_train\.json") as raised:
        boxes_of(data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_id": 7, "category_id": 1},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5]},
        {"image_id": 7, "category_id": 1, "bbox": "wide"},
        {"image_id": 7, "category_id": 1, "bbox": None},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, "5", 5]},
        {"image_id": 7, "category_id": 1, "bbox": ["0", 0, 5, 5]},
        {"image_id": 99, "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": None, "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": [7], "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "category_id": 99, "bbox": [0, 0, 5, 5]},
        {"category_id": 1, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 9]},
        5,
        None,
    ],
)
def test_one_bad_box_of_instances_is_left_out_and_told(tmp_path: Path, wrong: object) -> None:
    data = instances(tmp_path)
    path = data / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    expected = [b.boxes.tolist() for b in boxes_of(data)]
    content["annotations"] = [
        each for each in content["annotations"] if each["bbox"][2] * each["bbox"][3] and not each.get("iscrowd")
    ]
    path.write_text(json.dumps(content | {"annotations": [wrong, *content["annotations"]]}))
    found, problems = read(data)
    assert [b.boxes.tolist() for b in found] == expected
    [problem] = problems
    assert "instances_train.json" in problem
    assert len(problem) < 300


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe\x00", b"<!DOCTYPE html>"])
def test_instances_that_are_no_json_of_coco_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    data = instances(tmp_path)
    (data / "annotations" / "instances_val.json").write_bytes(content)
    with pytest.raises(GliedError, match="COCO's instances in"):
        boxes_of(data)


# Several data sets


def test_boxes_of_several_data_sets(tmp_path: Path) -> None:
    """Each photograph has the boxes of its own folder, though the other folder's file knows its name too."""
    phrases = tiny.boxed(tmp_path / "phrases", ("val", (100, 90), [(A, ("a dog",))]))
    classes = tiny.classed(tmp_path / "classes", ("val", "teacher", (100, 100), [(B, "cat", 0.5)]))
    records = json.loads((classes / "boxes.json").read_text())
    records["0.png"] = {"source": "human", "boxes": [[*C, "sheep", 1.0]]}
    (classes / "boxes.json").write_text(json.dumps(records))
    dataset = load_dataset([classes, phrases])
    found, _ = read_boxes(dataset, dataset.photographs)
    assert [(b.photograph.id, b.origin, b.phrases) for b in found] == [
        ("c0.png", "teacher", [[("cat", ())]]),
        ("0.png", "phrases", [[("dog", ())]]),
    ]
    assert [b.photograph.id for b in read_boxes(dataset, dataset.photographs, human=True)[0]] == ["0.png"]
    assert [b.photograph.id for b in read_boxes(dataset, dataset.photographs[:1])[0]] == ["c0.png"]
    assert read_class_boxes(classes / "boxes.json", dataset.photographs)[0][1].origin == "classes"
    (phrases / "entities.json").unlink()
    with pytest.raises(GliedError, match=r"classes \+ phrases in .*classes/boxes\.json or .*phrases/entities\.json"):
        read_boxes(dataset, dataset.photographs, human=True)


def test_phrases_come_before_classes(tmp_path: Path) -> None:
    """A folder with both files is read for what people said."""
    data = tiny.boxed(tmp_path / "d", ("val", (100, 90), [(A, ("a dog",))]))
    (data / "boxes.json").write_text(json.dumps({"0.png": {"source": "human", "boxes": [[*B, "cat", 1.0]]}}))
    assert [b.origin for b in boxes_of(data)] == ["phrases"]
