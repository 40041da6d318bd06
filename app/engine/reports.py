"""The reports of `python -m glied evaluate` that lie beside the checkpoints."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.scores import are_comparable
from app.engine.ask import engine, name_here
from glied.errors import GliedError
from glied.evaluation.report import read_report

Images = Mapping[str, Mapping[str, Any]]  # photograph -> its caption and scores


def report_files(folder: Path) -> dict[str, str]:
    """Data set and split of the reports in a folder -> what their files are called after the captioner's name: ""
    for NAME.json, ".coco" for NAME.coco.json."""
    models = engine().models
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: (len(file.name), file.name)):
        name = next((name for name in models if file.stem == name or file.stem.startswith(f"{name}.")), None)
        if name and (file.stem == name or file.stem not in models):
            try:
                report = _read(file, file.stat().st_mtime_ns)
            except GliedError:
                continue
            found.setdefault(file.stem.removeprefix(name), f"{report['data']} {report['split']}")
    return {title: kind for kind, title in found.items()}


def reports(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Captioner ("glied-rl", ...) -> the report NAME.json beside its checkpoint, of that very checkpoint."""
    found = {name: report_or_why(folder, name) for name in engine().models}
    return {name: report for name, report in found.items() if not isinstance(report, str)}


def comparable(left: str, right: str) -> list[tuple[Images, Images]]:
    """The photographs of the reports of two captioners, by data set, where both have one and they compare."""
    folder = engine().folder
    pairs = [[report_or_why(folder, name, kind) for name in (left, right)] for kind in report_files(folder).values()]
    read = [[report for report in pair if not isinstance(report, str)] for pair in pairs]
    return [(pair[0]["images"], pair[1]["images"]) for pair in read if len(pair) == 2 and are_comparable(*pair)]


def reported_key_shares(checkpoint: str) -> tuple[str, dict[str, float]]:
    """The first data set and split whose report has key shares of the captioner with this digest, and the mean key
    share of each of its attention functions; empty where no report has them."""
    name = name_here(checkpoint)
    if name is None:
        return "", {}
    folder = engine().folder
    for title, kind in report_files(folder).items():
        report = report_or_why(folder, name, kind)
        shares = {} if isinstance(report, str) else report.get("grounding", {}).get("key_share", {})
        if shares:
            return title, {function: mean["mean"] for function, mean in shares.items()}
    return "", {}


def report_or_why(folder: Path, name: str, kind: str = "") -> Mapping[str, Any] | str:
    """The report of a captioner; if there is none, a sentence that says why and what to do.

    Args:
        kind: what the report's file is called after the captioner's name (see `report_files`).
    """
    file = folder / f"{name}{kind}.json"
    command = (
        f"`python -m glied evaluate --data DIR --split val --checkpoint {folder.name}/{name}.safetensors "
        f"--grounding --json {folder.name}/{file.name}`"
    )
    if not file.is_file():
        return f"{engine().titles[name]} has no report{' of this data set' if kind else ' yet'}. {command} writes one."
    try:
        report = _read(file, file.stat().st_mtime_ns)
    except GliedError:
        return f"The report {file.name} could not be read. {command} writes another."
    own = engine().models[name].digest
    if report["checkpoint"] != own:
        return (
            f"The report {file.name} is of another checkpoint ({report['checkpoint']}, this one is {own}). "
            f"{command} writes another."
        )
    return report


@lru_cache(maxsize=64)
def _read(file: Path, _changed: int) -> Mapping[str, Any]:
    return read_report(file)
