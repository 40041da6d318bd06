"""A server of the app, and a browser's view of it: for the tests and the measurements."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, expect

VIEWS = ("", "explore", "collocations", "decoding", "compare", "whatif", "dataset", "how", "about")


def chromium() -> str | None:
    """Where a browser is installed, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def serve(
    folder: Path, environment: dict[str, str], glied: Sequence[str] = (sys.executable, "-m", "glied")
) -> Iterator[tuple[str, int]]:
    """The address and the process of a server of the app, until it is closed.

    Args:
        folder: where the command is given. `glied`: the command; as it stands it needs the repository as `folder`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"} | environment
    command = [*glied, "app", f"--port={port}"]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urlopen(f"{address}/_stcore/health", timeout=5)
                break
            except (URLError, OSError):
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(30)


def settled(page: Page) -> Page:
    """The page once its script has run and nothing went wrong."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=90_000)
    expect(page.get_by_test_id("stSpinner")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    return page
