"""What a part of the stress run found, and the report of all parts."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from glied.files import replacing

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 20  # failures listed in the Markdown


@dataclass(frozen=True)
class Found:
    """What one part found.

    Attributes:
        title: what was done.
        promise: what must hold of every case.
        cases: how many were tried.
        failures: one sentence for each case of which it did not hold.
        figures: whatever else was measured, by name.
    """

    title: str
    promise: str
    cases: int
    failures: Sequence[str]
    figures: Mapping[str, object] = field(default_factory=dict)


def write(parts: Mapping[str, Found], path: Path) -> None:
    """The report as JSON at `path`, and as Markdown beside it. Parts of an earlier report that are not run now stay."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    known.pop("machine", None)
    known |= {name: asdict(found) for name, found in parts.items()}
    with replacing(path) as aside:
        aside.write_text(json.dumps({"machine": machine(), **known}, indent=1, ensure_ascii=False), encoding="utf-8")
    with replacing(path.with_suffix(".md")) as aside:
        aside.write_text(markdown(known), encoding="utf-8")


def machine() -> dict[str, str]:
    """Where the figures come from."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {"commit": commit.stdout.strip(), "python": platform.python_version(), "system": platform.system()}


def markdown(parts: Mapping[str, Mapping]) -> str:
    """A table of all parts, then the figures and failures of each."""
    lines = ["| part | cases | failed | what must hold |", "|---|---|---|---|"]
    lines += [f"| {p['title']} | {p['cases']:,} | {len(p['failures'])} | {p['promise']} |" for p in parts.values()]
    for part in parts.values():
        lines += ["", f"## {part['title']}", ""]
        lines += [f"- {name}: {value}" for name, value in part["figures"].items()]
        lines += [f"- failed: {failure}" for failure in part["failures"][:SHOWN]]
        if len(part["failures"]) > SHOWN:
            lines.append(f"- and {len(part['failures']) - SHOWN} more failures")
    return "\n".join(lines) + "\n"
