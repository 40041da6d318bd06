"""Base and GLIED trained alike, with several seeds, and how far GLIED is ahead."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glied.evaluation.metrics import paired
from glied.evaluation.report import table as markdown_table
from glied.experiments.rows import PAIR
from glied.experiments.trainings import STAGES, average, images_of, read_scores, say_unfinished, summary, train_all
from glied.training.options import Places, ReinforceOptions, TrainOptions


def train_pairs(
    places: Places, seeds: Sequence[int], xe: TrainOptions, rl: ReinforceOptions, minutes: float, together: int
) -> dict[str, Any]:
    """Trains Base and GLIED with each seed, by cross-entropy and then self-critical (see `train_all`).

    Returns:
        what `compare` and `train_all` find.
    """
    ended = train_all(places, [(model, seed) for seed in seeds for model in PAIR], xe, rl, minutes, together)
    return compare(places.run, seeds) | ended


def compare(run: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """What the finished captioners in a folder score on val.

    Returns:
        `captioners`: by name (MODEL-STAGE-SEED) the epoch, the minutes and the scores by data set; `unfinished`: names
        of the others; `rows`: for each stage and data set, over the seeds with which both captioners are finished, the
        scores of each (by seed, their mean and their deviation), and the CIDEr of GLIED minus Base: by seed, and of the
        means over the seeds, with its 95 percent interval over photographs.
    """
    names = [(model, stage, seed) for stage in STAGES for seed in seeds for model in PAIR]
    found = {name: scores for name in names if (scores := read_scores(run, *name))}
    rows = []
    for stage, title in STAGES.items():
        done = [seed for seed in seeds if all((model, stage, seed) in found for model in PAIR)]
        runs = {model: [found[model, stage, seed] for seed in done] for model in PAIR}
        for data in runs["base"][0]["val"] if done else ():
            row: dict[str, Any] = {"stage": title, "data": data, "seeds": done}
            row |= {model: summary(each, data) for model, each in runs.items()}
            base, glied = (row[model]["CIDEr"]["by_seed"] for model in PAIR)
            by_seed = [g - b for b, g in zip(base, glied, strict=True)]
            row["difference"] = average(by_seed) | paired(images_of(runs["glied"], data), images_of(runs["base"], data))
            rows.append(row)
    for each in found.values():
        each["val"] = {name: v["scores"] | {"tokenizer": v["tokenizer"]} for name, v in each["val"].items()}
    titles = {name: "{}-{}-{}".format(*name) for name in names}
    captioners = {titles[name]: each for name, each in found.items()}
    return {"captioners": captioners, "unfinished": [titles[n] for n in names if n not in found], "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown, and the captioners that are not finished."""
    head = ["val", "stage", "seeds", "Base: CIDEr", "GLIED: CIDEr", "BLEU-4 of both", "GLIED minus Base"]
    rows = []
    for row in result["rows"]:
        cells = [row["data"], row["stage"], " ".join(map(str, row["seeds"]))]
        cells += [_averaged(row[model]["CIDEr"]) for model in PAIR]
        cells.append(", ".join(f"{row[model]['Bleu_4']['mean']:.3f}" for model in PAIR))
        difference = row["difference"]
        cells.append(f"{_averaged(difference)} ({difference['low']:+.3f} to {difference['high']:+.3f})")
        rows.append(cells)
    return "\n".join([markdown_table(head, rows)] * bool(rows) + say_unfinished(result))


def _averaged(values: dict[str, Any]) -> str:
    return f"{values['mean']:.3f}" + ("" if values["deviation"] is None else f" ± {values['deviation']:.3f}")
