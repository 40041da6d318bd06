"""Many photographs through `caption --corpus`, killed on the way: nothing may be missing, and nothing come twice."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from glied.experiments.corpus import link
from stress.report import ROOT, Found

PART = 100


def caption(folder: Path | None, count: int) -> Found:
    """`count` photographs of a folder by processes, the command killed twice, and on Ray, one of its actors killed."""
    failures: list[str] = []
    figures: dict[str, object] = {"photographs": count, "of": str(folder or "the gallery")}
    captions: dict[str, dict[str, str | None]] = {}
    part = min(PART, max(1, count // 20))
    with tempfile.TemporaryDirectory() as place:
        link(folder, count, Path(place) / "photographs")
        for engine in ("processes", "ray"):
            start, out = time.monotonic(), Path(place) / engine
            command = ["caption", "--corpus", f"{place}/photographs", "--out", str(out), "--engine", engine]
            command += ["--part", str(part), "--cache", f"{place}/cache"]
            process, killed = _start(command), []
            for third in (1, 2) if engine == "processes" else (1,):
                done = _wait(process, out, third * count // part // 3)
                if done is None:
                    failures.append(f"{engine}: it ended before it was to be killed")
                    break
                killed.append(str(done * part))
                if engine == "processes":
                    process.kill()
                    process.communicate()
                    process = _start(command)
                else:
                    children = psutil.Process(process.pid).children(recursive=True)
                    next(child for child in children if "MapWorker" in "".join(child.cmdline())).kill()
            said = process.communicate()[1]
            if process.returncode != 0:
                failures.append(f"{engine}: then status {process.returncode}: {said[-300:]}")
            figures[f"{engine}: killed after so many photographs"] = " and ".join(killed)
            figures[f"{engine}: seconds"] = round(time.monotonic() - start)
            captions[engine] = _check(engine, out, count, failures)
    different = sum(captions["ray"].get(path) != text for path, text in captions["processes"].items())
    if different:
        failures.append(f"{different} captions of Ray are others than those of the processes")
    figures["photographs that could not be read"] = sum(text is None for text in captions["ray"].values())
    promise = "every photograph has exactly one row, and both engines the same captions"
    return Found(f"A corpus of {count:,} photographs, killed on the way", promise, 2 * count, failures, figures)


def _start(command: list[str]) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "glied", *command]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait(process: subprocess.Popen[str], out: Path, parts: int) -> int | None:
    """The number of parts that are done as soon as it is `parts`; None if the command ends before."""
    while process.poll() is None:
        done = len(list(out.glob("part-*")))
        if done >= parts:
            return done
        time.sleep(0.1)
    return None


def _check(engine: str, out: Path, count: int, failures: list[str]) -> dict[str, str | None]:
    """Path -> caption; adds what is wrong with the rows to `failures`."""
    tables = (pq.read_table(file, columns=["path", "caption", "error"]).to_pylist() for file in out.glob("part-*"))
    rows = list(chain.from_iterable(tables))
    times = Counter(row["path"] for row in rows)
    if len(times) != count or len(rows) != count:
        twice = sum(n > 1 for n in times.values())
        failures.append(f"{engine}: {count - len(times)} photographs are missing, {twice} come more than once")
    if strange := [row for row in rows if (row["caption"] is None) == (row["error"] is None)]:
        failures.append(f"{engine}: {len(strange)} rows have a caption and an error, or neither")
    if left := [file.name for file in out.iterdir() if file.name.startswith(".")]:
        failures.append(f"{engine}: {left[0]} is left over")
    return {row["path"]: row["caption"] for row in rows}
