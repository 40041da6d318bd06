"""Logs of runs -> one picture of their learning curves."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import PAIR
from glied.errors import GliedError
from glied.files import replacing
from glied.terminal import show

COLOURS = ("#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, without what Base and GLIED have
FORMATS = (".png", ".svg", ".pdf")


def read_log(run: Path) -> pd.DataFrame:
    """The log of a run, one row an epoch."""
    file = run / "log.csv"
    try:
        log = pd.read_csv(file)
        log[["epoch", "loss", "val_CIDEr"]].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise GliedError(
            f"Expected the log of a run in {file}, could not read it ({error}); name the folder of a run that has "
            "finished an epoch."
        ) from error
    return log


def looks_of(runs: Sequence[str]) -> list[str]:
    """A colour for each run: that of the captioner in its name, if there is one, else another."""
    others = cycle(COLOURS)
    named = {title.lower(): colour for title, colour in PAIR.items()}
    return [
        next((colour for title, colour in named.items() if title in run.lower()), None) or next(others) for run in runs
    ]


def curves(logs: dict[str, pd.DataFrame]) -> Figure:
    """Loss (of self-critical runs: reward) and val CIDEr by epoch, each in a panel, the runs by name: Base and GLIED in
    their colours, dotted before self-critical training where there are runs of both."""
    sampled = {name: log for name, log in logs.items() if "reward" in log}
    supervised = {name: log for name, log in logs.items() if "reward" not in log}
    panels = [("loss", "training loss", supervised), ("reward", "reward (CIDEr-D) of samples", sampled)]
    panels = [*(panel for panel in panels if panel[2]), ("val_CIDEr", "val CIDEr, beam 3", logs)]
    looks = dict(zip(logs, looks_of(list(logs)), strict=True))
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for axes, (column, title, shown) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, log in shown.items():
            dash = "-" if "reward" in log or not sampled else ":"
            axes.plot(log.epoch, log[column], dash, marker=".", color=looks[name], label=name)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    return figure


def draw_curves(runs: Sequence[Path], out: Path) -> None:
    """Draws the runs' curves into a file."""
    if out.suffix not in FORMATS:
        raise GliedError(f"Expected a file that ends in {', '.join(FORMATS)}, got {out.name}; rename it.")
    if not runs:
        raise GliedError("Expected at least one folder of a run, got none; name one.")
    figure = curves({show(run).replace("$", r"\$"): read_log(run) for run in runs})
    FigureCanvasAgg(figure)
    with replacing(out) as aside:
        figure.savefig(aside, format=out.suffix[1:], dpi=150)
