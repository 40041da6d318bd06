"""A full disk at every write: one sentence, no half-written file under a final name, and then the usual result."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from stress.forks import Task, run
from stress.report import Found
from stress.world import content, make_world, results


def build_shim(folder: Path) -> Path | None:
    """full.c as a library to be loaded before others; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    out = folder / "full.so"
    source = Path(__file__).with_name("full.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", out, source, "-ldl"], check=True)
    return out


def fill(most: int) -> Found:
    """Every command that writes, once for each of its writes (`most` of them, evenly spread)."""
    failures: list[str] = []
    figures: dict[str, object] = {}
    cases = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tasks = make_world(folder)
        for name, task in tasks.items():
            work = folder / "work"
            work.mkdir()
            ended = run(task, work, full_from=0)
            assert ended.status == 0, f"{name}: {ended.errors}"
            writes = int((folder / "work.writes").read_text())
            expected = results(work, task)
            shutil.rmtree(work)
            moments = sorted({round(m) for m in np.linspace(1, writes, min(writes, most))})
            for moment in moments:
                failures += [f"{name}, write {moment} of {writes}: {why}" for why in _try(task, work, moment, expected)]
                shutil.rmtree(work)
            cases += len(moments)
            figures[f"writes of {name}"] = f"{len(moments)} of {writes} tried"
            print(f"{name}: {len(moments)} writes, {len(failures)} failures so far", flush=True)
    promise = (
        "one sentence and exit status 2, no damaged file under a final name, and with space again the command ends "
        "with the usual result"
    )
    return Found("A full disk at every write", promise, cases, failures, figures)


def _try(task: Task, work: Path, moment: int, expected: dict[str, object]) -> list[str]:
    """What went wrong where the disk was full from one write on."""
    wrong = []
    work.mkdir()
    ended = run(task, work, full_from=moment)
    told = [line for line in ended.errors.splitlines() if line.startswith("glied: ")]
    if ended.status == 0 and results(work, task) != expected:
        wrong.append("status 0 without its result")
    if ended.status not in (0, 2):
        wrong.append(f"status {ended.status}: {ended.errors[-300:]!r}")
    if ended.status == 2 and len(told) != 1:
        wrong.append(f"{len(told)} sentences: {ended.errors[-300:]!r}")
    if "Traceback" in ended.errors:
        wrong.append(f"a traceback: {ended.errors[-400:]!r}")
    for path in filter(Path.is_file, work.rglob("*")):
        if not path.name.endswith(".part"):
            try:
                content(path)
            except Exception as error:
                wrong.append(f"{path.name} is damaged ({error})")
    again = run(task, work)
    if again.status != 0:
        wrong.append(f"with space again status {again.status}: {again.errors[-300:]!r}")
    elif results(work, task) != expected:
        wrong.append("with space again another result")
    return wrong
