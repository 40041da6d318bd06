"""The first minute in a real browser: the Gallery's diagram, How it works, the tour, the menu, one's own photograph."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from visit import VIEWS, settled

Open = Callable[..., Page]
PHONE = {"viewport": {"width": 390, "height": 844}}
# Chooses the word and reads a box in one task of the browser: no answer of the server can have come in between.
CHOOSE = """(buttons, at) => {
    buttons[at].click()
    const box = buttons[at].getRootNode().querySelector(".box.local.near, .box.local")
    return [buttons[at].getAttribute("aria-pressed"), box.innerText]
}"""


def caption(page: Page) -> list[str]:
    """The words above the diagram, once it is there."""
    expect(page.locator(".flow .caption button").first).to_be_visible()
    return page.locator(".flow .caption button").all_inner_texts()


def box(page: Page, title: str):
    """A box of the diagram."""
    return page.locator(".diagram").get_by_role("button", name=title, exact=True)


def test_a_word_and_a_head_are_shown_without_the_server(open_page: Open):
    page = open_page("how?photo=camera&step=1")
    said, seen = caption(page), set()
    for word in (2, 4, len(said) - 1):
        pressed, told = page.locator(".flow .caption button").evaluate_all(CHOOSE, word)
        assert pressed == "true"
        seen.add(told)
    assert len(seen) == 3
    expect(page).to_have_url(re.compile(f"step={len(said) - 1}"))  # once it rests
    before = page.locator(".box.local").first.inner_text()
    page.get_by_label("Attention head").select_option("2")
    expect(page).to_have_url(re.compile("head=2"))
    assert page.locator(".box.local").first.inner_text() != before


def test_the_diagram_says_the_numbers_of_explore(open_page: Open):
    page = open_page("how?photo=camera&step=4")
    row = page.locator(".box.local .row").first
    name, share = row.locator("span").inner_text(), row.locator("data").inner_text()
    word = caption(page)[4]
    page.get_by_role("link", name="Explore: on the photograph").click()
    expect(page.locator(".panel h2").first).to_have_text(f"“{word}”")
    first = page.locator(".panel .row").first
    expect(first.locator("b")).to_have_text(name)
    expect(first.locator("data").first).to_have_text(share)


def test_a_part_leads_to_its_equation_its_line_and_its_view(open_page: Open):
    page = open_page("how?photo=camera&step=4")
    box(page, "Collocations").click()
    expect(page).to_have_url(re.compile("box=ad"))
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"Eq\. \(10\): glied/model\.py, line \d+"))).to_be_visible()
    page.get_by_role("link", name="Collocations: of every word").click()
    expect(page).to_have_url(re.compile("collocations.*step=4"))


def test_a_word_chosen_in_the_diagram_is_that_of_the_board(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    expect(page.locator(".words button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="How it works").first.click()
    caption(settled(page))
    page.locator(".flow .caption button").nth(5).click()
    expect(page).to_have_url(re.compile("step=5"))
    settled(page).get_by_role("link", name="Explore").first.click()
    expect(page.locator(".words button").nth(5)).to_have_attribute("aria-pressed", "true")


def test_base_lacks_what_it_does_not_declare(open_page: Open):
    page = open_page("how?photo=camera&model=Base")
    caption(page)
    assert page.locator(".box h2").all_inner_texts() == [
        "Regions",
        "Attributes",
        "The word just read",
        "Words so far",
        "Regions",
        "Attributes",
        "The next word",
    ]


def test_the_diagram_goes_by_keyboard(open_page: Open):
    page = open_page("how?photo=camera&step=1")
    caption(page)
    word = page.locator(".flow .caption button").nth(1)
    word.press("ArrowRight")
    expect(page.locator(".flow .caption button").nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".flow .caption button").nth(2)).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile("step=2"))
    box(page, "Region groups").press("ArrowRight")
    expect(box(page, "Collocations")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("box=ad"))
    expect(box(page, "Collocations")).to_have_attribute("aria-pressed", "true")


def test_the_gallery_says_what_they_are_and_opens_a_part(open_page: Open):
    page = open_page()
    expect(page.get_by_text("GLIED and Base are two captioners")).to_be_visible()
    said = caption(page)
    page.locator(".flow .caption button").nth(3).click()
    box(page, "Groups first").click()
    expect(page).to_have_url(re.compile("how.*box=v"))
    assert caption(settled(page)) == said
    expect(page.locator(".flow .caption button").nth(3)).to_have_attribute("aria-pressed", "true")
    expect(box(page, "Groups first")).to_have_attribute("aria-pressed", "true")


def test_what_is_unlike_their_photographs_comes_last_with_a_badge(open_page: Open):
    page = open_page()
    expect(page.get_by_text("Captions of")).to_have_count(0)
    badge = page.locator(".tile .badge")
    expect(badge).to_have_count(1)
    expect(page.locator(".tile").last.locator(".badge")).to_have_count(1)
    page.locator(".tile").last.click()
    expect(page.get_by_text("This photograph is unlike those")).to_be_visible()


def test_the_tour_pushes_nothing_down_and_its_buttons_keep_their_place(open_page: Open):
    page = open_page("explore")
    expect(page.locator(".stage").first).to_be_visible()
    top = page.locator(".stage").first.bounding_box()
    page.goto(page.url.split("explore")[0])
    settled(page).get_by_role("button", name="Take the tour").click()
    places = set()
    for at in range(1, 7):
        expect(page.get_by_text(f"Tour, {at} of 6")).to_be_visible()
        settled(page)
        back, forth = (page.get_by_role("button", name=re.compile(f"{name}$")) for name in ("Back", "Next"))
        places.add(tuple(place["x"] for place in (back.bounding_box(), forth.bounding_box()) if place))
        if at == 1:
            now = page.locator(".stage").first.bounding_box()
            assert now
            assert top
            assert now["y"] - top["y"] < 20  # the gap of one empty element
        if at < 6:
            forth.click()
    assert len(places) == 1


def test_the_menu_of_a_telephone_closes_after_a_choice(open_page: Open):
    page = open_page("explore", **PHONE)
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_test_id("stSidebarNavLink").filter(has_text="How it works").click()
    expect(page).to_have_url(re.compile("how"))
    expect(page.get_by_test_id("stSidebar")).not_to_be_visible()
    assert caption(settled(page))


def test_the_menu_fits_a_window_of_1280(open_page: Open):
    page = open_page("how")
    links = page.get_by_test_id("stTopNavLink")
    expect(links).to_have_count(len(VIEWS))
    last = links.last.bounding_box()
    assert last
    assert last["x"] + last["width"] < 1280


def test_a_file_that_is_too_large_gets_a_sentence(open_page: Open, tmp_path: Path):
    page = open_page("explore")
    page.get_by_role("button", name="Use your own").click()
    body = page.get_by_test_id("stPopoverBody")
    expect(body.get_by_text("at most 25 MB and 24 megapixels")).to_be_visible()
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8\xff" + bytes(26 * 2**20))
    body.locator('input[type="file"]').set_input_files(large)
    said = body.get_by_text("File must be 25.0MB or smaller")
    expect(said).to_be_visible()
    place = said.bounding_box()
    assert place
    assert min(place["width"] / 10, place["height"]) > 10  # seen, not only read out


def test_an_upload_closes_its_pop_up_and_says_when_a_reload_has_ended_it(open_page: Open, root: Path):
    page = open_page("explore")
    page.get_by_role("button", name="Use your own").click()
    body = page.get_by_test_id("stPopoverBody")
    body.locator('input[type="file"]').set_input_files(root / "app" / "photographs" / "kitten.jpg")
    expect(page.get_by_alt_text("The photograph you uploaded").first).to_be_visible()
    expect(body).to_have_count(0)
    expect(page).to_have_url(re.compile("photo=yours"))
    settled(page).reload()
    expect(page.get_by_text("Your own photograph is gone")).to_be_visible()
    expect(page).not_to_have_url(re.compile("photo=yours"))


@pytest.mark.parametrize("view", ["explore", "collocations", "decoding", "whatif", "how", "dataset"])
def test_rl_is_explained_where_a_captioner_is_picked(open_page: Open, view: str):
    page = open_page(view)
    marked = page.locator(".stElementContainer", has=page.get_by_text("RL", exact=True)).last
    said = page.get_by_text("RL: self-critical training").first
    for _ in range(20):  # what is still drawn above may take it from under the pointer
        page.mouse.move(0, 0)
        marked.get_by_test_id("stTooltipIcon").hover()
        page.wait_for_timeout(500)
        if said.is_visible():
            break
    expect(said).to_be_visible()
