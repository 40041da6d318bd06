"""What a visitor does, in a real browser."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from visit import VIEWS, settled

from app.photographs.gallery import INSIDE

Open = Callable[..., Page]


def words(page: Page, at: int = 0) -> str:
    """The caption on a board, once it is there."""
    board = page.locator(".words").nth(at)
    expect(board.locator("button").first).to_be_visible()
    return " ".join(board.locator("button").evaluate_all("found => found.map((b) => b.firstChild.textContent)"))


def frames(page: Page) -> list:
    """Grows with every message that the page sends to the server from its next load on."""
    sent: list = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    return sent


def choose(page: Page, word: int) -> None:
    """Chooses a word on the first board; the page has answered to it, and so to all that was sent before it."""
    page.locator(".words button").nth(word).click()
    expect(page).to_have_url(re.compile(f"step={word}"))
    settled(page)


def changes(page: Page) -> list[str]:
    """The regions and the added attributes in the address of What if."""
    address = parse_qs(urlsplit(page.url).query)
    return [part for name in ("out", "add") for text in address.get(name, []) for part in text.split(",")]


def stood(page: Page) -> None:
    """Waits until the address has stood long enough for Back to lead to it."""
    settled(page).wait_for_function("window.gliedHistory?.stood === location.href")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible(open_page: Open, view: str, scheme: str):
    page = open_page(view, color_scheme=scheme)
    # Streamlit pales what it is about to draw again: that moment is not the view
    page.add_style_tag(content='* { transition: none !important } [data-stale="true"] { opacity: 1 !important }')
    page.evaluate("document.fonts.ready.then(() => true)")  # equations are wider without theirs, and scroll
    expect(page.locator(".stMainBlockContainer")).to_have_css("padding-top", "72px")  # once main.py's style is there
    found = Axe().run(page).response["violations"]
    serious = {
        v["id"]: (v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
    }
    assert not serious


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_a_title_of_its_own_and_one_heading(open_page: Open, view: str):
    page = open_page(view)
    expect(page).to_have_title(re.compile(r"^(?!GLIED Studio).+ · GLIED Studio$"))
    expect(page.locator("h1")).to_have_count(1)


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_is_wider_than_a_telephone(open_page: Open, view: str):
    page = open_page(view, viewport={"width": 390, "height": 844})
    expect(page.locator(".stMainBlockContainer")).to_have_css("padding-top", "72px")  # once main.py's style is there
    expect(page.locator("h1")).to_have_count(1)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390


def test_hovering_repaints_and_sends_nothing(open_page: Open):
    page = open_page("explore")
    sent = frames(page)
    page.reload()
    settled(page)
    stage = page.locator(".stage").first
    expect(stage).to_be_visible()
    choose(page, 1)
    before = len(sent)
    choose(page, 2)
    one, told = len(sent) - before, set()
    page.get_by_role("button", name="Region groups").click()
    box = stage.bounding_box()
    assert box
    for x in np.linspace(0.1, 0.9, 12):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + x * box["height"])
        told.add(page.locator(".readout").first.inner_text())
    assert len(told) > 2
    choose(page, 3)
    assert len(sent) == before + 2 * one  # what hovering sends would have come before the word


@pytest.mark.parametrize(("photo", "step"), [("camera", 1), ("hopper", 4)])
def test_no_label_lies_on_another(open_page: Open, photo: str, step: int):
    page = open_page(f"explore?photo={photo}&step={step}")
    labels = page.locator(".stage span")
    expect(labels.nth(2)).to_be_visible()
    # all at one moment: the page may still move under them
    boxes = labels.evaluate_all("(labels) => labels.map((label) => label.getBoundingClientRect().toJSON())")
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            aside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert aside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_a_word_by_mouse_and_keyboard_goes_to_the_address(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    said = words(page).split()
    expect(page.locator(".panel h2").first).to_have_text(f"“{said[1]}”")
    page.locator(".words button").nth(4).click()
    expect(page).to_have_url(re.compile(r"step=4"))
    expect(page.locator(".panel h2").first).to_have_text(f"“{said[4]}”")
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
    expect(page).to_have_url(re.compile("model=Base"))
    settled(page).locator(".words button").nth(3).click()
    page.get_by_label("Attention head").first.select_option("2")
    expect(page).to_have_url(re.compile(r"head=2"))
    settled(page)
    heading, caption = page.locator(".panel h2").first.inner_text(), words(page)
    path = page.url.split("/", 3)[3]
    again = open_page(path)
    assert words(again) == caption
    expect(again.locator(".panel h2").first).to_have_text(heading)
    assert again.get_by_label("Attention head").first.input_value() == "2"


def test_back_leads_to_the_photograph_and_the_page_before_as_they_were(open_page: Open):
    page = open_page()
    page.get_by_role("link", name="Explore").first.click()
    for word, photograph in ((3, 1), (5, None)):
        page.locator(".words button").nth(word).click()
        expect(page).to_have_url(re.compile(f"step={word}"))
        if photograph:
            settled(page).locator(".strip button").nth(photograph).click()
            expect(page).to_have_url(re.compile("photo=camera"))
            settled(page)
    page.get_by_role("radio", name="Base", exact=True).click()
    expect(page).to_have_url(re.compile("model=Base"))
    stood(page)
    page.get_by_role("link", name="Compare").first.click()
    expect(page).to_have_url(re.compile("compare.*step="))
    stood(page)
    page.go_back(wait_until="commit")
    expect(page.get_by_role("radio", name="Base", exact=True)).to_be_checked()
    expect(page).to_have_url(re.compile("model=Base.*photo=camera"))
    settled(page).go_back(wait_until="commit")
    expect(page).to_have_url(re.compile("explore.photo=camera&step=(?!5)"))
    settled(page).go_back(wait_until="commit")
    expect(page).to_have_url(re.compile("explore.photo=grace_hopper&step=3"))
    expect(page.locator(".words button").nth(3)).to_have_attribute("aria-pressed", "true")
    settled(page).go_back(wait_until="commit")
    expect(page).to_have_url(re.compile("explore.photo=grace_hopper&step=(?!3)"))
    settled(page).go_back(wait_until="commit")
    expect(page.locator(".tile").first).to_be_visible()
    settled(page).go_forward(wait_until="commit")
    expect(page).to_have_url(re.compile("explore.photo=grace_hopper&step=(?!3)"))


def test_another_page_is_one_step_of_back(open_page: Open):
    page = open_page("explore?photo=camera&step=4")
    expect(page).to_have_url(re.compile("step=4&head=0"))
    for title, address in (("Decoding", "decoding.*step=4&head=0"), ("How it works", "how.*step=4&head=0")):
        stood(page)
        before = page.evaluate("history.length")
        page.get_by_role("link", name=title, exact=True).first.click()
        expect(page).to_have_url(re.compile(address))
        stood(page)
        assert page.evaluate("history.length") == before + 1


def test_uploads_good_and_bad(open_page: Open, tmp_path):
    page = open_page("explore")
    page.get_by_role("button", name="Use your own").click()
    upload = page.get_by_test_id("stPopoverBody").locator('input[type="file"]')
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photograph")
    upload.set_input_files(bad)
    expect(page.get_by_text("Expected a JPEG")).to_be_visible()
    good = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).resize((640, 480)).save(good)
    upload.set_input_files(good)
    expect(page.get_by_alt_text("The photograph you uploaded").first).to_be_visible()
    settled(page)
    assert "photo=yours" in page.url
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


def test_the_gallery_is_searched_opened_and_toured(open_page: Open):
    page = open_page()
    expect(page.locator(".tile")).to_have_count(len(INSIDE))
    expect(page.get_by_text("Captions of")).to_have_count(0)
    page.get_by_placeholder("Search titles, captions, attributes").fill("motorcycle")
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile").click()
    expect(page).to_have_url(re.compile(r"explore.*photo=motorcycle_left"))
    expect(page.locator(".words button").first).to_be_visible()
    page.goto(page.url.split("explore")[0])
    settled(page).get_by_role("button", name="Take the tour").click()
    for at, place in enumerate(("explore", "explore", "collocations", "decoding", "compare", "whatif"), 1):
        expect(page.get_by_text(f"Tour, {at} of 6")).to_be_visible()
        expect(page).to_have_url(re.compile(place))
        if at < 6:
            settled(page).get_by_role("button", name="Next").click()
    page.get_by_role("button", name="End the tour").click()
    expect(page.get_by_text("Tour, 6 of 6")).to_have_count(0)


def test_a_beam_is_walked_without_the_server_and_forced_with_it(open_page: Open):
    page = open_page("decoding?photo=camera")
    sent = frames(page)
    page.reload()
    settled(page)
    nodes = page.get_by_role("treeitem")
    expect(nodes.first).to_be_visible()

    def force() -> int:
        """Forces a word; how many messages were sent since the one before it was answered."""
        before = len(sent)
        page.locator(".alternatives button").nth(2).click()
        expect(page).to_have_url(re.compile(r"prefix="))
        expect(page.get_by_text("Beginning with")).to_be_visible()
        settled(page).get_by_role("button", name="Back to the free caption").click()
        expect(page).not_to_have_url(re.compile(r"prefix="))
        settled(page)
        return len(sent) - before

    force()
    once, said = force(), page.locator(".about h2").inner_text()
    nodes.nth(8).hover()
    expect(page.locator(".about h2")).not_to_have_text(said)
    nodes.first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert force() == once  # what the walk sends would have come before it


def test_a_pinned_word_of_the_beam_is_in_the_address_and_stays_in_view(open_page: Open):
    page = open_page("decoding?photo=camera&step=3")
    nodes, title = page.get_by_role("treeitem"), page.locator(".about h2")
    expect(nodes.first).to_be_visible()
    expect(page.locator(".scroller .number").nth(3)).to_have_text("4")
    expect(page.locator(".later")).to_have_text(re.compile(r"^steps? \d+"))  # the tree is cut at its right edge
    dropped = page.locator('[role="treeitem"].dropped').nth(2)
    dropped.click()
    expect(page).to_have_url(re.compile(r"pin="))
    said = title.inner_text()
    page.reload()
    expect(title).to_have_text(said)
    expect(page.locator('[role="treeitem"].pinned')).to_have_count(1)
    page.get_by_role("button", name="Export").click()
    expect(page.get_by_test_id("stCode")).to_contain_text("the pinned word is framed")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Decode on from here").click()
    page.mouse.move(0, 0)  # over no word of the tree that comes
    expect(page).to_have_url(re.compile(r"prefix="))
    expect(page).not_to_have_url(re.compile(r"pin="))
    settled(page)
    expect(title).to_have_text(said)  # not the first word
    page.get_by_role("combobox", name="Head").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".change")).to_contain_text("Head ")
    expect(title).to_have_text(said)


def test_two_captioners_move_together(open_page: Open):
    page = open_page("compare?photo=camera")
    left, right = (page.locator(".words").nth(i) for i in (0, 1))
    expect(right).to_be_visible()
    left.locator("button").nth(4).click()
    expect(page).to_have_url(re.compile(r"step=4"))
    assert right.locator('button[aria-pressed="true"]').count() == 1
    caption = words(page, 0)
    settled(page).get_by_role("button", name="Swap").click()
    expect(page).to_have_url(re.compile(r"left="))
    settled(page)
    expect(page.locator(".words").nth(1)).to_have_attribute("aria-label", "The caption of Base, word by word")
    assert words(page, 1) == caption


def test_what_if_a_region_were_gone(open_page: Open):
    page = open_page("whatif?photo=camera")
    page.locator(".minis button").nth(2).click()
    expect(page).to_have_url(re.compile(r"out=3"))
    expect(page.get_by_text("Its log p")).to_be_visible()
    path = page.url.split("/", 3)[3]
    settled(page).get_by_role("button", name="Undo").click()
    expect(page).not_to_have_url(re.compile(r"out="))
    again = open_page(path)
    expect(again.get_by_text("Its log p")).to_be_visible()
    again.get_by_label("Add an attribute").fill("zebra5")
    again.keyboard.press("Enter")
    expect(again.get_by_text("zebra5").first).to_be_visible()
    assert "add=" not in again.url


def test_however_fast_a_scene_is_changed_nothing_is_lost(open_page: Open):
    page = open_page("whatif?photo=camera")
    for region in range(2, 7):
        page.locator(".minis button").nth(region).evaluate("(button) => button.click()")
    word = page.get_by_label("Add an attribute")
    for text in ("guitar", "umbrella", "zebra5"):
        word.fill(text)
        word.press("Enter")
    expect(page).to_have_url(re.compile(r"out=3%2C4%2C5%2C6%2C7.*add=guitar%2Cumbrella$"))
    expect(page.get_by_text("no word “zebra5”")).to_be_visible()
    settled(page)
    expect(page.locator('.minis button[aria-pressed="true"]')).to_have_count(5)
    expect(page.get_by_role("group", name="Attributes that you added").get_by_role("button")).to_have_count(2)
    left, undo = ["3", "4", "5", "6", "7", "guitar", "umbrella"], page.get_by_role("button", name="Undo")
    while left:  # changes that reached the server at once are one step
        before = page.url
        undo.click()
        expect(page).not_to_have_url(before)
        left, earlier = changes(settled(page)), left
        assert left == earlier[: len(left)]
        assert len(left) < len(earlier)
    expect(undo).to_be_disabled()


def test_collocations_of_a_photograph_and_of_the_data_set(open_page: Open):
    page = open_page("collocations?photo=camera")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    page.get_by_role("radio", name="The whole data set").click()
    expect(page.get_by_text("rank correlation of")).to_be_visible()
    settled(page)
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(2)


def test_the_data_set_opens_a_photograph(open_page: Open):
    page = open_page("dataset")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    point = page.locator(".js-plotly-plot .scatterlayer .point").first
    point.scroll_into_view_if_needed()
    point.click(force=True)
    expect(page).to_have_url(re.compile(r"point="))


def test_what_is_taken_away_can_be_opened_again(open_page: Open, tmp_path):
    page = open_page("explore?photo=camera")
    caption = words(page)
    page.get_by_role("button", name="Export").click()
    for label, ending in (("SVG", b"</svg>\n"), ("Trace (.npz)", b""), ("Report of the photograph (HTML)", b"</html>")):
        with page.expect_download(timeout=90_000) as download:
            page.get_by_role("button", name=label, exact=True).first.click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.read_bytes().endswith(ending)
    page.keyboard.press("Escape")
    other = open_page("explore")
    other.get_by_text("Open a shared trace").click()
    other.get_by_test_id("stExpander").locator('input[type="file"]').set_input_files(tmp_path / "camera-glied-rl.npz")
    expect(other.get_by_text("Nothing was run again")).to_be_visible()
    expect(other.locator(".words").nth(1).locator("button").first).to_be_visible()
    assert words(other, 1) == caption
