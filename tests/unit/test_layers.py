"""Which part may import which: app -> analysis -> glied, and model.py stands on torch and config alone."""

import ast
import sys
from pathlib import Path

import pytest

FORBIDDEN = {
    "glied": {"streamlit", "plotly", "matplotlib", "analysis", "app"},
    "analysis": {"torch", "streamlit", "app"},
    "app/views": {"torch"},
    "app/components": {"torch"},
}


def imports(file: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_between_packages(root: Path, folder: str) -> None:
    for file in (root / folder).rglob("*.py"):
        allowed = {"analysis"} if file.name == "__main__.py" else set()  # the command line draws curves
        assert not {name.split(".")[0] for name in imports(file)} & FORBIDDEN[folder] - allowed, file.name


def test_model_stands_on_torch_and_config(root: Path) -> None:
    names = imports(root / "glied" / "model.py")
    assert {name for name in names if name.startswith("glied")} == {"glied.config"}
    others = {name.split(".")[0] for name in names} - {"glied"} - sys.stdlib_module_names
    assert others == {"torch", "jaxtyping"}


def test_arrows_inside_glied(root: Path) -> None:
    """A file imports only those above it; decoding and tracing know nothing of training."""
    order = "errors config equations files weights scene vocabulary phrases images java metrics model systems variants "
    order += "regions attributes data checkpoint decode trace provenance loop train_attributes recall evaluate "
    order += "grounding report texts train pretrain reward reinforce train_detector ablation bench __main__"
    rank = {name: i for i, name in enumerate(order.split())}
    for file in (root / "glied").rglob("*.py"):
        own = file.relative_to(root / "glied").with_suffix("").parts[0]
        for name in imports(file):
            parts = name.split(".")
            assert not name.startswith("."), f"{file.name}: name the package in full"
            if parts[0] == "glied" and len(parts) > 1 and parts[1] != own:
                assert rank[parts[1]] < rank[own], f"{file.name} imports {name}"


def test_streamlit_is_imported_in_app_alone(root: Path) -> None:
    files = [f for folder in ("glied", "analysis", "tests/unit") for f in (root / folder).rglob("*.py")]
    assert len(files) > 20
    assert not [file.name for file in files if {n.split(".")[0] for n in imports(file)} & {"streamlit"}]
