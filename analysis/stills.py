"""Trace -> pictures for papers: matplotlib figures that name their checkpoint, as PNG, SVG or PDF."""

import io
from collections.abc import Sequence
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from analysis.attention import cited, lift, looked, pooled, region_names, spoken
from analysis.beam import Node
from analysis.collocations import LEAST, cluster, lift_table
from analysis.figures import DIVERGING
from analysis.groups import cluster_regions, groupings, over_usual
from glied.functions import find
from glied.traces import Trace

COLUMNS = 96  # of the heat
WARM = LinearSegmentedColormap.from_list("warm", ["#ffd966", "#f98c28", "#c8141e"])  # of app/components/photo.js
LIFTS = LinearSegmentedColormap.from_list("lifts", [str(colour) for _, colour in DIVERGING])
VEIL = 0.65  # what is painted where none of the filled regions lies; of app/components/photo.js
COVER = 0.62  # opacity of the heat
OUTLINED = 5
MARKED = "#56b4e9"  # the region that is asked
WON, PALE = "#b4500a", "#767676"


def word_still(trace: Trace, step: int, image: Image.Image, head: int = 0) -> Figure:
    """Where one word looked, in a panel for each function that feeds it, on one scale of colours: the regions of most
    weight, filled by the lift of attention."""
    functions = [f for role in ("global", "local") if (f := find(trace.functions, "regions", role))]
    weights = [pooled(trace.attention[f.name], head)[step] for f in functions]
    heats = [heat_of(trace, w) for w in weights]
    reach = max(heat.max() for heat in heats)
    figure = _figure(5.2 * len(heats), 5.2 * trace.size[1] / trace.size[0] + 1.2, trace, head)
    panels = figure.subplots(1, len(heats), squeeze=False).ravel().tolist()
    for axes, function, w, heat in zip(panels, functions, weights, heats, strict=True):
        _paint(axes, trace, tags(trace, w, OUTLINED, 9.0 * _point(trace, 5.0)), w, heat, reach, image, inches=5.0)
        named = {"global": "groups first", "local": "single regions"}[function.role] if len(heats) > 1 else "regions"
        axes.set_title(", ".join(filter(None, (named, cited(trace, function)))), fontsize=9, parse_math=False)
    p = _chance(float(trace.log_probabilities[step]))
    title = fill(f"“{spoken(trace.words[step])}” (p {p}): {trace.text}", 66 * len(heats))
    figure.suptitle(title, fontsize=10, parse_math=False)
    _scale(figure, panels, reach)
    return figure


def group_still(trace: Trace, region: int, image: Image.Image, head: int = 0) -> Figure:
    """The group of one region, of a captioner with groupings: the regions from which it gathers more than the average
    region does, filled by how much more. Each label gives the share, and how many times the usual it is."""
    shares = groupings(trace, head)
    assert shares is not None
    beyond = np.maximum(shares[region] - shares.mean(0), 0)
    weights = beyond / (beyond.sum() or 1)
    times = over_usual(shares)[region]
    told = [f"{share:.1%}, {t:.1f}×" for share, t in zip(shares[region], times, strict=True)]
    heat = heat_of(trace, weights)
    figure = _figure(5.2, 5.2 * trace.size[1] / trace.size[0] + 1.2, trace, head)
    axes = figure.subplots()
    found = tags(trace, weights, OUTLINED, 9.0 * _point(trace, 5.0), told)
    _paint(axes, trace, found, weights, heat, heat.max(), image, inches=5.0)
    x1, y1, x2, y2 = trace.boxes[region].tolist()
    axes.add_artist(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=MARKED, lw=2.5, zorder=4))
    source = cited(trace, find(trace.functions, "regions", "grouping"))
    title = f"What region {region + 1} ({region_names(trace)[region]}, in blue) gathers beyond the usual"
    figure.suptitle(fill(", ".join(filter(None, (title, source))), 66), fontsize=10, parse_math=False)
    return figure


def caption_still(trace: Trace, image: Image.Image, head: int = 0) -> Figure:
    """Where every word of the caption looked, all on one scale of colours."""
    weights = looked(trace, head)
    heats = [heat_of(trace, w) for w in weights]
    reach = max(heat.max() for heat in heats)
    columns = min(len(weights), 4 if trace.size[0] >= trace.size[1] else 6)
    rows, wide = -(-len(weights) // columns), 11 / columns
    figure = _figure(11.0, rows * (wide * trace.size[1] / trace.size[0] + 0.3) + 1.0, trace, head)
    panels = figure.subplots(rows, columns, squeeze=False)
    for t, axes in enumerate(panels.flat):
        axes.set_axis_off()
        if t < len(weights):
            found = tags(trace, weights[t], 2, 7.0 * _point(trace, wide))
            _paint(axes, trace, found, weights[t], heats[t], reach, image, inches=wide, size=7.0)
            p = _chance(float(trace.log_probabilities[t]))
            axes.set_title(f"{spoken(trace.words[t])}  (p {p})", fontsize=10, parse_math=False)
    _scale(figure, panels.ravel().tolist(), reach)
    return figure


def groups_still(trace: Trace, head: int = 0) -> Figure:
    """Which regions each region gathers, as lift; regions of like groups side by side. Of one with groupings."""
    shares = groupings(trace, head)
    assert shares is not None
    names = [f"{i + 1} {label}" for i, label in enumerate(trace.labels or [""] * len(shares))]
    table = pd.DataFrame(lift(shares.astype(float)), names, names)
    order = cluster_regions(shares).tree.order
    side = 2.4 + 0.19 * len(names)
    figure = _figure(side + 1, side, trace, head)
    figure.suptitle("Region groupings: each row is a region and what it gathers")
    _lift_map(figure, table.iloc[order, order], "lift over the even share")
    return figure


def collocations_still(trace: Trace, head: int = 0) -> Figure:
    """Which attributes each input word calls up, as lift; attributes of like rows side by side. Of one with pivots."""
    table = lift_table(trace, {}, head)
    figure = _figure(3.2 + 0.2 * table.shape[1], 2.4 + 0.22 * len(table), trace, head)
    figure.suptitle("Attribute collocations: each row is an input word, the pivot, and what it calls up")
    _lift_map(figure, table.iloc[:, cluster(table.T).order], "lift over the even share")
    return figure


def beam_still(trace: Trace, nodes: tuple[Node, ...]) -> Figure:
    """Beam search from left to right: at each step every word that was weighed, the most probable beginning on top."""
    places: dict[int, tuple[int, int]] = {-1: (-1, 0)}
    for node in nodes:
        places[node.id] = (node.step, sum(step == node.step for step, _ in places.values()))
    steps, rows = (max(place[i] for place in places.values()) + 1 for i in (0, 1))
    figure = _figure(1.2 * (steps + 1), 0.42 * rows + 1.3, trace)
    figure.suptitle("Beam search: the caption in bold, dropped words pale, the ends of captions framed")
    axes = figure.subplots()
    axes.set(xlim=(-1.5, steps - 0.4), ylim=(rows - 0.4, -0.6))
    axes.set_axis_off()
    axes.text(-1, 0, "(start)", ha="center", va="center", fontsize=9)
    for node in nodes:
        (x, y), (u, v) = places[node.id], places[node.parent]
        colour, heavy = (WON, 2.4) if node.best else (PALE, 0.6) if node.status == "dropped" else ("#333333", 1.1)
        bend = np.linspace(0, 1, 20)
        rise = bend**2 * (3 - 2 * bend)
        axes.plot(u + 0.36 + bend * (x - u - 0.72), v + rise * (y - v), color=colour, lw=heavy, zorder=1 + node.best)
        style: dict[str, Any] = {"color": colour, "ha": "center", "parse_math": False}
        frame = {"boxstyle": "round,pad=.15", "fc": "none", "ec": colour} if node.status == "finished" else None
        bold = "bold" if node.best else "normal"
        word = spoken(node.word)
        axes.text(x, y, word, va="center", fontsize=min(9, 90 / len(word)), fontweight=bold, bbox=frame, **style)
        axes.text(x, y + 0.24, _chance(node.own), va="top", fontsize=6, **style)
    return figure


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a `png`, `svg` or `pdf` file; letters stay letters."""
    buffer = io.BytesIO()
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=dated)
    return buffer.getvalue()


def heat_of(trace: Trace, weights: Float[np.ndarray, " N"], most: int = 5) -> Float[np.ndarray, "rows columns"]:
    """Lift of the region that lies on each place, of the `most` with most weight, as the app fills them by default.

    Where several overlap, the largest; where none lies, VEIL.
    """
    width, height = trace.size
    rows = max(1, round(COLUMNS * height / width))
    scale = np.array([COLUMNS / width, rows / height] * 2)
    found = np.full((rows, COLUMNS), VEIL)
    for i in strongest(weights, most):
        left, top = np.floor(trace.boxes[i] * scale)[:2].clip(0).astype(int)
        right, bottom = np.ceil(trace.boxes[i] * scale)[2:].astype(int)
        found[top:bottom, left:right] = np.maximum(found[top:bottom, left:right], weights[i] * len(weights))
    return found


def strongest(weights: Float[np.ndarray, " N"], most: int) -> list[int]:
    """The `most` regions of most weight, those above the even share."""
    order = np.argsort(-weights, kind="stable")[:most].tolist()
    return [i for i in order if weights[i] > 1.1 / len(weights)]


def _chance(log_probability: float) -> str:
    p = np.exp(log_probability)
    return f"{p:.2f}" if p >= 0.005 else "< 0.01"


def _figure(wide: float, tall: float, trace: Trace, head: int | None = None) -> Figure:
    """An empty figure, signed below with where it comes from."""
    figure = Figure(figsize=(wide, tall), layout="constrained")
    heads = "" if head is None else ", mean over heads" if head == 0 else f", head {head}"
    figure.supxlabel(f"{trace.captioner}, checkpoint {trace.checkpoint}{heads}", fontsize=7, parse_math=False)
    return figure


def tinted(heat: Float[np.ndarray, "rows columns"], reach: float) -> Float[np.ndarray, "rows columns 4"]:
    """The heat as colours over a photograph: warm up to a lift of `reach`, dark below the even share."""
    logs = np.log2(heat.clip(1e-3))
    t = (logs / max(1, np.log2(max(reach, 1)))).clip(0, 1)
    colours = np.where(logs[..., None] > 0, WARM(t), (0.06, 0.06, 0.06, 1))
    colours[..., 3] = np.where(logs > 0, COVER * t**0.7, np.minimum(COVER, -0.5 * logs))
    return colours


class Tag(NamedTuple):
    """A region that is outlined, and where on the photograph its label lies, in pixels of the photograph."""

    region: int
    text: str
    x: float
    y: float
    wide: float
    tall: float


def tags(
    trace: Trace, weights: Float[np.ndarray, " N"], most: int, size: float, told: Sequence[str] | None = None
) -> list[Tag]:
    """The `most` regions of most weight, above the even share, each label where no other lies if there is such a place.

    Args:
        size: height of the letters in pixels of the photograph.
        told: what labels say of each region; by default its weight.
    """
    width, height = trace.size
    found: list[Tag] = []
    for i in strongest(weights, most):
        x1, y1, x2, y2 = trace.boxes[i].tolist()
        said = f"{weights[i]:.1%}" if told is None else told[i]
        text = f"{trace.labels[i] if trace.labels else ''} {said}".strip()
        wide, tall = (0.62 * len(text) + 0.7) * size, 1.7 * size
        heights = (y1, y2 - tall, (y1 + y2 - tall) / 2, y1 - tall, y2)
        spots = [(x, y) for y in heights for x in (x1, x2 - wide, (x1 + x2 - wide) / 2)]
        spots = [(max(0.0, min(x, width - wide)), max(0.0, min(y, height - tall))) for x, y in spots]
        apart = (
            (x, y)
            for x, y in spots
            if all(x + wide < o.x or o.x + o.wide < x or y + tall < o.y or o.y + tall < y for o in found)
        )
        found.append(Tag(i, text, *next(apart, spots[0]), wide, tall))
    return found


def _point(trace: Trace, inches: float) -> float:
    """Pixels of the photograph in one point of a page on which it is so wide."""
    return trace.size[0] / inches / 72


def _paint(
    axes: Axes,
    trace: Trace,
    found: list[Tag],
    weights: Float[np.ndarray, " N"],
    heat: Float[np.ndarray, "rows columns"],
    reach: float,
    image: Image.Image,
    inches: float,
    size: float = 9.0,
) -> None:
    """The photograph under its heat, with the regions `found`; `size` of their labels in points."""
    width, height = trace.size
    axes.set_axis_off()
    frame = (0, width, height, 0)
    axes.imshow(np.asarray(image), extent=frame)
    axes.imshow(tinted(heat, reach), extent=frame, interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0))
    unit = _point(trace, inches)
    for tag in found:
        x1, y1, x2, y2 = trace.boxes[tag.region].tolist()
        share = float(weights[tag.region] / weights.max())
        for colour, extra in (("black", 1.2), ("white", 0)):
            look: dict[str, Any] = {
                "fill": False,
                "ec": colour,
                "lw": 0.6 + 1.8 * share + extra,
                "alpha": 0.4 + 0.6 * share,
            }
            axes.add_artist(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        box = {"boxstyle": "square,pad=.2", "fc": "#000000b0", "ec": "none"}
        at: dict[str, Any] = {"x": tag.x + 3 * unit, "y": tag.y + tag.tall / 2, "va": "center"}
        axes.text(s=tag.text, fontsize=size, color="white", bbox=box, parse_math=False, zorder=5, **at)


def _scale(figure: Figure, panels: list[Axes], reach: float) -> None:
    """What the colours mean."""
    top = max(2.0, float(reach))
    ticks = [1.0, *(2.0**n for n in range(1, 9) if 2.0**n < 0.8 * top), top]
    bar = figure.colorbar(
        ScalarMappable(LogNorm(1, top), WARM), ax=panels, orientation="horizontal", shrink=0.5, aspect=40, pad=0.01
    )
    bar.set_ticks(ticks, labels=["even share", *(f"{tick:.3g}×" for tick in ticks[1:])], fontsize=8)
    bar.minorticks_off()


def _lift_map(figure: Figure, table: pd.DataFrame, title: str) -> None:
    """Lifts on a log scale centred on the even share: orange more, blue less."""
    axes = figure.subplots()
    values = table.to_numpy().clip(LEAST)
    reach = max(1, int(np.ceil(np.log2(values.max()))))
    mesh = axes.pcolormesh(values, cmap=LIFTS, norm=LogNorm(2.0**-reach, 2.0**reach), ec="white", lw=0.3)
    axes.invert_yaxis()
    for axis, names, turn in ((axes.xaxis, table.columns, 60), (axes.yaxis, table.index, 0)):
        axis.set_ticks(np.arange(len(names)) + 0.5, labels=list(names), fontsize=8, rotation=turn, parse_math=False)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, aspect=30, pad=0.01)
    powers = range(-reach, reach + 1, -(-reach // 3))
    bar.set_ticks([2.0**n for n in powers], labels=[f"1/{2**-n}×" if n < 0 else f"{2**n}×" for n in powers])
    bar.minorticks_off()
    bar.set_label(title, fontsize=8)
