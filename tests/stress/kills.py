"""Kills at random moments: every long command is killed, started again, and must end as if it never was."""

import random
import shutil
import tempfile
from pathlib import Path

from stress.forks import run
from stress.report import Found
from stress.world import make_world, results

LONG = ("extract", "convert", "train attributes", "train base", "train glied", "train text", "train rl")
LONG += ("train detector", "evaluate", "pack", "bench pair")


def kill(count: int, seed: int) -> Found:
    """`count` kills, spread over the long commands; a run is killed up to three times before it may end."""
    chance = random.Random(seed)
    failures: list[str] = []
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tasks = make_world(folder)
        killed = dict.fromkeys(LONG, 0)
        expected, seconds = {}, {}
        for name in LONG:
            work = folder / "whole"
            work.mkdir()
            ended = run(tasks[name], work)
            assert ended.status == 0, f"{name}: {ended.errors}"
            expected[name], seconds[name] = results(work, tasks[name]), ended.seconds
            shutil.rmtree(work)
        while sum(killed.values()) < count:
            name = min(LONG, key=killed.__getitem__)
            work = folder / "killed"
            work.mkdir()
            moments = []
            for _ in range(chance.choice((1, 1, 2, 3))):
                moment = chance.uniform(0, seconds[name])
                if run(tasks[name], work, kill_after=moment).status >= 0:
                    break  # it ended before
                moments.append(f"{moment:.2f}")
                killed[name] += 1
            ended = run(tasks[name], work)
            case = f"{name} killed after {' and '.join(moments) or 'no'} s (of {seconds[name]:.2f})"
            if ended.status != 0:
                failures.append(f"{case}: then status {ended.status}: {ended.errors[-300:]}")
            elif results(work, tasks[name]) != expected[name]:
                failures.append(f"{case}: another result")
            shutil.rmtree(work)
            print(f"{sum(killed.values())} of {count} kills, {len(failures)} failures", *failures[-1:], flush=True)
        figures |= {f"kills of {name} ({seconds[name]:.1f} s)": killed[name] for name in LONG}
    promise = "started again, the command ends with the result of a run that was never killed, bit for bit"
    return Found("Kills at random moments", promise, sum(killed.values()), failures, figures)
