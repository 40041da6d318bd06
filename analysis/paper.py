"""Pictures for a paper: as wide as one or two columns, with readable letters and lines, and with a caption."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from glied.functions import AttentionFunction
from glied.traces import Trace

ONE, TWO = 3.35, 7.0  # inches: one column of a page, and both
SMALL, NORMAL = 7.0, 8.0  # points: of letters
THIN = 0.5  # points: of the thinnest lines
LINE = 9.0  # points: from a line of small letters to the next
FONT = "DejaVu Sans"
INK, GREY = "#1d2327", "#767676"


@dataclass(frozen=True, eq=False)
class Still:
    """A picture for a paper.

    Attributes:
        title: a few words. `caption`: sentences to set under it; both are in its files, neither is in the picture.
        draw: makes it at a width in inches.
    """

    title: str
    caption: str
    draw: Callable[[float], Figure]


def drawn(still: Still, kind: str, width: float = TWO, dpi: int = 300) -> bytes:
    """The picture as a `png`, `svg` or `pdf` file of that width (inches) on paper; letters stay letters."""
    told = {
        "png": {"Title": still.title, "Description": still.caption},
        "svg": {"Title": still.title, "Description": still.caption, "Date": None},
        "pdf": {"Title": still.title, "Subject": still.caption, "CreationDate": None},
    }[kind]
    buffer = io.BytesIO()
    looks: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "font.family": FONT, "hatch.linewidth": THIN}
    with matplotlib.rc_context(looks):
        still.draw(width).savefig(buffer, format=kind, dpi=dpi, metadata=told)
    return buffer.getvalue()


def heads_in_words(trace: Trace, head: int) -> str:
    """Which heads are shown: "mean over 8 heads", "head 3"."""
    return f"head {head}" if head else f"mean over {trace.heads} heads"


def source(trace: Trace, functions: Iterable[AttentionFunction | None] = (), head: int | None = None) -> str:
    """Where numbers come from: captioner, checkpoint, equations, heads."""
    numbers = [f"({f.equation})" for f in functions if f and f.equation is not None]
    parts = [trace.captioner, f"checkpoint {trace.checkpoint}"]
    parts += [f"Eq. {' and '.join(numbers)}"] if numbers else []
    return ", ".join(parts + ([] if head is None else [heads_in_words(trace, head)]))


def sheet(width: float, tall: float, *sources: str) -> Figure:
    """An empty figure, `tall` points high over the lines at its foot that say where it comes from."""
    lines = [line for said in dict.fromkeys(sources) for line in wrapped(said, SMALL, 72 * width)]
    foot = LINE * len(lines) + 4
    figure = Figure(figsize=(width, (tall + foot) / 72))
    for i, line in enumerate(reversed(lines)):
        figure.text(
            0, (2.5 + LINE * i) / (tall + foot), line, fontsize=SMALL, color=GREY, va="bottom", parse_math=False
        )
    return figure


def put(figure: Figure, left: float, top: float, wide: float, tall: float) -> Axes:
    """Axes at a place in points from the upper left corner."""
    w, h = 72 * figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + tall) / h, wide / w, tall / h))


def canvas(figure: Figure, tall: float) -> Axes:
    """The whole figure down to `tall` points, to be drawn on in points from the upper left corner."""
    wide = 72 * float(figure.get_size_inches()[0])
    axes = put(figure, 0.0, 0.0, wide, tall)
    axes.set(xlim=(0, wide), ylim=(tall, 0))
    axes.set_axis_off()
    return axes


@lru_cache(maxsize=4096)
def breadth(text: str, size: float, bold: bool = False) -> float:
    """The breadth of a line of text, in the unit of `size`."""
    font = FontProperties(family=FONT, size=100, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) * size / 100


def wrapped(text: str, size: float, most: float) -> list[str]:
    """The text in lines no broader than `most`; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and breadth(f"{lines[-1]} {word}", size) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def cut(text: str, size: float, most: float) -> str:
    """The text, cut with an ellipsis if it is broader than `most`."""
    if breadth(text, size) <= most:
        return text
    while text and breadth(f"{text}…", size) > most:
        text = text[:-1]
    return f"{text.rstrip()}…"


def broadest(texts: Sequence[str], size: float) -> float:
    """The breadth of the broadest text."""
    return max((breadth(text, size) for text in texts), default=0.0)
