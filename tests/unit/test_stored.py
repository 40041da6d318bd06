"""Features that others extracted: every layout, everything that can be wrong with one, and the way into the cache."""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import run

from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint, save_attribute_detector
from glied.config import ModelConfig
from glied.data.dataset import load_dataset
from glied.data.features import FeatureCache, open_cached
from glied.data.split import read_split
from glied.errors import GliedError
from glied.images import open_image
from glied.regions import RegionSource, open_source
from glied.regions.stored import Stored, StoredFiles
from glied.scene import Regions
from glied.traces import Trace

IDS = ("COCO_val2014_000000000042", "dog", "7")  # stored as 42, dog and 7.jpg in the tests
WIDTH, HEIGHT = 60, 40


def arrays(n: int = 3, seed: int = 0, d: int = tiny.WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """n boxes within 60 x 40 pixels and their features."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 1, (n, 2)) * (30, 20)
    boxes = np.concatenate([corner, corner + random.uniform(0.2, 1, (n, 2)) * (30, 20)], 1)
    return boxes.astype(np.float32), random.normal(size=(n, d)).astype(np.float32)


def encoded(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def row(id: str, n: int = 3, seed: int = 0, size: Sequence[int] = (WIDTH, HEIGHT)) -> list[str]:
    """The classic six columns."""
    return [id, str(size[0]), str(size[1]), str(n), *map(encoded, arrays(n, seed))]


def labelled(id: str, objects: Sequence[int], attributes: Sequence[int], probability: Sequence[float]) -> list[str]:
    """Ten columns: with objects and attributes."""
    n = len(objects)
    ids = [encoded(np.array(i, np.int64)) for i in (objects, attributes)]
    scores = [encoded(np.array(s, np.float32)) for s in (np.linspace(0.9, 0.5, n), probability)]
    return [id, str(HEIGHT), str(WIDTH), ids[0], scores[0], ids[1], scores[1], *row(id, n)[3:]]


def write_tsv(file: Path, *rows: Sequence[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join("\t".join(r) + "\n" for r in rows))
    return file


def photograph(folder: Path, name: str = "dog.jpg", size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name, "JPEG")
    return folder / name


def find(source: RegionSource, path: Path) -> Regions:
    return source.find_regions(open_image(path))


# Layouts. Each writes the features of 42 (3 regions), dog (5) and 7.jpg (2), and returns what to convert.

COUNTS = {"42": 3, "dog": 5, "7.jpg": 2}


def tsv(folder: Path) -> list[Path]:
    return [write_tsv(folder / "vg.tsv", *(row(id, n, n) for id, n in COUNTS.items()))]


def split_tsv(folder: Path) -> list[Path]:
    """Two parts, as the field's tsv.0 and tsv.1, with Windows line ends and blank lines."""
    rows = ["\t".join(row(id, n, n)) for id, n in COUNTS.items()]
    folder.mkdir()
    (folder / "vg.tsv.0").write_text(rows[0] + "\r\n\n")
    (folder / "vg.tsv.1").write_text("\n" + rows[1] + "\n" + rows[2])
    return [folder / "vg.tsv.0", folder / "vg.tsv.1"]


def npz(folder: Path, keys: tuple[str, str] = ("feat", "bbox"), transposed: bool = False) -> list[Path]:
    folder.mkdir()
    for id, n in COUNTS.items():
        boxes, features = arrays(n, n)
        info = np.array({"objects": [1]}, dtype=object)  # pickled inside: never touched
        content = {keys[0]: features.T if transposed else features, keys[1]: boxes, "info": info}
        np.savez(folder / f"{id}.npz", allow_pickle=True, **content)
    return [folder]


def vqa(folder: Path) -> list[Path]:
    return npz(folder, ("x", "boxes"), transposed=True)


def cocobu(folder: Path) -> list[Path]:
    """Features in cocobu_att, boxes in cocobu_box, and the means in cocobu_fc, which nobody needs."""
    for id, n in COUNTS.items():
        boxes, features = arrays(n, n)
        for name in ("att", "box", "fc"):
            (folder / f"cocobu_{name}").mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "cocobu_att" / f"{id}.npz", feat=features)
        np.save(folder / "cocobu_box" / f"{id}.npy", boxes)
        np.save(folder / "cocobu_fc" / f"{id}.npy", features.mean(0))
    return [folder]


def npy(folder: Path) -> list[Path]:
    for id, n in COUNTS.items():
        for name, array in zip(("boxes", "features"), arrays(n, n), strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            np.save(folder / name / f"{id}.npy", array)
    return [folder / "features"]


def flat_hdf5(folder: Path) -> list[Path]:
    folder.mkdir()
    with h5py.File(folder / "detections.hdf5", "w") as file:
        for id, n in COUNTS.items():
            file[f"{id}_boxes"], file[f"{id}_features"] = arrays(n, n)
            file[f"{id}_cls_prob"] = np.ones((n, 4))
    return [folder / "detections.hdf5"]


def grouped_hdf5(folder: Path) -> list[Path]:
    folder.mkdir()
    with h5py.File(folder / "any.name", "w") as file:
        for id, n in COUNTS.items():
            file[f"{id}/bbox"], file[f"{id}/x"] = arrays(n, n)
            file[id].attrs["image_w"], file[f"{id}/image_h"] = WIDTH, HEIGHT
    return [folder / "any.name"]


@pytest.mark.parametrize("layout", [tsv, split_tsv, npz, vqa, cocobu, npy, flat_hdf5, grouped_hdf5])
def test_every_layout(layout: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    source = StoredFiles("vg", layout(tmp_path / "stored"))
    assert isinstance(source, RegionSource)
    assert (source.name, source.feature_dim) == ("stored/vg@12", 12)
    assert source.readers.keys() == COUNTS.keys()
    for n, id in zip(COUNTS.values(), IDS, strict=True):
        found = find(source, photograph(tmp_path, f"{id}.jpg"))
        boxes, features = arrays(n, n)
        np.testing.assert_allclose(found.boxes, boxes, atol=1e-4)
        np.testing.assert_array_equal(found.features, features)
        assert (found.size, found.source, found.labels) == ((WIDTH, HEIGHT), "stored/vg@12", ())
    with pytest.raises(GliedError, match=r"cat.jpg: left out, no stored features under cat.jpg or cat$"):
        find(source, photograph(tmp_path, "cat.jpg"))


def test_an_id_matches_a_name_a_stem_or_a_coco_number(tmp_path: Path) -> None:
    source = StoredFiles("vg", [write_tsv(tmp_path / "a.tsv", *(row(id) for id in ("42", "a.b", "c.jpg", "img_9")))])
    expected = {
        "COCO_train2014_000000000042.jpg": "42",
        "000000000042.jpg": "42",
        "42.png": "42",
        "a.b.jpg": "a.b",
        "c.jpg": "c.jpg",
        "img_42.jpg": None,
        "00042.jpg": "42",
        "c.png": None,
    }
    assert {name: source.find_id(name) for name in expected} == expected
    assert source.unclaimed(expected) == ["img_9"]


def test_boxes_are_scaled_to_the_photograph(tmp_path: Path) -> None:
    boxes, _ = arrays()
    other = photograph(tmp_path, size=(121, 80))  # rounded to whole pixels: the ratio is not quite the same
    found = find(StoredFiles("vg", [write_tsv(tmp_path / "a.tsv", row("dog"))]), other)
    assert found.size == (121, 80)
    np.testing.assert_allclose(found.boxes, boxes * (121 / 60, 2, 121 / 60, 2), atol=1e-4)


def test_boxes_as_fractions(tmp_path: Path) -> None:
    boxes, features = arrays()
    np.savez(tmp_path / "dog.npz", features=features, boxes=boxes / (60, 40, 60, 40))
    found = find(StoredFiles("vg", [tmp_path]), photograph(tmp_path, size=(120, 40)))
    np.testing.assert_allclose(found.boxes, boxes * (2, 1, 2, 1), rtol=1e-4)


def test_boxes_are_clipped_and_those_without_area_dropped(tmp_path: Path) -> None:
    boxes, features = arrays(4)
    boxes[0], boxes[1], boxes[2, 2:] = (-0.5, 0, 60.5, 40), (5, 5, 5, 9), (60, 40)
    np.savez(tmp_path / "dog.npz", feat=features, bbox=boxes)
    found = find(StoredFiles("vg", [tmp_path]), photograph(tmp_path))
    np.testing.assert_array_equal(found.boxes[0], (0, 0, 60, 40))
    np.testing.assert_array_equal(found.features, features[[0, 2, 3]])


@pytest.mark.parametrize(("size", "said"), [((40, 60), "40 x 60"), ((60, 38), "60 x 38")])
def test_another_shape_is_refused(size: tuple[int, int], said: str, tmp_path: Path) -> None:
    source = StoredFiles("vg", [write_tsv(tmp_path / "a.tsv", row("dog"))])
    with pytest.raises(GliedError, match=rf"dog.jpg: left out, it has {said} pixels, .* of an image of 60 x 40"):
        find(source, photograph(tmp_path, size=size))


def test_boxes_beyond_a_photograph_of_unknown_size_are_refused(tmp_path: Path) -> None:
    source = StoredFiles("vg", flat_hdf5(tmp_path / "stored"))
    with pytest.raises(GliedError, match=r"it has 30 x 20 pixels, .* with boxes up to"):
        find(source, photograph(tmp_path, size=(30, 20)))


# Labels


def test_labels_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "objects_vocab.txt").write_text("shirt,tee shirt\nsky\n")
    (tmp_path / "attributes_vocab.txt").write_text("gray,grey\nred\n")
    file = write_tsv(tmp_path / "a.tsv", labelled("dog", (0, 1, 0), (1, 0, 0), (0.9, 0.2, 0.05)))
    found = find(StoredFiles("vg", [file]), photograph(tmp_path))
    assert found.labels == ("red shirt", "gray sky", "shirt")
    np.testing.assert_allclose(found.scores, (0.9, 0.7, 0.5), rtol=1e-6)
    (tmp_path / "attributes_vocab.txt").unlink()
    assert find(StoredFiles("vg", [file]), photograph(tmp_path)).labels == ("shirt", "sky", "shirt")
    (tmp_path / "objects_vocab.txt").unlink()
    bare = find(StoredFiles("vg", [file]), photograph(tmp_path))
    assert (bare.labels, bare.scores.shape, bare.size) == ((), (0,), (WIDTH, HEIGHT))


@pytest.mark.parametrize("ids", [((2, 0, 0), (0, 0, 0)), ((0, 0, -1), (0, 0, 0)), ((0, 0, 0), (0, 2, 0))])
def test_an_id_beyond_the_vocabulary_is_refused(ids: tuple, tmp_path: Path) -> None:
    (tmp_path / "objects_vocab.txt").write_text("shirt\nsky\n")
    (tmp_path / "attributes_vocab.txt").write_text("gray\nred\n")
    file = write_tsv(tmp_path / "a.tsv", row("good"), labelled("dog", *ids, (0.9, 0.2, 0.05)))
    with pytest.raises(GliedError, match=r"dog.jpg: left out.*the vocabularies have 2, 2"):
        find(StoredFiles("vg", [file]), photograph(tmp_path))


# Damage


def wrong(**changes: str) -> list[str]:
    names = ("id", "width", "height", "count", "boxes", "features")
    return list((dict(zip(names, row("dog"), strict=True)) | changes).values())


def nan(value: float) -> str:
    features = arrays()[1]
    features[1, 1] = value
    return encoded(features)


DAMAGED = {
    "columns": row("dog")[:5],
    "one column": ["dog", ""],
    "cut": [*row("dog")[:5], row("dog")[5][:101]],
    "cut at 4 bytes": [*row("dog")[:5], row("dog")[5][:64]],
    "no base64": wrong(features="!" * 192),
    "half a number": wrong(boxes=encoded(np.zeros(47, np.uint8))),
    "count too high": wrong(count="4"),
    "count too low": wrong(count="2"),
    "no boxes": wrong(count="0", boxes="", features=""),
    "no features": wrong(features=""),
    "count is no number": wrong(count="three"),
    "no size": wrong(width=""),
    "size 0": wrong(height="0"),
    "negative count": wrong(count="-3"),
    "NaN": wrong(features=nan(np.nan)),
    "infinity": wrong(features=nan(np.inf)),
    "beyond float16": wrong(features=nan(70_000)),
    "NaN in a box": wrong(boxes=encoded(np.full((3, 4), np.nan, np.float32))),
    "reversed boxes": wrong(boxes=encoded(arrays()[0][:, [2, 3, 0, 1]])),
    "another width": wrong(features=encoded(arrays(d=11)[1])),
    "fewer objects": [*labelled("dog", (0, 0), (0, 0), (1, 1))[:7], *row("dog")[3:]],
    "two rows glued": [*row("dog")[:5], *row("dog")],
    "not UTF-8": wrong(boxes="\udcff"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_row_is_one_sentence_and_stops_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "objects_vocab.txt").write_text("shirt\n")
    rows = [row("a"), DAMAGED[name], row("b")]
    content = "".join("\t".join(r) + "\n" for r in rows).encode("utf-8", "surrogateescape")
    (tmp_path / "a.tsv").write_bytes(content)
    source = StoredFiles("vg", [tmp_path / "a.tsv"])
    paths = [photograph(tmp_path, f"{id}.jpg", seed=i) for i, id in enumerate(("a", "dog", "b"))]
    keys, problems = FeatureCache(tmp_path / "cache", source).extract(paths, progress=False)
    assert list(keys) == [paths[0], paths[2]]
    [problem] = problems
    assert len(problem.splitlines()) == 1
    assert len(problem) < 300
    if name != "reversed boxes":  # scene.py's own sentence
        assert "dog.jpg: left out" in problem


def test_a_file_that_was_cut_keeps_its_whole_rows(tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "a.tsv", row("a"), row("dog"))
    file.write_bytes(file.read_bytes()[:-40])
    source = StoredFiles("vg", [file])
    assert len(find(source, photograph(tmp_path, "a.jpg")).boxes) == 3
    with pytest.raises(GliedError, match="damaged"):
        find(source, photograph(tmp_path))
    with file.open("a") as more:  # as an extraction that is resumed goes on
        more.write("\n" + "\t".join(row("dog", 4)) + "\n")
    assert len(find(StoredFiles("vg", [file]), photograph(tmp_path)).boxes) == 4


def test_damaged_arrays_are_sentences(tmp_path: Path) -> None:
    [folder] = npz(tmp_path / "stored")
    boxes, features = arrays()
    np.savez(folder / "nobox.npz", feat=features)
    np.savez(folder / "short.npz", feat=features, bbox=boxes[:2])
    np.savez(folder / "flat.npz", feat=features[0], bbox=boxes)
    np.savez(folder / "grid.npz", feat=np.zeros((14, 14, 12)), bbox=boxes)
    np.savez(folder / "words.npz", feat=np.full((3, 12), "a"), bbox=boxes)
    np.save(folder / "pickled.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    np.savez(folder / "pickles.npz", allow_pickle=True, feat=np.array([{}], dtype=object), bbox=boxes)
    (folder / "cut.npz").write_bytes((folder / "42.npz").read_bytes()[:300])
    (folder / "empty.npz").write_bytes(b"")
    source = StoredFiles("vg", [folder])
    for name in ("nobox", "short", "flat", "grid", "words", "pickled", "pickles", "cut", "empty"):
        with pytest.raises(GliedError, match=rf"{name}.jpg: left out.*damaged"):
            find(source, photograph(tmp_path, f"{name}.jpg"))
    (tmp_path / "a_att").mkdir()
    np.save(tmp_path / "a_att" / "dog.npy", features)
    with pytest.raises(GliedError, match=r"found none: .* found no boxes; put a_box beside a_att"):
        StoredFiles("vg", [tmp_path / "a_att"])


def test_damaged_hdf5_is_a_sentence(tmp_path: Path) -> None:
    [file] = flat_hdf5(tmp_path / "stored")
    with h5py.File(file, "a") as opened:
        del opened["dog_boxes"]
        opened["scalar_features"], opened["scalar_boxes"] = 5.0, 6.0
    source = StoredFiles("vg", [file])
    for id in ("dog", "scalar"):
        with pytest.raises(GliedError, match=rf"{id}.jpg: left out"):
            find(source, photograph(tmp_path, f"{id}.jpg"))
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(GliedError, match=r"stored features at .*detections\.hdf5, could not read them"):
        StoredFiles("vg", [file])


def test_a_row_without_numbers_says_what_is_there_instead(tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "a.tsv", [*row("dog")[:3], "b\x08cd", *row("dog")[4:]])
    with pytest.raises(GliedError, match=r"damaged \(b'b\\x08cd' is no whole number\); extract them again"):
        StoredFiles("vg", [file])


def test_hdf5_whose_list_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    [file] = flat_hdf5(tmp_path / "stored")
    whole = file.read_bytes()
    for mark in (b"SNOD", b"TREE", b"HEAP"):  # of the nodes that list what a file holds
        file.write_bytes(whole.replace(mark, b"____"))
        with pytest.raises(GliedError, match=r"stored features at .*detections\.hdf5, could not read them \(.+\)"):
            StoredFiles("vg", [file])


@pytest.mark.parametrize("content", ["", "no tab in it\n", "{}", "\t\t\t\t\t\n", "a\tb\n"])
def test_files_of_another_kind_are_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(GliedError, match=r"Expected features in .*a\.tsv .* found none"):
        StoredFiles("vg", [tmp_path / "a.tsv"])
    with pytest.raises(GliedError, match="could not read them"):
        StoredFiles("vg", [tmp_path / "nowhere.tsv"])
    with pytest.raises(GliedError, match="found none: no row"):
        StoredFiles("vg", [photograph(tmp_path / "empty").parent])


def test_a_row_without_end_is_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("glied.regions.stored.ROW", 500)
    with pytest.raises(GliedError, match="got one beyond"):
        StoredFiles("vg", [write_tsv(tmp_path / "a.tsv", row("dog", 20))])


def test_a_large_file_is_read_on_demand(tmp_path: Path) -> None:
    """20,000 rows of 4 kB: what is kept of them is where they lie."""
    import tracemalloc

    line = "\t".join(row("{}", 50)) + "\n"
    with (tmp_path / "a.tsv").open("w") as file:
        file.writelines(line.replace("{}", str(i)) for i in range(20_000))
    assert (tmp_path / "a.tsv").stat().st_size > 80e6
    tracemalloc.start()
    source = StoredFiles("vg", [tmp_path / "a.tsv"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.readers) == 20_000
    assert peak < 15e6
    assert len(find(source, photograph(tmp_path, "19999.jpg")).boxes) == 50


# Into the cache, and from there to captions


@pytest.mark.parametrize("name", ["stored/", "stored/a", "stored/a@0", "stored/a b@3", "stored/../a@3", "stored/a@x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(GliedError, match="stored/NAME@WIDTH"):
        open_source(name)


def test_the_source_of_a_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    source = open_source("stored/vg-36@2048")
    assert isinstance(source, Stored)
    assert (source.name, source.feature_dim) == ("stored/vg-36@2048", 2048)
    with pytest.raises(GliedError, match=r"regions of .*dog\.jpg .*stored/vg-36@2048.* convert STORED .* --name vg-36"):
        find(source, photograph(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four photographs, stored features of three of them and two others, and tiny models on these."""
    folder = tmp_path_factory.mktemp("stored")
    names = ("dog", "cat", "COCO_val2014_000000000042", "bare")
    records = []
    for i, name in enumerate(names):
        photograph(folder / "data" / "images", f"{name}.jpg", seed=i)
        records.append({"filename": f"{name}.jpg", "split": "val", "sentences": [{"raw": "A dog runs on grass."}]})
    (folder / "data" / "captions.json").write_text(json.dumps({"images": records}))
    rows = [row("other"), row("dog", 5, 1), row("cat", 2, 2), row("42", 3, 3), row("more")]
    write_tsv(folder / "vg.tsv", *rows)
    words = tiny.vocabulary()
    config = ModelConfig("glied", len(words), tiny.WIDTH, d=16, heads=2, d_head=8, max_length=5)
    card = (words, tiny.WORDS, "stored/vg@12", {"seed": 0})
    Checkpoint(tiny.model(config), *card).save(folder / "glied.safetensors")
    save_attribute_detector(
        folder / "attributes.safetensors", AttributeDetector(tiny.WORDS, tiny.WIDTH, "stored/vg@12"), {}
    )
    return folder


def convert(folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> int:
    return run(monkeypatch, "convert", folder / "vg.tsv", "--data", folder / "data", "--name", "vg", "--cache", cache)


def test_convert_reports_what_is_missing_on_both_sides(folder, tmp_path, monkeypatch, capsys) -> None:
    assert convert(folder, monkeypatch, tmp_path) == 0
    out = capsys.readouterr().out
    assert "2 stored image(s) without a photograph: other, more" in out
    assert "bare.jpg: left out, no stored features under bare.jpg or bare" in out
    assert "3 of 4 photographs have regions; train with --source stored/vg@12" in out
    split = read_split(load_dataset(folder / "data"), FeatureCache(tmp_path, open_source("stored/vg@12")), "val")
    assert [p.id for p in split.photographs] == ["dog.jpg", "cat.jpg", "COCO_val2014_000000000042.jpg"]
    assert split.features.shape == (3, 5, 12)
    assert split.mask is not None
    assert split.mask.sum(1).tolist() == [5, 2, 3]
    assert "bare.jpg" in capsys.readouterr().out


def test_convert_goes_on_where_it_was(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(FeatureCache, "SHARD", 1)
    read = StoredFiles.find_regions

    def dies(self: StoredFiles, image: Image.Image) -> Regions:
        if Path(image.info["name"]).name.startswith("COCO"):
            raise KeyboardInterrupt
        return read(self, image)

    monkeypatch.setattr(StoredFiles, "find_regions", dies)
    assert convert(folder, monkeypatch, tmp_path) == 130
    assert len(list(tmp_path.rglob("*.h5"))) == 2
    asked = []
    monkeypatch.setattr(
        StoredFiles,
        "find_regions",
        lambda self, image: asked.append(Path(image.info["name"]).name) or read(self, image),
    )
    assert convert(folder, monkeypatch, tmp_path) == 0
    assert asked == ["COCO_val2014_000000000042.jpg", "bare.jpg"]
    assert "3 of 4" in capsys.readouterr().out


def test_features_of_other_photographs_are_one_sentence(folder, tmp_path, monkeypatch, capsys) -> None:
    write_tsv(tmp_path / "a.tsv", row("9"))
    arguments = (tmp_path / "a.tsv", "--data", folder / "data", "--name", "vg", "--cache", tmp_path)
    assert run(monkeypatch, "convert", *arguments) == 2
    assert "photographs such as dog.jpg, 1 are stored, under ids such as 9" in capsys.readouterr().err


def test_evaluate_runs_on_stored_features(folder, tmp_path, monkeypatch, capsys) -> None:
    convert(folder, monkeypatch, tmp_path)
    arguments = ("--data", folder / "data", "--split", "val", "--checkpoint", folder / "glied.safetensors")
    out = tmp_path / "report.json"
    assert run(monkeypatch, "evaluate", *arguments, "--cache", tmp_path, "--json", out) == 0
    report = json.loads(out.read_text())
    assert set(report["images"]) == {"dog.jpg", "cat.jpg", "COCO_val2014_000000000042.jpg"}
    assert any("bare.jpg" in problem for problem in report["problems"])
    capsys.readouterr()
    assert run(monkeypatch, "evaluate", *arguments, "--cache", tmp_path / "none", "--json", out) == 2
    said = capsys.readouterr().err
    assert "found none: Expected the regions of" in said
    assert "images/dog.jpg in the cache" in said


def test_caption_and_trace_take_regions_from_the_cache(folder, tmp_path, monkeypatch, capsys) -> None:
    convert(folder, monkeypatch, tmp_path)
    capsys.readouterr()
    images = [folder / "data" / "images" / name for name in ("dog.jpg", "bare.jpg", "cat.jpg")]
    models = ("--checkpoint", folder / "glied.safetensors", "--cache", tmp_path)
    assert run(monkeypatch, "caption", *images, *models) == 2
    out, err = capsys.readouterr()
    assert [Path(line.split("\t")[0]).name for line in out.splitlines()] == ["dog.jpg", "cat.jpg"]
    assert len(err.splitlines()) == 1
    assert "bare.jpg" in err
    assert run(monkeypatch, "trace", images[2], "--out", tmp_path / "t.npz", *models, "--words", "a dog") == 0
    trace = Trace.load(tmp_path / "t.npz")
    assert trace.region_falls.shape == (3, 2)


def test_a_scaled_copy_has_the_regions_of_its_photograph(folder, tmp_path, monkeypatch) -> None:
    convert(folder, monkeypatch, tmp_path)
    source = open_cached("stored/vg@12", tmp_path)
    assert isinstance(source, RegionSource)
    image = open_image((folder / "data" / "images" / "dog.jpg").read_bytes(), "your file")
    whole = source.find_regions(image)
    copy = image.copy()
    copy.thumbnail((30, 30))
    small = source.find_regions(copy)
    assert (whole.size, small.size) == ((60, 40), (30, 20))
    np.testing.assert_allclose(small.boxes * 2, whole.boxes, rtol=1e-6)
    np.testing.assert_array_equal(small.features, whole.features)
    with pytest.raises(GliedError, match="regions of the photograph in the cache"):
        source.find_regions(Image.new("RGB", (60, 40)))


# The genuine file


@pytest.fixture(scope="module")
def genuine(shared: Path) -> tuple[Path, StoredFiles]:
    folder = shared / "data" / "vg_features"
    if not (folder / "train2014_obj36.tsv").is_file():
        pytest.skip("needs ../shared/data/vg_features")
    return folder, StoredFiles("vg36", [folder])


def test_genuine_features_lie_within_their_photographs(genuine) -> None:
    folder, source = genuine
    photographs = sorted(folder.glob("*.jpg"))
    assert len(photographs) == len(source.readers) == 10
    for path in photographs:
        image = open_image(path)
        found = source.find_regions(image)
        assert found.features.shape == (36, 2048)
        assert found.size == image.size
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array(image.size * 2)).all()
        assert found.boxes[:, 2:].max() > 0.9 * min(image.size), "the boxes reach across the photograph"
        assert len(found.labels) == len(found.scores) == 36
        assert ((found.scores > 0) & (found.scores <= 1)).all()
        assert 0 <= found.features.min() < 0.01 < 5 < found.features.max()  # mean of ReLUs


@pytest.mark.parametrize(
    ("number", "labels"),
    [
        ("084002", {"metal headboard", "white pillow", "blue wall", "framed picture", "brown curtain", "bed"}),
        ("131486", {"white helmet", "yellow jacket", "black pants", "red ski", "blue sky", "white snow"}),
        ("201446", {"orange carrot", "white onion", "silver knife", "wooden cutting board"}),
    ],
)
def test_genuine_labels_name_what_the_photograph_shows(number: str, labels: set[str], genuine) -> None:
    folder, source = genuine
    found = find(source, folder / f"COCO_train2014_000000{number}.jpg")
    assert labels <= set(found.labels)


def test_the_boxes_of_genuine_labels_lie_on_their_colours(genuine) -> None:
    """The best yellow jacket is yellow, the sky blue and above, the carrot orange: boxes are not transposed."""
    folder, source = genuine

    def colour(number: str, label: str) -> np.ndarray:
        image = open_image(folder / f"COCO_train2014_000000{number}.jpg")
        found = source.find_regions(image)
        box = found.boxes[max((i for i in range(36) if found.labels[i] == label), key=found.scores.__getitem__)]
        return np.asarray(image.crop(tuple(box.round().astype(int).tolist())), float).mean((0, 1))

    red, green, blue = colour("131486", "yellow jacket")
    assert red > green > blue + 20
    assert colour("131486", "blue sky").argmax() == 2
    red, green, blue = colour("201446", "orange carrot")
    assert red > green + 20 > blue + 20
