"""The reports of `python -m glied evaluate` that lie beside the checkpoints."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.scores import alike
from app.engine.ask import engine
from glied.errors import GliedError
from glied.evaluation.report import read_report

Images = Mapping[str, Mapping[str, Any]]  # photograph -> its caption and scores


def reports(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Captioner ("glied-rl", ...) -> the report NAME.json beside its checkpoint, of that very checkpoint."""
    found = {name: report_or_why(folder, name) for name in engine().models}
    return {name: report for name, report in found.items() if not isinstance(report, str)}


def comparable(left: str, right: str) -> tuple[Images, Images]:
    """The photographs of the reports of two captioners; none where a report is missing or they do not compare."""
    found = reports(engine().folder)
    if left not in found or right not in found or not alike(found[left], found[right]):
        return {}, {}
    return found[left]["images"], found[right]["images"]


def report_or_why(folder: Path, name: str) -> Mapping[str, Any] | str:
    """The report of a captioner; where there is none, a sentence that says why and what to do."""
    file = folder / f"{name}.json"
    command = (
        f"`python -m glied evaluate --data DIR --split val --checkpoint {folder.name}/{name}.safetensors "
        f"--grounding --json {folder.name}/{name}.json`"
    )
    if not file.is_file():
        return f"{engine().titles[name]} has no report yet. {command} writes one."
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


@lru_cache(maxsize=8)
def _read(file: Path, _changed: int) -> Mapping[str, Any]:
    return read_report(file)
