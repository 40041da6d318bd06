"""The documents say what is true: their commands, files, links and targets exist, and their lines can be read."""

import re
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest
from packaging.requirements import Requirement
from PIL import Image

from glied import __main__ as cli
from glied.equations import code_lines
from glied.traces import Trace

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "checkpoints/README.md"]
DOCUMENTS += sorted(f"docs/{file.name}" for file in (Path(__file__).parents[2] / "docs").glob("*.md"))


def commands(root: Path) -> list[list[str]]:
    """The words of every command line that stands alone in a document, after `python -m glied`."""
    text = "\n".join((root / name).read_text() for name in DOCUMENTS)
    lines = re.findall(r"^    python -m glied ((?:.*\\\n)*.*)$", text, re.M)
    return [line.replace("\\\n", " ").split("#")[0].split() for line in lines]


def anchors(text: str) -> set[str]:
    """What links to the headings of a document end with, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_these_are_all_documents(root):
    assert sorted(f"docs/{file.name}" for file in (root / "docs").glob("*.md")) == sorted(DOCUMENTS[3:])


def test_every_command_is_one(root, monkeypatch, capsys):
    found = commands(root)
    assert len(found) > 25
    helps: dict[tuple[str, ...], str] = {}
    for words in found:
        names = tuple(words[: 2 if words[0] in ("train", "bench") else 1])
        if names not in helps:
            monkeypatch.setattr(sys, "argv", ["glied", *names, "--help"])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0
            helps[names] = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in helps[names]] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_exists(root, name):
    text = (root / name).read_text()
    named = re.findall(r"`((?:glied|analysis|app|tests|checkpoints|docs)/[\w/.]*)`", text)
    assert [file for file in named if not (root / file).exists()] == []
    if name == "README.md":
        assert len(named) > 20


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(root, name):
    links = re.findall(r"\]\(([^)\s]+)\)", (root / name).read_text())
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (root / name).parent / path if path else root / name
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link
    if name == "README.md":
        linked = {link.partition("#")[0] for link in links}
        assert set(DOCUMENTS) - {name} <= linked, "the README leads to every document"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_lines_are_short(root, name):
    """In the README all of them; elsewhere tables may be wide."""
    lines = (root / name).read_text().splitlines()
    wide = [line for line in lines if len(line) > 120 and (name == "README.md" or not line.startswith("|"))]
    assert wide == []
    if name == "README.md":
        assert len(lines) < 140


def test_make_targets_exist(root):
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.M))
    text = "\n".join((root / name).read_text() for name in DOCUMENTS)
    named = set(re.findall(r"(?:`|^    )make ([\w-]+)", text, re.M))
    assert {"app", "test", "check", "detectron2-test"} <= named <= targets


def test_the_readme_answers_four_questions(root):
    lines = (root / "README.md").read_text().splitlines()

    def told(about: str, where: str) -> bool:
        return any(about in line and where in line for line in lines)

    [computed] = code_lines()[10]
    assert told("# Eq. (10)", f"`{computed.file}`, `{computed.inside}`")
    assert told("new source", "`glied/regions/`")
    assert told("colours of the app", "`app/.streamlit/config.toml`")
    assert "primaryColor" in (root / "app" / ".streamlit" / "config.toml").read_text()
    assert told("`train attributes`", "`glied/training/attributes.py`")


def test_the_python_of_the_readme_runs(root, tmp_path, monkeypatch):
    block = re.search(r"^    import glied\n(?:    .*\n|\n(?=    ))+", (root / "README.md").read_text(), re.M)
    (tmp_path / "checkpoints").symlink_to(root / "checkpoints")
    Image.open(root / "app" / "photographs" / "astronaut.png").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(dedent(block[0]), {})
    assert Trace.load(tmp_path / "photo.npz").region_falls.any()


def test_pins_are_exact(root):
    lines = [line for line in (root / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)


def test_what_the_metadata_needs_is_pinned_within_its_ranges(root):
    """`make app` and `make test` install what pyproject.toml needs, in the versions of requirements.txt."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = [
        needed for name, packages in project["optional-dependencies"].items() if name != "test" for needed in packages
    ]
    ranges = {needed.name: needed.specifier for needed in map(Requirement, [*project["dependencies"], *extras])}
    lines = (root / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins.keys() == ranges.keys(), "a package has a range in pyproject.toml and a pin in requirements.txt"
    assert [name for name, pin in pins.items() if pin not in ranges[name]] == []
