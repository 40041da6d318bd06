"""Traces -> pictures for papers, in their printed size: each names its captioner, checkpoint, equation and head."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from analysis.attention import cited, looked, pooled, region_names, spoken
from analysis.beam import END, Node, decoding_in_words, title_of
from analysis.changes import change_table, deletion_table
from analysis.collocations import LEAST, Tree, cluster, lift_table
from analysis.figures import DIVERGING
from analysis.groups import cluster_regions, groupings, over_usual
from analysis.numbers import percent, signed, times
from analysis.paper import (
    GREY,
    INK,
    LINE,
    NORMAL,
    SMALL,
    THIN,
    Still,
    breadth,
    broadest,
    canvas,
    cut,
    heads_in_words,
    put,
    sheet,
    source,
    wrapped,
)
from glied.captions import DecodeOptions
from glied.functions import AttentionFunction, Over, feeding, find
from glied.scene import Edit
from glied.traces import Deletion, Trace

COLUMNS = 96  # of the heat
WARM = LinearSegmentedColormap.from_list("warm", ["#ffd966", "#f98c28", "#c8141e"])  # of app/components/photo.js
LIFTS = LinearSegmentedColormap.from_list("lifts", [str(colour) for _, colour in DIVERGING])
VEIL = 0.65  # painted outside the filled regions; as in app/components/photo.js
COVER = 0.62  # opacity of the heat
OUTLINED = 5
MARKED = "#56b4e9"  # the region, or the word of the beam, that is asked
STRUCK = "#ffb000"  # of app/components/removal.css
WON, FORCED, KEPT = "#0b6e6e", "#d55e00", "#333333"  # of app/.streamlit/config.toml and app/components/tree.css
FELL, ROSE = "#b4500a", "#1f5fa8"  # the ends of LIFTS
TALLEST = 4.5 * 72  # points: of a photograph
PAGE = 8.5 * 72  # points: of a page
GAP = 6.0  # points: between panels
SHOWN = 12  # attributes of a pivot
FILLED = (
    f"At most {OUTLINED} regions are filled, those of most attention; their colour is attention as a multiple of the "
    "even share, and the rest is dark."
)


class Look(NamedTuple):
    """A photograph and the attention to its regions: a panel of a still, under its heading."""

    heading: str
    trace: Trace
    weights: Float[np.ndarray, " N"]
    image: Image.Image


def word_still(trace: Trace, step: int, image: Image.Image, head: int = 0) -> Still:
    """Where one word looked, in a panel for each function that feeds it, on one scale of colours. Of a captioner that
    attends to regions."""
    functions = [f for role in ("global", "local") if (f := find(trace.functions, "regions", role))]
    first = "groups first" if find(trace.functions, "regions", "grouping") else "regions first"
    ways = {"global": first, "local": "regions revisited"} if len(functions) > 1 else {}
    looks = [
        Look(_joined(ways.get(f.role, ""), _numbered(f)), trace, _weights(trace, f, head, step), image)
        for f in functions
    ]
    told = [_joined(ways.get(f.role, ""), cited(trace, f)) for f in functions]
    both = " (left) and ".join(told) + (" (right)" if len(looks) > 1 else "")
    caption = (
        f"Where {trace.captioner} looked before it said {_said(trace, step)} in “{trace.text}”: {both}, "
        f"{heads_in_words(trace, head)}. {FILLED}{' Both panels share one scale.' if len(looks) > 1 else ''} "
        f"Checkpoint {trace.checkpoint}."
    )
    headed = looks if len(looks) > 1 else [look._replace(heading="") for look in looks]
    foot = source(trace, functions, head)
    return Still(f"Where “{spoken(trace.words[step])}” looked", caption, lambda width: _looks(width, headed, foot))


def pair_still(sides: Sequence[tuple[str, Trace, int | None, Image.Image]], head: int = 0) -> Still:
    """Where the words of two captions looked, side by side on one scale of colours.

    Args:
        sides: what to call the captioner or photograph, its trace, the step of its word, or None where it says none
        there, and its photograph.
    """
    looks, told, foots = [], [], []
    for name, trace, step, image in sides:
        function = feeding(trace.functions, "regions")
        if step is None or function is None:
            lack = "attends to no region for any word of" if function is None else "has no such word in"
            told.append(f"{name} {lack} “{trace.text}” (checkpoint {trace.checkpoint})")
            continue
        held = min(head, trace.heads)
        heading = f"{name}: {_said(trace, step)}"
        looks.append(Look(heading, trace, _weights(trace, function, held, step), image))
        foots.append(source(trace, [function], held))
        how = _joined(cited(trace, function), heads_in_words(trace, held), f"checkpoint {trace.checkpoint}")
        told.append(f"{name} before {_said(trace, step)} in “{trace.text}” ({how})")
    caption = f"Where each looked: {'; '.join(told)}. {FILLED} The panels share one scale."
    words = " and ".join(dict.fromkeys(f"“{spoken(t.words[step])}”" for _, t, step, _ in sides if step is not None))
    names = " and ".join(dict.fromkeys(name for name, *_ in sides))
    return Still(f"Where {words} looked: {names}", caption, lambda width: _looks(width, looks, *foots))


def group_still(trace: Trace, region: int, image: Image.Image, head: int = 0) -> Still:
    """The group of one region, of a captioner with groupings: the regions from which it gathers more than the average
    region does, filled by how much more. Each label gives the share, and how many times the usual it is."""
    shares = groupings(trace, head)
    assert shares is not None
    beyond = np.maximum(shares[region] - shares.mean(0), 0)
    weights = beyond / (beyond.sum() or 1)
    told = [
        f"{percent(share)}, {times(t)}" for share, t in zip(shares[region], over_usual(shares)[region], strict=True)
    ]
    function = find(trace.functions, "regions", "grouping")
    name = f"region {region + 1} ({region_names(trace)[region]})"
    caption = (
        f"The group of {name}, in blue: the regions from which it gathers beyond what the average region gathers from "
        f"them, filled by how far beyond. Labels: number and name of the region, its share of the group, and how many "
        f"times the usual that is. {_joined(cited(trace, function), heads_in_words(trace, head))}; "
        f"checkpoint {trace.checkpoint}."
    )

    def draw(width: float) -> Figure:
        across, tall = _fitted(trace, 72 * width)
        figure = sheet(width, tall, source(trace, [function], head))
        axes = put(figure, (72 * width - across) / 2, 0.0, across, tall)
        heat = heat_of(trace, weights)
        _paint(axes, Look("", trace, weights, image), heat, heat.max(), across, told)
        x1, y1, x2, y2 = trace.boxes[region].tolist()
        axes.add_artist(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=MARKED, lw=2, zorder=4))
        return figure

    return Still(f"The group of {name}", caption, draw)


def caption_still(trace: Trace, image: Image.Image, head: int = 0) -> Still:
    """Where every word of the caption looked, all on one scale of colours. Of a captioner that attends to regions."""
    function = feeding(trace.functions, "regions")
    weights = looked(trace, head)
    assert weights is not None
    headings = [f"{spoken(word)} {_chance(p)}" for word, p in zip(trace.words, trace.log_probabilities, strict=True)]
    caption = (
        f"Where {trace.captioner} looked before each word of “{trace.text}”, "
        f"{_joined(cited(trace, function), heads_in_words(trace, head))}; with each word its probability. {FILLED} "
        f"All panels share one scale. Checkpoint {trace.checkpoint}."
    )
    looks = [Look(heading, trace, w, image) for heading, w in zip(headings, weights, strict=True)]
    foot = source(trace, [function], head)
    return Still("Where every word looked", caption, lambda width: _looks(width, looks, foot))


def groups_still(trace: Trace, head: int = 0) -> Still:
    """The group of every region, a row each, beyond the usual; those that gather alike side by side. Of a captioner
    with groupings."""
    shares = groupings(trace, head)
    assert shares is not None
    function = find(trace.functions, "regions", "grouping")
    names = [f"{i + 1} {label}".strip() for i, label in enumerate(trace.labels or [""] * len(shares))]
    alike = cluster_regions(shares)
    order = alike.tree.order
    table = pd.DataFrame(over_usual(shares.astype(float)), names, names).iloc[order, order]
    caption = (
        f"What each region gathers from each: a row is a region’s group, a column a region it gathers from, in the "
        f"same order, {_joined(cited(trace, function), heads_in_words(trace, head))}; 1× is what the average region "
        "gathers from that one. Regions that gather and are gathered from alike stand side by side, and frames hold "
        f"those most alike. Checkpoint {trace.checkpoint}."
    )
    foot = source(trace, [function], head)
    frames = [len(members) for members in alike.members]
    return Still(
        "Region groups",
        caption,
        lambda width: _lift_map(width, table, alike.tree, "times what is usual", foot, frames=frames),
    )


def collocations_still(
    trace: Trace,
    head: int = 0,
    asked: Mapping[str, Trace] | None = None,
    likeness: bool = True,
    least: float = 0.0,
) -> Still:
    """Which attributes each input word calls up, as lift. Of a captioner with pivots.

    Args:
        asked: other words -> their trace, as in `lift_table`. `likeness`: attributes that the same words call up side
        by side, else by the detector's score. `least`: lifts below are left empty.
    """
    function = find(trace.functions, "attributes", "pivot")
    how = _joined(cited(trace, function), heads_in_words(trace, head))
    caption = (
        f"Attribute collocations of “{trace.text}”: which attributes of the photograph (columns) each word read (row, "
        f"the pivot{'; + marks words asked' if asked else ''}) calls up, {how}, as multiples of the even share. "
        f"Checkpoint {trace.checkpoint}."
    )
    table = lift_table(trace, asked or {}, head)
    return lifts_still("Attribute collocations", caption, table, source(trace, [function], head), likeness, least)


def lifts_still(
    title: str, caption: str, table: pd.DataFrame, foot: str, likeness: bool = True, least: float = 0.0
) -> Still:
    """A map of collocations: a row for each pivot, a column for each attribute; unknown cells are hatched.

    Args:
        foot: where the numbers come from. `likeness`: columns that are alike side by side, else as they come.
        least: lifts below are left empty.
    """
    order = "Attributes that the same words call up stand side by side." if likeness else ""
    hidden = f"Lifts below {times(least)} are left empty." if least else ""
    unknown = "Cells are hatched where the two met too seldom to say." if table.isna().to_numpy().any() else ""
    told = " ".join(filter(None, (caption, order, hidden, unknown)))
    across = cluster(table.T) if likeness else None
    columns = table.iloc[:, across.order] if across else table
    return Still(
        title, told, lambda width: _lift_map(width, columns, across, "times the even share", foot, least=least)
    )


def pivot_still(lifts: pd.Series, pivot: str, foot: str) -> Still:
    """The attributes that one pivot calls up most, as bars.

    Args:
        lifts: attribute -> lift. `foot`: where they come from.
    """
    best = lifts.dropna().sort_values(ascending=False, kind="stable").head(SHOWN)
    caption = (
        f"The attributes that “{pivot}” calls up most: attention as a multiple of the even share, which the dashed "
        f"line shows. {foot}."
    )

    def draw(width: float) -> Figure:
        pitch, wide = 12.0, 72 * width
        names = [cut(str(name), NORMAL, 0.35 * wide) for name in best.index]
        left, right = broadest(names, NORMAL) + 6, breadth("88.8×", SMALL) + 4
        figure = sheet(width, pitch * len(best) + 14, foot)
        axes = put(figure, left, 0.0, wide - left - right, pitch * len(best))
        axes.barh(range(len(best)), best, height=0.62, color=[FELL if value >= 1 else ROSE for value in best])
        axes.axvline(1, color=INK, lw=THIN, ls="--")
        axes.set(ylim=(len(best) - 0.5, -0.5), xlim=(0, max(1.1, float(best.max()))))
        for at, value in enumerate(best):
            axes.annotate(times(value), (value, at), (2, 0), textcoords="offset points", va="center", fontsize=SMALL)
        axes.set_yticks(range(len(best)), labels=names, fontsize=NORMAL, parse_math=False)
        axes.set_xticks([1], labels=["even share"], fontsize=SMALL)
        axes.tick_params(length=0, pad=2)
        axes.spines[:].set_visible(False)
        return figure

    return Still(f"What “{pivot}” calls up", caption, draw)


def beam_still(
    trace: Trace, nodes: tuple[Node, ...], pinned: int | None = None, decoding: DecodeOptions = DecodeOptions()
) -> Still:
    """A search from top to bottom: at each step the words that were weighed, group beside group. `pinned`: the id of
    the pinned word."""
    forced = " ".join(spoken(node.word) for node in nodes if node.best and node.forced)
    how = decoding_in_words(decoding)
    pale = "what could have been drawn" if decoding.method == "sample" else "what was dropped"
    caption = (
        f"{how[0].upper()}{how[1:]}, of {trace.captioner}"
        f"{f', made to begin with “{forced}”' if forced else ''}, from top to bottom: the words weighed at "
        f"each step with their probability. The caption, “{trace.text}”, is bold and green; {pale} is pale; a dot "
        f"marks where another caption ended{'; what was set is underlined' if forced else ''}"
        f"{'; filled squares count the required words that have come' if decoding.require else ''}"
        f"{'; the pinned word is framed' if pinned is not None else ''}. Where … ends a row, less likely words "
        f"have no room. Checkpoint {trace.checkpoint}."
    )
    return Still(title_of(decoding), caption, lambda width: _beam(width, trace, nodes, decoding, pinned))


def change_still(title: str, before: Trace, after: Trace, replayed: Trace, edit: Edit, image: Image.Image) -> Still:
    """The captions of a photograph as it is and of the changed scene, and the changed log p of the first caption there.

    Args:
        after: of its caption of the changed scene; `replayed`: of the first caption there. `title`: of the captioner.
    """
    names = region_names(before)
    struck = [f"region {i + 1} ({names[i]})" for i in edit.regions] + [f"“{spoken(word)}”" for word in edit.attributes]
    parts = [f"without {', '.join(struck)}"] if struck else []
    parts += [f"with “{'”, “'.join(edit.added)}” added"] if edit.added else []
    fall = float(before.log_probabilities.sum() - replayed.log_probabilities.sum())
    said = {
        "before": f"“{before.text}”, log p {_log_p(before)}",
        "after": f"“{after.text}”, log p {_log_p(after)}",
    }
    caption = (
        f"{title} on a photograph as it is, {said['before']}, and {' and '.join(parts) or 'unchanged'}: "
        f"{said['after']}. The log p of the first caption {'falls' if fall >= 0 else 'rises'} by {f'{abs(fall):.2f}'}; "
        f"bars show that of each of its words. Checkpoint {before.checkpoint}."
    )
    table = change_table(before, replayed)
    changes = (table["rose"] - table["fell"]).to_numpy()

    def draw(width: float) -> Figure:
        wide = 72 * width
        beside = width > 5
        across, tall = _fitted(before, 0.5 * wide if beside else wide)
        lines = [line for name, text in said.items() for line in wrapped(f"{name}: {text}", NORMAL, wide)]
        bars = 11.0 * len(table)
        top = GAP + (max(tall, bars) if beside else tall + GAP + bars)
        figure = sheet(width, top + (LINE + 1) * len(lines), source(before))
        _struck(put(figure, 0.0, 0.0, across, tall), before, edit, image)
        left = (across + GAP if beside else 0.0) + broadest(list(table["word"]), SMALL) + 4
        _bars(put(figure, left, 0.0 if beside else tall + GAP, wide - left, bars), list(table["word"]), changes)
        page = canvas(figure, top + (LINE + 1) * len(lines))
        for at, line in enumerate(lines):
            page.text(0, top + (LINE + 1) * at, line, fontsize=NORMAL, va="top", color=INK, parse_math=False)
        return figure

    return Still(f"{title} before and after a change", caption, draw)


def curve_still(trace: Trace, step: int, over: Over, deletion: Deletion) -> Still:
    """How the log p of a word falls as regions or attributes are taken away, those it attended to most first, and the
    other way round."""
    curve = deletion_table(over, deletion)
    counts, lines = curve.iloc[:, 0], curve.iloc[:, 1:]
    word = spoken(trace.words[step])
    caption = (
        f"The log p of “{word}” in “{trace.text}” by {trace.captioner} as {over} are taken away one after another, the "
        f"most attended first and the least attended first. Checkpoint {trace.checkpoint}."
    )

    def draw(width: float) -> Figure:
        wide, tall = 72 * width, min(72 * width * 0.5, 170.0)
        figure = sheet(width, tall + 30, source(trace))
        axes = put(figure, 34.0, 4.0, wide - 40, tall - 4)
        for (name, values), colour, dash in zip(lines.items(), (FELL, ROSE), ("-", "--"), strict=True):
            axes.plot(counts, values, color=colour, ls=dash, lw=1.2, label=str(name))
        axes.set_xlabel(str(curve.columns[0]), fontsize=SMALL, parse_math=False)
        axes.set_ylabel(f"log p of “{word}”", fontsize=SMALL, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=SMALL, width=THIN, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_linewidth(THIN)
        axes.legend(fontsize=SMALL, frameon=False)
        return figure

    return Still(f"The log p of “{word}” as {over} are taken away", caption, draw)


def heat_of(trace: Trace, weights: Float[np.ndarray, " N"], most: int = OUTLINED) -> Float[np.ndarray, "rows columns"]:
    """For each place, the lift of the region that covers it, among the `most` regions with most weight.

    Where several overlap, it is the largest; where none lies, VEIL. The app fills regions in the same way by default.
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


def tinted(heat: Float[np.ndarray, "rows columns"], reach: float) -> Float[np.ndarray, "rows columns 4"]:
    """The heat as colours over a photograph: warm up to a lift of `reach`, dark below the even share."""
    logs = np.log2(heat.clip(1e-3))
    t = (logs / max(1, np.log2(max(reach, 1)))).clip(0, 1)
    colours = np.where(logs[..., None] > 0, WARM(t), (0.06, 0.06, 0.06, 1))
    colours[..., 3] = np.where(logs > 0, COVER * t**0.7, np.minimum(COVER, -0.5 * logs))
    return colours


class Tag(NamedTuple):
    """The label of a region, and where on the photograph it lies, in pixels of the photograph."""

    region: int
    text: str
    x: float
    y: float
    wide: float
    tall: float


def tags(
    trace: Trace, weights: Float[np.ndarray, " N"], most: int, size: float, told: Sequence[str] | None = None
) -> list[Tag]:
    """Labels of the `most` regions of most weight above the even share, placed so that none overlap. A region whose box
    has no free place gets no label.

    Args:
        size: height of the letters in pixels of the photograph.
        told: the text of each region's label after its number and name; by default its weight.
    """
    width, height = trace.size
    found: list[Tag] = []
    for i in strongest(weights, most):
        x1, y1, x2, y2 = trace.boxes[i].tolist()
        name = f"{i + 1} {trace.labels[i] if trace.labels else ''}".strip()
        text = f"{name}{': ' if not trace.labels else ' '}{percent(weights[i]) if told is None else told[i]}"
        wide, tall = breadth(text, size) + 0.7 * size, 1.5 * size
        inside, beside = (y1, y2 - tall, (y1 + y2 - tall) / 2), (y1 - tall, y2)
        heights = (
            (*inside, *beside) if y2 - y1 > 3 * tall else (*beside, *inside)
        )  # so that it does not hide a small box
        spots = [(x, y) for y in heights for x in (x1, x2 - wide, (x1 + x2 - wide) / 2, x2, x1 - wide)]
        spots = [(max(0.0, min(x, width - wide)), max(0.0, min(y, height - tall))) for x, y in spots]
        apart = (
            (x, y)
            for x, y in spots
            if all(x + wide < o.x or o.x + o.wide < x or y + tall < o.y or o.y + tall < y for o in found)
        )
        if (spot := next(apart, None)) is not None and wide <= width:
            found.append(Tag(i, text, *spot, wide, tall))
    return found


# ---- words for headings and captions


def _weights(trace: Trace, function: AttentionFunction, head: int, step: int) -> Float[np.ndarray, " N"]:
    return pooled(trace.attention[function.name], head)[step]


def _chance(log_probability: Any) -> str:
    return percent(np.exp(log_probability))


def _said(trace: Trace, step: int) -> str:
    """A word and its probability."""
    return f"“{spoken(trace.words[step])}” ({_chance(trace.log_probabilities[step])})"


def _log_p(trace: Trace) -> str:
    return signed(float(trace.log_probabilities.sum()))


def _numbered(function: AttentionFunction) -> str:
    return "" if function.equation is None else f"Eq. ({function.equation})"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


# ---- photographs


def _fitted(trace: Trace, across: float) -> tuple[float, float]:
    """How broad and how tall a photograph is in a place so broad, in points."""
    across = min(across, TALLEST * trace.size[0] / trace.size[1])
    return across, across * trace.size[1] / trace.size[0]


def _looks(width: float, looks: Sequence[Look], *sources: str) -> Figure:
    """Photographs with what was looked at, as many in a row as can be read, over one scale of colours."""
    heats = [heat_of(look.trace, look.weights) for look in looks]
    reach = max((float(heat.max()) for heat in heats), default=1.0)
    head = 12.0 if any(look.heading for look in looks) else 0.0
    shape = max((look.trace.size[1] / look.trace.size[0] for look in looks), default=1.0)
    columns = len(looks)
    if columns > 3:  # as large as the page is long enough for
        columns = 4 if width > 5 else 2
        while columns < 6 and -(-len(looks) // columns) * ((72 * width / columns) * shape + head) > PAGE:
            columns += 1
    rows = -(-len(looks) // max(columns, 1))
    cell = (72 * width - GAP * (columns - 1)) / max(columns, 1)
    across = min(cell, TALLEST / shape)
    pitch = head + across * shape + GAP
    figure = sheet(width, rows * pitch + 20, *sources)
    page = canvas(figure, rows * pitch + 20)
    for at, (look, heat) in enumerate(zip(looks, heats, strict=True)):
        left = (at % columns) * (cell + GAP) + (cell - across) / 2
        top = (at // columns) * pitch
        size = NORMAL if breadth(look.heading, NORMAL) <= cell else SMALL
        heading = cut(look.heading, size, cell)
        page.text(left, top + head - 4, heading, fontsize=size, va="baseline", color=INK, parse_math=False)
        axes = put(figure, left, top + head, across, across * look.trace.size[1] / look.trace.size[0])
        _paint(axes, look, heat, reach, across)
    _scale(figure, page, rows * pitch + 2, reach)
    return figure


def _paint(
    axes: Axes,
    look: Look,
    heat: Float[np.ndarray, "rows columns"],
    reach: float,
    across: float,
    told: Sequence[str] | None = None,
) -> None:
    """The photograph under its heat, its strongest regions outlined and, where there is room, labelled."""
    trace, weights = look.trace, look.weights
    _show(axes, trace, look.image)
    width, height = trace.size
    axes.imshow(tinted(heat, reach), extent=(0, width, height, 0), interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0))
    for i in reversed(strongest(weights, OUTLINED)):
        x1, y1, x2, y2 = trace.boxes[i].tolist()
        share = float(weights[i] / weights.max())
        for colour, extra in (("black", 0.8), ("white", 0)):
            pen: dict[str, Any] = {"fill": False, "ec": colour, "lw": THIN + share + extra, "alpha": 0.4 + 0.6 * share}
            axes.add_artist(Rectangle((x1, y1), x2 - x1, y2 - y1, **pen))
    unit = width / across  # pixels of the photograph in a point
    labels = OUTLINED if across > 150 else 2 if across > 100 else 1
    for tag in tags(trace, weights, labels, SMALL * unit, told):
        axes.add_artist(Rectangle((tag.x, tag.y), tag.wide, tag.tall, fc=INK, ec="none", lw=0, zorder=5))
        place: dict[str, Any] = {
            "x": tag.x + tag.wide / 2,
            "y": tag.y + tag.tall / 2,
            "ha": "center",
            "va": "center_baseline",
        }
        axes.text(**place, s=tag.text, fontsize=SMALL, color="white", parse_math=False, zorder=6)


def _show(axes: Axes, trace: Trace, image: Image.Image) -> None:
    axes.set_axis_off()
    axes.imshow(np.asarray(image), extent=(0, trace.size[0], trace.size[1], 0))


def _scale(figure: Figure, page: Axes, top: float, reach: float) -> None:
    """What the colours mean, on a line of its own."""
    most = max(2.0, reach)
    _colour_bar(figure, page, top, "times the even share", WARM, LogNorm(1, most), _ticks_up_to(most))


def _ticks_up_to(most: float) -> dict[float, str]:
    powers = [2.0**n for n in range(1, 9) if 2.0**n < 0.75 * most]
    return {tick: f"{tick:.0f}×" for tick in (1.0, *powers)} | {most: times(most)}


def _colour_bar(
    figure: Figure,
    page: Axes,
    top: float,
    label: str,
    colours: LinearSegmentedColormap,
    norm: Normalize,
    ticks: Mapping[float, str],
) -> None:
    left, wide = breadth(label, SMALL) + 12, 72 * figure.get_size_inches()[0]
    page.text(0, top + 3, label, fontsize=SMALL, va="center", color=INK)
    long = min(170.0, wide - left - 12)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), cax=put(figure, left, top, long, 6.0), orientation="horizontal"
    )
    bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=SMALL)
    bar.minorticks_off()
    bar.outline.set_linewidth(THIN)
    bar.ax.tick_params(length=2, width=THIN, pad=1)


def _struck(axes: Axes, trace: Trace, edit: Edit, image: Image.Image) -> None:
    """The photograph, the regions that were struck out veiled and crossed, each with its number."""
    _show(axes, trace, image)
    for i in edit.regions:
        x1, y1, x2, y2 = trace.boxes[i].tolist()
        axes.add_artist(Rectangle((x1, y1), x2 - x1, y2 - y1, fc="#000000a0", ec=STRUCK, lw=1))
        axes.plot([x1, x2], [y2, y1], color=STRUCK, lw=1)
        pad = {"boxstyle": "square,pad=.15", "fc": INK, "ec": "none", "lw": 0}
        axes.annotate(
            f"{i + 1}", (x1, y1), (3, -3), textcoords="offset points", va="top", fontsize=SMALL, color="white", bbox=pad
        )
    axes.set(xlim=(0, trace.size[0]), ylim=(trace.size[1], 0))


# ---- charts


def _bars(axes: Axes, words: Sequence[str], changes: Float[np.ndarray, " L"]) -> None:
    """The change in log p of each word: a fall to the left, a rise to the right."""
    reach = max(0.1, float(np.abs(changes).max(initial=0)))
    axes.barh(range(len(words)), changes, height=0.62, color=[FELL if value < 0 else ROSE for value in changes])
    axes.axvline(0, color=INK, lw=THIN)
    axes.set(ylim=(len(words) - 0.5, -0.5), xlim=(-1.45 * reach, 1.45 * reach))
    for at, value in enumerate(changes.tolist()):
        side, ha = (-2, "right") if value < 0 else (2, "left")
        place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": ha, "fontsize": SMALL}
        axes.annotate(signed(value), (value, at), (side, 0), **place)
    axes.set_yticks(range(len(words)), labels=list(words), fontsize=SMALL, parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _lift_map(
    width: float,
    table: pd.DataFrame,
    across: Tree | None,
    label: str,
    foot: str,
    least: float = 0.0,
    frames: Sequence[int] = (),
) -> Figure:
    """Lifts on a log scale centred on 1: orange more, blue less; what is unknown is hatched.

    Args:
        across: hierarchy of the columns, drawn above them, which stand in its order. `frames`: how many of the rows,
        and of the columns, each square on the diagonal frames.
    """
    wide = 72 * width
    turned = table.shape[1] > table.shape[0] and (wide - 90) / table.shape[1] < SMALL  # they would have no room
    if turned:
        table, across = table.T, None
    rows, columns = table.shape
    names = [cut(str(name), SMALL, 0.3 * wide) for name in table.index]
    heads = [cut(str(name), SMALL, 80.0) for name in table.columns]
    left = broadest(names, SMALL) + 4
    cell = min(24.0, (wide - left) / columns)
    tall = max(LINE, min(cell, 13.0))
    tree = 22.0 if across and len(across.forks) else 0.0
    bottom = tree + tall * rows + broadest(heads, SMALL) + 8
    figure = sheet(width, bottom + 20, foot)
    page = canvas(figure, bottom + 20)
    axes = put(figure, left, tree, cell * columns, tall * rows)
    values = table.to_numpy(float)
    seen = np.ma.masked_invalid(np.where(values < least, np.nan, values).clip(LEAST))
    reach = max(1, int(np.ceil(np.log2(max(np.nanmax(values, initial=1.0), 1.0)))))
    norm = LogNorm(2.0**-reach, 2.0**reach)
    axes.pcolormesh(seen, cmap=LIFTS, norm=norm, ec="white", lw=THIN)
    for row, column in np.argwhere(np.isnan(values)).tolist():
        axes.add_patch(Rectangle((column, row), 1, 1, fc="white", ec=GREY, lw=0, hatch="/////"))
    at = 0
    for count in frames:
        axes.add_patch(Rectangle((at, at), count, count, fill=False, ec=INK, lw=0.8, clip_on=False))
        at += count
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    every = max(1, int(np.ceil(SMALL / cell)))
    turn: dict[str, Any] = {"fontsize": SMALL, "parse_math": False}
    axes.set_xticks(np.arange(columns)[::every] + 0.5, labels=heads[::every], rotation=90, **turn)
    axes.set_yticks(np.arange(rows) + 0.5, labels=names, **turn)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    if across and tree:
        branches = put(figure, left, 0.0, cell * columns, tree)
        for fork in across.forks:
            branches.plot(fork[:, 0] + 0.5, fork[:, 1], color=GREY, lw=THIN)
        branches.set(xlim=(0, columns), ylim=(0, 1.05 * max(across.forks[..., 1].max(), 1e-9)))
        branches.set_axis_off()
    ticks = {2.0**n: f"1/{2**-n}×" if n < 0 else f"{2**n}×" for n in range(-reach, reach + 1, -(-reach // 3))}
    _colour_bar(figure, page, bottom, label, LIFTS, norm, ticks)
    return figure


# ---- beam search


class Place(NamedTuple):
    """Where a word of the beam stands, in points: its middle, its line, how broad it is; as much of it as has room."""

    x: float
    y: float
    wide: float
    text: str


STEP = 29.0  # points: from a step to the next
LEAST_WORD = 22.0  # points of a word that gives way


def _shown(node: Node) -> str:
    """The word, a dot for the end of another caption than the one that won."""
    return "●" if node.word == END and not node.best else spoken(node.word)


def _below(node: Node, require: tuple[str, ...]) -> str:
    """What stands below a word: its probability, and a square for each required word, filled if it has come."""
    squares = "".join("■" if word in node.met else "□" for word in require)
    return f"{_chance(node.own)} {squares}" if require else _chance(node.own)


def _broad(node: Node, text: str, require: tuple[str, ...]) -> float:
    """How much room the word takes, or what stands below it."""
    return max(breadth(text, SMALL, node.best), breadth(_below(node, require), SMALL)) + 7


def _up_to(ids: Iterable[int | None], nodes: Sequence[Node]) -> set[int | None]:
    """These nodes, and all before them."""
    parents, found = {node.id: node.parent for node in nodes}, set(ids)
    for id in sorted((node.id for node in nodes), reverse=True):  # parents come before their children
        if id in found:
            found.add(parents[id])
    return found


def _beam_rows(
    nodes: Sequence[Node], wide: float, pinned: int | None, require: tuple[str, ...] = ()
) -> tuple[dict[int, Place], list[float]]:
    """Where each word of a group stands for which there is room, and how far the row of each step reaches where one has
    none."""
    places: dict[int, Place] = {}
    ends: list[float] = []
    asked = _up_to([pinned], nodes)
    ending = _up_to([node.id for node in nodes if node.status == "finished"], nodes)  # what captions run through
    for step in range(max(node.step for node in nodes) + 1):
        row = [node for node in nodes if node.step == step and (node.parent in places or not step)]
        if not row:  # all that were kept have no room
            ends.append(1.0)
            continue
        row.sort(key=lambda n: (places[n.parent].x if step else 0, not n.best, -n.total))
        firm = [n for n in row if n.status != "dropped" or n.id == pinned]
        texts = {n.id: _shown(n) for n in row}
        broad = {n.id: _broad(n, texts[n.id], require) for n in row}
        if sum(broad[n.id] for n in firm) > wide - 10:  # long words give way
            texts = {id: cut(text, SMALL, max(LEAST_WORD, (wide - 10) / len(firm) - 10)) for id, text in texts.items()}
            broad = {n.id: _broad(n, texts[n.id], require) for n in row}
        gives_way = [n for n in row if not n.best and n.id not in asked]
        gives_way.sort(key=lambda n: (n.status != "dropped", n.id in ending, n.total))
        short = 0.0
        while gives_way and sum(broad[n.id] for n in row) + short > wide:
            row.remove(gives_way.pop(0))
            short = 10.0
        spare = max(0.0, wide - short - sum(broad[n.id] for n in row)) / len(row)
        x = 0.0
        for n in row:
            places[n.id] = Place(x + (broad[n.id] + spare) / 2, STEP * (step + 1), broad[n.id], texts[n.id])
            x += broad[n.id] + spare
        ends.append(x if short else 0.0)
    return places, ends


def _beam(width: float, trace: Trace, nodes: tuple[Node, ...], decoding: DecodeOptions, pinned: int | None) -> Figure:
    margin = breadth("88", SMALL) + 6  # of the numbers of the steps
    tall = STEP * (max(node.step for node in nodes) + 2) - 4
    figure = sheet(width, tall, f"{source(trace)}, {decoding_in_words(decoding)}")
    axes = canvas(figure, tall)
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "parse_math": False}
    for step in range(max(node.step for node in nodes) + 1):
        axes.text(margin - 6, STEP * (step + 1) + 4, f"{step + 1}", **(text | {"ha": "right"}), color=GREY)
    wide = (72 * width - margin) / decoding.groups
    for g in range(decoding.groups):
        left = margin + g * wide
        if g:
            axes.plot([left - 3, left - 3], [0, tall], color=GREY, lw=THIN)
        title = f"group {g + 1}" if decoding.groups > 1 else "(start)"
        _branch(axes, [node for node in nodes if node.group == g], left, wide - 6 * (decoding.groups > 1), title,
                decoding.require, pinned)  # fmt: skip
    return figure


def _branch(
    axes: Axes,
    nodes: Sequence[Node],
    margin: float,
    wide: float,
    title: str,
    require: tuple[str, ...],
    pinned: int | None,
) -> None:
    """Draws the tree of a group of diverse beam search, or of a whole search, beginning at `margin`."""
    places, ends = _beam_rows(nodes, wide, pinned, require)
    first = min((node for node in nodes if node.id in places), key=lambda node: (node.step, not node.best))
    places[-1] = Place(places[first.id].x, 4.0, breadth(title, SMALL), title)
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "parse_math": False}
    axes.text(margin + places[-1].x, 6, title, color=KEPT, **text)
    for step, end in enumerate(ends):
        if end:
            axes.text(margin + end + 5, STEP * (step + 1), "…", color=GREY, **text)
    for node in (node for node in nodes if node.id in places):
        (x, y, broad, said), (u, v, *_) = places[node.id], places[node.parent]
        pale = node.status == "dropped"
        colour, heavy = (WON, 1.5) if node.best else (GREY, THIN) if pale else (KEPT, 0.8)
        bend = np.linspace(0, 1, 20)
        low, high = v + (7 if node.parent < 0 else 12.5), y - 5  # from under a word's probability to over the next word
        slide = bend**2 * (3 - 2 * bend)
        line: dict[str, Any] = {
            "color": colour,
            "lw": heavy,
            "zorder": 2 + node.best,
            "ls": (0, (3, 2)) if pale else "-",
        }
        axes.plot(margin + u + slide * (x - u), low + bend * (high - low), **line)
        if node.id == pinned:
            frame: dict[str, Any] = {"fc": "none", "ec": MARKED, "lw": 1.5}
            axes.add_patch(Rectangle((margin + x - broad / 2 + 1, y - 5.5), broad - 2, 18.5, **frame, zorder=4))
        bold = "bold" if node.best else "normal"
        axes.text(margin + x, y, said, color=colour, fontweight=bold, **text)
        axes.text(margin + x, y + 8, _below(node, require), color=colour, **text)
        if node.forced:
            half = breadth(said, SMALL, node.best) / 2
            axes.plot([margin + x - half, margin + x + half], [y + 4, y + 4], color=FORCED, lw=1)
