"""How fast the app is in a browser, and how it lasts: `python tests/measure.py --json FILE`, on the app as it ships.

Not a test: the figures depend on the machine and on what else it does.
"""

import argparse
import io
import json
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


LOST = 60_000  # milliseconds after which an answer counts as lost
# `inside`: elements of the app's components. `watch`: resolves with the milliseconds since `start` once `holds` does,
# looked at in every frame.
WATCH = f"""
  const inside = (selector) =>
    [...document.querySelectorAll("*")].flatMap((e) => [...(e.shadowRoot?.querySelectorAll(selector) ?? [])])
  const watch = (start, holds) => new Promise((answer) => {{
    const look = () => holds() || performance.now() - start > {LOST}
      ? answer(performance.now() - start) : requestAnimationFrame(look)
    look()
  }})"""
CLICK = f"""(word) => {{
  {WATCH}
  const told = () => [...document.querySelectorAll("p")].find((p) => p.textContent.startsWith("The word is "))
  const start = performance.now()
  inside(".words")[0].children[word].click()
  window.answered = watch(start, () => told()?.textContent.includes(`number ${{word + 1}} of`))
}}"""
UPLOAD = f"""(chooser) => {{
  {WATCH}
  const photograph = () => inside(".stage img")[0]?.src
  const before = photograph()
  chooser.addEventListener("change", () => {{
    window.answered = watch(performance.now(), () => photograph() && photograph() !== before)
  }}, {{ capture: true, once: true }})
}}"""
TREE = f"""(link) => {{
  {WATCH}
  const start = performance.now()
  link.click()
  window.answered = watch(start, () => inside("[role=treeitem]").length)
}}"""
UPLOADS = ("upload to caption and groups", "from there to the beam's tree")


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and count."""
    return {"median": statistics.median(values), "p95": float(np.percentile(values, 95)), "count": len(values)}


def memory(process: int) -> float:
    """Resident memory of the server in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def visit(browser: Browser, address: str) -> Page:
    """A new visitor of Explore, with the table of the chosen word open."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{address}/explore?photo=camera")
    settled(page).get_by_text("What the chosen word looked at, as a table").click()
    expect(page.get_by_text("The word is ")).to_be_visible()
    return settled(page)


def click(page: Page, word: int, pause: int = 300) -> float:
    """Milliseconds from a click on a word to the server's answer; then a person looks for `pause` of them."""
    page.evaluate(CLICK, word)
    taken = answered(page)
    page.wait_for_timeout(pause)
    return taken


def answered(page: Page) -> float:
    """Milliseconds that the answer took for which the page watches."""
    taken = page.evaluate("window.answered")
    assert taken < LOST, "no answer"
    return taken


def photograph(seed: int) -> bytes:
    """A photograph that the server has not seen: one of the gallery's, cropped a little."""
    from app.photographs.gallery import entries

    image = Image.open(entries()[0][seed % 4].path).convert("RGB")
    data = io.BytesIO()
    image.crop((seed, seed, image.width - seed, image.height - seed)).save(data, "JPEG")
    return data.getvalue()


def upload(page: Page, seed: int) -> tuple[float, float]:
    """Milliseconds from a chosen file to the caption with its groups, and from there to the beam's tree on its own
    page."""
    page.get_by_role("button", name="Use your own").click()
    chooser = page.get_by_test_id("stPopoverBody").locator('input[type="file"]')
    chooser.wait_for(state="attached")
    page.evaluate(UPLOAD, chooser.element_handle())
    file = {"name": "photograph.jpg", "mimeType": "image/jpeg", "buffer": photograph(seed)}
    chooser.set_input_files(file)  # type: ignore[arg-type]
    caption = answered(page)
    page.keyboard.press("Escape")
    settled(page)
    page.evaluate(TREE, page.get_by_role("link", name="Decoding").first.element_handle())
    tree = answered(page)
    settled(page).get_by_role("link", name="Explore").first.click()
    expect(page.locator(".words button").first).to_be_visible()
    settled(page).wait_for_timeout(1000)
    return caption, tree


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--uploads", type=int, default=8)
    parser.add_argument("--interactions", type=int, default=500)
    options = parser.parse_args()
    environment = {"GLIED_IMAGES": "", "GLIED_CHECKPOINTS": ""}
    found: dict = {}
    expect.set_options(timeout=LOST)
    with serve(ROOT, environment) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        start = time.perf_counter()
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"{address}/explore?photo=camera")
        expect(page.locator(".words button").first).to_be_visible()
        found["first open, s"] = time.perf_counter() - start
        page.close()
        page = visit(browser, address)
        sent: list = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.reload()
        settled(page).get_by_text("What the chosen word looked at, as a table").click()
        page.wait_for_timeout(3000)
        before = len(sent)
        places = np.random.default_rng(0).uniform(0.05, 0.95, (100, 2)).tolist()
        stage = page.locator(".stage").first.element_handle()
        hovers = [page.evaluate(HOVER, [stage, *place]) for place in places]
        found["hover: script, ms"] = spread([script for script, _ in hovers])
        found["hover: next frame, ms"] = spread([frame for _, frame in hovers])
        found["hover: messages to the server"] = len(sent) - before
        count = page.locator(".words button").count()
        found["click to answer, ms"] = spread([click(page, (i + 2) % count) for i in range(options.clicks)])
        uploads = np.array([upload(page, seed) for seed in range(1, 1 + options.uploads)]) / 1000
        for name, times in zip(UPLOADS, uploads.T, strict=True):
            found[f"{name}, s"] = spread(times.tolist())
        page.close()
        page = visit(browser, address)
        found["memory before, MB"] = memory(process)
        for i in range(options.interactions):
            click(page, (i + 2) % count)
            if i % 50 == 49:
                found[f"memory after {i + 1}, MB"] = memory(process)
        visitors = [visit(browser, address) for _ in range(8)]
        answers = []
        for word in range(2, count):
            for other in visitors:
                other.evaluate(CLICK, word)
            answers += [answered(other) for other in visitors]
        found["eight visitors click at once: to the answer, ms"] = spread(answers)
        browser.close()
    options.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
