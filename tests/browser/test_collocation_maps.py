"""Collocations and the nearest photographs, in a real browser."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from visit import settled

Open = Callable[..., Page]
HEADS, NEAREST = "All heads at a glance", "Where it was in the most similar state"


def drawn(page: Page) -> Page:
    """The page once its map is there."""
    expect(settled(page).locator(".st-key-map .ytick text").first).to_be_visible()
    return page


def test_a_small_map_chooses_the_head_of_every_page(open_page: Open):
    page = drawn(open_page("collocations?photo=camera&step=1"))
    page.get_by_text(HEADS).click()
    small = page.locator(".maps button")
    expect(small).to_have_count(9)
    small.nth(3).click()
    expect(page).to_have_url(re.compile("head=3"))
    expect(small.nth(3)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("combobox", name="Head")).to_have_value("Head 3")
    settled(page).get_by_role("link", name="Explore").first.click()
    expect(page.get_by_label("Attention head").first).to_have_value("3")


def test_a_word_of_explore_is_the_pivot_and_a_pivot_its_word(open_page: Open):
    page = open_page("explore?photo=camera")
    page.locator(".words button").nth(4).click()
    expect(page).to_have_url(re.compile("step=4"))
    settled(page).get_by_role("link", name="Collocations").first.click()
    pivot = drawn(page).get_by_role("radio", name=re.compile("^5 "))
    expect(pivot).to_be_checked()
    assert pivot.bounding_box()["y"] < page.locator(".st-key-map").bounding_box()["y"]
    page.get_by_role("radio", name=re.compile("^2 ")).click()
    expect(page).to_have_url(re.compile("step=1(&|$)"))
    settled(page).get_by_role("link", name="Explore").first.click()
    expect(page.locator(".words button").nth(1)).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("path", ["explore?photo=camera&step=1", "collocations?photo=camera&step=1"])
def test_the_nearest_photographs_follow_the_word(open_page: Open, path: str):
    page = open_page(path)
    settled(page).get_by_text(NEAREST).click()
    found = page.get_by_test_id("stExpander").filter(has_text=NEAREST)
    expect(found.locator("li")).to_have_count(5)
    expect(found.get_by_text("among 1,495 photographs")).to_be_visible()
    told = found.locator("li").all_inner_texts()
    assert all("man" in line for line in told)
    if path.startswith("explore"):
        page.locator(".words button").nth(3).click()
        expect(page).to_have_url(re.compile("step=3"))
    else:
        page.get_by_role("radio", name=re.compile("^4 ")).click()
    expect(found.locator("li").first).not_to_have_text(told[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_map_of_the_data_set_can_be_read(open_page: Open, scheme: str):
    page = drawn(open_page("collocations?scope=The+whole+data+set", color_scheme=scheme))
    tick = page.locator(".st-key-map .ytick text").first
    size, fill = tick.evaluate("(text) => [getComputedStyle(text).fontSize, getComputedStyle(text).fill]")
    assert float(size.removesuffix("px")) >= 12
    assert fill == page.locator(".stApp").evaluate("(app) => getComputedStyle(app).color")
    assert page.locator(".st-key-map pattern, .js-plotly-plot pattern").count() > 0  # hatched
    bar = page.locator(".st-key-map .cbtitle text").bounding_box()
    page.locator(".st-key-map").hover()
    tools = page.locator(".st-key-map .modebar").bounding_box()
    assert tools["y"] + tools["height"] <= bar["y"] + 1 or tools["x"] + tools["width"] <= bar["x"]
    assert page.get_by_label("Pivot", exact=False).first.bounding_box()["y"] < tools["y"]
    assert not page.get_by_text(re.compile(r"\.(jpg|webp)")).count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_folds_hold_is_accessible(open_page: Open, scheme: str):
    page = drawn(open_page("collocations?photo=camera&step=1", color_scheme=scheme))
    for fold in (HEADS, NEAREST):
        settled(page).get_by_text(fold).click()
    expect(page.locator(".maps button")).to_have_count(9)
    expect(page.get_by_text("among 1,495 photographs")).to_be_visible()
    page.add_style_tag(content='* { transition: none !important } [data-stale="true"] { opacity: 1 !important }')
    settled(page)
    expect(page.locator(".stMainBlockContainer")).to_have_css("padding-top", "72px")
    violations = Axe().run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"][:200]) for v in violations if v["impact"] in ("serious", "critical")]
