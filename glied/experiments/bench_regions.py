"""Milliseconds of finding regions, phase by phase and engine beside engine, on the same photographs in one run."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from glied.images import open_image
from glied.regions import Engine, detector
from glied.regions.detector import SHIPPED, Detector, Networks
from glied.scene import Regions
from glied.training.loop import fastest

ROUNDS = 3  # of which the fastest counts, photograph by photograph
# functions of glied/regions/detector.py, and the phase that each belongs to
PHASES = {
    "to_pixels": "pixels",
    "choose_proposals": "proposals",
    "soft_nms": "soft-NMS",
    "_pool": "means over boxes",
}
ALL = "all"
PROCESSOR = "processor time"  # of all threads; other work on the machine hardly changes it


def regions(photographs: Sequence[Path]) -> dict[str, Any]:
    """Each engine finds the regions of every photograph, in turn.

    Returns:
        `rows`, one for each engine and precision: milliseconds per photograph in all and by phase, and how far its
        regions are from those of torch in float32. Where ImageNet's network runs beside the detector's, its phase is
        the time spent waiting for it.
    """
    precisions = (False, True) if fastest() == "bf16" else (False,)
    engines: tuple[Engine, ...] = ("torch", "openvino") if find_spec("openvino") else ("torch",)
    opened, sources = {}, {}
    for engine in engines:
        for bf16 in precisions:
            start = time.perf_counter()
            sources[engine, bf16] = Detector(SHIPPED, engine=engine, bf16=bf16)
            opened[engine, bf16] = time.perf_counter() - start
    images = [open_image(path) for path in photographs]
    times: dict[tuple, list[list[dict[str, float]]]] = {key: [[] for _ in images] for key in sources}
    found: dict[tuple, list[Regions]] = {
        key: [source.find_regions(image) for image in images] for key, source in sources.items()
    }
    for _ in range(ROUNDS):
        for i, image in enumerate(images):
            for key, source in sources.items():
                start, worked = time.perf_counter(), time.process_time()
                source.find_regions(image)
                whole = {ALL: time.perf_counter() - start, PROCESSOR: time.process_time() - worked}
                times[key][i].append(whole | _by_phase(source, image))
    plain = found["torch", False]
    return {
        "threads": torch.get_num_threads(),
        "photographs": len(images),
        "rows": [
            {
                "engine": engine,
                "precision": "bf16" if bf16 else "fp32",
                "open_seconds": opened[engine, bf16],
                "ms": {phase: _mean(times[engine, bf16], phase) for phase in times[engine, bf16][0][0]},
                **_difference(plain, found[engine, bf16]),
            }
            for engine, bf16 in sources
        ],
    }


def _mean(times: list[list[dict[str, float]]], phase: str) -> float:
    """Milliseconds of a phase: the fastest round of each photograph, the mean of the photographs."""
    return float(np.mean([1000 * min(each[phase] for each in rounds) for rounds in times]))


def _difference(plain: Sequence[Regions], other: Sequence[Regions]) -> dict[str, float]:
    pairs = list(zip(plain, other, strict=True))
    return {
        "largest_box_difference": float(max(np.abs(a.boxes - b.boxes).max() for a, b in pairs)),
        "largest_feature_difference": float(max(np.abs(a.features - b.features).max() for a, b in pairs)),
        "same_labels": float(np.mean([x == y for a, b in pairs for x, y in zip(a.labels, b.labels, strict=True)])),
    }


def _by_phase(source: Detector, image: Any) -> dict[str, float]:
    """Seconds of each phase of one photograph, in the order of their first calls."""
    spent: dict[str, float] = defaultdict(float)

    def timed(work: Callable, phase: str) -> Callable:
        def measured(*args: Any) -> Any:
            start = time.perf_counter()
            result = work(*args)
            spent[phase] += time.perf_counter() - start
            return result

        return measured

    def begun(begin: Callable, phase: str) -> Callable:
        return lambda x: timed(begin(x), phase)

    maps, head = source.networks
    with ExitStack() as stack:
        for name, phase in PHASES.items():
            stack.enter_context(patch.object(detector, name, timed(getattr(detector, name), phase)))
        stack.enter_context(patch.object(source, "networks", Networks(begun(maps, "detector"), begun(head, "head"))))
        stack.enter_context(patch.object(source, "general", begun(source.general, "ImageNet's network")))
        start = time.perf_counter()
        source.find_regions(image)
        whole = time.perf_counter() - start
    return {**spent, "the rest": whole - sum(spent.values())}


def table(result: dict[str, Any]) -> str:
    """The figures as a table to read, in milliseconds per photograph."""
    rows = result["rows"]
    names = [f"{row['engine']} {row['precision']}" for row in rows]
    lines = [
        f"{result['photographs']} photographs, {result['threads']} threads; milliseconds per photograph",
        " " * 26 + "".join(f"{name:>16s}" for name in names),
        *(f"{phase:26s}" + "".join(f"{row['ms'][phase]:16.1f}" for row in rows) for phase in rows[0]["ms"]),
        *(
            f"{f'{phase}, of the first':26s}"
            + "".join(f"{row['ms'][phase] / rows[0]['ms'][phase]:16.0%}" for row in rows)
            for phase in (ALL, PROCESSOR)
        ),
        f"{'same labels':26s}" + "".join(f"{row['same_labels']:16.1%}" for row in rows),
    ]
    for key, title in (
        ("largest_box_difference", "box, px, at most"),
        ("largest_feature_difference", "feature, at most"),
    ):
        lines.append(f"{title:26s}" + "".join(f"{row[key]:16.1g}" for row in rows))
    lines.append(f"{'seconds to open':26s}" + "".join(f"{row['open_seconds']:16.1f}" for row in rows))
    return "\n".join(lines)
