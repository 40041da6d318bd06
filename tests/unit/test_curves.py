"""Learning curves out of logs."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import run

from analysis.curves import curves, read_log
from analysis.figures import PAIR
from glied.errors import GliedError

XE = "epoch,step,loss,val_CIDEr,rate\n1,10,5.0,0.1,0.001\n2,20,4.0,0.3,0.0005\n"
RL = "epoch,step,loss,reward,length,val_CIDEr,rate\n1,10,0.1,0.5,9.5,0.4,0.001\n2,20,0.0,0.6,9.1,0.5,0.0005\n"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name, text in (("xe", XE), ("rl", RL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_text(text)
    return [tmp_path / "xe", tmp_path / "rl"]


def test_each_run_is_drawn_where_it_has_figures(runs: list[Path]) -> None:
    panels = curves({path.name: read_log(path) for path in runs}).axes
    assert [axes.get_title() for axes in panels] == [
        "training loss",
        "reward (CIDEr-D) of samples",
        "val CIDEr, beam 3",
    ]
    drawn = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in panels]
    assert drawn == [{"xe": [5.0, 4.0]}, {"rl": [0.5, 0.6]}, {"xe": [0.1, 0.3], "rl": [0.4, 0.5]}]
    colours = {line.get_label(): line.get_color() for axes in panels for line in axes.lines}
    assert colours["xe"] != colours["rl"]
    assert len(curves({"xe": read_log(runs[0])}).axes) == 2


def test_base_and_glied_have_the_colours_of_the_app(runs: list[Path]) -> None:
    logs = {"runs/base": runs[0], "runs/rl-base": runs[1], "runs/glied": runs[0], "other": runs[0], "more": runs[0]}
    panel = curves({name: read_log(path) for name, path in logs.items()}).axes[-1]
    lines = {line.get_label(): line for line in panel.lines}
    colours = {name: line.get_color() for name, line in lines.items()}
    assert colours["runs/base"] == colours["runs/rl-base"] == PAIR["Base"]
    assert colours["runs/glied"] == PAIR["GLIED"]
    assert len(set(colours.values())) == 4
    assert [lines[name].get_linestyle() for name in ("runs/base", "runs/rl-base")] == [":", "-"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_command_writes_a_picture(runs: list[Path], tmp_path: Path, monkeypatch, suffix: str) -> None:
    out = tmp_path / f"curves.{suffix}"
    assert run(monkeypatch, "curves", *runs, "--out", out) == 0
    if suffix == "png":
        with Image.open(out) as picture:
            assert picture.width > 1000
    assert out.stat().st_size > 1000


def test_what_cannot_be_drawn_is_said(runs: list[Path], tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "curves", *runs, "--out", tmp_path / "curves.jpeg2") == 2
    assert ".png" in capsys.readouterr().err
    assert run(monkeypatch, "curves", tmp_path, "--out", tmp_path / "curves.png") == 2
    assert "log.csv" in capsys.readouterr().err
    (runs[0] / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(GliedError, match=r"log\.csv"):
        read_log(runs[0])
