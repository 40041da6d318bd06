"""Compare and What if: what a visitor sees there, and takes away."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from visit import settled

Open = Callable[..., Page]


def asked(page: Page) -> dict[str, str]:
    """What the address says."""
    return {name: texts[0] for name, texts in parse_qs(urlsplit(page.url).query).items()}


def serious(page: Page) -> list[str]:
    """What axe finds, once nothing is pale because it is about to be drawn again."""
    page.add_style_tag(content='* { transition: none !important } [data-stale="true"] { opacity: 1 !important }')
    expect(page.locator(".stMainBlockContainer")).to_have_css("padding-top", "72px")
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]


# ---- Compare


def test_sentences_stand_first_and_both_photographs_in_line(open_page: Open):
    page = open_page("compare?photo=camera")
    stages, said = page.locator(".stage"), page.locator(".said")
    expect(stages).to_have_count(2)
    expect(said).to_contain_text("would with")
    left, right, sentences = (part.bounding_box() for part in (stages.first, stages.nth(1), said))
    assert left
    assert right
    assert sentences
    assert left["y"] == right["y"]
    assert sentences["y"] < left["y"]
    words = page.locator(".words").first.bounding_box()
    assert words
    assert words["y"] < sentences["y"]
    expect(page.locator("select[aria-label='Attention head']")).to_have_count(1)
    chips = page.locator(".chips button")
    expect(chips).to_have_count(49)
    page.get_by_text("The 49 likeliest attributes").click()
    chips.nth(2).hover()
    word = chips.nth(2).inner_text().split()[0]
    for at in (0, 1):
        expect(page.locator(".readout").nth(at)).to_have_text(f"Where “{word}” was detected.")
    assert not serious(page)


def test_the_function_that_moves_the_words_follows_the_word_chosen(open_page: Open):
    page = open_page("compare?photo=camera")
    moves = page.get_by_text(re.compile("^What moves"))
    expect(moves).to_be_visible()
    first = moves.inner_text()
    differing = page.locator(".words").first.locator("button:has(.differs)").first
    expect(differing).to_have_attribute("aria-pressed", "true")
    assert differing.inner_text().split()[0] in first
    expect(page.get_by_text("with even attention its log p")).to_have_count(2)
    page.locator(".words").first.locator("button").nth(2).click()
    expect(page).to_have_url(re.compile("step=2"))
    word = page.locator(".words").first.locator("button").nth(2).inner_text().split()[0]
    expect(moves).to_contain_text(f"What moves “{word}”")
    assert moves.inner_text() != first


def test_a_region_and_a_head_are_followed_on_the_other_side(open_page: Open):
    page = open_page("compare?photo=spaniels")
    readouts = page.locator(".readout")
    stage = page.locator(".stage").first
    stage.focus()
    stage.press("ArrowRight")
    for at in (0, 1):
        expect(readouts.nth(at)).to_contain_text("of the attention of")
    region = [readouts.nth(at).inner_text().split("(")[0] for at in (0, 1)]
    assert region[0] == region[1]
    stage.press("Escape")
    expect(readouts.first).to_contain_text("Coloured: more than an even share")
    page.get_by_label("Attention head").select_option("3")
    expect(page).to_have_url(re.compile("head=3"))


def test_two_photographs_under_one_captioner_come_back_from_the_address(open_page: Open):
    page = open_page("compare?photo=spaniels")
    page.get_by_role("radio", name="Two photographs").click()
    expect(page).to_have_url(re.compile("kind=Two"))
    settled(page)
    page.get_by_role("combobox", name=re.compile("The second photograph")).click()
    page.get_by_role("option", name="Coffee").click()
    expect(page).to_have_url(re.compile("second=Coffee"))
    settled(page)
    expect(page.locator(".pair h2").nth(1)).to_have_text("Coffee")
    expect(page.get_by_text(re.compile("^(Both captions say|The captions share)"))).to_be_visible()
    assert page.locator(".stage img").first.get_attribute("src") != page.locator(".stage img").nth(1).get_attribute(
        "src"
    )
    again = open_page(page.url.split("/", 3)[3])
    expect(again.locator(".pair h2")).to_have_text(["Spaniels", "Coffee"])
    assert not serious(again)


def test_each_side_is_named_over_its_caption_its_photograph_and_its_lists(open_page: Open):
    page = open_page("compare?photo=spaniels", viewport={"width": 390, "height": 844})
    for name in ("Base", "GLIED"):
        expect(page.locator(".pair").get_by_role("heading", name=name, exact=True)).to_have_count(2)
    page.get_by_text("What both words looked at").click()
    for at, name in enumerate(("Base", "GLIED")):
        expect(page.locator(".panel").nth(at).locator("h3").first).to_contain_text(f"{name}, “")


@pytest.mark.parametrize("path", ["compare?photo=spaniels", "whatif?photo=spaniels", "how?photo=spaniels"])
def test_a_word_comes_along_to_explore_where_no_board_was_shown(open_page: Open, path: str):
    page = open_page(path)
    row = page.locator(".words[role=group], .flow .caption").last.locator("button")
    row.nth(4).click()
    expect(row.nth(4)).to_have_attribute("aria-pressed", "true")
    word = row.nth(4).inner_text().split()[0]
    settled(page).get_by_role("link", name="Explore").first.click()
    expect(page.locator(".board .panel h2")).to_have_text(f"“{word}”")
    expect(page).to_have_url(re.compile("explore.*step=4"))


@pytest.mark.parametrize("path", ["compare?photo=spaniels", "whatif?photo=spaniels"])
def test_rows_of_words_chips_and_regions_are_one_stop_each(open_page: Open, path: str):
    page = open_page(path)
    expect(page.locator(".stage")).to_have_count(2)
    rows = page.locator(".words, .minis, .chips:has(button), .tabs")
    for row in rows.all():
        expect(row.locator("button[tabindex='0']")).to_have_count(1)
    row = page.locator(".words").first.locator("button")
    row.first.focus()
    page.keyboard.press("End")
    expect(row.last).to_be_focused()
    page.keyboard.press("Enter")
    expect(row.last).to_have_attribute("aria-pressed", "true")


# ---- What if


def test_the_slider_takes_away_the_most_attended_along_the_curve(open_page: Open):
    page = open_page("whatif?photo=camera&step=1")
    slider = page.get_by_role("slider")
    expect(slider).to_be_enabled()
    expect(page.locator(".curve svg path.least")).to_have_count(1)
    shares = [
        float(text.split()[-2])
        for text in page.locator(".minis button").evaluate_all(
            "(all) => all.map((b) => b.querySelector('small').textContent)"
        )
    ]
    slider.fill("3")
    expect(page).to_have_url(re.compile("out="))
    gone = [int(number) - 1 for number in asked(page)["out"].split(",")]
    assert sorted(shares, reverse=True)[:3] == sorted((shares[i] for i in gone), reverse=True)
    expect(page.locator('.minis button[aria-pressed="true"]')).to_have_count(3)
    told = page.get_by_text(re.compile("Without the 3 most attended log p of"))
    expect(told).to_be_visible()
    on_curve = re.search(r"is ([−+]?[\d.]+);", told.inner_text())
    effect = page.get_by_text(re.compile("as it is, .* on the changed scene"))
    expect(effect).to_be_visible()
    on_scene = re.search(r"and ([−+]?[\d.]+)\.$", effect.inner_text())
    assert on_curve
    assert on_scene
    assert on_curve[1] == on_scene[1]  # the curve is what the captioner says of the scene without them
    page.get_by_role("button", name="attributes", exact=True).click()
    expect(page.locator(".chips").first).to_be_visible()
    expect(page.get_by_text("None of 49 attributes is taken away")).to_be_visible()
    expect(slider).to_be_enabled()
    slider.fill("2")
    expect(page).to_have_url(re.compile("without="))
    assert len(asked(page)["without"].split(",")) == 2


def test_another_word_has_its_own_heat_and_curve(open_page: Open):
    page = open_page("whatif?photo=camera&step=1")
    curve = page.locator(".curve svg")
    expect(curve).to_be_visible()
    labels, before = page.locator(".stage").first.locator("span"), curve.get_attribute("aria-label")
    heat = labels.all_inner_texts()
    page.locator(".words button").nth(6).click()
    expect(page).to_have_url(re.compile("step=6"))
    word = page.locator(".words button").nth(6).inner_text().split()[0]
    expect(curve).to_have_attribute("aria-label", re.compile(f"log p of “{word}”"))
    assert curve.get_attribute("aria-label") != before
    assert labels.all_inner_texts() != heat
    assert not serious(page)


def test_a_rectangle_strikes_by_pointer_and_by_keyboard(open_page: Open):
    page = open_page("whatif?photo=camera")
    stage = page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    page.mouse.move(*at(0.02, 0.02))
    page.mouse.down()
    page.mouse.move(*at(0.3, 0.4))
    page.mouse.move(*at(0.5, 0.98))
    readout = page.locator(".readout").first
    expect(readout).to_contain_text("have their centres here")
    count = int(readout.inner_text().split()[0])
    assert 1 < count < 36
    page.mouse.up()
    expect(page).to_have_url(re.compile("out="))
    assert len(asked(page)["out"].split(",")) == count
    expect(page.locator('.minis button[aria-pressed="true"]')).to_have_count(count)
    settled(page).get_by_role("button", name="Undo").click()  # all of them in one step
    expect(page).not_to_have_url(re.compile("out="))
    settled(page)
    expect(page.locator('.minis button[aria-pressed="true"]')).to_have_count(0)
    stage.focus()
    stage.press("ArrowRight")
    stage.press("Shift+Enter")
    expect(page).to_have_url(re.compile("out="))
    assert "1" in asked(page)["out"].split(",")  # its own centre lies in it
    assert len(asked(page)["out"].split(",")) > 1


@pytest.mark.parametrize("path", ["compare?photo=spaniels", "whatif?photo=camera&out=1,2,3&step=6"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_wider_or_lost(open_page: Open, path: str, scheme: str):
    page = open_page(path, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    expect(page.locator(".stage")).to_have_count(2)
    for at in (0, 1):
        box = page.locator(".stage").nth(at).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    assert not serious(page)
