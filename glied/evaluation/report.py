"""Reports of `evaluate` -> Markdown: Table 1 of the paper, ours on our data, and how sure the differences are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glied.errors import GliedError
from glied.evaluation.metrics import METRICS, interval, paired
from glied.records import read_json, reason, refuse

# Table 1 of the paper (slides; * an ensemble), on MSCOCO, Karpathy's test split; - where it gives none.
PAPER = (
    ("SCST*, cross-entropy", "-", "-", "-", "32.8", "26.7", "55.1", "106.5", "-"),
    ("Up-Down, cross-entropy", "77.2", "-", "-", "36.2", "27.0", "56.4", "113.5", "20.3"),
    ("RFNet*, cross-entropy", "77.4", "-", "-", "37.0", "27.9", "57.3", "116.3", "20.8"),
    ("GCN-LSTM, cross-entropy", "77.4", "-", "-", "37.1", "28.1", "57.2", "117.1", "21.1"),
    ("Base, cross-entropy", "77.0", "-", "-", "36.3", "27.6", "56.6", "113.5", "20.6"),
    ("GLIED, cross-entropy", "77.8", "-", "-", "37.9", "28.3", "57.6", "118.2", "21.2"),
    ("SCST*, self-critical", "-", "-", "-", "35.4", "27.1", "56.6", "117.5", "-"),
    ("Up-Down, self-critical", "79.8", "-", "-", "36.3", "27.7", "56.9", "120.1", "21.4"),
    ("RFNet*, self-critical", "80.4", "-", "-", "37.9", "28.3", "58.3", "125.7", "21.7"),
    ("GCN-LSTM, self-critical", "80.9", "-", "-", "38.3", "28.6", "58.5", "128.7", "22.1"),
    ("GLIED, self-critical", "80.4", "-", "-", "39.6", "28.9", "58.8", "129.3", "22.6"),
)
HEAD = ("", "B-1", "B-2", "B-3", "B-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
NEEDED = {"scores", "images", "title", "checkpoint", "data", "split", "missing", "tokenizer", "perplexity", "habits"}
NEEDED |= {"human_habits"}
POINTED = ("global", "local", "chance", "centre", "ceiling")  # columns of the table and bars of the figure
KEY_SHARE = (
    "Key share: how much of the variation of attention the key alone explains. 1: every query attends alike. 0: each "
    "query attends to something else."
)
COMPARED = ("CIDEr", "ROUGE_L", "METEOR")  # metrics with a score for each photograph


def read_report(path: Path) -> dict[str, Any]:
    """A report that `evaluate` wrote."""
    what, advice = "the figures of a report of `evaluate`", "write it again"
    report, problems = read_json(path, what, advice)
    try:
        if problems:
            raise ValueError(problems[0])
        if "deletion" in (grounding := report.get("grounding", {})):  # of version 0.1.0
            grounding["falls"] = grounding.pop("deletion")
        if missing := NEEDED - report.keys():
            raise ValueError(f"it has no {min(missing)}")
        return report
    except (ValueError, AttributeError, TypeError) as error:
        raise refuse(what, path, reason(error), advice) from error


def check_same(report: Mapping[str, Any], data: str, split: str) -> None:
    """Refuses a report of other photographs."""
    if (report["data"], report["split"]) != (data, split):
        raise GliedError(
            f"Expected a report on {data} {split}, got one on {report['data']} {report['split']}; evaluate again."
        )


def distinguish(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The reports, with the digest of the checkpoint in a title that several have."""
    titles = [report["title"] for report in reports]
    return [
        {**report, "title": f"{title} {report['checkpoint']}" if titles.count(title) > 1 else title}
        for report, title in zip(reports, titles, strict=True)
    ]


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """Table 1 and the paired differences of reports of the same photographs."""
    reports = distinguish(reports)
    first = reports[0]
    for other in reports[1:]:
        check_same(other, first["data"], first["split"])
        if (other["images"].keys(), other["tokenizer"]) != (first["images"].keys(), first["tokenizer"]):
            raise GliedError(
                f"Expected reports of the same photographs with the same tokenizer, got {len(first['images'])} and "
                f"{len(other['images'])}, {first['tokenizer']} and {other['tokenizer']}; evaluate again."
            )
    words = {"ptb": "coco-caption's tokenizer", "python": "our tokenizer, for want of Java"}
    missing = {f"{name}: {sentence}" for report in reports for name, (_, sentence) in report["missing"].items()}
    head = ["", "CIDEr, 95 % interval", "perplexity", *first["habits"]]
    habits = []
    for report in reports:
        edges = "-"
        if all("CIDEr" in image for image in report["images"].values()):
            edges = "{:.1f} to {:.1f}".format(*(100 * edge for edge in interval(_column(report, "CIDEr"))))
        figures = [edges, f"{report['perplexity']:.1f}"]
        habits.append([report["title"], *figures, *map(_figure, report["habits"].values())])
    people = [_figure(first["human_habits"].get(name)) for name in first["habits"]]
    habits.append(["people, first caption", "", "", *people])
    parts = [
        "# Captions and their scores",
        "Every score times 100. The paper and we measured different photographs: compare within a table, not across.",
        "## The paper's Table 1: MSCOCO, Karpathy's test split (* an ensemble)",
        table(HEAD, PAPER),
        f"## Ours: {first['data']} {first['split']}, {len(first['images'])} photographs",
        table(HEAD, map(_row, reports)),
        *sorted(missing),
        f"Words were cut by {words[first['tokenizer']]}; METEOR and SPICE are 1.5 and 1.0, CIDEr is CIDEr-D.",
        table(head, habits),
    ]
    if len(reports) > 1 and len(first["images"]) > 1:
        parts += ["## Differences on the same photographs", differences(reports)]
        parts += [
            "Means over photographs of their own scores (METEOR's above is that of the corpus); paired bootstrap."
        ]
    grounded = {report["title"]: report["grounding"] for report in reports if "grounding" in report}
    if grounded:
        parts += ["## Is the attention true?", *_grounding(grounded)]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float | int | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _mean(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "-"
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def say_partners(found: Mapping[str, Any]) -> str:
    """How many top partners the regions of a photograph have."""
    return (
        f"The regions of a photograph have {found['mean']:.1f} different top partners ({found['low']:.1f} to "
        f"{found['high']:.1f}). A top partner is the other region that a region attends to most."
    )


def _key_shares(grounded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Key shares and top partners, of the captioners whose report has them."""
    shares = {title: found["key_share"] for title, found in grounded.items() if "key_share" in found}
    functions = list(dict.fromkeys(name for each in shares.values() for name in each))
    rows = [
        [title, *(_mean(each[name]) if name in each else "-" for name in functions)] for title, each in shares.items()
    ]
    said = [f"{title}: {say_partners(f['top_partners'])}" for title, f in grounded.items() if "top_partners" in f]
    return [table(["key share", *(f"H_{name}" for name in functions)], rows), KEY_SHARE, *said] if rows else said


def _grounding(grounded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The measures of grounding.py as tables."""
    names = POINTED
    pointing = [
        [f"{title}: {kind} captions", *(_mean(each[name]) if name in each else "-" for name in names)]
        for title, found in grounded.items()
        for kind, each in found["pointing"].items()
    ]
    falls = [
        [f"{title}: {sense}, {'most attended' if order == 'attended' else 'at random'}", *map(_mean, each)]
        for title, found in grounded.items()
        for sense, orders in found["falls"].items()
        for order, each in orders.items()
    ]
    some = next(iter(grounded.values()))["falls"]["regions"]["attended"]
    measured = {(found["photographs"], found["data"]): None for found in grounded.values() if "data" in found}
    tables = [
        *(f"Measured on {count:,} photographs of {data} in which people drew the boxes." for count, data in measured),
        table(["most attended region covers the object", *names], pointing),
        table(["fall of log p without", *(str(each["removed"]) for each in some)], falls),
        *_key_shares(grounded),
    ]
    for title, found in grounded.items():
        if "groupings" in found:
            lifts = [f"{name.replace('_', ' ')} {_mean(mean)}" for name, mean in found["groupings"].items()]
            tables.append(
                f"{title}: lift of a region's group on regions of the same entity, of others in the sentence, and on "
                f"equally many of the closest that show no named entity; the same beyond what other regions take of "
                f"them: {', '.join(lifts)}."
            )
        if "collocations" in found:
            pairs = found["collocations"]
            tables.append(
                f"{title}: collocations against mutual information in the captions, rank correlation over "
                f"{len(pairs['pairs'])} pairs {_figure(pairs['rank_correlation'])}, within pivots "
                f"{_mean(pairs['rank_correlation_within_pivots'])}."
            )
            for name in ("strongest", "learned_but_rare", "frequent_but_unlearned"):
                said = [f"{p['pivot']} {p['attribute']} ({p['lift']:.1f}, {p['pmi']:+.1f})" for p in pairs[name]]
                tables.append(f"{name.replace('_', ' ').capitalize()} (lift, mutual information): {'; '.join(said)}.")
    return tables


def _row(report: Mapping[str, Any]) -> list[str]:
    scores = [report["scores"].get(name) for name in METRICS]
    return [f"{report['title']} (`{report['checkpoint']}`)", *("-" if s is None else f"{100 * s:.1f}" for s in scores)]


def _column(report: Mapping[str, Any], metric: str) -> np.ndarray:
    return np.array([image[metric] for _, image in sorted(report["images"].items())])


def differences(reports: Sequence[Mapping[str, Any]]) -> str:
    """Every report minus every earlier one: mean over photographs, 95 percent interval and p (paired bootstrap)."""
    rows = []
    for i, one in enumerate(reports):
        for other in reports[:i]:
            cells = []
            for metric in COMPARED:
                if any(metric not in image for report in (one, other) for image in report["images"].values()):
                    cells.append("-")
                    continue
                found = paired(_column(one, metric), _column(other, metric))
                d, low, high = (100 * found[name] for name in ("difference", "low", "high"))
                cells.append(f"{d:+.1f} ({low:+.1f} to {high:+.1f}), p {found['p']:.4f}")
            rows.append([f"{one['title']} minus {other['title']}", *cells])
    return table(["", *COMPARED], rows)
