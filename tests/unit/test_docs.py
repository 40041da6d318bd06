"""The README says what is true: its commands, files and targets exist."""

import re
import sys
from pathlib import Path

import pytest

from glied import __main__ as cli


def readme_commands(root: Path) -> list[list[str]]:
    text = "\n".join(file.read_text() for file in (root / "README.md", *(root / "docs").glob("*.md")))
    return [line.split("#")[0].split()[3:] for line in re.findall(r"^    (python -m glied .*)$", text, re.M)]


def test_every_command_of_the_readme_is_one(root, monkeypatch, capsys):
    commands = readme_commands(root)
    assert len(commands) > 5
    for words in commands:
        names = words[: 2 if words[0] in ("train", "bench") else 1]
        monkeypatch.setattr(sys, "argv", ["glied", *names, "--help"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in text] == []


def test_every_file_of_the_readme_exists(root):
    text = (root / "README.md").read_text()
    named = re.findall(r"`((?:glied|analysis|app|tests|checkpoints)/[\w/.]*)`", text) + re.findall(
        r"\]\((docs/[^)]+)\)", text
    )
    assert len(named) > 10
    assert [name for name in named if not (root / name).exists()] == []


def test_make_targets_of_the_readme_exist(root):
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make (app|test|check)\b", (root / "README.md").read_text())) <= targets


def test_pins_are_exact(root):
    lines = [line for line in (root / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
