"""Captions of a corpus: every photograph has its row exactly once, whatever is killed, in bounded memory."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from PIL import Image
from stress.forks import Task
from stress.forks import run as fork
from tiny import run

from glied.attributes import AttributeDetector
from glied.baselines.build import build
from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint, save_attribute_detector
from glied.cli.options import GLIED
from glied.config import ModelConfig
from glied.corpus import captions as corpus_captions
from glied.corpus import photographs
from glied.corpus import run as corpus_run
from glied.corpus.options import PHASES, Captioning, Corpus, PartResult
from glied.corpus.photographs import divide
from glied.corpus.run import caption_corpus
from glied.data.features import FeatureCache
from glied.errors import GliedError
from glied.experiments.corpus import measure, table
from glied.regions.grid import Grid
from glied.scene import Regions
from glied.traces import unpack
from glied.workers import Workers, spread


def paint(file: Path, seed: int) -> Path:
    """A photograph of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    return file


WIDTH = 8  # of a feature
SOURCE = f"stored/tiny@{WIDTH}"


class Seeing:
    """Regions that follow from the pixels alone."""

    name, feature_dim = SOURCE, WIDTH

    def find_regions(self, image: Image.Image) -> Regions:
        boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.25, 0.5, 1, 1]]) * ([*image.size] * 2)
        seen = np.random.default_rng(int(np.asarray(image, np.int64).sum())).normal(size=(3, WIDTH))
        return Regions(boxes.astype(np.float32), seen.astype(np.float32), image.size, SOURCE)


@pytest.fixture(scope="module")
def models(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random captioner over converted features, its attribute detector, and the features of all photographs here."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    words = tiny.vocabulary(tiny.FEW)
    config = ModelConfig(vocabulary_size=len(words), feature_dim=WIDTH, d=16, heads=2, d_head=8, max_length=6)
    Checkpoint(build(config), words, tiny.FEW, SOURCE, {"seed": 0}).save(folder / "glied.safetensors")
    save_attribute_detector(folder / "attributes.safetensors", AttributeDetector(tiny.FEW, WIDTH, SOURCE), {})
    images = [file for file in pictures.rglob("*") if file.suffix not in ("", ".txt")]
    FeatureCache(folder / "cache", Seeing()).extract(images, progress=False)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photographs at different depths, two of which cannot be read, and files that are none."""
    place = tmp_path_factory.mktemp("corpus")
    for i, name in enumerate(("b.jpg", "a.png", "B.JPG", "deep/er/1.jpg", "deep/2.webp", "deep/a b.gif", "z/1.jpg")):
        paint(place / name, i)
    paint(place / "z" / "large.jpg", 8)
    Image.new("RGB", (1400, 700), "red").save(place / "z" / "large.jpg")
    shutil.copy(place / "b.jpg", place / "z" / "twice.jpg")
    (place / "deep" / "bad.jpg").write_bytes(b"no image")
    (place / "z" / "cut.png").write_bytes((place / "a.png").read_bytes()[:90])
    for strange in (".hidden.jpg", "notes.txt", ".cache/1.jpg"):
        paint(place / strange, 0) if strange.endswith("jpg") else (place / strange).write_text("no photograph")
    return place


BAD = {"deep/bad.jpg", "z/cut.png"}
NAMES = ["B.JPG", "a.png", "b.jpg", "deep/2.webp", "deep/a b.gif", "deep/bad.jpg", "deep/er/1.jpg"]
NAMES += ["z/1.jpg", "z/cut.png", "z/large.jpg", "z/twice.jpg"]


def arguments(models: Path, corpus: Path, out: Path, *more: object) -> list[object]:
    which = ("--checkpoint", models / "glied.safetensors", "--cache", models / "cache")
    return ["caption", "--corpus", corpus, "--out", out, "--part", 2, "--workers", 1, *which, *more]


def read(out: Path) -> list[dict]:
    """All rows, by Parquet's own reader of folders, in the order of the parts."""
    rows: list[dict] = pq.read_table(out).to_pylist()
    return rows


@pytest.fixture(scope="module")
def whole(models: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The rows of a run that nobody killed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, *arguments(models, pictures, out)) == 0
    assert not list(out.glob(".*"))
    return read(out)


def test_every_photograph_has_one_row(models, pictures, whole, monkeypatch, capsys) -> None:
    assert [row["path"] for row in whole] == NAMES
    good = [row for row in whole if row["path"] not in BAD]
    images = [pictures / row["path"] for row in good]
    assert (
        run(
            monkeypatch,
            "caption",
            *images,
            "--checkpoint",
            models / "glied.safetensors",
            "--cache",
            models / "cache",
            "--json",
        )
        == 0
    )
    alone = [json.loads(line)["captions"] for line in capsys.readouterr().out.splitlines()]
    for row, [best], image in zip(good, alone, images, strict=True):
        assert row["error"] is None
        assert row["caption"] == best["caption"] == row["captions"][0]["caption"]
        assert row["log_probability"] == pytest.approx(best["log_probability"], abs=1e-3)
        assert row["score"] == pytest.approx(best["score"], abs=1e-3)
        with Image.open(image) as opened:
            assert (row["width"], row["height"]) == opened.size
        assert len(row["regions"]) == 3
        assert max(box["x2"] for box in row["regions"]) == pytest.approx(row["width"])
        scores = [attribute["score"] for attribute in row["attributes"]]
        assert scores == sorted(scores, reverse=True)
        assert row["trace"] is None
    for row in (row for row in whole if row["path"] in BAD):
        assert row["error"].startswith("Expected a readable")
        assert row["path"] in row["error"]
        assert row["caption"] is row["regions"] is None


def test_n_best_and_traces(models, pictures, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, *arguments(models, pictures / "z", out, "--n-best", 2, "--traces", "falls")) == 0
    assert f"4 photographs are captioned in {out}" in capsys.readouterr().out
    rows = [row for row in read(out) if row["error"] is None]
    assert len(rows) == 3
    for row in rows:
        assert row["captions"][0]["caption"] == row["caption"]
        assert len(row["captions"]) == 2
        trace, _ = unpack(row["trace"])
        assert trace.text == row["caption"]
        assert trace.region_falls.shape == (len(trace.words), 3)


# Killed and started again


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_every_photograph_comes_once(models, pictures, whole, tmp_path, seed) -> None:
    task = Task(tuple(map(str, arguments(models, pictures, tmp_path / "out"))), "out/*")
    (tmp_path / "try").mkdir()
    chance, killed = random.Random(seed), 0
    seconds = fork(Task((*task.arguments[:4], str(tmp_path / "other"), *task.arguments[5:]), ""), tmp_path).seconds
    while killed < 2:
        if fork(task, tmp_path, kill_after=chance.uniform(0.2, 0.9) * seconds).status < 0:
            killed += 1
        else:  # it ended before: from the beginning again, and killed sooner
            shutil.rmtree(tmp_path / "out")
            killed, seconds = 0, seconds / 2
    ended = fork(task, tmp_path)
    assert ended.status == 0, ended.errors
    assert read(tmp_path / "out") == whole
    assert not list((tmp_path / "out").glob(".*"))  # what the killed runs had begun


def start(*words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "glied", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(happens: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not happens():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def many(folder: Path, pictures: Path) -> list[str]:
    """Links to a photograph under many names."""
    names = [f"{i:03d}.png" for i in range(300)]
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(pictures / "a.png")
    return names


def parts(out: Path) -> int:
    return len(list(out.glob("part-*")))


def test_a_killed_worker_is_a_sentence_and_a_killed_command_leaves_no_worker(
    models, pictures, tmp_path, monkeypatch
) -> None:
    corpus, out = tmp_path / "many", tmp_path / "out"
    names = many(corpus, pictures)
    line = arguments(models, corpus, out, "--workers", 2)
    process = start(*line)
    wait_for(lambda: parts(out) > 1, process)
    workers = [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert "A worker was killed" in said
    assert "Traceback" not in said
    done = parts(out)
    assert 0 < done < 150

    process = start(*line)
    wait_for(lambda: parts(out) > done, process)
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=120)
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert parts(out) < 150

    assert run(monkeypatch, *arguments(models, corpus, out)) == 0
    assert [row["path"] for row in read(out)] == names


def test_ray_goes_on_when_an_actor_is_killed(models, pictures, tmp_path) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'glied-studio[ray]'")
    corpus, out = tmp_path / "many", tmp_path / "out"
    names = many(corpus, pictures)
    process = start(*arguments(models, corpus, out, "--workers", 2, "--engine", "ray"))

    def find_actors() -> list[psutil.Process]:
        started = psutil.Process(process.pid).children(recursive=True)
        return [child for child in started if child.cmdline() and child.cmdline()[0].startswith("ray::MapWorker")]

    wait_for(lambda: parts(out) > 1 and len(find_actors()) == 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    find_actors()[0].kill()
    assert parts(out) < 150
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert [row["path"] for row in read(out)] == names
    assert not psutil.wait_procs(children, timeout=60)[1]


# Started again with something else


def test_a_run_beside_another_one_that_ends_first_loses_nothing(models, pictures, tmp_path, monkeypatch) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    assert run(monkeypatch, *arguments(models, pictures, first)) == 0

    def caption_late(*given: object) -> list[dict]:
        rows = write_rows(*given)
        for file in first.glob("part-*"):
            shutil.copy(file, out)
        for aside in out.glob(".part-*"):  # as the end of the other run does
            aside.unlink()
        return rows

    write_rows = corpus_captions._caption
    monkeypatch.setattr(corpus_captions, "_caption", caption_late)
    assert run(monkeypatch, *arguments(models, pictures, out)) == 0
    assert [row["path"] for row in read(out)] == NAMES


def test_a_pipe_is_one_that_cannot_be_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    [(name, held)] = next(divide(tmp_path, "path", 5)).photographs
    assert (name, str(held)) == ("pipe.jpg", f"Expected an image, {tmp_path}/pipe.jpg is a pipe; leave it out.")


def test_other_options_and_other_photographs_are_refused(models, pictures, tmp_path, monkeypatch, capsys) -> None:
    corpus, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(pictures, corpus)
    line = arguments(models, corpus, out)
    assert run(monkeypatch, *line) == 0
    last = max(out.glob("part-*"))
    last.unlink()
    kept = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    capsys.readouterr()
    for more, told in (
        (("--beam", 2), "(beam: 3), got 2"),
        (("--part", 3), "(part: 2), got 3"),
        (("--traces", "attention"), "(traces: none), got attention"),
        (("--corpus", pictures), f"(corpus: {corpus}), got {pictures}"),
    ):
        assert run(monkeypatch, *line, *more) == 2
        [said] = capsys.readouterr().err.splitlines()
        assert told in said
        assert said.endswith("give the same, or another --out.")
    added = paint(corpus / "aa.jpg", 99)
    assert run(monkeypatch, *line) == 2
    assert "some were added, renamed or removed" in capsys.readouterr().err
    added.unlink()
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == kept
    assert run(monkeypatch, *line) == 0
    assert "11 photographs" in capsys.readouterr().out
    assert last.exists()
    assert {file: file.stat().st_mtime_ns for file in kept} == kept  # nothing was done twice
    assert run(monkeypatch, *line) == 0
    shutil.rmtree(corpus / "z")
    assert run(monkeypatch, *line) == 2


def test_errors_are_one_sentence(models, pictures, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for line, told in (
        (arguments(models, tmp_path / "empty", tmp_path / "out"), "found none"),
        (arguments(models, tmp_path / "nowhere", tmp_path / "out"), "No such file"),
        (arguments(models, pictures, tmp_path / "file"), "Not a directory"),
        (arguments(models, pictures, pictures), "another folder than the corpus"),
        (arguments(models, pictures, tmp_path / "out", "--part", 0), "part must be between"),
        (arguments(models, pictures, tmp_path / "out", "--workers", 0), "workers must be between"),
        (arguments(models, pictures, tmp_path / "out", "--address", "auto"), "--engine ray"),
        (["caption", "--corpus", pictures], "--corpus together with --out"),
        (["caption", pictures / "a.png", "--corpus", pictures, "--out", tmp_path / "out"], "without image files"),
        (["caption", pictures / "a.png", "--workers", 2], "need --corpus"),
    ):
        assert run(monkeypatch, *line) == 2
        [said] = capsys.readouterr().err.splitlines()
        assert told in said
    away = arguments(models, pictures, tmp_path / "out", "--engine", "ray", "--address", "ray://[::1]:1")
    assert run(monkeypatch, *away) == 2
    assert "Expected a Ray cluster at ray://[::1]:1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(monkeypatch, *arguments(models, pictures, tmp_path / "out", "--engine", "ray")) == 2
    assert "pip install 'glied-studio[ray]'" in capsys.readouterr().err
    assert not parts(tmp_path / "out")


# Parquet


def test_parquet_of_paths_and_of_bytes(models, pictures, whole, tmp_path, monkeypatch) -> None:
    """Row groups, parts and files end at different rows; a photograph of no name is named by its row."""
    data = [(pictures / name).read_bytes() for name in NAMES]
    absolute = [str(pictures / name) for name in NAMES]
    tables = {
        "path": pa.table({"other": range(11), "path": absolute}),
        "image": pa.table({"image": [{"bytes": d, "path": n} for d, n in zip(data, NAMES, strict=True)]}),
        "jpeg": pa.table({"jpeg": [*data, None, b""], "path": [*NAMES[:10], None, "", "empty"]}),
    }
    rows = {}
    for column, content in tables.items():
        corpus = tmp_path / column
        corpus.mkdir()
        pq.write_table(content.slice(0, 5), corpus / "0.parquet", row_group_size=3)
        pq.write_table(content.slice(5), corpus / "1.parquet", row_group_size=4)
        assert run(monkeypatch, *arguments(models, corpus, tmp_path / f"{column} out", "--column", column)) == 0
        rows[column] = read(tmp_path / f"{column} out")
    assert [row["path"] for row in rows["path"]] == absolute
    assert [row["path"] for row in rows["image"]] == NAMES
    assert [row["path"] for row in rows["jpeg"]] == [*NAMES[:10], "1.parquet#5", "1.parquet#6", "empty"]
    for found in rows.values():
        assert [row["error"] is None for row in found[:11]] == [row["error"] is None for row in whole]
        assert [row["caption"] for row in found[:11]] == [row["caption"] for row in whole]
    assert ["is empty" in row["error"] for row in rows["jpeg"][11:]] == [True, True]


def test_a_file_of_parquet_that_is_damaged_costs_its_rows_alone(tmp_path) -> None:
    data = [np.random.default_rng(i).bytes(20_000) for i in range(12)]
    file = tmp_path / "0.parquet"
    pq.write_table(pa.table({"image": data}), file, row_group_size=4, compression="zstd")
    whole = file.read_bytes()
    at = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    file.write_bytes(whole[:at] + b"\xff" * 40 + whole[at + 40 :])
    found = [found for part in divide(tmp_path, "image", 5) for found in part.photographs]
    assert [name for name, _ in found] == [f"0.parquet#{i}" for i in range(12)]
    lost = [isinstance(held, GliedError) for _, held in found]
    assert lost[:4] == [False] * 4
    assert lost[4:8] == [True] * 4
    assert lost[10:] == [False] * 2
    for damaged, told in ((whole[:-9], "could not read them"), (whole, "got none of that name among image")):
        file.write_bytes(damaged)
        with pytest.raises(GliedError, match=told):
            list(divide(tmp_path, "picture", 5))
    pq.write_table(pa.table({"picture": [1, 2]}), file)
    with pytest.raises(GliedError, match="got int64"):
        list(divide(file, "picture", 5))


# Bounded memory


def test_no_list_of_all_photographs_is_made(tmp_path, monkeypatch) -> None:
    """40,000 names take 3 MB; a run over them takes a small part of that."""
    count, size = 40_000, 100
    monkeypatch.setattr(photographs, "_walk", lambda _: (f"folder {i // 100}/photograph {i}.jpg" for i in range(count)))
    told: Counter[int] = Counter()

    def do(_: object, tasks: Iterator, *__: object) -> Iterator[PartResult]:
        for part in tasks:
            told.update([part.number])
            yield PartResult(len(part.photographs), 0, {})

    monkeypatch.setattr(corpus_run, "spread", do)
    captioning = Captioning(GLIED, GLIED, tmp_path, tmp_path / "out", DecodeOptions())
    tracemalloc.start()
    try:
        done = caption_corpus(Corpus(tmp_path, part=size), captioning)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.photographs == count
    assert set(told.values()) == {1}
    assert peak < 1e6


@dataclass(frozen=True)
class Doubling:
    """A work without a model."""

    def open(self) -> Callable[[int], int]:
        return double


def double(number: int) -> int:
    if number == 10**6:
        raise GliedError("Expected less than a million.")
    return 2 * number


def test_tasks_are_taken_as_workers_get_to_them() -> None:
    for count, ahead in ((1, 1), (2, 4)):
        taken: list[int] = []
        endless = (taken.append(i) or i for i in itertools.count())
        found = spread(Doubling(), endless, Workers(count))
        first = {next(found) for _ in range(20)}
        assert len(taken) <= 20 + ahead
        found.close()
        assert first <= {2 * i for i in taken}
    assert sorted(spread(Doubling(), range(9), Workers(2))) == list(range(0, 18, 2))
    with pytest.raises(GliedError, match="less than a million"):
        list(spread(Doubling(), [10**6, *range(50)], Workers(2)))


# The regions alone, and speed


def test_extract_by_several_workers_finds_the_same(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(FeatureCache, "SHARD", 2)
    line = ("extract", "--data", folder / "data", "--source", "grid")
    keys = {}
    for count in (1, 2):
        cache = tmp_path / str(count)
        assert run(monkeypatch, *line, "--cache", cache, "--workers", count) == 0
        out = capsys.readouterr().out
        assert "3 photographs have their regions" in out
        assert "3.jpg is damaged" in out
        keys[count] = FeatureCache(cache, Grid())
    assert keys[1].index.keys() == keys[2].index.keys()
    for one, two in zip(keys[1].read(keys[1].index), keys[2].read(keys[1].index), strict=True):
        np.testing.assert_allclose(one.features, two.features, atol=1e-2)


def test_bench_counts_photographs_time_and_memory(models, pictures) -> None:
    files = (models / "glied.safetensors", models / "attributes.safetensors", models / "cache")
    result = measure(pictures / "z", 6, [Workers(1)], Captioning(*files, Path()))
    [row] = result["rows"]
    assert list(row["milliseconds"]) == list(PHASES)
    assert min(row["milliseconds"].values()) > 0
    assert row["photographs_per_s_at_work"] > row["photographs_per_s"] > 0
    assert row["megabytes"] > 50
    assert len(table(result).splitlines()) == 3
