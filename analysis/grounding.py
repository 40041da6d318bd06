"""Reports of grounding -> one picture: does attention point at the object, and does removing it change the word?"""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.curves import COLOURS
from glied.evaluation.report import POINTED
from glied.files import replacing


def figure(grounded: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Pointing of human captions, falls without regions and without attributes, collocations against captions.

    Args:
        grounded: title of a captioner -> what `glied.evaluation.grounding.ground` found.
    """
    paired = {title: found["collocations"]["pairs"] for title, found in grounded.items() if "collocations" in found}
    colours = dict(zip(grounded, cycle(COLOURS), strict=False))
    result = Figure(figsize=(4.4 * (3 + bool(paired)), 3.8), layout="constrained")
    panels = result.subplots(1, 3 + bool(paired), squeeze=False)[0]
    width = 0.8 / len(grounded)
    for i, (title, found) in enumerate(grounded.items()):
        pointing = found["pointing"]["human"]
        known = [
            (j, pointing[name]) for j, name in enumerate(POINTED) if pointing.get(name, {}).get("mean") is not None
        ]
        means = np.array([each["mean"] for _, each in known])
        sides = [[each["mean"] - each["low"] for _, each in known], [each["high"] - each["mean"] for _, each in known]]
        places = np.array([j for j, _ in known]) + (i - (len(grounded) - 1) / 2) * width
        panels[0].bar(places, means, width, yerr=sides, color=colours[title], label=title, error_kw={"lw": 1})
        for axes, sense in zip(panels[1:], ("regions", "attributes"), strict=False):
            for order, line in (("attended", "-"), ("random", ":")):
                each = found["falls"].get(sense, {}).get(order, [])
                label = title if order == "attended" else f"{title}, at random"
                counts, falls = (
                    [m["removed"] for m in each],
                    [m["mean"] if m["mean"] is not None else np.nan for m in each],
                )
                axes.plot(counts, falls, line, marker=".", color=colours[title], label=label)
    panels[0].set(title="object words of human captions", ylabel="most attended region covers it (IoU 0.5)")
    panels[0].set_xticks(range(len(POINTED)), POINTED)
    for axes, sense in zip(panels[1:], ("regions", "attributes"), strict=False):
        axes.set(title=f"without the most attended {sense}", xlabel=f"{sense} removed", ylabel="fall of log p")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    for title, pairs in paired.items():
        lift, pmi = ([pair[name] for pair in pairs] for name in ("lift", "pmi"))
        panels[3].scatter(pmi, lift, 6, color=colours[title], alpha=0.4, linewidths=0, label=title)
        panels[3].set(title="collocations", xlabel="mutual information in captions", ylabel="lift of attention")
        panels[3].set_yscale("log")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="x-small")
    return result


def draw_grounding(grounded: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Draws `figure` into a PNG file."""
    drawn = figure(grounded)
    FigureCanvasAgg(drawn)
    with replacing(out) as aside:
        drawn.savefig(aside, format="png", dpi=150)
