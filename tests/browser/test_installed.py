"""The wheel in an environment outside the repository: what it installs, the command, and the app."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, expect
from visit import serve, settled

from glied.equations import code_lines

PLACES = "from glied import files; files.open_studio(); import analysis; print(files.STUDIO); print(analysis.__file__)"


def install(folder: Path, *what: str) -> Path:
    """The Python of a new environment that has `what` installed, and the packages of this one to import."""
    venv.create(folder)
    python = folder / "bin" / "python"
    (packages(folder) / "core.pth").write_text(sysconfig.get_path("purelib"))
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--no-build-isolation", *what], check=True)
    return python


def packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=root, check=True)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    install(folder, str(wheel))
    return folder


@pytest.fixture
def elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photograph, and things of other people under the names that ours have in the repository."""
    (tmp_path / "photo.jpg").write_bytes((root / "app" / "photographs" / "kitten.jpg").read_bytes())
    for name in ("analysis", "app", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')")
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text('[theme.light]\nbackgroundColor = "#ff0000"')
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("PYTHONPATH", "GLIED_IMAGES", "GLIED_CHECKPOINTS", "GLIED_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_wheel_holds_everything_and_nothing_generic_at_its_top(root: Path, wheel: Path):
    held = set(ZipFile(wheel).namelist())
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert {name.split("/")[0] for name in held} == {"glied", f"glied_studio-{version}.dist-info"}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    files = [name for name in tracked.split("\0") if name.startswith(("glied/", "app/", "analysis/", "checkpoints/"))]
    assert len(files) > 150
    ours = {name if name.startswith("glied/") else f"glied/studio/{name}" for name in [*files, "docs/curves.csv"]}
    assert ours - held == set()
    assert {name for name in held - ours if ".dist-info/" not in name} == set()


def test_the_command_captions_a_photograph_from_any_folder(environment: Path, elsewhere: Path):
    command = [environment / "bin" / "glied", "caption", "photo.jpg"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"photo\.jpg\t(\w+ ){4,}\w+\n", done.stdout)
    assert "cat" in done.stdout
    done = subprocess.run([*command[:1], "--help"], cwd=elsewhere, capture_output=True, text=True, check=True)
    assert "usage: glied " in done.stdout


def test_the_app_looks_and_answers_as_in_the_repository(environment: Path, elsewhere: Path, browser: Browser):
    def written() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in packages(environment).rglob("*")}

    before, glied = written(), [str(environment / "bin" / "glied")]
    with serve(elsewhere, {}, glied) as (address, _):
        page = browser.new_page()
        page.goto(f"{address}/explore?photo=kitten")
        expect(settled(page).locator(".words button").filter(has_text="cat")).to_have_count(1)
        colour = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
        assert page.evaluate(colour) == "rgb(252, 251, 248)"  # of app/.streamlit/config.toml
        page.goto(f"{address}/dataset")  # reads the reports and the learning curves
        expect(settled(page).get_by_text("1,000 photographs", exact=True)).to_be_visible()
        expect(page.get_by_role("heading", name="Learning curves")).to_be_visible()
        expect(page.get_by_text("has no report")).to_have_count(0)
        page.close()
        command = [*glied, "app", f"--port={address.rpartition(':')[2]}"]
        taken = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert taken.returncode == 2
    assert re.fullmatch(r"glied: Expected port \d+ of 127.0.0.1 to be free .*Address already in use.*\n", taken.stderr)
    assert written() == before


def test_an_installed_package_finds_its_parts_as_a_checkout_does(
    root: Path, environment: Path, elsewhere: Path, tmp_path: Path
):
    editable = install(tmp_path / "editable", "--editable", str(root))
    for python, studio in ((editable, root), (environment / "bin" / "python", packages(environment) / "glied/studio")):
        done = subprocess.run([python, "-c", PLACES], cwd=elsewhere, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [str(studio), str(studio / "analysis" / "__init__.py")]
    lines = "from glied.equations import code_lines; print({n: list(map(tuple, l)) for n, l in code_lines().items()})"
    done = subprocess.run([python, "-c", lines], cwd=elsewhere, capture_output=True, text=True, check=True)
    assert eval(done.stdout) == {number: list(map(tuple, found)) for number, found in code_lines().items()}
