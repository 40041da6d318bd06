"""How fast the app is in a browser, and how it lasts: `python tests/measure.py --json FILE`, on the app as it ships.

Not a test: the figures depend on the machine and on what else it does.
"""

import argparse
import io
import json
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from visit import chromium, serve, settled

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# From the pointer's event to the frame after the repaint, in the browser's own clock.
HOVER = """([stage, x, y]) => {
  const { x: left, y: top, width, height } = stage.getBoundingClientRect()
  const place = { clientX: left + x * width, clientY: top + y * height, bubbles: true }
  const start = performance.now()
  stage.dispatchEvent(new PointerEvent("pointermove", place))
  const script = performance.now() - start
  return new Promise((answer) => requestAnimationFrame(() => answer([script, performance.now() - start])))
}"""


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and count."""
    return {"median": statistics.median(values), "p95": float(np.percentile(values, 95)), "count": len(values)}


def memory(process: int) -> float:
    """Resident memory of the server in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def visit(browser: Browser, address: str) -> Page:
    """A new visitor."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(address)
    return settled(page)


def click(page: Page, word: int) -> float:
    """Seconds from a click on a word to the server's answer: the table's heading names the word."""
    name = page.locator(".words button span:first-child").nth(word).inner_text()
    start = time.perf_counter()
    page.locator(".words button").nth(word).click()
    expect(page.get_by_text(f"The word is “{name}”, number {word + 1} ")).to_be_visible()
    return time.perf_counter() - start


def photograph(seed: int) -> bytes:
    """A photograph that the server has not seen: one of the gallery's, cropped a little."""
    from app.gallery import INSIDE, _folder_of

    package, file, *_ = INSIDE[seed % 4]
    image = Image.open(_folder_of(package) / file).convert("RGB")
    data = io.BytesIO()
    image.crop((seed, seed, image.width - seed, image.height - seed)).save(data, "JPEG")
    return data.getvalue()


def upload(page: Page, seed: int) -> float:
    """Seconds from a chosen file to its caption, groups and tree."""
    page.get_by_role("button", name="Use your own").click()
    before = page.locator(".stage img").first.get_attribute("src") or ""
    start = time.perf_counter()
    page.get_by_test_id("stPopoverBody").locator('input[type="file"]').set_input_files(
        {"name": "photograph.jpg", "mimeType": "image/jpeg", "buffer": photograph(seed)}
    )
    expect(page.locator(".stage img").first).not_to_have_attribute("src", before)
    taken = time.perf_counter() - start
    page.keyboard.press("Escape")
    settled(page)
    return taken


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--interactions", type=int, default=500)
    options = parser.parse_args()
    environment = {"GLIED_IMAGES": "", "GLIED_CHECKPOINTS": ""}
    found: dict = {}
    with serve(ROOT, environment) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        start = time.perf_counter()
        page = visit(browser, f"{address}/explore?photo=camera")
        expect(page.locator(".words button").first).to_be_visible()
        found["first open, s"] = time.perf_counter() - start
        sent: list = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.reload()
        settled(page)
        page.get_by_text("What the chosen word looked at").click()
        page.wait_for_timeout(3000)
        before = len(sent)
        places = np.random.default_rng(0).uniform(0.05, 0.95, (100, 2)).tolist()
        stage = page.locator(".stage").first.element_handle()
        hovers = [page.evaluate(HOVER, [stage, *place]) for place in places]
        found["hover: script, ms"] = spread([script for script, _ in hovers])
        found["hover: next frame, ms"] = spread([frame for _, frame in hovers])
        found["hover: messages to the server"] = len(sent) - before
        count = page.locator(".words button").count()
        order = [i % count for i in range(2, 2 + 2 * count)]
        found["click to answer, ms"] = spread([1000 * click(page, word) for word in order])
        found["upload to caption, groups and tree, s"] = spread([upload(page, seed) for seed in range(1, 9)])
        found["memory before, MB"] = memory(process)
        page = visit(browser, f"{address}/explore?photo=camera")
        page.get_by_text("What the chosen word looked at").click()
        for i in range(options.interactions):
            click(page, (i + 2) % count)
            if i % 50 == 49:
                found[f"memory after {i + 1}, MB"] = memory(process)
        visitors = [visit(browser, f"{address}/explore?photo=camera") for _ in range(8)]
        for other in visitors:
            other.get_by_text("What the chosen word looked at").click()
            other.wait_for_timeout(200)
        answers = []
        for word in range(2, count):
            start = time.perf_counter()
            for other in visitors:
                other.locator(".words button").nth(word).click(no_wait_after=True)
            for other in visitors:
                expect(other.get_by_text(re.compile(f"^The word is .*, number {word + 1} of"))).to_be_visible()
                answers.append(1000 * (time.perf_counter() - start))
        found["eight visitors click at once: to the answer, ms"] = spread(answers)
        browser.close()
    options.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
