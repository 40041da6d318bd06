"""The board, in a real browser: what is linked by hover, what can be held, what an address and Back restore."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from test_studio import Open, choose, frames, stood, words
from visit import settled

from analysis.numbers import percent, signed, times

ARROWS = ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")
SHOWN = "What the chosen word looked at, as a table"


def show_groups(page: Page, every: str = "All regions") -> None:
    """The region groups, as the matrix or one by one."""
    page.get_by_role("button", name="Region groups").click()
    page.get_by_role("button", name=every).click()


def press_down_or_up(label: str) -> Callable[[Page, int], None]:
    return lambda page, tap: page.get_by_label(label).first.press("ArrowDown" if tap % 16 < 8 else "ArrowUp")


def press_word(page: Page, tap: int) -> None:
    if not tap:
        page.locator(".words button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")


def press_region(page: Page, tap: int) -> None:
    stage = page.locator(".stage").first
    stage.press(ARROWS[tap // 2 % 4])
    stage.press("Enter")


def click_head(page: Page, tap: int) -> None:
    if not tap:
        page.get_by_text("All heads at a glance").click()
    page.locator(".glance button").nth(tap % 9).click()


def press_matrix(page: Page, tap: int) -> None:
    if not tap:
        show_groups(page)
    cells = page.locator(".cells")
    cells.press(ARROWS[tap // 3 % 4])
    cells.press("Enter")


HELD: dict[str, Callable[[Page, int], None]] = {
    "head": press_down_or_up("Attention head"),
    "slider": press_down_or_up("Word of the caption"),
    "word": lambda page, tap: page.locator(".words button").nth(tap % 5).click(),
    "word by key": press_word,
    "region": press_region,
    "all heads": click_head,
    "matrix": press_matrix,
}


@pytest.mark.parametrize("control", HELD)
def test_a_control_that_is_held_never_kills_the_page(open_page: Open, control: str):
    """Streamlit's cache of messages lost some of those that faster clicks interrupted."""
    page = open_page("explore?photo=camera&step=1")
    expect(page.locator(".words button").first).to_be_visible()
    for tap in range(80):
        HELD[control](page, tap)
        page.wait_for_timeout(250)  # what is tested: four a second, whatever the page has answered
    settled(page)
    expect(page.get_by_text("Connection error")).to_have_count(0)
    page.locator(".words button").nth(3).click()
    expect(page).to_have_url(re.compile(r"step=3"))
    page.get_by_text(SHOWN).click()
    expect(page.get_by_text(re.compile("The word is .*, number 4 of"))).to_be_visible()


def test_matrix_and_photograph_are_linked_by_hover_without_the_server(open_page: Open):
    page = open_page("explore?photo=camera", viewport={"width": 1280, "height": 1500})
    sent = frames(page)
    page.reload()
    settled(page)
    choose(page, 1)
    before = len(sent)
    choose(page, 2)
    one = len(sent) - before
    show_groups(page)
    box = page.locator(".cells").bounding_box()
    assert box
    told = set()
    for x in np.linspace(0.05, 0.95, 7):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + (1 - x) * box["height"])
        row, column = (page.locator(f".matrix .is-{name}").inner_text() for name in ("row", "column"))
        told.add(row)
        number, name = row.split(" ", 1)
        expect(page.locator(".stage span.query")).to_contain_text(name)
        said = page.locator(".readout").first.inner_text()
        assert said.startswith(f"Region {number} ({name}) gathers ")
        assert f"region {column} (" in said or "itself" in said
        expect(page.locator(".stage rect[stroke='#e58fc0']")).to_have_count(1)
    assert len(told) > 3
    stage = page.locator(".stage").first
    photograph = stage.bounding_box()
    assert photograph
    page.mouse.move(photograph["x"] + photograph["width"] * 0.5, photograph["y"] + photograph["height"] * 0.5)
    number = re.findall(r"Region (\d+) ", page.locator(".readout").first.inner_text())[0]
    expect(page.locator(".matrix .is-row")).to_have_text(re.compile(f"^{number} "))
    expect(page.locator(".matrix .is-column")).to_have_count(0)
    choose(page, 3)
    assert len(sent) == before + 2 * one  # what hovering sends would have come before the word


def test_the_matrix_says_what_gathers_alike_for_every_head(open_page: Open):
    page = open_page("explore?photo=camera")
    show_groups(page)
    page.get_by_text("Regions that gather alike").click()
    found = page.locator(".panel li")
    expect(found.first).to_be_visible()
    said, order = found.all_inner_texts(), page.locator(".down span").all_inner_texts()
    assert sorted(int(text.split()[0]) for text in order) == list(range(1, len(order) + 1))
    page.get_by_label("Attention head").first.select_option("2")
    page.get_by_text("Regions that gather alike").click()
    assert found.all_inner_texts() != said
    assert page.locator(".down span").all_inner_texts() != order
    cells = page.locator(".cells")
    cells.press("ArrowDown")
    expect(page.locator(".matrix .is-row")).to_have_count(1)
    row = page.locator(".matrix .is-row").inner_text().split()[0]
    cells.press("Enter")
    expect(page).to_have_url(re.compile(f"region={row}$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_groups_and_all_heads_are_accessible(open_page: Open, scheme: str):
    page = open_page("explore?photo=camera", color_scheme=scheme)
    show_groups(page)
    page.get_by_text("All heads at a glance").click()
    page.get_by_text("Regions that gather alike").click()
    page.locator(".cells").press("ArrowDown")
    page.add_style_tag(content='* { transition: none !important } [data-stale="true"] { opacity: 1 !important }')
    expect(page.locator(".stMainBlockContainer")).to_have_css("padding-top", "72px")
    found = Axe().run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


def test_all_heads_are_at_a_glance_and_a_click_chooses_one(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    fold = page.get_by_text("All heads at a glance")
    heads = page.locator(".glance button")
    fold.click()
    expect(heads.first).to_be_visible()
    expect(heads.first).to_have_attribute("aria-pressed", "true")
    pictures = "(heads) => heads.map((head) => head.firstChild.toDataURL())"
    seen = heads.evaluate_all(pictures)
    assert len(set(seen)) == len(seen) == 9
    page.locator(".words button").nth(3).click()
    assert heads.evaluate_all(pictures) != seen
    heads.nth(4).click()
    expect(page).to_have_url(re.compile("step=3&head=4"))
    assert page.get_by_label("Attention head").first.input_value() == "4"
    page.get_by_role("button", name="Region groups").click()
    assert len(set(heads.evaluate_all(pictures))) == 9
    page.reload()  # the fold is remembered
    expect(settled(page).locator(".glance button").nth(4)).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("model", ["GLIED", "Base"])
def test_the_words_that_a_word_read_are_told_and_underlined(open_page: Open, model: str):
    page = open_page(f"explore?photo=camera&step=4&model={model}")
    expect(page.get_by_text("Earlier words it read")).to_be_visible()
    bars = "(words) => words.map((word) => word.style.getPropertyValue('--read'))"
    drawn = [float(width[:-1]) for width in page.locator(".words button").evaluate_all(bars)]
    assert any(drawn[:4])
    assert not any(drawn[4:])
    page.get_by_label("under the caption").uncheck()
    assert not any(float(width[:-1]) for width in page.locator(".words button").evaluate_all(bars))
    page.reload()
    expect(settled(page).get_by_label("under the caption")).not_to_be_checked()


def test_the_panel_says_how_much_the_key_alone_decides(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    said = re.compile(r"Key share 0\.\d\d over regions \(flickr8k val: 0\.\d\d\), 0\.\d\d over attributes")
    expect(page.get_by_text(said)).to_be_visible()
    page.get_by_role("button", name="Region groups").click()
    expect(page.get_by_text(re.compile(r"Key share 0\.\d\d over regions .*every region attends alike"))).to_be_visible()


def test_the_chances_of_a_step_sum_to_1(open_page: Open):
    page = open_page("explore?photo=camera&step=3")
    rows = page.locator(".panel h3", has_text="What it might have said here").locator("~ .row")
    expect(rows).to_have_count(11)
    expect(rows.last).to_contain_text("any other or (unknown)")
    shares = [text.split("\n")[-1] for text in rows.all_inner_texts()]
    numbers = [0.0 if text.startswith("<") else float(text.removesuffix(" %")) for text in shares]
    assert sum(numbers) == pytest.approx(100, abs=2)  # each is rounded


def test_a_word_clears_a_pinned_attribute(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    page.locator(".chips button").nth(2).click()
    expect(page.locator(".readout").first).to_contain_text("was detected")
    page.locator(".words button").nth(3).click()
    expect(page.locator(".readout").first).to_contain_text("Where the model looked for")
    expect(page.locator('.chips button[aria-pressed="true"]')).to_have_count(0)


def test_back_and_forward_undo_word_head_pin_and_photograph(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    pressed = page.locator('.words button[aria-pressed="true"]')
    head = page.get_by_label("Attention head").first
    stage = page.locator(".stage").first
    seen = [stood(page) or page.url]

    def then(act: Callable[[], object], says: str) -> None:
        act()
        expect(page).to_have_url(re.compile(says))
        stood(page)
        seen.append(page.url)

    then(lambda: page.locator(".words button").nth(4).click(), "step=4")
    then(lambda: head.select_option("3"), "head=3")
    stage.press("ArrowRight")
    then(lambda: stage.press("Enter"), r"region=\d+")
    then(lambda: page.locator(".strip button").nth(2).click(), "photo=(?!camera)")
    assert "region" not in page.url
    for address in seen[-2::-1]:
        page.go_back(wait_until="commit")
        expect(page).to_have_url(address)
        settled(page)
    expect(pressed).to_have_attribute("aria-label", re.compile(words(page).split()[1]))
    assert head.input_value() == "0"
    for address in seen[1:4]:
        page.go_forward(wait_until="commit")
        expect(page).to_have_url(address)
        settled(page)
    expect(head).to_have_value("3")
    region = re.findall(r"region=(\d+)", page.url)[0]
    expect(page.locator('.minis button[aria-pressed="true"]')).to_have_attribute("title", re.compile(f"^{region}: "))
    again = open_page(seen[3].split("/", 3)[3])
    expect(again.locator('.minis button[aria-pressed="true"]')).to_have_attribute("title", re.compile(f"^{region}: "))


def test_a_forced_beginning_is_undone_by_back(open_page: Open):
    page = open_page("decoding?photo=camera")
    expect(page.get_by_role("treeitem").first).to_be_visible()
    stood(page)
    free = page.url
    page.locator(".alternatives button").nth(2).click()
    expect(page).to_have_url(re.compile("prefix="))
    stood(page)
    page.go_back(wait_until="commit")
    expect(page).to_have_url(free)
    expect(page.get_by_text("Beginning with")).to_have_count(0)


def test_word_and_head_come_along_from_explore(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    word = words(page).split()[4]
    page.locator(".words button").nth(4).click()
    page.get_by_label("Attention head").first.select_option("2")
    expect(page).to_have_url(re.compile("step=4&head=2"))
    stood(page)
    page.get_by_role("link", name="Decoding").first.click()
    expect(page).to_have_url(re.compile("decoding.*step=4&head=2"))
    expect(page.locator(".about h2")).to_contain_text(word)
    expect(page.get_by_text("Head 2.")).to_be_visible()
    stood(page)
    page.get_by_role("link", name="Collocations").first.click()
    expect(page).to_have_url(re.compile("collocations.*step=4&head=2"))
    chosen = settled(page).get_by_role("radio", checked=True, name=re.compile(r"^5 "))
    expect(chosen).to_have_text(f"5 {word}")


def test_the_photograph_is_few_tab_stops_away(open_page: Open):
    page = open_page("explore?photo=camera")
    expect(page.locator(".stage").first).to_be_visible()
    focused = """() => {
      let at = document.activeElement
      while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
      return at?.classList.contains("stage")
    }"""
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to main content
    stops = 1
    while not page.evaluate(focused):
        page.keyboard.press("Tab")
        stops += 1
        assert stops < 30
    assert stops <= 15


def test_rows_of_buttons_are_walked_by_arrow_keys(open_page: Open):
    page = open_page("explore?photo=camera&step=1")
    row = page.locator(".words button")
    row.nth(1).focus()
    page.keyboard.press("ArrowRight")
    expect(row.nth(2)).to_be_focused()
    page.keyboard.press("End")
    expect(row.last).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(row.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("step=0"))
    for name in (".words", ".minis", ".chips", ".strip"):
        expect(page.locator(f"{name} button[tabindex='0']")).to_have_count(1)


def test_export_stands_above_the_board(open_page: Open):
    page = open_page("explore?photo=camera")
    export, board = page.get_by_role("button", name="Export").bounding_box(), page.locator(".words").bounding_box()
    assert export
    assert board
    assert export["y"] < board["y"] < 500


def test_a_number_is_written_alike_in_both_languages(browser: Browser, root: Path):
    page = browser.new_page()
    page.add_script_tag(path=root / "app" / "components" / "photo.js")
    values = [0.0, 1.0, 0.0005, 0.0994, 0.0995, 0.125, -0.005, -0.0151, *np.random.default_rng(0).uniform(-2, 2, 500)]
    values += [v / 1000 for v in values]
    both = page.evaluate(
        "(values) => values.map((v) => [percent(Math.abs(v)), signed(v), signed(v, 3), times(Math.abs(v))])",
        json.loads(json.dumps([float(v) for v in values])),
    )
    page.close()
    for value, written in zip(values, both, strict=True):
        value = float(value)
        assert written == [percent(abs(value)), signed(value), signed(value, 3), times(abs(value))], value
