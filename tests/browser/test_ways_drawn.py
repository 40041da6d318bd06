"""How to decode, in a browser: groups lie one below another, and squares count the words that have come."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

Open = Callable[..., Page]


def test_ways_are_chosen_and_drawn(open_page: Open):
    page = open_page("decoding?photo=camera")
    expect(page.get_by_role("tree", name=re.compile("^Tree of beam search"))).to_be_visible()
    expect(page.locator(".lane")).to_have_count(0)
    page.get_by_role("button", name="How to decode").click()
    page.get_by_role("radio", name="Diverse groups").click()
    expect(page.get_by_role("tree", name=re.compile("^Tree of diverse beam search"))).to_be_visible()
    expect(page.locator(".lane")).to_have_text(["Group 1", "Group 2", "Group 3"])
    expect(page).to_have_url(re.compile(r"how=Diverse(\+|%20)groups"))
    lanes = [lane.bounding_box() for lane in page.locator(".lane").all()]
    tops = [lane["y"] for lane in lanes if lane]
    assert tops == sorted(tops)
    for item in page.get_by_role("treeitem").all()[::7]:
        box, label = item.bounding_box(), item.get_attribute("aria-label") or ""
        group = int(re.findall(r"group (\d)", label)[0])
        assert box
        assert box["y"] > tops[group - 1]
        assert group == 3 or box["y"] + box["height"] < tops[group] + 20
    words = page.get_by_label("Words that must come")
    words.fill("man")
    words.press("Enter")
    expect(page.get_by_role("treeitem", name=re.compile("1 of 1 required words have come")).first).to_be_visible()
    expect(page.get_by_role("treeitem", name=re.compile("0 of 1 required")).first.locator(".unmet")).to_have_count(1)
    expect(page.locator(".key")).to_contain_text("required word has come (man)")
    expect(page).to_have_url(re.compile("require=man"))
