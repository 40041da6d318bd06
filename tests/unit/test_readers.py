"""Files as people have them: encodings, ids of every kind, names that come twice, one bad record among good ones."""

import bz2
import gzip
import json
import pickle
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from test_stored import arrays, encoded, find, photograph, row, write_tsv
from tiny import run

from glied.data.annotations import read_boxes
from glied.data.dataset import load_dataset
from glied.data.features import FeatureCache
from glied.data.texts import pair, read_texts
from glied.errors import GliedError
from glied.records import Names, kind_of, match_names, read_json, reason, shown
from glied.regions.stored import StoredFiles
from glied.training.material import Places, prepare, read_crossfit

A = (0, 0, 9, 9)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def paint(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), (colour, 7, 7)).save(path, "PNG")
    return path


def karpathy(folder: Path, *records: dict, **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.json").write_text(json.dumps({"images": records} | more))
    return folder


def record(name: str, split: str = "train", *captions: object, **more: object) -> dict:
    sentences = [c if isinstance(c, dict | str) else {"raw": c} for c in captions or ({"raw": "A dog runs."},)]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def coco(folder: Path, images: list, annotations: list, name: str = "captions_val2014.json") -> Path:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations}
    (folder / "annotations" / name).write_text(json.dumps(content))
    return folder


# One reader of JSON


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_reader_takes_every_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    data = tiny.boxed(tmp_path / "d", ("val", (60, 60), [((0, 0, 30, 30), ("a dög",))]))
    references = tmp_path / "references.json"
    references.write_text(json.dumps({"0.png": ["Ein Hünd."]}, ensure_ascii=False))
    crossfit = tmp_path / "crossfit.json"
    crossfit.write_text(json.dumps({"0.png": ["dög"]}, ensure_ascii=False))
    sets = tmp_path / "sets.json"
    sets.write_text('{"d": 1}')
    expected = load_dataset(data).photographs
    for file in (data / "captions.json", data / "entities.json", references, crossfit, sets):
        text = json.dumps(json.loads(file.read_text()), indent=1, ensure_ascii=False)
        file.write_bytes(text.replace("\n", end).encode(encoding))
    dataset = load_dataset(sets)
    assert dataset.problems == ()
    assert dataset.photographs == expected
    found, problems = read_boxes(dataset, dataset.photographs)
    assert problems == []
    assert found[0].phrases == [[("dög", ())]]
    assert read_texts(references).captions == {"0.png": ["Ein Hünd."]}
    assert read_crossfit(crossfit) == ({"0.png": ["dög"]}, [])


STRANGE = {
    "nested": (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "nested objects": (b'{"a":' * 100_000, "nested too deep"),
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "cut": (b'{"images": [', "damaged JSON"),
    "another encoding": ('{"a": "Hünd"}'.encode("latin-1"), "neither UTF-8 nor UTF-16"),
    "gzip": (gzip.compress(b"{}"), "gzip archive.*unpack it first"),
    "bzip2": (bz2.compress(b"{}"), "bzip2 archive.*unpack it first"),
    "pickle": (pickle.dumps({"a": 1}), "pickle"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
    "huge number": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    "HTML": (b"<!DOCTYPE html>", "damaged JSON"),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize(
    "read",
    [
        lambda file: load_dataset(file.parent),
        read_texts,
        read_crossfit,
        load_dataset,
        lambda file: read_json(file, "words"),
    ],
    ids=["data set", "captions", "attributes", "weights", "any"],
)
def test_a_file_that_is_none_is_one_sentence(read: Callable, kind: str, tmp_path: Path) -> None:
    content, said = STRANGE[kind]
    (tmp_path / "captions.json").write_bytes(content)
    with pytest.raises(GliedError, match=rf"captions\.json.*{said}") as raised:
        read(tmp_path / "captions.json")
    assert "\n" not in str(raised.value)
    assert "()" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_key_that_comes_twice_is_told(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    file.write_text('{"1": ["a dog"], "2": ["a cat"], "1": ["a cow"]}')
    found = read_texts(file)
    assert found.captions == {"1": ["a cow"], "2": ["a cat"]}
    assert found.problems == ["captions.json: the key 1 comes 2 times in one object, its last value counts"]
    paint(tmp_path / "images" / "a.png")
    file.write_text(f'{{"images": [], "images": [{json.dumps(record("a.png"))}]}}')
    assert load_dataset(tmp_path).problems == (
        "captions.json: the key images comes 2 times in one object, its last value counts",
    )
    (tmp_path / "sets.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(GliedError, match="the key a comes 2 times"):
        load_dataset(tmp_path / "sets.json")


def test_json_lines_are_read_and_a_cut_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    lines = [json.dumps({"image_id": i, "caption": f"dog {i}"}) for i in range(3)]
    file.write_text("\r\n".join(lines) + "\r\n\n" + lines[0][:12])
    found = read_texts(file)
    assert found.captions == {str(i): [f"dog {i}"] for i in range(3)}
    [problem] = found.problems
    assert "line 5 is cut" in problem


def test_shown_is_one_short_line_and_reasons_are_never_empty() -> None:
    assert shown("a\nb\tc\u202e\udce9") == "a\\nb\\tc\\u202e\\xe9"
    assert len(shown("x" * 9999)) == 120
    nest: list = []
    for _ in range(10_000):
        nest = [nest]
    assert len(shown(nest)) < 120
    for error in (StopIteration(), KeyError(), KeyError("boxes"), OSError(), ValueError(""), ValueError("a\nb")):
        assert reason(error).strip()
        assert reason(error).isprintable()
    assert reason(ValueError("invalid literal for int() with base 10")) == "invalid literal for int with base 10"


# Ids


@pytest.mark.parametrize(
    ("ids", "file"),
    [
        ([42, "42", 42.0, "42.0", "000000000042"], "COCO_val2014_000000000042.png"),
        (["COCO_val2014_000000000042.png", "COCO_val2014_000000000042", "val2014/COCO_val2014_000000000042.png"],
         "COCO_val2014_000000000042.png"),
        (["7", 7, "007"], "7.png"),
    ],
)  # fmt: skip
def test_ids_of_annotations_are_joined_as_text(ids: list, file: str, tmp_path: Path) -> None:
    paint(tmp_path / "images" / file)
    number = int("".join(c for c in file[-8:] if c.isdigit()))
    annotations = [{"image_id": id, "caption": f"dog {i}"} for i, id in enumerate(ids)]
    coco(tmp_path, [{"id": number, "file_name": file}], annotations)
    data = load_dataset(tmp_path)
    assert data.problems == ()
    assert data.photographs[0].captions == tuple(f"dog {i}" for i in range(len(ids)))


def test_ids_that_do_not_match_are_one_sentence_with_examples(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    images = [{"id": 1, "file_name": "a.png"}]
    coco(tmp_path, images, [{"image_id": "x-9", "caption": "a dog"}, {"image_id": "x-8", "caption": "a dog"}])
    with pytest.raises(GliedError, match=r"2 image id\(s\) of annotations .* like x-9, x-8, ours like 1"):
        load_dataset(tmp_path)
    coco(tmp_path, images, [{"image_id": 1, "caption": "a dog"}, {"image_id": 99, "caption": "a cat"}])
    data = load_dataset(tmp_path)
    assert data.photographs[0].captions == ("a dog",)
    [problem] = data.problems
    assert "1 image id(s) of annotations in captions_val2014.json are of no image there" in problem


def test_one_bad_record_is_left_out_and_named(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    bad_images = [5, None, {"id": 3}, {"file_name": "c.png"}, {"id": 4, "file_name": ""}]
    bad_images += [{"id": id, "file_name": "e.png"} for id in (None, float("nan"), 1, [1], True)]
    bad = [{"image_id": 1}, {"caption": "a"}, {"image_id": 1, "caption": None}, {"image_id": 1, "caption": ["a"]}, 7,
           {"image_id": [1], "caption": "a"}, {"image_id": True, "caption": "a"}]  # fmt: skip
    good = {"image_id": 1, "caption": "a dog"}
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}, *bad_images], [*bad, good])
    data = load_dataset(tmp_path)
    assert [(p.id, p.captions) for p in data.photographs] == [("a.png", ("a dog",))]
    assert len(data.problems) == len(bad) + len(bad_images)
    assert all("captions_val2014.json: an" in p and "was left out" in p for p in data.problems)
    assert all(p.isprintable() and len(p) < 300 for p in data.problems)


def test_an_id_is_an_id_before_it_is_a_name(tmp_path: Path) -> None:
    """The annotations name files, and a file is called as another image's id."""
    for i, name in enumerate(("7.png", "12.png")):
        paint(tmp_path / "images" / name, i)
    images = [{"id": 7, "file_name": "12.png"}, {"id": 12, "file_name": "7.png"}]
    coco(tmp_path, images, [{"image_id": name, "caption": f"file {name}"} for name in ("7.png", "12.png")])
    assert {p.id: p.captions for p in load_dataset(tmp_path).photographs} == {
        "7.png": ("file 7.png",),
        "12.png": ("file 12.png",),
    }


def test_sentences_that_are_words(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    karpathy(tmp_path, record("a.png", "train", "a dog", {"raw": "a cat"}, {"tokens": ["a", "cow"]}))
    assert load_dataset(tmp_path).photographs[0].captions == ("a dog", "a cat", "a cow")


def test_names_are_found_by_what_others_call_them() -> None:
    names = Names(["train/1.jpg", "val/1.jpg", "2.jpg", "2.png", "COCO_val2014_000000000042.jpg", "é.jpg"])
    expected = {
        "train/1.jpg": "train/1.jpg",
        "images/train/1.jpg": "train/1.jpg",
        "val\\1.jpg": "val/1.jpg",
        "val/1": "val/1.jpg",
        "test/1.jpg": None,
        "1.jpg": None,  # of two
        "1": None,
        "2.jpg": "2.jpg",
        "2": None,
        "./2.png": "2.png",
        "42": "COCO_val2014_000000000042.jpg",
        "0042": "COCO_val2014_000000000042.jpg",
        "42.0": "COCO_val2014_000000000042.jpg",
        "42.5": None,
        "-42": None,
        "": None,
        unicodedata.normalize("NFD", "é.jpg"): "é.jpg",
    }
    assert {id: names.find(id) for id in expected} == expected
    assert match_names(["a/1.jpg", "b/1.jpg", "3.jpg"], Names(["1", "3"])) == (
        {"3.jpg": "3"},
        ["1: left out, it could mean a/1.jpg or b/1.jpg"],
    )


# Photographs are known by their path in the data set


def test_two_photographs_of_one_name_are_two(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val")):
        paint(tmp_path / "images" / split / "000001.png", i)
    karpathy(tmp_path, *(record("000001.png", s, filepath=s) for s in ("train", "val")), record("000001.png", "val"))
    data = load_dataset(tmp_path)
    assert [(p.id, p.split) for p in data.photographs] == [("train/000001.png", "train"), ("val/000001.png", "val")]
    assert data.problems == (f"000001.png: left out, no such file in {tmp_path / 'images'}",)
    (tmp_path / "captions.json").unlink()
    for split in ("train", "val"):
        image, caption = {"id": 1, "file_name": "000001.png"}, {"image_id": 1, "caption": f"a {split}"}
        coco(tmp_path, [image], [caption], f"captions_{split}.json")
    assert [(p.id, p.captions) for p in load_dataset(tmp_path).photographs] == [
        ("train/000001.png", ("a train",)),
        ("val/000001.png", ("a val",)),
    ]


def test_boxes_of_two_photographs_of_one_name(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val")):
        paint(tmp_path / "images" / split / "1.png", i)
    karpathy(tmp_path, *(record("1.png", s, filepath=s) for s in ("train", "val")))
    boxes = {f"{s}/1.png": {"source": "human", "boxes": [[0, 0, 9, 9, s, 1.0]]} for s in ("train", "val")}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    data = load_dataset(tmp_path)
    found, problems = read_boxes(data, data.photographs)
    assert [(b.photograph.id, b.said) for b in found] == [
        ("train/1.png", [("train", ())]),
        ("val/1.png", [("val", ())]),
    ]
    assert problems == []
    (tmp_path / "boxes.json").write_text(json.dumps({"1.png": boxes["val/1.png"]}))
    with pytest.raises(GliedError, match=r"1\.png: left out, it could mean train/1\.png or val/1\.png|1 photograph"):
        read_boxes(data, data.photographs)


def test_another_photograph_of_one_name_in_two_data_sets_is_kept(tmp_path: Path) -> None:
    for i, name in enumerate(("first", "second")):
        paint(tmp_path / name / "images" / "1.png", i)
        karpathy(tmp_path / name, record("1.png", "train", f"a {name}"))
    data = load_dataset([tmp_path / "first", tmp_path / "second"])
    assert [p.id for p in data.photographs] == ["1.png", "second/1.png"]
    karpathy(tmp_path / "second", record("1.png", "val", "A FIRST!"))  # what people said of the other
    assert load_dataset([tmp_path / "first", tmp_path / "second"]).problems == (
        "1.png: in first too, left out of second",
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms_of_names_agree(forms: tuple, tmp_path: Path) -> None:
    listed, stored = (unicodedata.normalize(form, "café.png") for form in forms)
    paint(tmp_path / "images" / stored)
    karpathy(tmp_path, record(listed))
    (tmp_path / "boxes.json").write_text(json.dumps({stored: {"source": "human", "boxes": [[0, 0, 9, 9, "a", 1.0]]}}))
    data = load_dataset(tmp_path)
    assert [p.id for p in data.photographs] == [listed]
    assert len(read_boxes(data, data.photographs)[0]) == 1


def test_names_with_line_breaks_stay_one_line(tmp_path: Path) -> None:
    karpathy(tmp_path, record("a\nb.png"), record("c\td.png"), record("\ud800.png"), record("good.png"))
    paint(tmp_path / "images" / "good.png")
    problems = load_dataset(tmp_path).problems
    assert len(problems) == 3
    assert all(problem.isprintable() for problem in problems)
    (tmp_path / "a\nb.png").write_bytes(b"no image")
    keys, [problem] = FeatureCache(tmp_path / "cache", tiny_source()).extract([tmp_path / "a\nb.png"], progress=False)
    assert not keys
    assert "\\nb.png is damaged" in problem


def tiny_source() -> StoredFiles:
    source = StoredFiles.__new__(StoredFiles)
    source.name, source.feature_dim = "tiny/1", 1
    return source


def test_a_damaged_photograph_is_named_by_its_path(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(b"no image")
    paths = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"]
    _, problems = FeatureCache(tmp_path / "cache", tiny_source()).extract(paths, progress=False)
    assert [str(path) in problem for path, problem in zip(paths, problems, strict=True)] == [True, True]


# Nothing is dropped in silence


def test_ignored_files_are_told(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    for name in ("dataset_a.json", "dataset_b.json"):
        (tmp_path / name).write_text(json.dumps({"images": [record("a.png")]}))
    coco(tmp_path, [], [])
    assert load_dataset(tmp_path).problems == (
        "dataset_b.json: not read, dataset_a.json was",
        "annotations/captions_val2014.json: not read, dataset_a.json was",
    )


def test_boxes_without_area_are_told_and_the_others_used(tmp_path: Path) -> None:
    good, empty = [0, 0, 9, 9], [5, 5, 5, 9]
    data = tiny.classed(tmp_path / "d", ("val", "human", (60, 60), [((0, 0, 9, 9), "dog", 1.0)]))
    rows = [[*box, "dog", 1.0] for box in (good, empty, good, empty, [0, 0, float("nan"), 9])]
    (data / "boxes.json").write_text(json.dumps({"c0.png": {"source": "human", "boxes": rows}}))
    dataset = load_dataset(data)
    [boxed], problems = read_boxes(dataset, dataset.photographs)
    assert boxed.boxes.tolist() == [good, good]
    assert len(boxed.phrases) == len(boxed.certainty) == len(boxed.chains) == 2
    assert problems == ["c0.png: 3 box(es) without area were left out"]


def test_one_bad_photograph_of_boxes_is_left_out_and_named(tmp_path: Path) -> None:
    some = [("val", "human", (60, 60), [((0, 0, 9, 9), "dog", 1.0)])] * 4
    data = tiny.classed(tmp_path / "d", *some)
    content = json.loads((data / "boxes.json").read_text())
    dataset = load_dataset(data)
    robot, turned = ({"source": s, "boxes": [[*b, "dog", 1]]} for s, b in (("robot", A), ("human", (50, 50, 9, 9))))
    wrongs: list = [[], None, robot, turned, {"boxes": "many"}, {"source": "human"}]
    for wrong in wrongs:
        (data / "boxes.json").write_text(json.dumps(content | {"c1.png": wrong, "stranger.png": content["c0.png"]}))
        found, problems = read_boxes(dataset, dataset.photographs)
        assert [b.photograph.id for b in found] == ["c0.png", "c2.png", "c3.png"]
        assert len(problems) == 2
        assert problems[0].startswith("1 photograph(s) in boxes.json are not in the data set: their ids look like str")
        assert problems[1].startswith("c1.png: its boxes were left out, ")


def test_boxes_as_width_and_height_name_both_layouts(tmp_path: Path) -> None:
    """Though some of them may be taken for corners."""
    some = [("val", "human", (60, 60), [((1, 1, 9, 9), "dog", 1.0)]), ("val", "human", (60, 60), [])]
    data = tiny.classed(tmp_path / "d", *some)
    rows = {"c0.png": [1, 1, 20, 20], "c1.png": [30, 30, 20, 20]}
    content = {name: {"source": "human", "boxes": [[*box, "dog", 1.0]]} for name, box in rows.items()}
    (data / "boxes.json").write_text(json.dumps(content))
    dataset = load_dataset(data)
    with pytest.raises(GliedError, match=r"expected x1, y1, x2, y2, these look like x, y, width, height"):
        read_boxes(dataset, dataset.photographs)
    (data / "boxes.json").unlink()
    instances = {
        "categories": [{"id": 1, "name": "dog"}],
        "images": [{"id": 1, "file_name": "c0.png", "width": 60, "height": 60}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [30, 30, 50, 55]}],  # corners
    }
    (data / "annotations").mkdir()
    (data / "annotations" / "instances_val.json").write_text(json.dumps(instances))
    with pytest.raises(GliedError, match=r"expected x, y, width, height, these look like x1, y1, x2, y2"):
        read_boxes(dataset, dataset.photographs)


def test_attributes_of_no_photograph_are_told(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    paint(tmp_path / "images" / "b.png", 1)
    photographs = load_dataset(karpathy(tmp_path, record("a.png"), record("b.png"))).photographs
    file = tmp_path / "crossfit.json"
    file.write_text(json.dumps({"images/a.png": ["dog"], "b.png": "dog"}))
    found, problems = read_crossfit(file, photographs)
    assert found == {"a.png": ["dog"]}
    assert "b.png: left out of crossfit.json" in problems[0]
    assert "1 photograph(s) have no attributes in crossfit.json, such as b.png" in problems[1]


# Captions of others, and of our own commands


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


SCORED = {
    "results": [{"image_id": 42, "caption": "a dog"}],
    "results with text": [{"image_id": "42", "caption": "a dog"}],
    "results with zeros": [{"image_id": "000000000042", "caption": "a dog"}],
    "results of a table": [{"image_id": 42.0, "caption": "a dog"}],
    "results by file": [{"image_id": "COCO_val2014_000000000042.jpg", "caption": "a dog"}],
    "by id": {"42": "a dog"},
    "by file": {"COCO_val2014_000000000042.jpg": ["a dog"]},
    "caption --json, 0.1.0": [{"image": "images/COCO_val2014_000000000042.jpg", "captions": [{"caption": "a dog"}]}],
    "one line of caption --json": {"image": "COCO_val2014_000000000042.jpg", "captions": [{"caption": "a dog"}, {}]},
    "evaluate": {"images": {"COCO_val2014_000000000042.jpg": {"caption": "a dog", "CIDEr": 1}}, "problems": []},
}
REFERENCES = {
    "COCO": {
        "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}],
        "annotations": [{"image_id": 42, "caption": "the dog"}],
    },
    "COCO without images": {"annotations": [{"image_id": 42, "caption": "the dog"}]},
    "Karpathy": {"images": [record("COCO_val2014_000000000042.jpg", "val", "the dog", cocoid=42)]},
    "Karpathy without number": {"images": [record("COCO_val2014_000000000042.jpg", "val", "the dog")]},
    "by id": {"42": ["the dog"]},
}


@pytest.mark.parametrize("references", REFERENCES)
@pytest.mark.parametrize("captions", SCORED)
def test_captions_find_their_references(captions: str, references: str, tmp_path: Path) -> None:
    known = read_texts(write(tmp_path / "r.json", REFERENCES[references]))
    told = read_texts(write(tmp_path / "c.json", SCORED[captions]))
    people, spoken, problems = pair(known, told)
    assert list(people.values()) == [["the dog"]]
    assert list(spoken.values()) == ["a dog"]
    assert people.keys() == spoken.keys()
    assert problems == []


def test_captions_by_a_name_of_its_own_find_cocos_number(tmp_path: Path) -> None:
    known = read_texts(write(tmp_path / "r.json", {"images": [record("hund.jpg", "val", "the dog", cocoid=42)]}))
    told = read_texts(write(tmp_path / "c.json", {"images": {"hund.jpg": {"caption": "a dog"}}}))
    assert pair(known, told)[1] == {"42": "a dog"}


def test_one_bad_caption_is_left_out_and_ids_that_differ_are_a_sentence(tmp_path: Path) -> None:
    known = read_texts(write(tmp_path / "r.json", {"1": ["a dog"], "2": ["a cat"], "3": []}))
    bad = [{"image_id": 2, "caption": None}, {"caption": "a"}, 5, {"image_id": {}, "caption": "a"}]
    told = read_texts(write(tmp_path / "c.json", [*bad, {"image_id": 1, "caption": "a dog"}]))
    _, spoken, problems = pair(known, told)
    assert spoken == {"1": "a dog"}
    assert len(problems) == 5
    told = read_texts(write(tmp_path / "c.json", {"x-7": "a dog", "x-8": "a dog"}))
    with pytest.raises(
        GliedError, match=r"2 image\(s\) with a caption .* like x-7, x-8, ours like 1; use the same ids"
    ):
        pair(known, told)
    told = read_texts(write(tmp_path / "c.json", [{"image_id": id, "caption": "a"} for id in (1, "01")]))
    with pytest.raises(GliedError, match="one caption per image, 01, as 1 too"):
        pair(known, told)


def test_cider_of_one_photograph_is_told_to_mean_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    files = [write(tmp_path / f"{name}.json", {"1": "a dog", "2": "a cat"}) for name in ("r", "c")]
    monkeypatch.setenv("PATH", "")  # without Java
    for count in (2, 1):
        write(files[1], {str(i): "a dog" for i in range(1, count + 1)})
        out = tmp_path / "s.json"
        assert run(monkeypatch, "score", "--references", files[0], "--captions", files[1], "--json", out) == 0
        said = "CIDEr means nothing here" in capsys.readouterr().out
        told = any("CIDEr means nothing" in problem for problem in json.loads(out.read_text())["problems"])
        assert said == told == (count == 1)
    assert "1 of 2 images with references have a caption; only they count" in json.loads(out.read_text())["problems"]


def test_training_on_one_val_photograph_is_told(data: Path, places: Places, capsys) -> None:
    content = json.loads((data / "captions.json").read_text())
    for count in (2, 1):
        val = [image for image in content["images"] if image["split"] == "val"][:count]
        train = [image for image in content["images"] if image["split"] == "train"]
        (data / "captions.json").write_text(json.dumps({"images": [*train, *val]}))
        capsys.readouterr()
        prepare(places, False, 1)
        assert ("val of colours: CIDEr means nothing here" in capsys.readouterr().out) == (count == 1)


# Features of others


def archive(folder: Path, kind: str) -> Path:
    inner = write_tsv(folder / "a.tsv", row("dog"))
    file = folder / f"a.{kind}"
    if kind == "gz":
        file.write_bytes(gzip.compress(inner.read_bytes()))
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as opened:
            opened.write(inner, "a.tsv")
    elif kind == "tar":
        with tarfile.open(file, "w") as opened:
            opened.add(inner, "a.tsv")
    else:
        file.write_bytes(pickle.dumps({"dog": arrays()}, int(kind[-1])))
    inner.unlink()
    return file


@pytest.mark.parametrize("kind", ["gz", "zip", "tar", "pkl0", "pkl1", "pkl2", "pkl5"])
def test_archives_and_pickles_are_known_by_their_first_bytes(kind: str, tmp_path: Path) -> None:
    file = archive(tmp_path, kind)
    said = "a pickle, which can run code; save it as .npz or HDF5" if kind[:3] == "pkl" else "unpack it first"
    with pytest.raises(GliedError, match=said) as raised:
        StoredFiles("vg", [file])
    assert str(raised.value).isprintable()
    with pytest.raises(GliedError, match=said):  # alone in a folder
        StoredFiles("vg", [tmp_path])
    disguised = file.rename(tmp_path / "b.tsv")
    with pytest.raises(GliedError, match=said):
        StoredFiles("vg", [disguised])


def test_text_is_no_archive() -> None:
    for head in (b"42\t640\t480", b"cat\n1\n", b"(a\n", b'{"a": 1}', b"[1]", b"]", b"PKs\t", b"\xef\xbb\xbf42\t"):
        assert kind_of(head) is None


@pytest.mark.parametrize("id", ["42", "000000000042", "42.0", "42.00", "COCO_train2014_000000000042", "val/42", " 42"])
def test_ids_of_a_table_are_joined(id: str, tmp_path: Path) -> None:
    source = StoredFiles("vg", [write_tsv(tmp_path / "a.tsv", row("7"), row(id, 5))])
    folder = tmp_path / ("val" if "/" in id else "images")
    assert len(find(source, photograph(folder, "COCO_val2014_000000000042.jpg")).boxes) == 5


def test_a_table_with_a_byte_order_mark_and_a_vocabulary_of_windows(tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "a.tsv", row("dog"))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "objects_vocab.txt").write_bytes("shirt\r\nsky".encode("utf-16"))
    assert len(find(StoredFiles("vg", [file]), photograph(tmp_path)).boxes) == 3
    (tmp_path / "objects_vocab.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(GliedError, match="neither UTF-8 nor UTF-16"):
        StoredFiles("vg", [file])


def test_boxes_of_features_as_width_and_height_are_refused(tmp_path: Path) -> None:
    boxes, features = arrays(36)
    boxes[:, 2:] -= boxes[:, :2]
    for i in range(4):
        np.savez(tmp_path / f"{i}.npz", feat=features, bbox=boxes)
    with pytest.raises(GliedError, match=r"Expected boxes as x1, y1, x2, y2, in 4 of 4 images .* x, y, width, height"):
        StoredFiles("vg", [tmp_path])
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", feat=features[:3], bbox=arrays(3)[0])
    source = StoredFiles("vg", [tmp_path])
    with pytest.raises(GliedError, match=r"3\.jpg: left out, \d+ of its 36 boxes end before they start"):
        find(source, photograph(tmp_path, "3.jpg"))


def test_boxes_of_features_without_area_are_told(tmp_path: Path) -> None:
    boxes, features = arrays(5)
    boxes[1], boxes[3] = (5, 5, 5, 9), (9, 9, 9, 9)
    np.savez(tmp_path / "dog.npz", feat=features, bbox=boxes)
    source = StoredFiles("vg", [tmp_path])
    assert len(find(source, photograph(tmp_path)).boxes) == 3
    [problem] = source.problems
    assert problem.endswith("dog.jpg: 2 of its 5 boxes have no area, left out")
    np.savez(tmp_path / "dog.npz", feat=features[:1], bbox=boxes[1:2])
    with pytest.raises(GliedError, match="none of its 1 boxes has an area"):
        find(StoredFiles("vg", [tmp_path]), photograph(tmp_path))


def test_features_without_their_boxes_say_what_to_put_where(tmp_path: Path) -> None:
    (tmp_path / "cocobu_att").mkdir()
    np.savez(tmp_path / "cocobu_att" / "dog.npz", feat=arrays()[1])
    with pytest.raises(GliedError, match="no boxes; put cocobu_box beside cocobu_att"):
        StoredFiles("vg", [tmp_path / "cocobu_att"])
    (tmp_path / "cocobu_box").mkdir()
    with pytest.raises(GliedError, match="boxes of dog in cocobu_box, found no boxes"):
        StoredFiles("vg", [tmp_path / "cocobu_att"])


def data_of(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        photograph((folder / "images" / name).parent, Path(name).name, seed=i)
    return karpathy(folder, *(record(name) for name in names))


def convert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *stored: Path, name: str = "vg") -> int:
    arguments = ("--data", tmp_path / "data", "--name", name, "--cache", tmp_path / "cache")
    return run(monkeypatch, "convert", *stored, *arguments)


def test_other_features_under_the_name_of_earlier_ones_are_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    data_of(tmp_path / "data", "dog.jpg", "cat.jpg")
    file = write_tsv(tmp_path / "a.tsv", row("dog"), row("cat", 4))
    assert convert(monkeypatch, tmp_path, file) == 0
    assert convert(monkeypatch, tmp_path, file) == 0
    assert "2 of 2 photographs have regions; train" in capsys.readouterr().out
    first = {f.name: f.read_bytes() for f in (tmp_path / "cache").rglob("*.h5")}
    for change in (row("cat", 4, seed=9), row("cat", 3)):  # corrected
        write_tsv(file, row("dog"), change)
        assert convert(monkeypatch, tmp_path, file) == 2
        said = capsys.readouterr().err
        assert "differ from those that were converted as vg before" in said
        assert "cat.jpg differ" in said
        assert "choose another --name" in said
        assert {f.name: f.read_bytes() for f in (tmp_path / "cache").rglob("*.h5")} == first
    assert convert(monkeypatch, tmp_path, file, name="vg2") == 0
    write_tsv(file, row("dog"))  # another part of the same features
    assert convert(monkeypatch, tmp_path, file) == 0
    assert "2 of 2 photographs have regions, 1 of them only from an earlier conversion" in capsys.readouterr().out


def test_features_of_two_photographs_of_one_name(tmp_path: Path, monkeypatch, capsys) -> None:
    data_of(tmp_path / "data", "train/1.jpg", "val/1.jpg", "2.jpg")
    assert convert(monkeypatch, tmp_path, write_tsv(tmp_path / "a.tsv", row("1"), row("2"))) == 0
    out = capsys.readouterr().out
    assert "1: left out, it could mean train/1.jpg or val/1.jpg" in out
    assert "1 of 3 photographs have regions" in out
    assert convert(monkeypatch, tmp_path, write_tsv(tmp_path / "a.tsv", row("train/1"), row("val/1", 4))) == 0
    assert "3 of 3 photographs have regions" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["my feats", "", "a/b", "..", "a\nb", "x" * 10 + "@3"])
def test_a_bad_name_is_refused_before_anything_is_read(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("glied.data.dataset.load_dataset", lambda *_: pytest.fail("the data set was read"))
    assert convert(monkeypatch, tmp_path, tmp_path / "nowhere.tsv", name=name) == 2
    said = capsys.readouterr().err
    assert f"letters, digits and . + - _ for the features, got {shown(name)!r}" in said


def test_binary_ids_reach_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\x1b[31m\x07\t1\t2\n" + encoded(arrays()[1]).encode())
    with pytest.raises(GliedError) as raised:
        StoredFiles("vg", [tmp_path / "a.tsv"])
    assert str(raised.value).isprintable()
