"""What a visitor does, in a real browser."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from visit import VIEWS, settled

Open = Callable[..., Page]


def words(page: Page, at: int = 0) -> str:
    """The caption on a board."""
    return " ".join(page.locator(".words").nth(at).locator("button span:first-child").all_inner_texts())


def frames(page: Page) -> list:
    """Grows with every message that the page sends to the server from its next load on."""
    sent: list = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    return sent


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible(open_page: Open, view: str, scheme: str):
    page = open_page(view, color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    serious = {v["id"]: v["nodes"][0]["html"][:200] for v in found if v["impact"] in ("serious", "critical")}
    assert not serious


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_is_wider_than_a_telephone(open_page: Open, view: str):
    page = open_page(view, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hovering_repaints_and_sends_nothing(open_page: Open):
    page = open_page("explore")
    sent = frames(page)
    page.reload()
    settled(page)
    stage = page.locator(".stage").first
    expect(stage).to_be_visible()
    page.get_by_role("button", name="Region groups").click()
    page.wait_for_timeout(500)
    before, told = len(sent), set()
    box = stage.bounding_box()
    assert box
    for x in np.linspace(0.1, 0.9, 12):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + x * box["height"])
        told.add(page.locator(".readout").first.inner_text())
    assert len(told) > 2
    assert len(sent) == before


def test_a_word_by_mouse_and_keyboard_goes_to_the_address(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    expect(page.locator(".panel h3").first).to_have_text("“man”")
    page.locator(".words button").nth(4).click()
    expect(page).to_have_url(re.compile(r"step=4"))
    expect(page.locator(".panel h3").first).to_have_text("“black”")
    page.get_by_label("Word of the caption").press("ArrowRight")
    expect(page).to_have_url(re.compile(r"step=5"))
    stage = page.locator(".stage").first
    stage.focus()
    stage.press("ArrowRight")
    visited = page.locator(".readout").first.inner_text()
    assert visited.startswith("Region ")
    stage.press("Enter")
    stage.press("ArrowLeft")
    stage.press("Escape")
    assert page.locator(".readout").first.inner_text() != visited


def test_an_address_restores_the_view(open_page: Open):
    page = open_page("explore?photo=camera")
    settled(page).get_by_role("radio", name="Base", exact=True).click()
    page.locator(".words button").nth(3).click()
    page.get_by_label("Attention head").first.select_option("2")
    expect(page).to_have_url(re.compile(r"head=2"))
    settled(page)
    heading, caption = page.locator(".panel h3").first.inner_text(), words(page)
    path = page.url.split("/", 3)[3]
    again = open_page(path)
    assert words(again) == caption
    expect(again.locator(".panel h3").first).to_have_text(heading)
    assert again.get_by_label("Attention head").first.input_value() == "2"


def test_uploads_good_and_bad(open_page: Open, tmp_path):
    page = open_page("explore")
    page.get_by_role("button", name="Use your own").click()
    upload = page.locator('input[type="file"]').first
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photograph")
    upload.set_input_files(bad)
    expect(page.get_by_text("Expected a JPEG")).to_be_visible()
    good = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).resize((640, 480)).save(good)
    upload.set_input_files(good)
    expect(page.get_by_alt_text("The photograph you uploaded").first).to_be_visible()
    settled(page)
    assert "photo=" not in page.url
    assert words(page)


def test_two_visitors_at_once_each_get_their_own(open_page: Open):
    one, two = open_page("explore?photo=motorcycle_left"), open_page("explore?photo=camera")
    assert words(one) != words(two)
    one.locator(".words button").nth(2).click()
    expect(one).to_have_url(re.compile(r"step=2"))
    two.locator(".words button").nth(5).click()
    expect(two).to_have_url(re.compile(r"step=5"))
    assert "step=2" in one.url
    assert "motorcycle" in words(one)
