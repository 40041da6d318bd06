"""Tables -> Plotly figures. Plotly stops here."""

import re
from collections.abc import Iterable
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from PIL import Image

from analysis.attention import spoken
from analysis.collocations import Tree, log_lifts

# Blue below the even share, orange above: told apart with every common colour blindness.
DIVERGING = [(0.0, "#1f5fa8"), (0.25, "#7fb0da"), (0.5, "#f2efe9"), (0.75, "#f0a35e"), (1.0, "#b4500a")]
PAIR = {"Base": "#2f7fd0", "GLIED": "#cc6414"}  # readable on light and on dark, as are those of others:
OTHERS = ("#2a9d78", "#b0629a", "#9a7d1e")
GREY = "#808080"
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
TOOLS = 34  # pixels of the toolbar above a chart
SMALL = 12  # pixels of the smallest letters
TREE = {"mode": "lines", "line": {"width": 1, "color": GREY}, "hoverinfo": "skip"}
ABOVE = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}


def collocation_map(
    lifts: pd.DataFrame, across: Tree | None = None, down: Tree | None = None, least: float = 0.0
) -> go.Figure:
    """Pivot x attribute: lift of attribute distilling, GLIED Eq. (10), on a log scale centred on the even share.

    Args:
        lifts: one row a pivot, one column an attribute; NaN is hatched.
        across, down: hierarchies that put the columns and the rows in order, drawn above and beside them.
        least: lifts below stay empty.
    """
    lifts = lifts.iloc[down.order if down else slice(None), across.order if across else slice(None)]
    logs = log_lifts(lifts)
    rows, columns = lifts.shape
    reach = reach_of(lifts.to_numpy())
    ticks = np.arange(-reach, reach + 1, -(-reach // 3))
    top, right = 1 - 60 / (60 + 24 * rows) if across else 1, 0.92 if down else 1
    figure = go.Figure(
        go.Heatmap(
            z=logs.where(lifts >= least).to_numpy(),
            customdata=lifts.to_numpy(),
            text=[[f"pivot {pivot}<br>attribute {attribute}" for attribute in lifts] for pivot in lifts.index],
            hovertemplate="%{text}<br>%{customdata:.2f} times the even share<extra></extra>",
            hoverongaps=False,
            colorscale=DIVERGING,
            zmid=0,
            zmin=-reach,
            zmax=reach,
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": "lift", "side": "top"},
                "tickvals": ticks,
                "ticktext": [_times(t) for t in ticks.tolist()],
                "thickness": 12,
                "tickfont": {"size": SMALL},
            },
        )
    )
    grid = {"automargin": True, "showgrid": False, "zeroline": False, "tickfont": {"size": SMALL}}
    heights = {"visible": False, "fixedrange": True, "rangemode": "tozero"}
    if lifts.isna().any(axis=None):
        figure.add_scatter(**_hatched(lifts.isna().to_numpy()))
    if across:
        figure.add_scatter(x=_path(across.forks[..., 0]), y=_path(across.forks[..., 1]), yaxis="y2", **TREE)
    if down:
        figure.add_scatter(x=_path(down.forks[..., 1]), y=_path(down.forks[..., 0]), xaxis="x2", **TREE)
    figure.update_layout(
        height=122 + TOOLS + 24 * rows + (60 if across else 0),
        margin=MARGIN | {"t": TOOLS},
        showlegend=False,
        xaxis=grid | _ticks(list(lifts)) | {"domain": [0, right], "range": [-0.5, columns - 0.5], "tickangle": -60},
        yaxis=grid | _ticks(list(lifts.index)) | {"domain": [0, top], "range": [rows - 0.5, -0.5]},
        xaxis2=heights | {"domain": [min(right + 0.01, 1), 1]},
        yaxis2=heights | {"domain": [min(top + 0.01, 1), 1]},
    )
    return figure


def head_map(lifts: Float[np.ndarray, "rows columns"], reach: int, cell: int = 5) -> Image.Image:
    """The cells of `collocation_map` alone, `cell` pixels wide.

    Args:
        reach: exponent of 2 at the ends of the scale; maps to be compared need the same.
    """
    shares = (log_lifts(pd.DataFrame(lifts)).to_numpy() / reach).clip(-1, 1) / 2 + 0.5
    stops = [stop for stop, _ in DIVERGING]
    colours = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for _, colour in DIVERGING])
    pixels = np.stack([np.interp(shares, stops, channel) for channel in colours.T], -1).round().astype(np.uint8)
    return Image.fromarray(pixels.repeat(cell, 0).repeat(cell, 1))


def reach_of(lifts: np.ndarray) -> int:
    """The exponent, at least 1, of the smallest power of 2 that no lift exceeds."""
    return max(1, int(np.ceil(np.log2(np.nanmax(lifts, initial=1)))))


def _hatched(cells: Bool[np.ndarray, "rows columns"]) -> dict:
    """Where cells of a map are missing: a trace that hatches them."""
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [np.nan, np.nan]])
    places = (np.argwhere(cells)[:, None, ::-1] + corners).reshape(-1, 2)
    x, y = ([None if v != v else v for v in column] for column in places.T.tolist())
    return {
        "x": x,
        "y": y,
        "fill": "toself",
        "mode": "none",
        "fillpattern": {"shape": "/", "fgcolor": GREY, "bgcolor": "rgba(0,0,0,0)", "size": 7, "solidity": 0.15},
        "hoverinfo": "skip",
    }


def _times(power: int) -> str:
    """2 to a power, as a lift."""
    return f"1/{2**-power}×" if power < 0 else f"{2**power}×"


def _path(corners: Float[np.ndarray, "joints 4"]) -> list[float | None]:
    """The joints of a tree as one line with gaps."""
    return [value for joint in corners.tolist() for value in (*joint, None)]


def _ticks(names: list[str]) -> dict[str, list]:
    return {"tickvals": list(range(len(names))), "ticktext": names}


def lift_against_pmi(pairs: pd.DataFrame, pivot: str) -> go.Figure:
    """Every pair of a data set: lift (log scale) over mutual information in the captions, those of `pivot` in colour.

    Args:
        pairs: as `analysis.collocations.pair_table` gives them.
    """
    own = pairs["pivot"] == pivot
    figure = go.Figure()
    for name, shown, look in (
        ("other pivots", pairs[~own], {"size": 4, "color": GREY, "opacity": 0.35}),
        (spoken(pivot), pairs[own], {"size": 8, "color": "#d55e00", "line": {"width": 1, "color": "#ffffff"}}),
    ):
        figure.add_scattergl(
            x=shown["pmi"],
            y=shown["lift"],
            customdata=shown[["pivot", "attribute"]].to_numpy(),
            mode="markers",
            marker=look,
            name=name,
            hovertemplate="pivot %{customdata[0]}<br>attribute %{customdata[1]}<br>lift %{y:.2f}×, PMI %{x:+.2f}"
            "<extra></extra>",
        )
    figure.add_hline(y=1, line={"dash": "dot", "width": 1})
    figure.add_vline(x=0, line={"dash": "dot", "width": 1})
    figure.update_layout(height=420, margin=MARGIN, legend=ABOVE)
    figure.update_xaxes(title="PMI in the training captions")
    powers = range(-10, 11)
    figure.update_yaxes(
        title="lift",
        type="log",
        tickvals=[2.0**power for power in powers],
        ticktext=[_times(power) for power in powers],
    )
    return figure


def score_scatter(table: pd.DataFrame, metric: str, chosen: str | None = None) -> go.Figure:
    """One captioner against another, a marker a photograph; on the line they tie. A ring marks the photograph `chosen`.

    Args:
        table: of `analysis.scores.photograph_table`.
    """
    _, first, second, *_ = table
    colours = colours_of([first, second])
    end = float(table[[first, second]].to_numpy().max()) * 1.03 or 1.0
    ring, as_ever = table[table["id"] == chosen], {"marker": {"opacity": 0.45}}
    figure = go.Figure(
        [
            go.Scatter(x=[0, end], y=[0, end], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip"),
            go.Scatter(
                x=table[first],
                y=table[second],
                customdata=table[["id", "difference"]],
                mode="markers",
                marker={"size": 7, "color": colours[second], "opacity": 0.45, "line": {"width": 0}},
                selected=as_ever,
                unselected=as_ever,
                hovertemplate=f"%{{customdata[0]}}<br>{first} %{{x:.1f}}, {second} %{{y:.1f}} "
                "(%{customdata[1]:+.1f})<extra></extra>",
            ),
            go.Scatter(
                x=ring[first],
                y=ring[second],
                mode="markers",
                hoverinfo="skip",
                marker={"size": 16, "symbol": "circle-open", "color": colours[first], "line": {"width": 3}},
            ),
        ]
    )
    figure.update_layout(height=430, showlegend=False, margin=MARGIN, hovermode="closest")
    figure.update_xaxes(title=f"{metric} of {first}’s caption", range=[-0.02 * end, end])
    figure.update_yaxes(title=f"{metric} of {second}’s caption", range=[-0.02 * end, end])
    return figure


def mean_bars(
    table: pd.DataFrame, across: str, names: dict[str, str], title: str, even: float | None = None
) -> go.Figure:
    """Means with their 95 percent intervals: for each of `names` a group of bars, a bar for each captioner.

    Args:
        table: captioner, `across` (a key of `names`), mean, low, high, count. `even`: where to draw a line.
    """
    figure, colours = go.Figure(), colours_of(table["captioner"])
    for captioner, rows in table.groupby("captioner", sort=False):
        figure.add_bar(
            x=rows["mean"],
            y=rows[across].map(names),
            orientation="h",
            name=str(captioner),
            error_x={"color": colours[str(captioner)], **_sides(rows)},
            marker={"color": colours[str(captioner)], "opacity": 0.6},
            customdata=rows[["low", "high", "count"]],
            hovertemplate="%{y}: %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
            "<br>%{fullData.name}, %{customdata[2]} photographs<extra></extra>",
        )
    shown = [names[name] for name in names if name in set(table[across])]
    figure.update_layout(height=110 + 52 * len(shown), margin=MARGIN, legend=ABOVE, barmode="group", showlegend=True)
    figure.update_xaxes(title=title, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True, categoryorder="array", categoryarray=shown)
    if even is not None:
        figure.add_vline(x=even, line={"dash": "dot", "width": 1, "color": GREY})
    return figure


def fall_curves(table: pd.DataFrame, sense: str) -> go.Figure:
    """Fall of log p by the number of the most attended (full line) or of random ones (dotted) removed, with 95 percent
    intervals.

    Args:
        table: of `analysis.scores.fall_table`. `sense`: regions or attributes.
    """
    figure, colours = go.Figure(), colours_of(table["captioner"])
    for (captioner, order), rows in table[table["sense"] == sense].groupby(["captioner", "order"], sort=False):
        attended = order == "attended"
        figure.add_scatter(
            x=rows["removed"],
            y=rows["mean"],
            error_y=_sides(rows),
            mode="lines+markers",
            name=f"{captioner}, {'most attended' if attended else 'at random'}",
            line={"color": colours[str(captioner)], "dash": "solid" if attended else "dot"},
            marker={"symbol": "circle" if attended else "diamond-open"},
            hovertemplate="%{x} removed: log p falls by %{y:.3f}<extra>%{fullData.name}</extra>",
        )
    counts = sorted(set(table["removed"].tolist()))
    figure.update_layout(height=380, margin=MARGIN, legend=ABOVE)
    figure.update_xaxes(title=f"{sense} removed", type="log", tickvals=counts, ticktext=[str(n) for n in counts])
    figure.update_yaxes(title="fall of log p", rangemode="tozero")
    return figure


def training_curve(table: pd.DataFrame, column: str) -> go.Figure:
    """A column of the trainings' table by epoch: coloured by captioner, dotted before self-critical training.

    Args:
        table: captioner, training, epoch, and columns that are empty where a training has no such figure.
    """
    figure, colours = go.Figure(), colours_of(table["captioner"])
    for (captioner, training), rows in table.dropna(subset=[column]).groupby(["captioner", "training"], sort=False):
        first = training == "cross-entropy"
        figure.add_scatter(
            x=rows["epoch"],
            y=rows[column],
            mode="lines+markers",
            name=f"{captioner}, {training}",
            line={"color": colours[str(captioner)], "dash": "dot" if first else "solid"},
            marker={"symbol": "circle-open" if first else "circle"},
            hovertemplate="epoch %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(height=300, margin=MARGIN | {"t": TOOLS}, legend=ABOVE | {"y": -0.25, "yanchor": "top"})
    figure.update_xaxes(title="epoch", dtick=1, tickfont={"size": SMALL})
    figure.update_yaxes(tickfont={"size": SMALL})
    return figure


def _sides(rows: pd.DataFrame) -> dict:
    """The two sides of an interval, as Plotly wants them."""
    sides = {"array": rows["high"] - rows["mean"], "arrayminus": rows["mean"] - rows["low"]}
    return {"type": "data", "symmetric": False, "thickness": 1.5, **sides}


def colours_of(captioners: Iterable[str]) -> dict[str, str]:
    """A colour for each captioner: the first Base and the first GLIED have theirs, the others take turns."""
    found, others = dict.fromkeys(map(str, captioners), ""), cycle(OTHERS)
    for captioner in found:
        kind = re.split("[ :]", captioner)[0]  # "GLIED before RL" is a GLIED
        own = PAIR.get(kind, "")
        found[captioner] = own if own and own not in found.values() else next(others)
    return found
