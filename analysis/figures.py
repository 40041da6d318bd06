"""Tables -> Plotly figures. Plotly stops here."""

import numpy as np
import plotly.graph_objects as go

from analysis.attention import collocations, pooled, seriation, spoken
from glied.trace import Trace

# Blue below the even share, orange above: told apart with every common colour blindness.
DIVERGING = [[0, "#1f5fa8"], [0.25, "#7fb0da"], [0.5, "#f2efe9"], [0.75, "#f0a35e"], [1, "#b4500a"]]


def collocation_map(trace: Trace, head: int = 0, similar: bool = True) -> go.Figure:
    """Pivot x attribute: lift of attribute distilling, GLIED Eq. (10), on a log scale centred on the even share.

    Row t belongs to the INPUT word of step t; the scale ends at the largest lift, both ways.
    Columns stand by likeness, or by detection score.
    """
    found = collocations(trace, head)
    logs = np.log2(np.maximum(found, 2.0**-6))
    order = seriation(logs) if similar else np.arange(len(trace.attributes))
    reach = max(1, int(np.ceil(logs.max())))
    ticks = np.arange(-reach, reach + 1, -(-reach // 3))
    names = [f"1/{2**-t}×" if t < 0 else f"{2**t}×" for t in ticks.tolist()]
    weights = pooled(trace.attention["ad"], head)
    figure = go.Figure(
        go.Heatmap(
            z=logs[:, order],
            x=[trace.attributes[i] for i in order],
            y=[f"{t} {spoken(word)}" for t, word in enumerate(trace.inputs)],
            customdata=np.stack([found[:, order], weights[:, order]], -1),
            hovertemplate="pivot %{y}<br>attribute %{x}<br>%{customdata[0]:.2f} times the even share"
            "<br>weight %{customdata[1]:.3f}<extra></extra>",
            colorscale=DIVERGING,
            zmid=0,
            zmin=-reach,
            zmax=reach,
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": "lift", "side": "top"},
                "tickvals": ticks,
                "ticktext": names,
                "thickness": 12,
            },
        )
    )
    figure.update_layout(height=150 + 24 * len(trace.inputs), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(tickangle=-60, automargin=True, showgrid=False)
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1, showgrid=False)
    return figure


def collocation_ranks(trace: Trace, pivot: int, head: int = 0, count: int = 12) -> go.Figure:
    """The attributes that the input word of step `pivot` draws in most, by lift."""
    found = collocations(trace, head)[pivot]
    order = np.argsort(-found, kind="stable")[:count]
    figure = go.Figure(
        go.Bar(
            x=found[order],
            y=[trace.attributes[i] for i in order],
            orientation="h",
            text=[f"{found[i]:.2f}×" for i in order],
            textposition="auto",
            hovertemplate="%{y}: %{x:.2f} times the even share<extra></extra>",
            marker={"color": "#b4500a"},
        )
    )
    figure.add_vline(x=1, line={"dash": "dot", "width": 1})
    figure.update_layout(height=60 + 26 * len(order), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(title="lift (1 = even share)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
