"""Reports of `evaluate` -> Markdown: Table 1 of the paper, ours on our data, and how sure the differences are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glied.errors import GliedError
from glied.metrics import METRICS, interval, paired

# Table 1 of the paper (slides; * an ensemble), on MSCOCO, Karpathy's test split; - where it gives none.
PAPER = """
| SCST*, cross-entropy | - | - | - | 32.8 | 26.7 | 55.1 | 106.5 | - |
| Up-Down, cross-entropy | 77.2 | - | - | 36.2 | 27.0 | 56.4 | 113.5 | 20.3 |
| RFNet*, cross-entropy | 77.4 | - | - | 37.0 | 27.9 | 57.3 | 116.3 | 20.8 |
| GCN-LSTM, cross-entropy | 77.4 | - | - | 37.1 | 28.1 | 57.2 | 117.1 | 21.1 |
| Base, cross-entropy | 77.0 | - | - | 36.3 | 27.6 | 56.6 | 113.5 | 20.6 |
| GLIED, cross-entropy | 77.8 | - | - | 37.9 | 28.3 | 57.6 | 118.2 | 21.2 |
| SCST*, self-critical | - | - | - | 35.4 | 27.1 | 56.6 | 117.5 | - |
| Up-Down, self-critical | 79.8 | - | - | 36.3 | 27.7 | 56.9 | 120.1 | 21.4 |
| RFNet*, self-critical | 80.4 | - | - | 37.9 | 28.3 | 58.3 | 125.7 | 21.7 |
| GCN-LSTM, self-critical | 80.9 | - | - | 38.3 | 28.6 | 58.5 | 128.7 | 22.1 |
| GLIED, self-critical | 80.4 | - | - | 39.6 | 28.9 | 58.8 | 129.3 | 22.6 |
""".strip()
HEAD = "| | B-1 | B-2 | B-3 | B-4 | METEOR | ROUGE-L | CIDEr | SPICE |\n|" + "---|" * 9
COMPARED = ("CIDEr", "ROUGE_L", "METEOR")  # metrics with a score for each photograph


def read_report(path: Path) -> dict[str, Any]:
    """A report that `evaluate` wrote."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not {"scores", "images", "title", "checkpoint", "data", "split"} <= report.keys():
            raise ValueError("some of its parts are missing")
        return report
    except (OSError, ValueError, AttributeError) as error:
        raise GliedError(f"Expected a report of `evaluate` in {path}, could not read one ({error}).") from error


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """Table 1 and the paired differences of reports of the same photographs."""
    first = reports[0]
    for other in reports[1:]:
        if (other["data"], other["split"], other["images"].keys()) != (
            first["data"],
            first["split"],
            first["images"].keys(),
        ):
            raise GliedError(
                f"Expected reports of the same photographs, got {first['data']} {first['split']} "
                f"({len(first['images'])}) and {other['data']} {other['split']} ({len(other['images'])}); "
                "evaluate again."
            )
    parts = [
        "# Captions and their scores",
        "Every score times 100. The paper and we measured different photographs: compare within a table, not across.",
        "## The paper's Table 1: MSCOCO, Karpathy's test split (* an ensemble)",
        f"{HEAD}\n{PAPER}",
        f"## Ours: {first['data']} {first['split']}, {len(first['images'])} photographs",
        "\n".join([HEAD, *map(_row, reports)]),
    ]
    parts += [f"{name}: {sentence}" for name, (_, sentence) in first["missing"].items()]
    words = {"ptb": "coco-caption's tokenizer", "python": "our tokenizer, for want of Java"}
    parts += [f"Words were cut by {words[first['tokenizer']]}; METEOR and SPICE are 1.5 and 1.0."]
    lines = ["| | CIDEr, 95 % interval | perplexity | " + " | ".join(first["habits"]) + " |"]
    lines += ["|" + "---|" * (3 + len(first["habits"]))]
    for report in reports:
        low, high = interval(_column(report, "CIDEr"))
        lines.append(
            f"| {report['title']} | {100 * low:.1f} to {100 * high:.1f} | {report['perplexity']:.1f} | "
            + " | ".join(f"{value:.3g}" for value in report["habits"].values())
            + " |"
        )
    human = " | ".join(f"{first['human_habits'].get(name, float('nan')):.3g}" for name in first["habits"])
    parts += ["\n".join([*lines, f"| people, first caption | | | {human} |"])]
    if len(reports) > 1:
        parts += ["## Differences on the same photographs", differences(reports)]
    grounded = {report["title"]: report["grounding"] for report in reports if "grounding" in report}
    if grounded:
        parts += ["## Is the attention true?", *_grounding(grounded)]
    return "\n\n".join(parts) + "\n"


def _grounding(grounded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The measures of grounding.py as tables."""
    cell = lambda m: "-" if m["mean"] is None else f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"  # noqa: E731
    names = ("global", "local", "chance", "centre", "ceiling")
    lines = ["| most attended region covers the object | " + " | ".join(names) + " |", "|" + "---|" * 6]
    for title, found in grounded.items():
        for kind, each in found["pointing"].items():
            cells = [cell(each[name]) if name in each else "-" for name in names]
            lines.append(f"| {title}: {kind} captions | " + " | ".join(cells) + " |")
    tables = ["\n".join(lines)]
    some = next(iter(grounded.values()))["deletion"]
    counts = [each["removed"] for each in next(iter(some.values()))["attended"]]
    lines = ["| fall of log p without | " + " | ".join(map(str, counts)) + " |", "|" + "---|" * (1 + len(counts))]
    for title, found in grounded.items():
        for sense, orders in found["deletion"].items():
            for order, each in orders.items():
                name = f"most attended {sense}" if order == "attended" else f"{sense} at random"
                lines.append(f"| {title}: {name} | " + " | ".join(f"{m['mean']:.3f}" for m in each) + " |")
    tables.append("\n".join(lines))
    for title, found in grounded.items():
        if "groupings" not in found:
            continue
        lifts = [f"{name} {cell(found['groupings'][name])}" for name in ("same", "others", "near")]
        pairs = found["collocations"]
        within = cell(pairs["rank_correlation_within_pivots"])
        tables.append(
            f"{title}: lift of a region's group on regions of the same entity, of others in the sentence, and on as "
            f"many of the nearest that are of none: {', '.join(lifts)}. Collocations against mutual information in the "
            f"captions, rank correlation over {len(pairs['pairs'])} pairs: {pairs['rank_correlation'] or 0:.3f}; "
            f"within pivots {within}."
        )
        for name in ("strongest", "learned_but_rare", "frequent_but_unlearned"):
            said = [f"{p['pivot']} {p['attribute']} ({p['lift']:.1f}, {p['pmi']:+.1f})" for p in pairs[name]]
            tables.append(f"{name.replace('_', ' ').capitalize()} (lift, mutual information): {'; '.join(said)}.")
    return tables


def _row(report: Mapping[str, Any]) -> str:
    scores = [report["scores"].get(name) for name in METRICS]
    cells = " | ".join("-" if value is None else f"{100 * value:.1f}" for value in scores)
    return f"| {report['title']} (`{report['checkpoint']}`) | {cells} |"


def _column(report: Mapping[str, Any], metric: str) -> np.ndarray:
    return np.array([image[metric] for _, image in sorted(report["images"].items())])


def differences(reports: Sequence[Mapping[str, Any]]) -> str:
    """Every report minus every earlier one: mean over photographs, 95 percent interval and p (paired bootstrap)."""
    lines = ["| | " + " | ".join(COMPARED) + " |", "|" + "---|" * (1 + len(COMPARED))]
    for i, one in enumerate(reports):
        for other in reports[:i]:
            cells = []
            for metric in COMPARED:
                if any(metric not in image for report in (one, other) for image in report["images"].values()):
                    cells.append("-")
                    continue
                found = paired(_column(one, metric), _column(other, metric))
                cells.append(
                    f"{100 * found['difference']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f}), "
                    f"p {found['p']:.3f}"
                )
            lines.append(f"| {one['title']} minus {other['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
