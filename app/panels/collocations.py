"""What the page Collocations draws."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from analysis.collocations import cluster, frequent, lift_grid
from analysis.figures import collocation_map, lift_against_pmi
from app.photographs.gallery import MOST, Entry, entries, folder, thumbnail
from app.state import PIVOT, SCATTER, choose_point
from app.texts import plain
from app.widgets.export import draw_lifts_export, draw_pivot_export
from app.widgets.pick import figure_config
from app.widgets.tables import offer_csv, show_table
from glied.errors import GliedError

SHOWN = 24  # pivots at first
ATTRIBUTES = 40  # attributes of the data set's map
COLUMNS = {
    "lift": st.column_config.NumberColumn(
        "lift", format="%.2f×", help="Attention as a multiple of the even share: weight times number of attributes"
    ),
    "fall": st.column_config.NumberColumn(
        "fall of log p", format="%.3f", help="How far log p of the next word falls without this attribute"
    ),
    "pmi": st.column_config.NumberColumn(
        "caption PMI",
        format="%+.2f",
        help="Pointwise mutual information of the two words in the training captions: above 0, more often together "
        "than by chance",
    ),
    "together": st.column_config.NumberColumn(
        "captioned together", help="Training photographs whose captions say both words"
    ),
    "photographs": st.column_config.NumberColumn(help="Photographs over which the lift was averaged"),
    "where": st.column_config.ListColumn("strongest in", help="The photographs in which the lift is highest"),
}
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


def draw_agreement(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """How far lift follows the captions, in a sentence."""
    found = report["grounding"]["collocations"]
    whole, within = found["rank_correlation"], found["rank_correlation_within_pivots"]
    said = (
        f"People’s captions of {report['grounding']['photographs']:,} photographs ({report['data']} {report['split']}) "
        f"were replayed; {len(pairs):,} pairs of a pivot and an attribute met in at least 20 of them. "
    )
    if whole is not None:
        said += f"Lift and caption PMI have a rank correlation of **{whole:.2f}** over all pairs"
        if within["mean"] is not None:
            said += f", **{within['mean']:.2f}** ({within['low']:.2f} to {within['high']:.2f}) within a pivot"
        said += (
            ". 1 would mean that attention ranks attributes exactly as the captions’ statistics do, "
            "0 that it does not follow them."
        )
    st.markdown(said)


@st.fragment
def draw_grid(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """Pivots by attributes, both in order of likeness."""
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
        f"Mean lift over photographs; empty where the two met in fewer than 20. Of the attributes that met half of "
        f"these pivots, the {ATTRIBUTES} whose lifts differ most are shown; the trees join rows, and columns, that are "
        "alike."
    )
    draw_lifts_export(report, grid)


@st.fragment
def draw_pairs(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """Any pivot of the report, by itself and among all others."""
    st.subheader("One pivot")
    pivot = st.selectbox("Pivot", frequent(pairs), key=PIVOT.name, bind="query-params", width=240)
    draw_pairs_of(pairs, pivot)
    draw_pivot_export(report, pivot, pairs[pairs["pivot"] == pivot].drop(columns="pivot"))
    st.subheader("Learned, or merely frequent?")
    draw_scatter(pairs, pivot)


@st.fragment
def draw_pairs_of(pairs: pd.DataFrame, pivot: str) -> None:
    """The attributes of a pivot, and the photographs in which one of them is strongest."""
    own = pairs[pairs["pivot"] == pivot].drop(columns="pivot")
    show_table(own, f"Attributes that {pivot} calls up", f"pivot-{pivot}.csv", COLUMNS)
    attribute = st.selectbox(
        "The photographs where it fires: attribute", own["attribute"], key="attribute", bind="query-params", width=300
    )
    where = own.loc[own["attribute"] == attribute, "where"].iloc[0]
    gallery = {entry.id: entry for entry in entries(folder())[0]}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for id in where:
            if id in gallery:
                draw_opener(gallery[id])
    elsewhere = [id for id in where if id not in gallery]
    if elsewhere:
        st.text(
            f"{', '.join(elsewhere)}: not in this gallery; “make app IMAGES=DIR” shows the first {MOST:,} of a folder."
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
        on_select=lambda: choose_point(SCATTER, PIVOT, set(pairs["pivot"])),
        selection_mode="points",
        alt="Every pair of pivot and attribute: lift of attention against mutual information in the captions",
    )
    st.caption(
        "Upper left: called up although the captions seldom say both. Lower right: often said together, yet not called "
        "up. Choose a point to see its pivot above."
    )


def draw_extremes(report: Mapping[str, Any], pairs: pd.DataFrame) -> None:
    """The pairs on which attention and captions agree most and least, and all of them as a file."""
    for tab, (title, (name, rule)) in zip(st.tabs(list(EXTREMES)), EXTREMES.items(), strict=True):
        with tab:
            st.caption(rule)
            found = report["grounding"]["collocations"][name]
            show_table(pd.DataFrame(found, columns=list(pairs)), title, f"{name}.csv", COLUMNS)
    offer_csv(pairs, "collocations.csv", f"All {len(pairs):,} pairs")
