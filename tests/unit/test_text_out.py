"""What commands tell people: any name, on any terminal, each in one line, and nothing lost."""

import ast
import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis.curves import draw_curves
from glied import terminal
from glied.data.dataset import load_dataset
from glied.errors import GliedError
from glied.files import as_text, to_json
from glied.terminal import say, show

# names of files as people have them, and what one line of a UTF-8 and of a latin-1 terminal shows
NAMES = {
    b"latin\xe9.jpg": ("latin\\xe9.jpg", "latin\\xe9.jpg"),
    "中文.jpg".encode(): ("中文.jpg", "\\u4e2d\\u6587.jpg"),
    "é.jpg".encode(): ("é.jpg", "é.jpg"),
    b"new\nline\ttab.jpg": ("new\\nline\\ttab.jpg", "new\\nline\\ttab.jpg"),
    "\u202egpj.jpg".encode(): ("\\u202egpj.jpg", "\\u202egpj.jpg"),
    b"\x1b[31mred\x1b[0m.jpg": ("\\x1b[31mred\\x1b[0m.jpg", "\\x1b[31mred\\x1b[0m.jpg"),
    "\u2028\x85\U0001f600.jpg".encode(): ("\\u2028\\u0085😀.jpg", "\\u2028\\u0085\\U0001f600.jpg"),
}
ENCODINGS = ("utf-8", "latin-1", "ascii", "cp1252", "shift_jis", "utf-16")


@pytest.mark.parametrize("name", NAMES)
def test_names_as_terminals_show_them(name: bytes) -> None:
    assert tuple(show(os.fsdecode(name), encoding) for encoding in ("utf-8", "latin-1")) == NAMES[name]


def test_an_escape_is_what_bash_reads() -> None:
    """So a name that was shown can be given to a command again."""
    for name, (shown, _) in NAMES.items():
        said = subprocess.run(
            ["bash", "-c", f"printf %s $'{shown}'"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
        )
        assert said.stdout == name


@given(text=st.text(st.characters()) | st.binary().map(os.fsdecode), encoding=st.sampled_from(ENCODINGS))
def test_any_text_is_one_line_that_the_terminal_has(text: str, encoding: str) -> None:
    shown = show(text, encoding)
    shown.encode(encoding)
    assert shown.isprintable()
    if text.isascii() and text.isprintable():
        assert shown == text


def test_nothing_else_prints(root: Path) -> None:
    """`print` fails on a terminal that lacks a sign, and bars of tqdm on one that is gone."""
    for file in [*(root / "glied").rglob("*.py"), *(root / "analysis").rglob("*.py")]:
        if file.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            written = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func)
            assert called != "print", f"{file.name}:{node.lineno}: say it"
            assert written not in ("sys.stdout.write", "sys.stderr.write"), f"{file.name}:{node.lineno}: say it"
            if isinstance(node, ast.ImportFrom):
                assert node.module != "tqdm", f"{file.name}: track it"


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], io.BytesIO]:
    """Makes standard output one of this encoding."""

    def replace(encoding: str) -> io.BytesIO:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="strict"))
        return written

    return replace


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A data set whose photographs have the names above."""
    (tmp_path / "images").mkdir()
    records = []
    for i, name in enumerate(map(os.fsdecode, NAMES)):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "photograph.jpg")
        (tmp_path / "images" / "photograph.jpg").rename(tmp_path / "images" / name)
        records.append({"filename": name, "split": "val", "sentences": [{"raw": "A dog runs on the grass."}]})
    (tmp_path / "captions.json").write_text(json.dumps({"images": records}))
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_every_photograph_is_captioned_in_one_line(folder: Path, odd: Path, monkeypatch, stdout, encoding) -> None:
    paths = [odd / "images" / os.fsdecode(name) for name in NAMES]
    options = ("--checkpoint", folder / "glied.safetensors", "--beam", 1)
    written = stdout(encoding)
    assert tiny.run(monkeypatch, "caption", *paths, *options) == 0
    lines = written.getvalue().decode(encoding).split("\n")
    assert [line.split("\t")[0] for line in lines] == [*(show(path, encoding) for path in paths), ""]
    assert all(line.count("\t") == 1 for line in lines[:-1])
    written = stdout(encoding)
    assert tiny.run(monkeypatch, "caption", *paths, *options, "--json") == 0
    records = [json.loads(line) for line in written.getvalue().decode(encoding).split("\n")[:-1]]
    assert [record["image"] for record in records] == [as_text(str(path)) for path in paths]


def test_a_c_locale_captions_them_too(folder: Path, odd: Path, root: Path) -> None:
    command = [sys.executable, "-m", "glied", "caption", odd / "images", "--checkpoint", folder / "glied.safetensors"]
    for changes in (
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ):
        done = subprocess.run(command, cwd=root, env=os.environ | changes, capture_output=True, check=True)
        lines = done.stdout.splitlines()
        assert len(lines) == len(NAMES)
        assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_evaluate_and_extract_lose_nothing(folder: Path, odd: Path, tmp_path, monkeypatch, stdout, encoding) -> None:
    bad = os.fsdecode(next(iter(NAMES)))
    (odd / "images" / bad).write_bytes(b"no image")
    written, out = stdout(encoding), tmp_path / "report.json"
    places = ("--data", odd, "--cache", tmp_path / "cache")
    assert tiny.run(monkeypatch, "extract", *places, "--source", "grid") == 0
    more = ("--split", "val", "--checkpoint", folder / "glied.safetensors", "--json", out, "--beam", 1)
    assert tiny.run(monkeypatch, "evaluate", *places, *more) == 0
    report = json.loads(out.read_bytes())
    assert set(report["images"]) == {as_text(os.fsdecode(name)) for name in NAMES} - {as_text(bad)}
    assert any("latin\\xe9.jpg" in problem for problem in report["problems"])
    lines = written.getvalue().decode(encoding).splitlines()
    assert sum("latin\\xe9.jpg is damaged" in line for line in lines) == 2
    assert f"wrote {out.with_suffix('.md')}" in lines


def test_names_in_json_are_text_that_every_program_reads() -> None:
    value = {os.fsdecode(b"a\xe9"): [os.fsdecode(b"\xff"), "\n\u202e中", {"x": ("\ud83d", 1.5, None)}]}
    expected = {"a\\xe9": ["\\xff", "\n\u202e中", {"x": ["\\ud83d", 1.5, None]}]}
    for ascii in (True, False):
        assert json.loads(to_json(value, ascii=ascii).encode("utf-8")) == expected
    assert to_json(value).isascii()


def test_json_on_a_terminal_is_json(monkeypatch, stdout) -> None:
    from glied.cli.options import say_json

    for encoding in ENCODINGS:
        written = stdout(encoding)
        say_json({"image": "\U0001f600中é\u2028\x85.jpg"})
        assert json.loads(written.getvalue().decode(encoding)) == {"image": "\U0001f600中é\u2028\x85.jpg"}


def test_ids_of_a_data_set_are_text(odd: Path) -> None:
    photographs = load_dataset(odd).photographs
    assert len(photographs) == len(NAMES)
    assert all(p.id.encode() and p.path.is_file() for p in photographs)


def test_an_error_is_one_line(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    bad = tmp_path / os.fsdecode(b"no\nimage\xe9.jpg")
    bad.write_bytes(b"")
    assert tiny.run(monkeypatch, "caption", bad, "--checkpoint", folder / "glied.safetensors") == 2
    assert tiny.run(monkeypatch, "info", bad) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("glied: Expected") and "no\\nimage\\xe9.jpg" in line for line in lines)


def test_n_best_gives_as_many_lines(folder: Path, monkeypatch, capsys) -> None:
    image = folder / "data" / "images" / "0.jpg"
    options = ("--checkpoint", folder / "glied.safetensors", "--n-best", 3)
    assert tiny.run(monkeypatch, "caption", image, *options) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _ in lines] == [str(image)] * 3
    assert len({caption for _, caption in lines}) == 3


def test_a_folder_is_its_photographs(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    options = ("--checkpoint", folder / "glied.safetensors", "--beam", 1)
    for name in ("b.JPG", "a.jpg", "._a.jpg"):
        (tmp_path / name).write_bytes((folder / "data" / "images" / "0.jpg").read_bytes())
    (tmp_path / "notes.txt").write_text("no photograph")
    assert tiny.run(monkeypatch, "caption", tmp_path, *options) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in ("a.jpg", "b.JPG")
    ]
    assert tiny.run(monkeypatch, "caption", folder / "data", *options) == 2
    assert "found none, but 1 folder(s) such as images" in capsys.readouterr().err


class Failing(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_stream_that_is_gone_stops_no_work(monkeypatch, capsys, number) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(number))
    say("on the way")
    assert ("No space left" in capsys.readouterr().err) == (number == errno.ENOSPC)
    with pytest.raises(OSError, match=os.strerror(number)):
        say("the result", needed=True)
    monkeypatch.setattr(sys, "stdout", None)
    say("to nobody")
    with pytest.raises(OSError, match="closed"):
        say("the result", needed=True)
    for stream in (Failing(number), None):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.complain("nobody hears")
        assert list(terminal.track(range(3), desc="work\n")) == [0, 1, 2]


def test_curves_of_runs_of_any_name(tmp_path: Path) -> None:
    runs = [tmp_path / os.fsdecode(name) for name in (b"latin\xe9", b"a$b$\\frac", b"new\nline")]
    for run in runs:
        run.mkdir()
        (run / "log.csv").write_text("epoch,loss,val_CIDEr\n1,2.0,0.5\n")
    draw_curves(runs, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    with pytest.raises(GliedError):
        draw_curves([tmp_path / "none"], tmp_path / "curves.png")
