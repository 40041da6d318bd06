"""What each part of GLIED brings: its variants trained alike and scored on val, in one table."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from glied.checkpoint import load_pair
from glied.decode import DecodeOptions
from glied.evaluate import evaluate
from glied.files import replacing
from glied.train import Places, TrainOptions, train_captioner

ROWS = {
    "base": "Base",
    "base+vd": "Base + visual distilling",
    "base+aa": "Base + attribute distilling, query A (struck out in the slides)",
    "base+ad": "Base + attribute distilling, query x",
    "glied-global": "both, no local distilling",
    "glied-vl": "both, local visual only",
    "glied-al": "both, local attributes only",
    "glied": "GLIED",
    "glied-wide": "GLIED, heads twice as wide",
    "glied-paper": "GLIED, feed-forward networks (the paper's 18.3M)",
}


def interval(scores: Float[np.ndarray, " I"], resamples: int = 2000) -> tuple[float, float]:
    """95 percent bootstrap interval of the mean over photographs."""
    random = np.random.default_rng(0)
    means = [random.choice(scores, len(scores)).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ablate(places: Places, names: Sequence[str], seeds: Sequence[int], options: TrainOptions) -> dict[str, Any]:
    """Trains every variant with every seed, each in a folder of the run's, and scores its best epoch on val.

    Can be stopped at any time: started again, it goes on where it was. Photographs are resampled for the intervals,
    over the mean of a variant's seeds.

    Returns:
        `rows`: for each variant its parameters, and for each seed the epoch, the minutes and the scores.
    """
    rows = []
    for name in names:
        runs = []
        images: list[np.ndarray] = []
        for seed in seeds:
            there = replace(places, run=places.run / f"{name}-{seed}", out=None)
            checkpoint = train_captioner(name, there, replace(options, seed=seed))
            file = there.run / "val.json"
            if not file.is_file() or json.loads(file.read_text())["checkpoint"] != checkpoint.digest:
                checkpoint, detector = load_pair(there.best, places.detector)
                report = evaluate(checkpoint, detector, places.data, "val", places.cache, DecodeOptions())
                with replacing(file) as aside:
                    aside.write_text(json.dumps(report))
            report = json.loads(file.read_text())
            images.append(np.array([image["CIDEr"] for _, image in sorted(report["images"].items())]))
            card = checkpoint.provenance
            runs.append({"seed": seed, "epoch": card["epochs"], "minutes": card["minutes"], **report["scores"]})
        parameters = sum(p.numel() for p in checkpoint.model.parameters())
        cider = [run["CIDEr"] for run in runs]
        low, high = interval(np.mean(images, axis=0))
        rows.append(
            {
                "variant": name,
                "parameters": parameters,
                "CIDEr": float(np.mean(cider)),
                "CIDEr_low": low,
                "CIDEr_high": high,
                "CIDEr_deviation": float(np.std(cider, ddof=1)) if len(cider) > 1 else None,
                "Bleu_4": float(np.mean([run["Bleu_4"] for run in runs])),
                "runs": runs,
            }
        )
    return {"seeds": list(seeds), "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = ["| variant | parameters | Bleu_4 | CIDEr | 95 % interval | seeds' deviation |", "|" + "---|" * 6]
    for row in result["rows"]:
        deviation = "" if row["CIDEr_deviation"] is None else f"{row['CIDEr_deviation']:.3f}"
        lines.append(
            f"| {ROWS[row['variant']]} | {row['parameters'] / 1e6:.2f}M | {row['Bleu_4']:.3f} | {row['CIDEr']:.3f} | "
            f"{row['CIDEr_low']:.3f} to {row['CIDEr_high']:.3f} | {deviation} |"
        )
    return "\n".join(lines)
