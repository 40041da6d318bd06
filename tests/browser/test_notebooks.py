"""docs/notebook.ipynb as the HTML page that nbconvert makes, and in a real JupyterLab: as it is saved, and run anew; a
board in marimo."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import glied

    glied.show(glied.read("app/photographs/kitten.jpg"))
"""


@contextmanager
def serving(root: Path, *command: str, **environment: str) -> Iterator[str]:
    """The address of the server that `python -m` with this command starts; its notebooks find this repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", *command, f"--port={port}"],
        cwd=root,
        env=os.environ | environment | {"PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                urlopen(address, timeout=5)
                break
            except (URLError, OSError):
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def serve_lab(root: Path, folder: Path) -> AbstractContextManager[str]:
    """A JupyterLab over a folder, with nothing of this machine's own settings."""
    own = {f"JUPYTER_{kind}_DIR": str(folder / ".jupyter" / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    settings = [
        "--no-browser",
        "--ip=127.0.0.1",
        "--allow-root",
        "--IdentityProvider.token=",
    ]
    settings += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--ServerApp.root_dir={folder}"]
    return serving(root, "jupyter", "lab", *settings, **own)


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook, and the photograph that it reads."""
    folder = tmp_path_factory.mktemp("lab")
    for file in ("docs/notebook.ipynb", "app/photographs/kitten.jpg"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, folder / file)
    return folder


def look_at(board: Locator, word: str) -> None:
    """Clicks on a word of a board, and waits until the board shows its attention."""
    board.wait_for(state="attached", timeout=180_000)  # until the photograph is read
    words = board.get_by_role("group", name="The caption, word by word")
    words.get_by_role("button", name=f"{word}, probability").click()
    expect(words.get_by_role("button", name=f"{word}, probability")).to_have_attribute("aria-pressed", "true")
    expect(board.locator(".readout")).to_contain_text(f"“{word}”")
    expect(board.locator(".panel h2")).to_have_text(f"“{word}”")
    assert board.locator(".stage rect").count() > 1  # the regions that it looked at


def test_saved_notebook_is_a_page_that_needs_no_kernel(browser: Browser, folder: Path) -> None:
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--log-level=ERROR", "docs/notebook.ipynb"]
    subprocess.run(command, cwd=folder, check=True)
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto((folder / "docs" / "notebook.html").as_uri(), wait_until="domcontentloaded")
    look_at(page.locator(".board"), "bed")
    expect(page.locator(".beam")).to_be_visible()
    expect(page.locator(".beam .alternatives button")).to_have_count(0)  # nothing could decode on
    expect(page.locator(".collocations")).to_be_visible()
    for kind in ("board", "beam", "collocations"):  # nothing is wider than a telephone
        assert page.locator(f".{kind}").evaluate("node => node.scrollWidth <= node.clientWidth")
    page.close()


def press_in(page: Page, board: Locator) -> None:
    """The keyboard is the board's, not Jupyter's."""
    board.get_by_role("application").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(board.locator('.minis [aria-pressed="true"]')).to_have_count(1)


def test_notebook_in_jupyterlab(browser: Browser, folder: Path, root: Path) -> None:
    with serve_lab(root, folder) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        offers_news = page.get_by_role("button", name="No", exact=True)  # it may lie over what is clicked
        page.add_locator_handler(offers_news, lambda button: button.click())
        page.goto(f"{address}/lab/tree/docs/notebook.ipynb?reset")
        pictures = page.locator(
            ".jp-RenderedHTMLCommon [data-glied] img, .jp-RenderedHTMLCommon img[alt*='GLIED says']"
        )
        expect(pictures.first).to_be_visible()  # a stranger's notebook: no script may run yet
        expect(page.locator(".board")).to_have_count(0)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        board, tree = page.locator(".board"), page.locator(".beam")
        look_at(board, "bed")
        press_in(page, board)
        # the kernel hears: another word is set in the tree, and the captioner decodes on
        tree.get_by_role("treeitem", name=re.compile("^black, .* after “a”")).click()
        tree.get_by_role("button", name="Decode on from here").click()
        expect(tree.locator(".place")).to_contain_text("The caption: a black")
        page.close()


def test_board_in_marimo(browser: Browser, root: Path, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.py"
    notebook.write_text(MARIMO)
    with serving(root, "marimo", "run", str(notebook), "--headless", "--no-token") as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        look_at(page.locator(".board"), "bed")
        page.close()
