"""`make stress`: everything that real machines do to this project, and one report of it as JSON and Markdown.

Parts can be run alone; the others keep what an earlier run found.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PARTS = ("files", "kills", "disk", "visitors", "clicks", "corpus")


def main() -> None:
    """Runs the parts one after another; the report is written after each."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/stress.json"), help="the report; .md beside it")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--files", type=int, default=20_000, help="mutated files")
    parser.add_argument("--kills", type=int, default=100, help="kills")
    parser.add_argument("--writes", type=int, default=40, help="writes of a command at which the disk is full, at most")
    parser.add_argument("--visitors", type=int, default=32, help="visitors at once")
    parser.add_argument("--minutes", type=float, default=10, help="how long they stay")
    parser.add_argument("--clicks", type=int, default=5_000, help="clicks of one visitor")
    parser.add_argument("--corpus", type=Path, help="folder of photographs; default: the gallery's")
    parser.add_argument("--photographs", type=int, default=10_000, help="how many of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare(options.only)
    from stress import corpus, files, kills, report, visitors  # after prepare: they import torch
    from stress.disk import fill

    runs = {
        "files": lambda: files.mutate(options.files, options.seed),
        "kills": lambda: kills.kill(options.kills, options.seed),
        "disk": lambda: fill(options.writes),
        "visitors": lambda: visitors.visit(options.visitors, options.minutes, options.seed),
        "clicks": lambda: visitors.click(options.clicks),
        "corpus": lambda: corpus.caption(options.corpus, options.photographs),
    }
    failed = 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        print(f"{name} ...", flush=True)
        found = runs[name]()
        report.write({name: found}, options.out)
        print(f"{name}: {found.cases} cases, {len(found.failures)} failures; see {options.out}", flush=True)
        failed += len(found.failures)
    sys.exit(failed > 0)


def prepare(parts: Sequence[str]) -> None:
    """Starts this process again with one thread and, for a full disk, with the library that fills it before others."""
    if os.environ.get("STRESS") == "prepared":
        return
    from stress.disk import build_shim

    os.environ |= {"STRESS": "prepared", "OMP_NUM_THREADS": "1"}
    if "disk" in parts:
        shim = build_shim(Path(tempfile.mkdtemp(prefix="stress-")))
        if shim is None:
            sys.exit("Expected a C compiler, cc or gcc, to fill the disk, found none; install one, or leave disk out.")
        os.environ["LD_PRELOAD"] = str(shim)
    os.execv(sys.executable, [sys.executable, "-m", "stress", *sys.argv[1:]])


if __name__ == "__main__":
    main()
