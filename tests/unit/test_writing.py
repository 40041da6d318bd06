"""What commands write: whole or not at all, before they tell it, and a sentence where it cannot be."""

import errno
import io
import itertools
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from analysis.curves import draw_curves
from glied.checkpoint import load
from glied.cli import experiments
from glied.cli.options import write_json
from glied.data.features import FeatureCache
from glied.errors import GliedError
from glied.experiments import ablation, bench, systems
from glied.files import check_target, replacing
from glied.replay import trace
from glied.training.cross_entropy import train_captioner
from glied.training.loop import _write_log
from glied.training.options import TrainOptions

SCORES = {"references": {"1": ["a dog runs"], "2": ["a red ball"]}, "captions": {"1": "a dog", "2": "a ball"}}
SCORE = {"by_seed": [1.0], "mean": 1.0, "deviation": None}
ROW = {"captioner": "glied", "stage": "cross-entropy", "data": "flickr8k", "photographs": 2, "parameters": 1}
ROW |= {"minutes": [1.0], "images_per_s": 2.0, "low": 0.5, "high": 1.5}
ROW |= dict.fromkeys(("Bleu_4", "METEOR", "ROUGE_L", "CIDEr"), SCORE)
RESULT = {"rows": [ROW], "unfinished": [], "stopped": []}


@contextmanager
def full_disk(room: int = 4096) -> Iterator[None]:
    """No file of this process may grow beyond `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_sentence(error: pytest.ExceptionInfo[GliedError], path: Path, reason: str) -> bool:
    said = str(error.value)
    return said.startswith(f"Expected to write {path}, but cannot ({reason}); ") and len(said.splitlines()) == 1


# every kind of file that a command writes
def write_log(path: Path, n: int) -> None:
    _write_log(path, [{"epoch": n, "loss": 0.1}] * (1 + 1000 * n))


def write_curves(path: Path, n: int) -> None:
    (path.parent / "run").mkdir(exist_ok=True)
    with full_disk(10**9):
        (path.parent / "run" / "log.csv").write_text("epoch,loss,val_CIDEr\n1,2.0,0.5\n")
    draw_curves([path.parent / "run"], path)


def write_trace(path: Path, n: int) -> None:
    trace(tiny.checkpoint(seed=n), tiny.scene(), ["a", "dog"], falls=True).save(path)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "report.json": lambda path, n: write_json(path, [n] * (1 + 10_000 * n)),
    "log.csv": write_log,
    "glied.safetensors": lambda path, n: tiny.checkpoint(seed=n).save(path),
    "trace.npz": write_trace,
    "curves.png": write_curves,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_a_sentence_and_the_last_good_file_stays(tmp_path: Path, name: str) -> None:
    path, write = tmp_path / name, WRITERS[name]
    write(path, 0)
    before = path.read_bytes()
    with full_disk(), pytest.raises(GliedError, match="make room") as error:
        write(path, 1)
    assert one_sentence(error, path, "File too large")
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    write(path, 1)
    assert path.read_bytes() != before or name == "curves.png"


REASONS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN]


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize("number", REASONS)
def test_whatever_the_disk_says_is_a_sentence(tmp_path: Path, monkeypatch, call: str, number: int) -> None:
    """Full, over quota, read-only, not permitted, broken, a mount that has gone."""
    path = tmp_path / "report.json"
    path.write_text("before")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    if call == "mkdir":
        path = tmp_path / "new" / "report.json"
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(GliedError) as error:
            write_json(path, {})
    assert one_sentence(error, path, os.strerror(number))
    assert ("make room" in str(error.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert (tmp_path / "report.json").read_text() == "before"


def test_other_errors_inside_are_not_taken_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="of another kind"), replacing(tmp_path / "a"):
        raise RuntimeError("of another kind")


def test_a_link_is_followed_and_a_device_is_written_to_itself(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link.json", tmp_path / "elsewhere" / "a.json"
    link.symlink_to(target)
    check_target(link)
    write_json(link, 1)
    assert (link.is_symlink(), target.read_text()) == (True, "1\n")
    check_target(Path("/dev/null"))
    write_json(Path("/dev/null"), 1)
    with pytest.raises(GliedError, match="No space left on device"):
        write_json(Path("/dev/full"), 1)
    assert all(stat.S_ISCHR(os.stat(device).st_mode) for device in ("/dev/null", "/dev/full"))


class Tiny:
    """Regions of no photograph in particular."""

    name, feature_dim = "tiny-source", 12

    def find_regions(self, image):
        return replace(tiny.regions(seed=image.size[0]), source=self.name, size=image.size)


def test_extraction_on_a_full_disk_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(FeatureCache, "SHARD", 2)
    paths = []
    for i in range(4):
        paths.append(tmp_path / f"{i}.png")
        tiny.Image.new("RGB", (100 + i, 90)).save(paths[-1])
    cache = FeatureCache(tmp_path / "cache", Tiny())
    cache.extract(paths[:2], progress=False)
    with full_disk(), pytest.raises(GliedError, match=r"\.h5, but cannot \(File too large\); make room") as error:
        cache.extract(paths, progress=False)
    assert len(str(error.value).splitlines()) == 1
    again = FeatureCache(tmp_path / "cache", Tiny())
    assert len(again.index) == 2
    keys, problems = again.extract(paths, progress=False)
    assert [regions.size for regions in again.read(keys.values())] == [(100 + i, 90) for i in range(4)]
    assert not problems
    assert not list((tmp_path / "cache").rglob(".*"))


def test_training_on_a_full_disk_goes_on_where_it_was(places, tmp_path: Path, monkeypatch) -> None:
    options = TrainOptions(epochs=2, images=4, warmup=4, rate=2e-3, min_count=1, save_minutes=0.0, precision="fp32")
    whole, stopped = (replace(places, run=tmp_path / name) for name in ("whole", "stopped"))
    train_captioner("glied", whole, options)
    save, calls = torch.save, itertools.count(1)

    def fill(*arguments: object) -> None:
        with full_disk(4096 if next(calls) == 3 else 10**9):
            save(*arguments)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(GliedError, match="make room") as error:
        train_captioner("glied", stopped, options)
    assert one_sentence(error, stopped.run / "state.pt", "File too large")
    assert torch.load(stopped.run / "state.pt", weights_only=True)["step"] == 2
    assert not list(stopped.run.glob(".*"))
    train_captioner("glied", stopped, options)
    ends = [load(each.best).model.state_dict() for each in (whole, stopped)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


class Gone(io.StringIO):
    """Standard output that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def prepared(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The words of a command that writes a result; what takes long is not run."""
    monkeypatch.setattr(bench, "decode", lambda: {"machine": {}, "rows": []})
    monkeypatch.setattr(bench, "table", lambda result: "a table")
    for module in (ablation, systems, experiments):
        for work in ("ablate", "score_systems", "time_systems"):
            monkeypatch.setattr(module, work, lambda *_: RESULT, raising=False)
    data = ("--data", folder / "data", "--split", "val")
    if name == "score":
        for each, value in SCORES.items():
            (tmp_path / each).write_text(json.dumps(value))
        return ["score", "--references", tmp_path / "references", "--captions", tmp_path / "captions"]
    if name == "recall":
        boxed = tiny.boxed(tmp_path / "data", ("val", (60, 40), [((0, 0, 60, 40), ("a field",))]))
        return ["recall", "--data", boxed, "--split", "val", "--source", "grid"]
    if name == "evaluate":
        more = ("--checkpoint", folder / "glied.safetensors", "--cache", tmp_path / "cache", "--beam", 1)
        return ["evaluate", *data, *more]
    if name == "ablation":
        return ["ablation", *data[:2], "--variants", "glied", "--run", tmp_path / "run"]
    if name in ("table1", "table2"):
        return ["bench", name, *data[:2], "--systems", "glied", "--run", tmp_path / "run"]
    return ["bench", "decode"]


@pytest.mark.parametrize("name", ["score", "recall", "evaluate", "ablation", "table1", "table2", "bench"])
def test_a_result_is_written_before_it_is_told(folder, tmp_path, monkeypatch, capsys, name) -> None:
    out = tmp_path / "result.json"
    words = [*prepared(name, folder, tmp_path, monkeypatch), "--json", out]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Gone())
        assert tiny.run(monkeypatch, *words) == 0
    assert json.loads(out.read_bytes())
    capsys.readouterr()
    words[-1] = nowhere = tmp_path / "nowhere.json"

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    assert tiny.run(monkeypatch, *words) == 2
    told, err = capsys.readouterr()
    assert err.startswith(f"glied: Expected to write {nowhere}, but cannot (No space left on device); ")
    assert len(err.splitlines()) == 1
    assert "CIDEr" not in told
    assert not nowhere.exists()


def command(folder: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "glied", *map(str, words)]


def test_a_closed_pipe_is_no_failure(tmp_path: Path, folder: Path, root: Path) -> None:
    for each, value in SCORES.items():
        (tmp_path / each).write_text(json.dumps(value))
    files = ("--references", tmp_path / "references", "--captions", tmp_path / "captions")
    words = " ".join(command(folder, "score", *files, "--json", tmp_path / "scores.json"))
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    script = f"set -o pipefail; {words} | true"
    done = subprocess.run(["bash", "-c", script], cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "scores.json").read_text())["scores"]["Bleu_1"] > 0
    # what is told is all that there is
    words = " ".join(command(folder, "info", folder / "glied.safetensors"))
    for to, status, said in (
        ("| true", 141, ""),
        ("> /dev/full", 2, "No space left on device"),
        (">&-", 2, "descriptor"),
    ):
        script = f"set -o pipefail; {words} {to}"
        done = subprocess.run(["bash", "-c", script], cwd=root, capture_output=True, text=True)
        assert done.returncode == status, to
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == (1 if said else 0)
    help = " ".join(command(folder, "--help"))
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {help} | true"], cwd=root, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_captions_that_were_done_are_kept(folder: Path, tmp_path: Path, root: Path, number: int, status: int) -> None:
    images = [folder / "data" / "images" / f"{i % 3}.jpg" for i in range(500)]
    words = command(folder, "caption", *images, "--checkpoint", folder / "glied.safetensors", "--json")
    with open(tmp_path / "out.jsonl", "wb") as out:
        running = subprocess.Popen(words, cwd=root, stdout=out, stderr=subprocess.PIPE)
        while (tmp_path / "out.jsonl").read_bytes().count(b"\n") < 3 and running.poll() is None:
            pass
        running.send_signal(number)
        _, said = running.communicate()
    assert running.returncode == status
    assert said == (b"glied: stopped.\n" if number == signal.SIGINT else b"")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    records = [json.loads(line) for line in lines]
    assert 3 <= len(records) < 500
    assert [record["image"] for record in records] == [str(image) for image in images[: len(records)]]


INTERRUPT = """
import os, runpy, signal, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(9)
            except KeyboardInterrupt:
                if {swallowed}:
                    raise ImportError("something went wrong")  # as libraries in C make of it
                raise

sys.meta_path.insert(0, Finder())
sys.argv[1:] = {words!r}
runpy.run_module("glied", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("module", ["tyro", "glied.cli.train", "torch", "glied.decode"])
def test_ctrl_c_while_modules_are_loaded_is_said(folder: Path, root: Path, module: str, swallowed: bool) -> None:
    words = ["caption", str(folder / "data" / "images" / "0.jpg"), "--checkpoint", str(folder / "glied.safetensors")]
    script = INTERRUPT.format(module=module, swallowed=swallowed, words=words)
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "glied: stopped.\n")


def test_nohup_stays(root: Path) -> None:
    """Where Ctrl-C is ignored it stays so."""
    script = INTERRUPT.format(module="tyro", swallowed=False, words=["--help"]).replace("time.sleep(9)", "pass")
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + script
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert re.search(r"\bcaption\b", done.stdout)


def test_arrays_of_a_shard_are_as_they_were(tmp_path: Path) -> None:
    """It is made in memory and then written: the same as HDF5 would write itself."""
    path = tmp_path / "a.png"
    tiny.Image.new("RGB", (100, 90)).save(path)
    cache = FeatureCache(tmp_path / "cache", Tiny())
    keys, _ = cache.extract([path], progress=False)
    [found] = FeatureCache(tmp_path / "cache", Tiny()).read(keys.values())
    expected = tiny.regions(seed=100)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.features, expected.features.astype(np.float16).astype(np.float32))


def test_an_error_begins_a_line_of_its_own(root: Path, tmp_path: Path) -> None:
    """Also where a bar was being drawn."""
    script = """
import sys
from glied import __main__ as cli
from glied.cli import commands
from glied.errors import GliedError
from glied.terminal import track

def fail(prog, description):
    for _ in track(range(3), desc="work", mininterval=0):
        raise GliedError("Expected nothing.")

commands.app.cli = fail
cli.main()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True)
    assert done.stderr.startswith(b"\rwork")
    assert done.stderr.endswith(b"\nglied: Expected nothing.\n")
    assert done.returncode == 2


def test_score_reads_what_caption_writes(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    images = [folder / "data" / "images" / f"{i}.jpg" for i in (0, 1)]
    options = ("--checkpoint", folder / "glied.safetensors", "--beam", 1, "--json")
    assert tiny.run(monkeypatch, "caption", *images, *options) == 0
    (tmp_path / "said.jsonl").write_text(capsys.readouterr().out)
    files = ("--references", folder / "data" / "captions.json", "--captions", tmp_path / "said.jsonl")
    assert tiny.run(monkeypatch, "score", *files, "--json", tmp_path / "scores.json") == 0
    assert len(json.loads((tmp_path / "scores.json").read_text())["images"]) == 2
