"""Data sets with everything wrong in them, and a cache of regions that survives a kill."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from interrupted import Slow, extract
from PIL import Image

from glied.data.dataset import Photograph, Subset, load_dataset, report
from glied.data.features import FeatureCache
from glied.data.split import draw_epoch
from glied.errors import GliedError
from glied.scene import Regions
from glied.vocabulary import Vocabulary


def paint(path: Path, colour: int = 0, size: int = 20) -> Path:
    """A photograph that is different for each colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (colour % 256, colour // 256, 7)).save(path, "PNG")
    return path


def record(name: str, split: str = "train", *captions: str, **more) -> dict:
    return {"filename": name, "split": split, "sentences": [{"raw": c} for c in captions or ("A dog runs.",)], **more}


def karpathy(folder: Path, *records: dict, name: str = "captions.json") -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"images": records}))
    return folder


def ids(folder: Path) -> list[str]:
    return [p.id for p in load_dataset(folder).photographs]


def test_karpathy_layout(tmp_path: Path) -> None:
    splits = ("train", "restval", "val", "test")
    karpathy(tmp_path, *(record(f"{s}.png", s, "A dog.", "Two cats' ball") for s in splits))
    for split in splits:
        paint(tmp_path / "images" / f"{split}.png")
    data = load_dataset(tmp_path)
    assert data.problems == ()
    assert data.name == tmp_path.name
    assert [p.split for p in data.photographs] == list(splits)
    assert data.split("val") == [
        Photograph("val.png", tmp_path / "images" / "val.png", "val", ("A dog.", "Two cats' ball"), tmp_path.name)
    ]
    assert data.split("val")[0].tokens == [["a", "dog"], ["two", "cats", "ball"]]
    assert [p.split for p in data.split("train", "restval")] == ["train", "restval"]


def test_karpathys_own_file_with_folders_and_tokens(tmp_path: Path) -> None:
    entry = {"filename": "a.png", "filepath": "val2014", "split": "val", "sentences": [{"tokens": ["a", "dog"]}]}
    karpathy(tmp_path, entry, name="dataset_coco.json")
    paint(tmp_path / "images" / "val2014" / "a.png")
    (photograph,) = load_dataset(tmp_path).photographs
    assert photograph.captions == ("a dog",)
    assert photograph.path == tmp_path / "images" / "val2014" / "a.png"


def test_coco_layout(tmp_path: Path) -> None:
    places = {"train2014": "images", "val2014": "val2014"}  # all in one folder, or in COCO's own
    for i, (split, place) in enumerate(places.items()):
        name = f"COCO_{split}_{i}.png"
        paint(tmp_path / place / name)
        images = [{"id": i, "file_name": name}, {"id": 99, "file_name": "bare.png"}]
        annotations = [{"image_id": i, "caption": "A dog runs."}, {"image_id": i, "caption": "A cat."}]
        file = tmp_path / "annotations" / f"captions_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations}))
    paint(tmp_path / "images" / "bare.png")
    data = load_dataset(tmp_path)
    assert [(p.split, p.captions) for p in data.photographs] == [
        ("train", ("A dog runs.", "A cat.")),
        ("val", ("A dog runs.", "A cat.")),
    ]
    assert [p for p in data.problems if "bare.png" in p and "no caption" in p]


def test_everything_wrong_is_reported_and_the_rest_is_used(tmp_path: Path) -> None:
    for name in ("good.png", "twice.png", "empty.png", "half.png", "odd.png", "none.png", "split.png"):
        paint(tmp_path / "images" / name)
    karpathy(
        tmp_path,
        record("good.png"),
        record("twice.png", "train", "first"),
        record("twice.png", "val", "second"),
        record("empty.png", "train", "", "  . "),
        record("half.png", "val", "", "a dog"),
        record("missing.png"),
        record("odd.png", "dev"),
        {"filename": "none.png", "split": "train"},
        {"filename": "split.png", "sentences": [{"raw": "a dog"}]},
        {"split": "train"},
        record("", "train"),
        {"filename": 7, "split": "train", "sentences": []},
    )
    data = load_dataset(tmp_path)
    assert [p.id for p in data.photographs] == ["good.png", "twice.png", "half.png"]
    assert data.split("train")[1].captions == ("first",)
    assert data.split("val")[0].captions == ("a dog",)
    expected = ["twice.png", "empty.png", "missing.png", "odd.png", "none.png", "split.png"]
    for name in expected:
        assert [p for p in data.problems if p.startswith(name)], name
    assert sum("without a file name" in p for p in data.problems) == 3
    assert all(len(p) < 300 for p in data.problems)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sentences": None},
        {"sentences": "a dog"},
        {"sentences": [7, None, {"raw": 5}, {"raw": None, "tokens": None}]},
        {"sentences": [{"tokens": [1, 2]}, {"tokens": 5}]},
        {"sentences": [{}]},
        {"sentences": 5},
        {"split": ["train"]},
        {"split": None},
        {"filename": "../../" * 40},
        {"filename": "a\0b"},
        {"filename": "x" * 5000},
        {"filepath": None, "sentences": []},
    ],
)
def test_strange_record_is_reported_not_fatal(wrong: dict, tmp_path: Path) -> None:
    paint(tmp_path / "images" / "a.png")
    paint(tmp_path / "images" / "good.png")
    karpathy(tmp_path, record("a.png") | wrong, record("good.png"))
    data = load_dataset(tmp_path)
    assert [p.id for p in data.photographs] == ["good.png"]
    assert data.problems


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"images": 5}', '{"images": [5]}', '{"images": null}', '{"images": [], "annotations": 3}',
     '{"images": [{"id": 1}], "annotations": []}', '{"images": [], "annotations": [{"caption": "a"}]}', "\udcff\udcfe"],
)  # fmt: skip
def test_damaged_captions_are_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(GliedError, match=r"captions\.json"):
        load_dataset(tmp_path)


def test_nothing_usable_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GliedError, match="found neither"):
        load_dataset(tmp_path)
    with pytest.raises(GliedError, match="found neither"):
        load_dataset(tmp_path / "nowhere")
    karpathy(tmp_path)
    with pytest.raises(GliedError, match="lists no image"):
        load_dataset(tmp_path)
    karpathy(tmp_path, record("a.png"), record("b.png"))
    with pytest.raises(GliedError, match=r"none usable of 2: a\.png"):
        load_dataset(tmp_path)


def test_absent_split_names_those_present(tmp_path: Path) -> None:
    karpathy(tmp_path, record("a.png"), record("b.png", "val"))
    paint(tmp_path / "images" / "a.png")
    paint(tmp_path / "images" / "b.png")
    with pytest.raises(GliedError, match=r"split test.*train, val"):
        load_dataset(tmp_path).split("test")


def test_captions_are_cut_into_words_once() -> None:
    photograph = Photograph("1.jpg", Path("1.jpg"), "train", ("A dog runs.", "The dog!"))
    assert photograph.tokens == [["a", "dog", "runs"], ["the", "dog"]]
    assert photograph.tokens is photograph.tokens
    assert replace(photograph, captions=("A cat.",)).tokens == [["a", "cat"]]


def test_report_is_short(capsys: pytest.CaptureFixture) -> None:
    report([])
    assert capsys.readouterr().out == ""
    report([f"p{i}" for i in range(14)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("14 thing")
    assert lines[1:11] == [f"  p{i}" for i in range(10)]
    assert lines[11] == "  ... and 4 more"
    report(["p"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_real_captions_load(shared: Path) -> None:
    data = load_dataset(shared / "data" / "flickr8k")
    assert data.problems == ()
    assert (len(data.split("train")), len(data.split("val"))) == (6000, 1000)
    assert all(len(p.captions) == 5 for p in data.photographs)
    words = Vocabulary.build(tokens for p in data.split("val") for tokens in p.tokens)
    assert {"dog", "man", "'s"} < set(words.words)


# Several data sets


def small_set(folder: Path, *names: str) -> Path:
    """A data set of training photographs."""
    for name in names:
        paint(folder / "images" / name)
    return karpathy(folder, *(record(name) for name in names))


def test_several_folders_are_one_data_set(tmp_path: Path) -> None:
    first, second = small_set(tmp_path / "first", "a.png", "b.png"), small_set(tmp_path / "second", "c.png")
    data = load_dataset([first, second])
    assert data.name == "first + second"
    assert [(p.id, p.dataset) for p in data.photographs] == [
        ("a.png", "first"),
        ("b.png", "first"),
        ("c.png", "second"),
    ]
    assert data.photographs[2].path == second / "images" / "c.png"
    assert data.subsets == (Subset("first", first), Subset("second", second))
    assert data.problems == ()
    assert load_dataset(first).subsets == load_dataset([first]).subsets == (Subset("first", first, None),)


def test_a_photograph_of_two_data_sets_is_of_the_first(tmp_path: Path) -> None:
    first, second = small_set(tmp_path / "first", "a.png", "b.png"), small_set(tmp_path / "second", "c.png", "b.png")
    data = load_dataset([first, second])
    assert [(p.id, p.dataset) for p in data.photographs] == [
        ("a.png", "first"),
        ("b.png", "first"),
        ("c.png", "second"),
    ]
    assert data.problems == ("b.png: in first too, left out of second",)
    assert [p.id for p in load_dataset([second, first]).photographs] == ["c.png", "b.png", "a.png"]


def test_what_is_wrong_in_each_folder_is_reported(tmp_path: Path) -> None:
    folders = [small_set(tmp_path / name, f"{name}.png") for name in ("first", "second")]
    for folder in folders:
        karpathy(folder, record(f"{folder.name}.png"), record(f"no {folder.name}.png"))
    problems = load_dataset(folders).problems
    assert [p.split(".png")[0] for p in problems] == ["no first", "no second"]
    (folders[1] / "captions.json").unlink()
    with pytest.raises(GliedError, match=r"second/captions\.json .* found neither"):
        load_dataset(folders)


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [small_set(tmp_path / place / "same", f"{place}.png") for place in ("here", "there")]
    with pytest.raises(GliedError, match="different names, got same and same"):
        load_dataset(folders)
    with pytest.raises(GliedError, match="different names"):
        load_dataset([folders[0], folders[0] / ".." / "same"])


def test_a_file_lists_folders_relative_to_it_and_their_weights(tmp_path: Path, monkeypatch) -> None:
    first, second = small_set(tmp_path / "here" / "first", "a.png"), small_set(tmp_path / "second", "b.png")
    sets = tmp_path / "here" / "sets.json"
    sets.write_text(json.dumps({"first": 2, "../second": 0.5}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = load_dataset(sets)
    assert [(part.name, part.folder.resolve(), part.weight) for part in data.subsets] == [
        ("first", first, 2.0),
        ("second", second, 0.5),
    ]
    assert [p.dataset for p in data.photographs] == ["first", "second"]
    third = small_set(tmp_path / "third", "c.png")
    with pytest.raises(GliedError, match="for all data sets or for none"):
        load_dataset([sets, third])
    sets.write_text(json.dumps({str(second): 1}))
    assert [p.id for p in load_dataset(sets).photographs] == ["b.png"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", "5", "null", '["first"]', '{"first": 0}', '{"first": -1}', '{"first": NaN}',
     '{"first": "much"}', '{"first": Infinity}', '{"first": null}', '{"first": [1]}', '{"first": 1, "second": 0}',
     '{"first": 1',
     '{"first": 1' + 400 * "0" + "}", 9999 * "[", "\udcff\udcfe"],
)  # fmt: skip
def test_a_damaged_list_of_folders_is_one_sentence(content: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        small_set(tmp_path / name, f"{name}.png")
    sets = tmp_path / "sets.json"
    sets.write_text('{"first": 1}')
    assert load_dataset(sets).name == "first"
    sets.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(GliedError, match=r"Expected folders and their weights.*sets\.json") as raised:
        load_dataset(sets)
    assert "\n" not in str(raised.value)


def mixed(**counts: int) -> list[Photograph]:
    """So many photographs of each data set, one of each in turn as long as there are."""
    ranks = sorted((i, name) for name, n in counts.items() for i in range(n))
    return [Photograph(f"{name}{i}", Path(name), "train", ("a dog",), name) for i, name in ranks]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch_of_one_data_set_is_a_permutation() -> None:
    photographs = mixed(a=50)
    for subsets in ([Subset("a", Path("a"))], [Subset("a", Path("a"), 0.25)]):
        assert draw_epoch(photographs, subsets, seeded(3)).tolist() == torch.randperm(50, generator=seeded(3)).tolist()


def drawn(photographs: list[Photograph], weights: dict[str, float | None], seed: int = 0) -> list[str]:
    """The data sets of an epoch's photographs."""
    subsets = [Subset(name, Path(name), weight) for name, weight in weights.items()]
    return [photographs[i].dataset for i in draw_epoch(photographs, subsets, seeded(seed)).tolist()]


@pytest.mark.parametrize(
    ("counts", "weights", "expected"),
    [
        ({"a": 16, "b": 144}, {"a": None, "b": None}, {"a": 40, "b": 120}),  # square roots: 4 to 12
        ({"a": 1, "b": 4, "c": 25}, {"a": None, "b": None, "c": None}, {"a": 4, "b": 7, "c": 19}),  # ends 3.75, 11.25
        ({"a": 4, "b": 8}, {"a": 3, "b": 1}, {"a": 9, "b": 3}),
        ({"a": 4, "b": 8}, {"a": 1, "b": 1}, {"a": 6, "b": 6}),
        ({"a": 4, "b": 8}, {"b": 2, "a": 10}, {"a": 10, "b": 2}),  # by name, whatever their order
        ({"a": 4, "b": 36}, {"a": 6, "b": None}, {"a": 20, "b": 20}),  # 6 and the square root of 36
        ({"a": 1, "b": 100}, {"a": 0.001, "b": 1}, {"b": 101}),  # less than half a photograph is none
    ],
)
def test_the_share_of_each_data_set(counts: dict, weights: dict, expected: dict) -> None:
    assert Counter(drawn(mixed(**counts), weights)) == expected


@given(
    st.lists(st.tuples(st.integers(1, 30), st.none() | st.floats(0.01, 100)), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_no_photograph_comes_twice_before_all_of_its_set_came(sets: list[tuple[int, float | None]], seed: int) -> None:
    names = [f"set{i}" for i in range(len(sets))]
    photographs = mixed(**{name: n for name, (n, _) in zip(names, sets, strict=True)})
    subsets = [Subset(name, Path(name), weight) for name, (_, weight) in zip(names, sets, strict=True)]
    found = draw_epoch(photographs, subsets, seeded(seed)).tolist()
    assert len(found) == len(photographs)
    times = Counter(found)
    for name in names:
        each = [times[i] for i, p in enumerate(photographs) if p.dataset == name]
        assert max(each) - min(each) <= 1


def test_an_epoch_follows_from_the_generator_alone() -> None:
    photographs, subsets = mixed(a=9, b=40), [Subset("a", Path("a")), Subset("b", Path("b"))]
    torch.manual_seed(1)
    first = draw_epoch(photographs, subsets, seeded(5)).tolist()
    torch.manual_seed(2)
    generator = seeded(5)
    assert draw_epoch(photographs, subsets, generator).tolist() == first
    assert draw_epoch(photographs, subsets, generator).tolist() != first
    assert draw_epoch(photographs, subsets, seeded(6)).tolist() != first


def test_data_sets_are_mixed_within_an_epoch() -> None:
    order = drawn(mixed(a=100, b=100), {"a": None, "b": None})
    assert 30 < order[:100].count("a") < 70


class Counting:
    """A region source that counts its calls; the number of regions follows the colour."""

    name, feature_dim = "counting/1", 3

    def __init__(self) -> None:
        self.calls = 0

    def find_regions(self, image: Image.Image) -> Regions:
        self.calls += 1
        n = 1 + image.getpixel((0, 0))[0] % 4
        return replace(tiny.regions(n, self.calls, self.name, 3), size=image.size)


class Labelling(Counting):
    def find_regions(self, image: Image.Image) -> Regions:
        found = super().find_regions(image)
        n = len(found.boxes)
        return replace(found, labels=("café",) * n, scores=np.linspace(0.25, 0.75, n, dtype=np.float32))


def assert_equal(a: Regions, b: Regions) -> None:
    """Equal as far as float16 can hold features."""
    assert (a.size, a.source, a.labels) == (b.size, b.source, b.labels)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.features, b.features.astype(np.float16))
    np.testing.assert_array_equal(a.scores, b.scores)


@pytest.mark.parametrize("kind", [Counting, Labelling])
def test_cache_round_trip_with_different_numbers_of_regions(kind: type, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(FeatureCache, "SHARD", 3)
    paths = [paint(tmp_path / f"{i}.png", i) for i in range(8)]
    cache = FeatureCache(tmp_path / "cache", kind())
    keys, problems = cache.extract(paths, progress=False)
    assert problems == []
    assert list(keys) == paths
    again = kind()
    for cached in (cache, FeatureCache(tmp_path / "cache", kind())):
        again.calls = 0
        found = list(cached.read(keys[p] for p in paths))
        assert [len(r.boxes) for r in found] == [1, 2, 3, 4, 1, 2, 3, 4]
        for path, regions in zip(paths, found, strict=True):
            assert_equal(regions, again.find_regions(Image.open(path)))
        backwards = list(cached.read(keys[p] for p in paths[::-1]))
        np.testing.assert_array_equal(backwards[0].features, found[-1].features)
    assert len(list((tmp_path / "cache" / "counting-1").glob("*.h5"))) == 3


def test_cache_computes_nothing_twice(tmp_path: Path) -> None:
    paths = [paint(tmp_path / f"{i}.png", i) for i in range(5)]
    source = Counting()
    FeatureCache(tmp_path / "cache", source).extract(paths[:3], progress=False)
    assert source.calls == 3
    cache = FeatureCache(tmp_path / "cache", source)
    cache.extract(paths, progress=False)
    assert source.calls == 5
    keys, _ = cache.extract(paths, progress=False)
    assert source.calls == 5
    assert len(list(cache.read(keys.values()))) == 5


def test_same_photograph_under_two_names_is_extracted_once(tmp_path: Path) -> None:
    paths = [paint(tmp_path / "a.png", 1), paint(tmp_path / "b.png", 1), paint(tmp_path / "c.png", 2)]
    source = Counting()
    keys, _ = FeatureCache(tmp_path / "cache", source).extract(paths, progress=False)
    assert source.calls == 2
    assert keys[paths[0]] == keys[paths[1]] != keys[paths[2]]


def test_corrupt_photographs_are_reported_not_fatal(tmp_path: Path) -> None:
    good = [paint(tmp_path / f"{i}.png", i) for i in range(3)]
    (tmp_path / "garbage.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:40])
    bad = [tmp_path / "garbage.png", tmp_path / "cut.png", tmp_path / "missing.png", tmp_path]
    cache = FeatureCache(tmp_path / "cache", Counting())
    keys, problems = cache.extract([good[0], bad[0], bad[0], *bad[1:], *good[1:]], progress=False)
    assert list(keys) == good
    assert {p.name for p in bad if any(p.name in said for said in problems)} == {p.name for p in bad}
    assert len(list(cache.read(keys.values()))) == 3


def test_damaged_shard_says_which_file(tmp_path: Path) -> None:
    FeatureCache(tmp_path, Counting()).extract([paint(tmp_path / "a.png")], progress=False)
    (shard,) = (tmp_path / "counting-1").glob("*.h5")
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(GliedError, match=shard.name):
        FeatureCache(tmp_path, Counting())


def test_a_shard_that_is_damaged_inside_says_which_file_to_delete(tmp_path: Path) -> None:
    def damage(name: str, value: object) -> None:
        with h5py.File(shard, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value

    path = paint(tmp_path / "a.png")
    keys, _ = FeatureCache(tmp_path, Counting()).extract([path], progress=False)
    (shard,) = (tmp_path / "counting-1").glob("*.h5")
    whole = shard.read_bytes()
    damages = {"boxes": None, "features": np.zeros((0, 4)), "sizes": 5, "labels": np.array([b"\x94"] * 99, "S1")}
    for name, value in damages.items():
        shard.write_bytes(whole)
        damage(name, value)
        with pytest.raises(GliedError, match=rf"{shard.name}, it is damaged \(.+\); delete that file") as told:
            list(FeatureCache(tmp_path, Counting()).read(keys.values()))
        assert len(str(told.value).splitlines()) == 1
    shard.write_bytes(whole)
    damage("keys", np.array([b"\xff" * 64]))
    with pytest.raises(GliedError, match=rf"{shard.name}.*delete that file"):
        FeatureCache(tmp_path, Counting())


def test_sources_do_not_mix(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png")
    FeatureCache(tmp_path / "cache", Counting()).extract([path], progress=False)
    other = Counting()
    other.name = "counting/2"
    keys, _ = FeatureCache(tmp_path / "cache", other).extract([path], progress=False)
    assert other.calls == 1
    (regions,) = FeatureCache(tmp_path / "cache", other).read(keys.values())
    assert regions.source == "counting/2"


def shards(folder: Path) -> dict[str, dict[str, list]]:
    """What each finished shard holds."""
    found = {}
    for file in folder.rglob("*.h5"):
        with h5py.File(file) as shard:
            found[file.name] = {name: np.asarray(data).tolist() for name, data in shard.items()}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeatureCache, dict[Path, str]]:
    """40 photographs, and the cache of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    for i in range(40):
        paint(folder / "images" / f"{i:02}.png", 7 * i)
    return folder / "images", *extract(folder / "cache", folder / "images")


def assert_resumes(folder: Path, whole: tuple[Path, FeatureCache, dict[Path, str]], monkeypatch) -> None:
    """What a killed run left is true as far as it goes, and a second run completes it and no more."""
    images, unbroken, keys = whole
    complete = shards(unbroken.folder)
    left = shards(folder)
    assert left.items() <= complete.items()
    calls = []
    find_regions = Slow.find_regions
    monkeypatch.setattr(Slow, "find_regions", lambda self, image: calls.append(1) or find_regions(self, image))
    resumed, again = extract(folder, images)
    assert again == keys
    assert shards(folder) == complete
    assert len(calls) == len(keys) - 4 * len(left)
    for a, b in zip(resumed.read(again.values()), unbroken.read(keys.values()), strict=True):
        assert_equal(a, b)


def start(folder: Path, images: Path, *kill: str) -> subprocess.Popen:
    script = Path(__file__).with_name("interrupted.py")
    return subprocess.Popen([sys.executable, script, folder, images, *kill], stdout=subprocess.PIPE)


@pytest.mark.parametrize(("function", "count", "finished"), [("write_bytes", 2, 1), ("fsync", 2, 1), ("replace", 3, 2)])
def test_killed_while_writing_a_shard(function: str, count: int, finished: int, whole, tmp_path, monkeypatch) -> None:
    with start(tmp_path, whole[0], function, str(count)) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(shards(tmp_path)) == finished
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".h5"], "it died with a shard half written"
    assert_resumes(tmp_path, whole, monkeypatch)


def test_killed_at_random_moments(whole, tmp_path, monkeypatch) -> None:
    moments = random.Random(0)
    died = 0
    for _ in range(2):
        with start(tmp_path, whole[0]) as process:
            process.stdout.readline()  # it has begun
            time.sleep(moments.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
        died += process.returncode == -signal.SIGKILL
        assert shards(tmp_path).items() <= shards(whole[1].folder).items()
    assert died, "a run of 40 photographs takes 0.4 s at least"
    assert_resumes(tmp_path, whole, monkeypatch)


def test_no_data_set_and_weights_of_some_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GliedError, match="name its folder with --data"):
        load_dataset([])
    (tmp_path / "sets.json").write_text('{"a": 1}')
    with pytest.raises(GliedError, match="for all data sets or for none"):
        load_dataset([tmp_path / "sets.json", tmp_path / "b"])
