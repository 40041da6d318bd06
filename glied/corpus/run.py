"""A corpus -> a folder of Parquet: the names of its files say which parts are done; workers do the others."""

import hashlib
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glied.corpus.options import Captioning, Corpus
from glied.corpus.photographs import PARQUET, divide
from glied.errors import GliedError
from glied.files import replacing, to_json
from glied.records import read_json, reason, refuse, shown
from glied.terminal import track
from glied.workers import Workers, spread

OPTIONS = "_options.json"  # readers of Parquet leave out what begins so
FORMAT = "glied-captions-1"
PART = re.compile(rf"part-(\d{{8,}})-([0-9a-f]{{12}})\{PARQUET}")


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        photographs: number that it captioned. `failed`: those of them that could not be read. `before`: number that
            earlier runs had captioned.
        seconds: of the whole run. `spent`: seconds of all workers together, by phase.
    """

    photographs: int
    failed: int
    before: int
    seconds: float
    spent: dict[str, float]


def caption_corpus(corpus: Corpus, captioning: Captioning, workers: Workers = Workers()) -> Summary:
    """Captions every photograph of a corpus that has no row in `captioning.out` yet, each exactly once.

    Can be killed at any moment: each part is written aside and renamed, and its name says which photographs it holds.

    Raises:
        GliedError: the corpus cannot be read, or the folder was begun with other options or photographs.
    """
    start = time.perf_counter()
    out = captioning.out
    if corpus.place.resolve() == out.resolve():
        raise GliedError(f"Expected another folder than the corpus {shown(str(out), 300)}; name another --out.")
    options, done = _describe(corpus, captioning), _find_done(out)
    if begun := bool(done):
        _compare(out, options)
    total, before, left = 0, 0, 0
    for part in divide(corpus.place, corpus.column, corpus.part):
        count, known = len(part.photographs), done.pop(part.number, None)
        if known not in (None, part.digest):
            raise _changed(corpus, out)
        total, before, left = total + count, before + count * (known is not None), left + (known is None)
    if not total:
        raise GliedError(f"Expected photographs in {shown(str(corpus.place), 300)}, found none; check the path.")
    if done:
        raise _changed(corpus, out)
    if not begun:
        with replacing(out / OPTIONS) as aside:
            aside.write_text(to_json(options, 1) + "\n", encoding="utf-8")
    parts = (p for p in divide(corpus.place, corpus.column, corpus.part) if not (out / p.file).exists())
    photographs, failed = 0, 0
    spent: dict[str, float] = {}
    bar = track(total=total, initial=before, desc="captions", unit="image", disable=not left)
    for told in spread(captioning, parts, workers, left) if left else ():
        bar.update(told.photographs)
        photographs, failed = photographs + told.photographs, failed + told.failed
        spent = {phase: spent.get(phase, 0.0) + seconds for phase, seconds in told.seconds.items()} or spent
    bar.close()
    for aside in out.glob(f".part-*{PARQUET}.*.part"):  # of runs that were killed
        with suppress(FileNotFoundError):
            aside.unlink()
    return Summary(photographs, failed, before, time.perf_counter() - start, spent)


def _find_done(out: Path) -> dict[int, str]:
    """Number -> digest of the parts in a folder, by their names."""
    try:
        names = os.listdir(out)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise refuse("a folder of captions", out, reason(error), "name another --out") from error
    return {int(found[1]): found[2] for name in names if (found := PART.fullmatch(name))}


def _changed(corpus: Corpus, out: Path) -> GliedError:
    return GliedError(
        f"Expected the photographs that {shown(str(out), 300)} was begun with in {shown(str(corpus.place), 300)}, some "
        "were added, renamed or removed; undo that, or name another --out."
    )


def _describe(corpus: Corpus, captioning: Captioning) -> dict[str, Any]:
    """The options that the rows depend on, as the file in the folder holds them."""
    options = {"format": FORMAT, "corpus": str(corpus.place.resolve()), "column": corpus.column, "part": corpus.part}
    for name in ("checkpoint", "attributes"):
        file = getattr(captioning, name)
        try:
            with open(file, "rb") as content:
                options[name] = hashlib.file_digest(content, "sha256").hexdigest()[:12]
        except OSError as error:
            raise refuse("a checkpoint", file, reason(error), "check the path") from error
    options = {**options, **asdict(captioning.decoding), "traces": captioning.traces}
    return dict(json.loads(to_json(options)))  # as they are read again: a list for each tuple


def _compare(out: Path, options: dict[str, Any]) -> None:
    """Raises GliedError unless these are the options in the folder."""
    known, _ = read_json(out / OPTIONS, "the options of its captions", "name another --out")
    for name, value in options.items():
        old = known.get(name) if isinstance(known, dict) else None
        if old != value:
            raise GliedError(
                f"Expected the options that {shown(str(out), 300)} was begun with ({name}: {shown(old)}), got "
                f"{shown(value)}; give the same, or another --out."
            )
