"""Speed of captioning a corpus: photographs per second by engine and workers, and the memory that it takes."""

import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from glied.corpus.options import CPU, PHASES, Captioning, Corpus
from glied.corpus.photographs import divide
from glied.corpus.run import Summary, caption_corpus
from glied.errors import GliedError
from glied.files import STUDIO
from glied.records import shown
from glied.workers import Workers, count_cores

PART = 50  # photographs that are decoded together


def measure(
    folder: Path | None, photographs: int, engines: Sequence[Workers], captioning: Captioning
) -> dict[str, Any]:
    """Captions the same photographs with each of `engines`, one after another, each in a new process.

    Args:
        folder: of the photographs, which are repeated if they are fewer. None for those of the gallery.
        captioning: with which captioner; its `out` is not used.

    Returns:
        `rows`, for each of `engines`: photographs per second of the whole run, and while all workers were at work;
        milliseconds per photograph by phase; CPU milliseconds; peak megabytes of all processes (shared pages counted
        once).
    """
    rows = []
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "photographs"
        link(folder, photographs, corpus)
        for number, workers in enumerate(engines):
            into = replace(captioning, out=Path(place) / str(number))
            done, peak = _watch(Corpus(corpus, part=PART), into, workers)
            count = workers.workers or count_cores()
            phases = {phase: 1000 * done.spent[phase] / done.photographs for phase in PHASES}
            rows.append(
                {
                    "engine": workers.engine,
                    "workers": count,
                    "threads": 1 if workers.engine == "ray" else max(1, count_cores() // count),
                    "photographs_per_s": done.photographs / done.seconds,
                    "photographs_per_s_at_work": 1000 * count / sum(phases.values()),
                    "milliseconds": phases,
                    "cpu_milliseconds": 1000 * done.spent[CPU] / done.photographs,
                    "megabytes": peak / 2**20,
                }
            )
    return {"photographs": photographs, "cores": count_cores(), "rows": rows}


def link(folder: Path | None, photographs: int, corpus: Path) -> None:
    """Fills a new folder with links to `photographs` photographs of `folder`, which are repeated if they are fewer."""
    first = next(divide((folder or STUDIO / "app" / "photographs").absolute(), "path", photographs), None)
    files = [held for _, held in first.photographs if isinstance(held, Path)] if first else []
    if not files:
        raise GliedError(f"Expected photographs in {shown(str(folder), 300)}, found none; check the path.")
    corpus.mkdir()
    for i, file in enumerate(islice(cycle(files), photographs)):
        (corpus / f"{i:08d}{file.suffix}").symlink_to(file)


def _watch(corpus: Corpus, captioning: Captioning, workers: Workers) -> tuple[Summary, int]:
    """Captions a corpus in a process of its own: its summary, and the peak memory of it and its children, in bytes."""
    peak = 0
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        running = pool.submit(caption_corpus, corpus, captioning, workers)
        [process] = (psutil.Process(child.pid) for child in multiprocessing.active_children())
        while not wait([running], timeout=0.5).done:
            peak = max(peak, sum(map(_memory, [process, *process.children(recursive=True)])))
        return running.result(), peak


def _memory(process: psutil.Process) -> int:
    try:
        held = process.memory_full_info()
    except psutil.Error:  # it has just ended
        return 0
    return int(getattr(held, "pss", held.uss))


def table(result: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [
        f"{result['photographs']} photographs, {result['cores']} cores",
        "engine    workers threads  photographs/s: whole run, at work  ms a photograph: "
        + " ".join(f"{phase:>8s}" for phase in PHASES)
        + "  CPU ms  peak MB",
    ]
    for row in result["rows"]:
        phases = " ".join(f"{ms:8.1f}" for ms in row["milliseconds"].values())
        lines.append(
            f"{row['engine']:9s} {row['workers']:7d} {row['threads']:7d} {row['photographs_per_s']:25.2f} "
            f"{row['photographs_per_s_at_work']:8.2f}  {'':17s}{phases} {row['cpu_milliseconds']:7.0f} "
            f"{row['megabytes']:8.0f}"
        )
    return "\n".join(lines)
