"""Captioners that attend to less than Base and GLIED, and shared traces of captioners that run nowhere here."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from visit import serve, settled

from glied.checkpoint import Checkpoint, load
from glied.config import PRESETS, ModelConfig
from glied.replay import trace

SYSTEMS = [name for name in ("updown", "lstm", "attfcn") if name in PRESETS]  # regions alone, nothing, attributes alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ships, before RL, beside tiny random captioners."""
    made, shipped = tmp_path_factory.mktemp("kinds"), Path(__file__).resolve().parents[2] / "checkpoints"
    for name in ("glied", "base", "attributes", "detector"):
        (made / f"{name}.safetensors").symlink_to(shipped / f"{name}.safetensors")
    base = load(shipped / "base.safetensors")
    for name in SYSTEMS:
        config = ModelConfig(name, len(base.vocabulary), base.model.config.feature_dim, d=16, heads=2, d_head=8)
        checkpoint = Checkpoint(tiny.model(config), base.vocabulary, base.attributes, base.source)
        checkpoint.save(made / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    root = Path(__file__).resolve().parents[2]
    with serve(root, {"GLIED_IMAGES": "", "GLIED_CHECKPOINTS": str(folder)}) as (address, _):
        yield address


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A visitor of these captioners. What goes wrong in the browser fails the test."""
    context, wrong = browser.new_context(viewport={"width": 1280, "height": 900}), []
    made = context.new_page()
    made.on("pageerror", lambda error: wrong.append(str(error)))
    yield made
    context.close()
    assert not wrong


def test_every_page_draws_what_a_captioner_has(page: Page, server: str):
    for name in SYSTEMS:
        looks, title = name == "updown", {"updown": "Up-Down", "lstm": "LSTM", "attfcn": "ATT-FCN"}[name]
        settled(page).goto(f"{server}/explore?photo=kitten&model={title}") if page.url != "about:blank" else page.goto(
            f"{server}/explore?photo=kitten&model={title}"
        )
        board = settled(page).locator(".board")
        expect(page.get_by_text(f"{title} has no")).to_be_visible()
        expect(board.locator(".legend")).to_be_visible(visible=looks)
        heading = "Regions it looked at" if looks else "Regions that it needs most"
        expect(board.locator("h3").first).to_contain_text(heading)
        board.locator(".minis button").first.focus()
        expect(board.locator(".readout")).to_contain_text("Without it the word’s log p")
        for path, part in (("compare?left=", ".pair"), ("decoding?model=", ".beam"), ("whatif?model=", ".removal")):
            page.goto(f"{server}/{path}{title}")
            drawn = settled(page).locator(part)
            expect(drawn.locator(".words button, .about h2").first).to_be_visible()
            expect(drawn.locator(".legend").first).to_be_visible(visible=looks)
        expect(page.locator(".removal .curve")).to_be_visible(visible=name != "lstm")
        page.goto(f"{server}/how?model={title}")
        boxes = settled(page).locator(".flow section")
        expect(boxes).to_have_count({"updown": 4, "lstm": 3, "attfcn": 6}[name])


def test_two_shared_traces_are_opened_at_once_and_compared(page: Page, server: str, tmp_path: Path):
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((100, 90)).save(picture, "JPEG")
    traces = [
        trace(tiny.checkpoint("base"), tiny.scene(), ("a", "dog", "runs"), falls=True),
        replace(trace(tiny.checkpoint("softatt"), tiny.scene(3), ("a", "red", "cat")), captioner="Theirs"),
    ]
    files = [tmp_path / "one.npz", tmp_path / "other.npz"]
    for file, made in zip(files, traces, strict=True):
        file.write_bytes(made.packed(picture.getvalue()))
    page.goto(f"{server}/explore?photo=kitten")
    settled(page).get_by_text("Open a shared trace").click()
    page.locator('[data-testid="stFileUploaderDropzoneInput"]').last.set_input_files(files)
    page.get_by_role("radio", name="Theirs").click()
    expect(page.locator(".board").nth(1).locator(".words")).to_contain_text("cat")
    page.get_by_role("link", name="Two of them side by side").click()
    pair = settled(page).locator(".pair")
    expect(pair.locator("h2").first).to_have_text("Base")
    expect(pair.locator(".said li").first).to_contain_text("Theirs says red")
    pair.get_by_role("group", name="The caption of Theirs, word by word").get_by_role("button").nth(2).click()
    expect(pair.locator(".readout").nth(1)).to_contain_text("cat")
