"""Tasks spread over workers: processes of this machine, or actors of Ray Data on this machine or a cluster.

Tasks are taken from their iterator a few ahead of the workers, so there may be any number of them.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

from tyro.conf import arg

from glied.errors import GliedError, within

Task = TypeVar("Task")
Result = TypeVar("Result")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
WINDOW = 1000  # tasks that Ray Data is given at once: actors load their models anew for each window
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics are sent
    "RAY_worker_niceness": "0",  # its actors would wait for all others, whole minutes on a busy machine
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # a remark on each actor pool
}


@runtime_checkable
class Work(Protocol[In, Out]):
    """What every worker does. A frozen value, because it is sent to the workers."""

    def open(self) -> Callable[[In], Out]:
        """Loads what the work needs, once in each worker, and returns the function that does a task."""
        ...


@dataclass(frozen=True)
class Workers:
    """How work is spread.

    Attributes:
        workers: how many; None for the cores of this machine, or of the cluster.
        engine: `processes` of this machine, or `ray`.
        address: of a Ray cluster; None for a Ray of this machine alone.
    """

    workers: Annotated[int | None, arg(help="number of processes, or of Ray actors; default: one per core")] = None
    engine: Annotated[Literal["processes", "ray"], arg(help="what runs them; ray needs the extra [ray]")] = "processes"
    address: Annotated[str | None, arg(help="address of a Ray cluster; default: Ray on this machine alone")] = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            within(self, workers=(1, 10_000))
        if self.address is not None and self.engine != "ray":
            raise GliedError(f"Expected --engine ray with --address, got {self.engine}; name the engine too.")


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    work: Work[Task, Result], tasks: Iterable[Task], workers: Workers = Workers(), most: int | None = None
) -> Iterator[Result]:
    """What the tasks find, in the order in which they end.

    Args:
        most: how many tasks there are, if that is known: no more workers are started.

    Raises:
        GliedError: a task raised it, or a process was killed. (Ray restarts a killed actor and its task.)
    """
    if workers.engine == "ray":
        yield from _spread_on_ray(work, tasks, workers)
        return
    count = min(workers.workers or count_cores(), most or 10_000)
    if count == 1:
        yield from map(work.open(), tasks)
    else:
        yield from _spread_over_processes(work, tasks, count)


def _spread_over_processes(work: Work[Task, Result], tasks: Iterable[Task], count: int) -> Iterator[Result]:
    spawn, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    threads = max(1, count_cores() // count)
    with ProcessPoolExecutor(count, spawn, _start, (threads,)) as pool:
        waiting: set[Future[Result]] = set()
        try:
            for task in tasks:
                waiting.add(pool.submit(_perform, work, task))
                if len(waiting) == 2 * count:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise GliedError(
                "A worker was killed, perhaps for want of memory; start the same command again, with fewer workers if "
                "need be: it goes on where it was."
            ) from error
        finally:
            if waiting:  # their results are no longer needed
                for child in set(multiprocessing.active_children()) - others:
                    child.kill()


def _start(threads: int) -> None:
    """Prepares a new process: it ends when its parent ends, and computes with this number of threads."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began this one ends it
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # as if killed: whatever is on disk is whole

    threading.Thread(target=follow, daemon=True).start()


@lru_cache(1)
def _open(work: Work[Task, Result]) -> Callable[[Task], Result]:
    return work.open()


def _perform(work: Work[Task, Result], task: Task) -> Result:
    return _open(work)(task)  # type: ignore[arg-type]  # frozen, so that it can be a key


class _Actor:
    """A worker of Ray Data: does the tasks of a batch. An error that a person can act on comes back as its sentence."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        try:
            return {"found": [_perform(self.work, task) for task in batch["item"]], "error": [""] * len(batch["item"])}
        except GliedError as error:
            return {"found": [None], "error": [str(error)]}


def _reach(address: str | None) -> None:
    """Refuses a cluster that does not answer: Ray itself tries for two minutes."""
    host, found, port = (address or "").removeprefix("ray://").rpartition(":")
    if not found or not port.isdigit():
        return  # not the address of a machine, for example `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise GliedError(f"Expected a Ray cluster at {address}, none answers ({error}); check --address.") from error


def _spread_on_ray(work: Work[Task, Result], tasks: Iterable[Task], workers: Workers) -> Iterator[Result]:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise GliedError(
            "--engine ray needs Ray, which is not installed; run pip install 'glied-studio[ray]' or leave --engine out."
        ) from error
    _reach(workers.address)
    passed = {name: os.environ[name] for name in ("GLIED_DETECTOR", "GLIED_ENGINE") if name in os.environ}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": passed}}
    if workers.address is None:  # one more than the actors take, for Ray itself
        options |= {"num_cpus": 1 + (workers.workers or count_cores()), "include_dashboard": False}
    try:
        ray.init(workers.address, **options)
    except Exception as error:  # it raises many kinds, also Exception itself
        place = f"a Ray cluster at {workers.address}" if workers.address else "Ray to start on this machine"
        raise GliedError(f"Expected {place}, got none ({error}); check --address, or try again.") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it prints all its plans
        count = workers.workers or (int(ray.cluster_resources()["CPU"]) if workers.address else count_cores())
        rest = iter(tasks)
        while window := list(islice(rest, WINDOW)):
            rows = ray.data.from_items([{"item": task} for task in window], override_num_blocks=len(window))
            pool = ray.data.ActorPoolStrategy(size=min(count, len(window)))
            done = rows.map_batches(_Actor, batch_size=1, compute=pool, fn_constructor_args=(work,), num_cpus=1)
            for row in done.iter_rows():
                if row["error"]:
                    raise GliedError(row["error"])
                yield row["found"]
    finally:
        ray.shutdown()
