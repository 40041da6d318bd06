"""The app as it ships, in a real browser: Debian's Chromium, or another that is at hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from visit import chromium, serve, settled

expect.set_options(timeout=60_000)


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """The app with its shipped checkpoints and photographs."""
    root = Path(__file__).resolve().parents[2]
    with serve(root, {"GLIED_IMAGES": "", "GLIED_CHECKPOINTS": ""}) as (address, _):
        yield address


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; the tests skip where there is none."""
    path = chromium()
    if path is None:
        pytest.skip("needs Chromium or Chrome, none is installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """A new visitor at an address of the app. What goes wrong in a visitor's browser fails the test."""
    contexts, wrong = [], []

    def start(path: str = "", **options) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/{path}")
        return settled(page)

    yield start
    for context in contexts:
        context.close()
    assert not wrong
