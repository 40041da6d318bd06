"""How long `make app` takes on a fresh machine to the first caption: `python tests/first_start.py --json FILE`.

It clones this repository, lets `make` set it up with an empty cache of pip, opens the app, and reads a caption in a
browser. Not a test: the figures depend on the machine, on what else it does, and on where the packages come from.
"""

import argparse
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import expect, sync_playwright
from visit import chromium

ROOT = Path(__file__).resolve().parents[1]
# of a line of pip's log: when it was written, and what it says
LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{3}) (.*)", re.M)


def processor(group: int) -> float:
    """Seconds of processor time of the processes of a group, and of those of their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Seconds by the clock and of the processor that a command takes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "processor": used}


def installing(log: Path) -> float:
    """Seconds from the line where pip has every package and begins to install, to the end of its log."""
    found = [(datetime.fromisoformat(f"{m[1]}.{m[2]}"), m[3]) for m in LINE.finditer(log.read_text())]
    begun = max(at for at, said in found if "Installing collected packages" in said and "torch" in said)
    return (found[-1][0] - begun).total_seconds()


def sizes(environment: Path) -> dict[str, float]:
    """MB on disk of each package, the largest first."""
    [packages] = environment.glob("lib/python*/site-packages")
    found = {}
    for record in packages.glob("*.dist-info/RECORD"):
        files = [packages / line.rsplit(",", 2)[0].strip('"') for line in record.read_text().splitlines()]
        found[record.parent.name.partition("-")[0]] = sum(f.stat().st_size for f in files if f.is_file()) / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def start(folder: Path) -> dict[str, dict[str, float]]:
    """From `make app`, when all is set up, to the app's first answer, and to its first caption in a browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.perf_counter()
    environment = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"}
    command = ["make", "app", f"PORT={port}"]
    server = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)

    def so_far() -> dict[str, float]:
        return {"seconds": time.perf_counter() - begun, "processor": processor(server.pid)}

    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        found = {"the app answers": so_far()}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/explore?photo=kitten")
            expect(page.locator(".words button").first).to_be_visible(timeout=600_000)
            found["the first caption"] = so_far()
            browser.close()
        return found
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--commit", default="HEAD", help="of this repository")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder, log = Path(temporary) / "clone", Path(temporary) / "pip.log"

        def clone() -> None:
            commit = subprocess.check_output(["git", "rev-parse", options.commit], cwd=ROOT, text=True).strip()
            subprocess.run(["git", "clone", "--quiet", "--no-checkout", ROOT, folder], check=True)
            subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)

        found: dict = {"clone": measure(clone)}
        environment = os.environ | {"PIP_CACHE_DIR": f"{temporary}/cache", "PIP_LOG": str(log)}
        setup = ["make", ".venv/app.done"]
        found["set up"] = measure(lambda: subprocess.run(setup, cwd=folder, env=environment, check=True))
        found["set up"]["of which packages are installed, seconds"] = installing(log)
        found |= start(folder)
        found["the first caption, the second time"] = start(folder)["the first caption"]
        used = sizes(folder / ".venv")
        found["packages, MB"] = sum(used.values())
        found["largest packages, MB"] = dict(list(used.items())[:12])
    text = json.dumps(found, indent=1)
    options.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
