"""A folder of tiny random checkpoints, and the app over it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import streamlit as st
import tiny
import torch
from streamlit.testing.v1 import AppTest

from app.engine.catalogue import Catalogue
from glied.attributes import AttributeDetector
from glied.checkpoint import save_attribute_detector
from glied.regions.grid import Grid
from glied.replay import trace
from glied.traces import Trace

WORDS = (*tiny.WORDS, tiny.HOSTILE)


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's choice of threads is for a whole machine, not for tests."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.fixture(autouse=True)
def _idle_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gallery reads its photographs in the background, beside whatever a test looks at: not unless asked to."""
    monkeypatch.setattr(Catalogue, "start", lambda self: None)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both captioners and the detector, d = 32, random."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("base", "glied"):
        tiny.save_tiny(folder, name, name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_attribute_detector(
            folder / "attributes.safetensors", AttributeDetector(WORDS, 1280, Grid.name), {"data": "none"}
        )
    return folder


@pytest.fixture
def open_app(checkpoints: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The app in a new session, its address given as keywords; what is `opened` does not wait for a click."""
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(checkpoints))
    monkeypatch.delenv("GLIED_IMAGES", raising=False)
    st.cache_resource.clear()

    def start(opened: Sequence[str] = (), **address: str) -> AppTest:
        app = AppTest.from_file(str(root / "app" / "main.py"), default_timeout=60)
        for key in opened:
            app.session_state[key] = True
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return start


@pytest.fixture
def traces() -> dict[str, Trace]:
    """One caption of a tiny scene under both captioners."""
    words = ("a", "dog", "runs")
    return {name: trace(tiny.checkpoint(name), tiny.scene(), words, falls=True) for name in ("base", "glied")}
