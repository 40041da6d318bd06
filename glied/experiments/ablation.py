"""GLIED's variants, trained alike and scored on val: a table."""

from collections.abc import Sequence
from typing import Any

from glied.evaluation.report import table as markdown_table
from glied.experiments.rows import ROWS
from glied.experiments.trainings import say_unfinished, tabulate, train_all
from glied.training.options import Places, TrainOptions


def ablate(places: Places, names: Sequence[str], seeds: Sequence[int], options: TrainOptions) -> dict[str, Any]:
    """Trains every variant with every seed by cross-entropy (see `train_all`).

    Returns:
        what `tabulate` and `train_all` find.
    """
    ended = train_all(places, [(name, seed) for name in names for seed in seeds], options, minutes=options.minutes)
    return tabulate(places.run, names, ["xe"], seeds) | ended


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    head = ["variant", "val", "parameters", "Bleu_4", "CIDEr", "95 % interval", "seeds' deviation"]
    rows = []
    for row in result["rows"]:
        cider, size = row["CIDEr"], f"{row['parameters'] / 1e6:.2f}M"
        figures = [f"{row['Bleu_4']['mean']:.3f}", f"{cider['mean']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"]
        deviation = "" if cider["deviation"] is None else f"{cider['deviation']:.3f}"
        rows.append([ROWS[row["captioner"]], row["data"], size, *figures, deviation])
    return "\n".join([markdown_table(head, rows), *say_unfinished(result)])
