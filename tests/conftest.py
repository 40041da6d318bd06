"""Fixtures shared by all tests."""

import glied  # noqa: F401, I001  before torch: it sets how threads wait

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A shared machine is slow at times: no test fails because it took long.
settings.register_profile("glied", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("glied")
os.environ.setdefault("GLIED_ENGINE", "torch")  # OpenVINO would convert every detector that a test makes
torch.set_num_threads(1)  # tiny models: threads would only wait for each other


@pytest.fixture(autouse=True)
def _ctrl_c() -> None:
    """A shell that runs tests in the background has them, and what they start, ignore Ctrl-C, which some tests send."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit puts the app's script in the place of the main module, and processes begun later would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the repository, for tests on real captions; they skip where it is not."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs ../shared/data, which is not beside this repository")
    return folder


@pytest.fixture(params=["base", "glied"])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param
