"""What the page Collocations draws."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.collocations import Tree, cluster, frequent, lift_grid, lift_table
from analysis.figures import collocation_map, head_map, lift_against_pmi, reach_of
from analysis.numbers import signed, times
from app.components.maps import maps
from app.photographs.gallery import MOST, Entry, entries, folder, thumbnail
from app.photographs.photograph import as_png_url
from app.state import PIVOT, SCATTER, choose_map, choose_point
from app.texts import plain
from app.widgets.export import draw_lifts_export, draw_pivot_export
from app.widgets.pick import figure_config, warn_of_unknown
from app.widgets.tables import as_written, offer_csv
from glied.errors import GliedError
from glied.traces import Trace

SHOWN = 24  # pivots at first
ATTRIBUTES = 40  # attributes of the data set's map
ROWS = 250  # pixels of a table
COLUMNS = {
    "lift": st.column_config.NumberColumn(
        "lift", help="Attention as a multiple of the even share: weight times number of attributes"
    ),
    "fall": st.column_config.NumberColumn(
        "fall of log p", help="How far log p of the next word falls without this attribute"
    ),
    "pmi": st.column_config.NumberColumn(
        "caption PMI",
        help="Pointwise mutual information of the two words in the training captions: above 0, more often together "
        "than by chance",
    ),
    "together": st.column_config.NumberColumn(
        "captioned together", help="Training photographs whose captions say both words"
    ),
    "photographs": st.column_config.NumberColumn(help="Photographs over which the lift was averaged"),
}
WRITTEN: dict[str, Callable[[float], str]] = {"lift": times, "fall": partial(signed, digits=3), "pmi": signed}
EXTREMES = {
    "Strongest": ("strongest", "The highest lifts."),
    "Learned but rare": (
        "learned_but_rare",
        "The highest lifts among pairs that the captions put together less often than chance (PMI below 0).",
    ),
    "Frequent but unlearned": (
        "frequent_but_unlearned",
        "The highest PMI among pairs with a lift below 1 that the captions of at least 20 training photographs say.",
    ),
}


def draw_map(figure: Any, alt: str) -> None:
    """A map; where the page is too narrow for its labels, it scrolls."""
    with st.container(key="wide"):
        st.plotly_chart(figure, key="map", config=figure_config(), alt=alt)
    st.html("<style>.st-key-wide { overflow-x: auto } .st-key-wide > * { min-width: 44rem }</style>")


def show_rows(table: pd.DataFrame, alt: str, file: str) -> None:
    """A table of pairs, its first rows in view. Only its CSV file says in which photographs a pair is strongest."""
    shown = as_written(table.drop(columns="where", errors="ignore"), WRITTEN)
    st.dataframe(shown, hide_index=True, alt=alt, column_config=COLUMNS, placeholder="–", height=ROWS)
    offer_csv(table, file)


def draw_heads(trace: Trace, asked: Mapping[str, Trace], head: int, across: Tree | None) -> None:
    """A fold with a small map of every head, in the order and on the scale of one another; a click chooses the head."""
    place = st.expander("All heads at a glance", icon=":material/apps:", key="heads", on_change="rerun")
    if not place.open:
        return
    with place:
        tables = [lift_table(trace, asked, each).to_numpy() for each in range(trace.heads + 1)]
        order = across.order if across else slice(None)
        reach = reach_of(np.stack(tables))
        pictures = [as_png_url(head_map(table[:, order], reach)) for table in tables]
        maps(pictures, head, "Map of each head", on_pick=lambda: choose_map(trace.heads))
        st.caption(
            f"The map above, of every head: rows are pivots, columns attributes, from blue 1/{2**reach}× to orange "
            f"{2**reach}×. Choose one to see it above."
        )


def draw_agreement(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """How far lift follows the captions, in a sentence."""
    found = report["grounding"]["collocations"]
    whole, within = found["rank_correlation"], found["rank_correlation_within_pivots"]
    said = (
        f"People’s captions of {report['grounding']['photographs']:,} photographs ({report['data']} {report['split']}) "
        f"were replayed; {len(pairs):,} pairs of a pivot and an attribute met in at least 20 of them. "
    )
    if whole is not None:
        said += f"Lift and caption PMI have a rank correlation of **{signed(whole)}** over all pairs"
        if within["mean"] is not None:
            mean, low, high = (signed(within[name]) for name in ("mean", "low", "high"))
            said += f", **{mean}** ({low} to {high}) within a pivot"
        said += (
            ". 1 would mean that attention ranks attributes exactly as the captions’ statistics do, "
            "0 that it does not follow them."
        )
    st.markdown(said)


@st.fragment
def draw_grid(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """Pivots by attributes, both in order of likeness."""
    st.header("Many pivots")
    known = frequent(pairs)
    pivots = st.multiselect(
        "Pivots of the map",
        known,
        default=known[:SHOWN],
        key="pivots",
        bind="query-params",
        select_all=False,
        max_selections=2 * ATTRIBUTES,
        help="At first the pivots that met attributes most often; the map chooses the attributes that tell them apart.",
    )
    if not pivots:
        st.info("Choose at least one pivot to see the map.", icon=":material/info:")
        return
    grid = lift_grid(pairs, pivots, ATTRIBUTES)
    draw_map(
        collocation_map(grid, cluster(grid.T), cluster(grid)),
        "Heat map of the mean lift over the data set: pivots by attributes",
    )
    st.caption(
        f"Mean lift over photographs; hatched where the two met in fewer than 20. Of the attributes that met half of "
        f"these pivots, the {ATTRIBUTES} whose lifts differ most are shown; the trees join rows, and columns, that are "
        "alike."
    )
    draw_lifts_export(report, grid)


@st.fragment
def draw_pairs(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """Any pivot of the report, by itself and among all others."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        known = frequent(pairs)
        warn_of_unknown(PIVOT.name, known, "the pivot")
        pivot = st.selectbox("Pivot", known, key=PIVOT.name, bind="query-params", width=240)
        own = pairs[pairs["pivot"] == pivot].drop(columns="pivot")
        attribute = st.selectbox(
            "Strongest where, with the attribute", own["attribute"], key="attribute", bind="query-params", width=300
        )
    left, right = st.columns(2, gap="large")
    with left:
        show_rows(own, f"Attributes that {pivot} calls up", f"pivot-{pivot}.csv")
    with right:
        draw_scatter(pairs, pivot)
    draw_strongest(report, pivot, attribute, own.loc[own["attribute"] == attribute, "where"].iloc[0])
    draw_pivot_export(report, pivot, own)


def draw_strongest(report: Mapping[str, Any], pivot: str, attribute: str, where: Sequence[str]) -> None:
    """The photographs in which a pivot calls an attribute up most: themselves where the gallery has them, else what
    the captioner says of them."""
    gallery = {entry.id: entry for entry in entries(folder())[0]}
    st.markdown(f"Where “{plain(pivot)}” calls up “{plain(attribute)}” most:")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for id in where:
            if id in gallery:
                draw_opener(gallery[id])
    captions = [report["images"].get(id, {}).get("caption") for id in where if id not in gallery]
    if captions:
        st.markdown("\n".join(f"- “{plain(caption)}”" for caption in captions if caption))
        st.caption(
            f"What {plain(report['title'])} says of photographs that this gallery lacks; `make app IMAGES=DIR` shows "
            f"the first {MOST:,} of a folder."
        )


def draw_opener(entry: Entry) -> None:
    """A photograph of the gallery that opens on Explore."""
    with st.container(width="content"):
        with suppress(GliedError):  # a damaged file
            st.image(thumbnail(entry), alt=entry.alt)
        st.page_link("views/explore.py", label=plain(entry.title), query_params={"photo": entry.id})


def draw_scatter(pairs: pd.DataFrame, pivot: str) -> None:
    """Lift against PMI; a point chooses its pivot."""
    st.plotly_chart(
        lift_against_pmi(pairs, pivot),
        key=SCATTER.name,
        config=figure_config(),
        on_select=lambda: choose_point(PIVOT, set(pairs["pivot"])),
        selection_mode="points",
        alt="Every pair of pivot and attribute: lift of attention against mutual information in the captions",
    )
    st.caption(
        "Learned, or merely frequent? Upper left: called up although the captions seldom say both. Lower right: often "
        "said together, yet not called up. Choose a point to see its pivot."
    )


def draw_extremes(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """The pairs on which attention and captions agree most and least, and all of them as a file."""
    with st.expander("The pairs on which attention and captions agree most and least", icon=":material/table:"):
        for tab, (title, (name, rule)) in zip(st.tabs(list(EXTREMES)), EXTREMES.items(), strict=True):
            with tab:
                st.caption(rule)
                found = report["grounding"]["collocations"][name]
                show_rows(pd.DataFrame(found, columns=list(pairs)), title, f"{name}.csv")
    offer_csv(pairs, "collocations.csv", f"All {len(pairs):,} pairs")
