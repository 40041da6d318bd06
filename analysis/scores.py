"""Reports of `evaluate` -> tables of scores, and sentences about their numbers. Scores are times 100."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.numbers import decimal, signed
from glied.evaluation.metrics import METRICS, interval, paired
from glied.evaluation.report import COMPARED, HEAD, PAPER, POINTED
from glied.functions import AttentionFunction

Report = Mapping[str, Any]
Mean = Mapping[str, Any]  # mean, low, high, count: see glied.evaluation.grounding
SEEN = {
    "global": "global attention (groups)",
    "local": "local attention",
    "chance": "a region at random",
    "centre": "a box in the centre",
    "ceiling": "the best region there is",
}
GROUPED = {"same": "of the same entity", "others": "of other entities", "near": "of none, but near"}
BEYOND = {f"{name}_beyond": f"{title}, beyond the usual" for name, title in GROUPED.items()}
HABITS = {
    "length": "words a caption",
    "words": "different words",
    "ends_in_function_word": "end in a function word (%)",
    "repeats_content_word": "repeat a content word (%)",
    "novel": "not said in training (%)",
}


def are_comparable(one: Report, other: Report) -> bool:
    """Whether the scores of two reports compare: the same photographs and the same tokenizer."""
    same = all(one[name] == other[name] for name in ("data", "split", "tokenizer"))
    return same and one["images"].keys() == other["images"].keys()


def shared_metrics(reports: Iterable[Report]) -> list[str]:
    """The metrics that every photograph of every report has a score of its own for."""
    images = [image for report in reports for image in report["images"].values()]
    return [name for name in COMPARED if all(name in image for image in images)]


def column(report: Report, metric: str) -> np.ndarray:
    """The scores of its photographs, by id."""
    return np.array([100 * image[metric] for _, image in sorted(report["images"].items())], float)


def score_table(reports: Mapping[str, Report]) -> pd.DataFrame:
    """Captioner x metric, where any has it; a 95 percent bootstrap interval beside a score that is the mean of its
    photographs' scores (CIDEr and ROUGE-L; BLEU and METEOR belong to the corpus)."""
    rows = []
    for name, report in reports.items():
        row: dict[str, Any] = {"captioner": name}
        for metric in METRICS:
            value = report["scores"].get(metric)
            row[metric] = None if value is None else 100 * value
            if value is not None and metric in shared_metrics([report]):
                scores = column(report, metric)
                if np.isclose(scores.mean(), 100 * value):
                    row[f"{metric} low"], row[f"{metric} high"] = interval(scores)
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def difference_table(both: Mapping[str, Report]) -> pd.DataFrame:
    """Metric by metric, the second of two captioners minus the first: means over photographs, 95 percent interval and p
    of a paired bootstrap. A metric whose score of the whole split is not this mean is named "mean over photographs".

    Args:
        both: title of each of the two captioners -> its report.
    """
    rows = []
    (first, base), (second, report) = both.items()
    for metric in shared_metrics(both.values()):
        one, other = column(report, metric), column(base, metric)
        whole = report["scores"].get(metric)
        same = whole is not None and np.isclose(one.mean(), 100 * whole, atol=0.05)
        name = metric if same else f"{metric}, mean over photographs"
        rows.append({"metric": name, first: other.mean(), second: one.mean(), **paired(one, other)})
    return pd.DataFrame(rows)


def say_difference(row: Mapping[str, Any], first: str, second: str) -> str:
    """What a row of the `difference_table` of these two captioners says."""
    d, low, high = row["difference"], row["low"], row["high"]
    apart = (
        f"{second} scores more"
        if low > 0
        else f"{first} scores more"
        if high < 0
        else "these photographs do not tell them apart"
    )
    said = [signed(float(value), 1) for value in (d, low, high)]
    return f"{row['metric']}: {said[0]} (95 % interval {said[1]} to {said[2]}, p {row['p']:.2g}): {apart}."


def photograph_table(both: Mapping[str, Report], metric: str) -> pd.DataFrame:
    """A row a photograph: id, the scores of two captioners, the second minus the first, both captions."""
    (first, base), (second, report) = both.items()
    ids = sorted(report["images"])
    table = pd.DataFrame({"id": ids, first: column(base, metric), second: column(report, metric)})
    table["difference"] = table[second] - table[first]
    for name, each in both.items():
        table[f"{name} caption"] = [each["images"][id]["caption"] for id in ids]
    return table


def habit_table(reports: Mapping[str, Report]) -> pd.DataFrame:
    """How captions are written, the captioners' and people's; perplexity is that of people's captions."""
    rows = {name: {"perplexity": report["perplexity"], **report["habits"]} for name, report in reports.items()}
    first = next(iter(reports.values()))
    rows["people, first caption"] = first["human_habits"]
    table = pd.DataFrame(rows.values()).assign(captioner=list(rows))
    for name, title in HABITS.items():
        table[title] = table.pop(name) * (100 if "%" in title else 1) if name in table else None
    return table[["captioner", "perplexity", *HABITS.values()]].dropna(axis=1, how="all")


def known_means(places: Iterable[tuple[dict[str, Any], Mean]]) -> pd.DataFrame:
    """A row for each known mean, with what it is the mean of."""
    return pd.DataFrame([{**place, **mean} for place, mean in places if mean["mean"] is not None])


def pointing_table(grounded: Mapping[str, Mapping[str, Any]], kind: str) -> pd.DataFrame:
    """Captioner x pointer (attention or baseline): the share of object words whose object it covers.

    Args:
        grounded: title of a captioner -> what `glied.evaluation.grounding.ground` found.
        kind: of captions, `human` or `generated`.
    """
    return known_means(
        ({"captioner": title, "pointed by": name}, found["pointing"][kind][name])
        for title, found in grounded.items()
        for name in POINTED
        if name in found["pointing"].get(kind, {})
    )


def group_table(grounded: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Captioner x regions: how many times the even share a region's group takes them in, and how many times what the
    photograph's other regions take of them."""
    return known_means(
        ({"captioner": title, "regions": name}, found["groupings"][name])
        for title, found in grounded.items()
        for name in (*GROUPED, *BEYOND)
        if name in found.get("groupings", {})
    )


def key_share_table(grounded: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Captioner x attention function: its key share (`glied.functions.key_share`); empty without any."""
    return known_means(
        ({"captioner": title, "attention": titles.get(name, name)}, mean)
        for title, found in grounded.items()
        for titles in [{f["name"]: AttentionFunction(**f).title for f in found.get("functions", [])}]
        for name, mean in found.get("key_share", {}).items()
    )


def fall_table(grounded: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Captioner x sense x order x number removed: fall of log p of the words of its captions."""
    return known_means(
        ({"captioner": title, "sense": sense, "order": order}, each)
        for title, found in grounded.items()
        for sense, orders in found["falls"].items()
        for order, curve in orders.items()
        for each in curve
    )


def say_pointing(rows: pd.DataFrame) -> str:
    """What the rows of one captioner in `pointing_table` say."""
    found = {row["pointed by"]: row for row in rows.to_dict("records")}
    if "local" not in found:
        return "No object word was found to point from."
    local = found["local"]
    beside = [
        f"{stand(local, found[n])} {SEEN[n]} ({100 * found[n]['mean']:.1f} %)"
        for n in ("chance", "centre")
        if n in found
    ]
    said = [
        f"The region that local attention weighs most covers the object for {100 * local['mean']:.1f} % of object "
        f"words ({100 * local['low']:.1f} % to {100 * local['high']:.1f} %), {' and '.join(beside)}"
    ]
    said += [f"{SEEN[n]} for {100 * found[n]['mean']:.1f} %" for n in ("global", "ceiling") if n in found]
    return "; ".join(said) + "."


def stand(one: Mean, other: Mean) -> str:
    """How `one` compares with `other`, as far as their intervals tell."""
    return (
        "more often than"
        if one["low"] > other["high"]
        else "less often than"
        if one["high"] < other["low"]
        else "not clearly more or less often than"
    )


def say_groups(rows: pd.DataFrame) -> str:
    """What the rows of one captioner in `group_table` say."""
    found = {row["regions"]: row for row in rows.to_dict("records")}
    parts = [
        f"regions {GROUPED[name]} {found[name]['mean']:.2f} times the even share" for name in GROUPED if name in found
    ]
    if not {"same", "near"} <= found.keys():
        return f"A region's group takes in {', '.join(parts)}."
    compared = f"{stand(found['same'], found['near'])} those that are merely near"
    said = f"A region's group takes in {', '.join(parts)}: regions of its own entity {compared}."
    usual = [f"{GROUPED[name]} {found[f'{name}_beyond']['mean']:.2f}" for name in GROUPED if f"{name}_beyond" in found]
    if len(usual) < len(GROUPED):
        return said
    compared = f"{stand(found['same_beyond'], found['near_beyond'])} those that are merely near"
    return f"{said} Measured by what other regions take of them: {', '.join(usual)}; so its own entity {compared}."


def say_falls(rows: pd.DataFrame) -> str:
    """What the rows of one captioner and sense in `fall_table` say."""
    by = {(row["order"], row["removed"]): row for row in rows.to_dict("records")}
    counts = [n for order, n in by if order == "attended" and ("random", n) in by]
    if not counts:
        return "No photograph had enough to take away."
    sense, middle = rows["sense"].iloc[0], counts[len(counts) // 2]
    attended, random = by["attended", middle], by["random", middle]
    more = sum(by["attended", n]["low"] > by["random", n]["high"] for n in counts)
    less = sum(by["attended", n]["high"] < by["random", n]["low"] for n in counts)
    whole = f"more at {more} of {len(counts)} numbers removed" + (f" and less at {less}" if less else "")
    fell, usual = (f"{decimal(m['mean'])} ({decimal(m['low'])} to {decimal(m['high'])})" for m in (attended, random))
    return (
        f"Without the {middle} {sense} that a word attends to most its log-probability falls by {fell}, without "
        f"{middle} at random by {usual}; the most attended matter {whole}, as far as the intervals tell."
    )


def paper_table() -> pd.DataFrame:
    """The paper's Table 1, on MSCOCO."""
    return pd.DataFrame(PAPER, columns=["captioner", *HEAD[1:]])
