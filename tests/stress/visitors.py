"""Many visitors at once, and one who clicks without end."""

import json
import random
import threading
import time
from collections import Counter
from urllib.parse import urlencode

import measure
import numpy as np
from playwright.sync_api import sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from visit import VIEWS, chromium, serve
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from stress.report import ROOT, Found

SHIPPED = {"GLIED_IMAGES": "", "GLIED_CHECKPOINTS": ""}
WAIT = 60  # seconds after which an answer counts as lost
THINKING = (1.0, 5.0)  # seconds for which a visitor looks at a page
PHOTOGRAPHS = ("camera", "chelsea", "coffee", "hopper")
MODELS = ("GLIED", "Base")


class Visitor:
    """One session of the app, which speaks Streamlit's protocol without a browser: the figures are the server's."""

    def __init__(self, address: str) -> None:
        self.socket = connect(
            address.replace("http", "ws") + "/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,  # type: ignore[list-item]
        )
        self.pages: dict[str, str] = {}  # hash of each page, by its path

    def open(self, view: str, query: dict[str, str]) -> tuple[float, int]:
        """Opens a page; the seconds until it is whole, and its size in bytes.

        Raises:
            RuntimeError: the page shows an error. TimeoutError: it never ends.
        """
        message = BackMsg()
        client = message.rerun_script
        client.query_string = urlencode(query)
        client.page_script_hash = self.pages.get(view, "")
        if not client.page_script_hash:
            client.page_name = view
        start = time.perf_counter()
        self.socket.send(message.SerializeToString())
        size = 0
        while True:
            data = self.socket.recv(timeout=WAIT)
            size += len(data)
            answer = ForwardMsg()
            answer.ParseFromString(data)  # type: ignore[arg-type]
            match answer.WhichOneof("type"):
                case "navigation":
                    self.pages |= {page.url_pathname: page.page_script_hash for page in answer.navigation.app_pages}
                case "delta" if answer.delta.new_element.WhichOneof("type") == "exception":
                    raise RuntimeError(answer.delta.new_element.exception.message)
                case "script_finished" if answer.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    if answer.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                        raise RuntimeError("the page does not compile")
                    return time.perf_counter() - start, size


def visit(count: int, minutes: float, seed: int) -> Found:
    """`count` visitors walk through the pages with photographs, captioners, words and heads of their own."""
    seconds: list[tuple[str, float, int]] = []
    failures: list[str] = []
    with serve(ROOT, SHIPPED) as (address, process):
        Visitor(address).open("explore", {})  # the models are loaded
        until = time.monotonic() + 60 * minutes

        def live(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            visitor = None
            while time.monotonic() < until:
                view = chance.choice(VIEWS)
                query = {
                    "photo": chance.choice(PHOTOGRAPHS),
                    "model": chance.choice(MODELS),
                    "step": str(chance.randrange(6)),
                    "head": str(chance.randrange(9)),
                }
                try:
                    visitor = visitor or Visitor(address)
                    seconds.append((view or "gallery", *visitor.open(view, query)))
                except (RuntimeError, TimeoutError, WebSocketException, OSError) as error:
                    failures.append(f"visitor {number}, {view or 'gallery'} {json.dumps(query)}: {error!r}")
                    visitor = None
                time.sleep(chance.uniform(*THINKING))

        threads = [threading.Thread(target=live, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures: dict[str, object] = {"memory of the server after it, MB": round(measure.memory(process))}
    times = Counter(view for view, _, _ in seconds)
    every = [one for _, one, _ in seconds]
    figures["all pages: median and p95, s"] = _spread(every)
    for view in times:
        figures[f"{view}, {times[view]} visits: median and p95, s"] = _spread([s for v, s, _ in seconds if v == view])
    figures["megabytes of the largest page"] = round(max(size for _, _, size in seconds) / 1e6, 2)
    title = f"{count} visitors for {minutes:g} minutes on mixed pages"
    return Found(title, f"every page comes whole, within {WAIT} s", len(seconds) + len(failures), failures, figures)


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} and {np.percentile(values, 95):.2f}"


def click(count: int) -> Found:
    """`count` clicks on words by one visitor in a browser: the memory of server and page."""
    failures: list[str] = []
    figures: dict[str, object] = {}
    with serve(ROOT, SHIPPED) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = measure.visit(browser, address)
        words = page.locator(".words button").count()
        heap = page.context.new_cdp_session(page)
        for i in range(count + 1):
            if i % max(1, count // 10) == 0:
                heap.send("HeapProfiler.collectGarbage")
                used = heap.send("Runtime.getHeapUsage")["usedSize"] / 2**20
                figures[f"after {i} clicks: server and page, MB"] = f"{measure.memory(process):.0f} and {used:.0f}"
            try:
                measure.click(page, (i + 2) % words, pause=0)
            except AssertionError as error:
                failures.append(f"click {i}: {error}")
        browser.close()
    return Found(
        f"{count} clicks of one visitor", "every click is answered; memory stays flat", count, failures, figures
    )
