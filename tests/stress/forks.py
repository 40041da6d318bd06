"""Commands of the command line in forks of this process, which has imported everything: a run starts at once."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LIMIT = 600.0  # seconds after which a run counts as hanging


@dataclass(frozen=True)
class Task:
    """A command that writes.

    Attributes:
        arguments: of the command, which runs in an empty folder.
        results: pattern of the files that it must leave in that folder.
        printed: the file there to which its standard output goes.
    """

    arguments: tuple[str, ...]
    results: str
    printed: str = ""


class Ended(NamedTuple):
    """How a run ended: its exit status (negative: the signal), what it wrote to standard error, and its seconds."""

    status: int
    errors: str
    seconds: float


def run(task: Task, folder: Path, kill_after: float | None = None, full_from: int | None = None) -> Ended:
    """Runs `python -m glied ARGUMENTS` of a task in `folder`.

    Args:
        kill_after: seconds after which it is killed.
        full_from: the write below `folder` from which on the disk is full; 0 for never. The number of writes goes to
            the file `writes` beside `folder`.
    """

    def command() -> int:
        from glied.__main__ import main

        os.chdir(folder)
        sys.argv = ["glied", *task.arguments]
        if task.printed:
            os.dup2(os.open(task.printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
        if full_from is not None:
            ctypes.CDLL(None).full_arm(f"{folder}/".encode(), full_from)
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        if full_from is not None:
            calls = ctypes.CDLL(None).full_calls()
            ctypes.CDLL(None).full_arm(b"", 0)
            folder.with_name(f"{folder.name}.writes").write_text(str(calls))
        return status

    return fork(command, folder.with_name(f"{folder.name}.log"), kill_after)


def fork(command: Callable[[], int], log: Path, kill_after: float | None = None) -> Ended:
    """Runs `command` in a fork; what it prints goes to `log`."""
    sys.stdout.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _live(command, log)
    status = _wait(child, start + (LIMIT if kill_after is None else kill_after))
    return Ended(status, log.read_text(errors="replace"), time.monotonic() - start)


def _live(command: Callable[[], int], log: Path) -> None:
    """The life of a fork: never returns."""
    status = 70
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with its parent
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(file, 2)
        status = command()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, until: float) -> int:
    """The exit status of a fork, which is killed at that time of the monotonic clock."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
