"""Explore: one photograph through one captioner, word by word and region by region."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from analysis.attention import attention_table, region_names, spoken
from analysis.groups import groupings, most_sought, region_table
from analysis.paper import heads_in_words
from app.components.board import board
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import Reading
from app.panels.nearest import draw_nearest
from app.photographs.photograph import Photograph
from app.state import BOARD, choose, chosen, pinned
from app.texts import plain
from app.widgets.export import draw_export
from app.widgets.pick import pick_model, pick_photograph, show_credit, show_gallery
from app.widgets.shared import open_shared
from app.widgets.tables import show_table
from glied.traces import Trace

# A click on a word draws them anew, and `as_written` took almost half of its time: these are Streamlit's own formats.
COLUMNS = {
    "attention": st.column_config.NumberColumn(format="percent"),
    "own share": st.column_config.NumberColumn("own share of its group", format="percent"),
    "lift": st.column_config.NumberColumn("times the even share", format="%.1f×"),
    "fall": st.column_config.NumberColumn("fall in log p without it", format="%.3f"),
}


@st.fragment(key="word")
def draw_word(reading: Reading, photograph: Photograph) -> None:
    """The board, and what follows the word and head that are chosen on it."""
    trace = reading.trace
    step, head = chosen(trace)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            "Choose a word to see where the captioner looked for it; in GLIED’s region groups, hover over the "
            "photograph."
            if groupings(trace) is not None
            else f"Choose a word to see where the captioner looked for it. {plain(trace.captioner)} has no groupings: "
            "it attends to regions as they are. Choose GLIED to see them.",
            width="content",
        )
        draw_export(photograph, reading, step, head, pinned(trace))
    board(trace, photograph, key=BOARD, on_choice=partial(choose, BOARD))
    word = f"“{plain(spoken(trace.words[step]))}”, number {step + 1} of the caption; {heads_in_words(trace, head)}"
    draw_table(
        "What the chosen word looked at, as a table",
        f"The word is {word}.",
        lambda: attention_table(trace, step, head),
        f"Attention of the word {trace.words[step]} to each region and attribute",
        "word.csv",
    )
    draw_table(
        "The regions, as a table",
        f"Boxes are in pixels of a photograph of {trace.size[0]} × {trace.size[1]}. "
        f"Attention and fall are those of the word {word}."
        + (f" All regions seek some: they gather most from {plain(sought)}." if (sought := most(trace, head)) else ""),
        lambda: region_table(trace, step, head),
        f"The regions: name, box, group, and the attention of the word {trace.words[step]}",
        "regions.csv",
    )
    draw_nearest(reading, photograph)


def most(trace: Trace, head: int) -> str:
    """The regions that all gather most from; empty of a captioner without groupings."""
    shares = groupings(trace, head)
    return "" if shares is None else most_sought(shares, region_names(trace))


def draw_table(title: str, said: str, make: Callable[[], pd.DataFrame], alt: str, file: str) -> None:
    """A table that is made once it is opened."""
    place = st.expander(title, icon=":material/table:", key=file, on_change="rerun")
    if place.open:
        with place:
            st.caption(said)
            show_table(make(), alt, file, COLUMNS)


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    model = pick_model()
reading = traced(photograph, model)
warn_if_unlike(reading.trace)
draw_word(reading, photograph)
with st.container(horizontal=True):
    st.page_link("views/collocations.py", label="Its attribute collocations", icon=":material/grid_on:")
    st.page_link("views/decoding.py", label="How its caption was found", icon=":material/account_tree:")
show_credit(photograph)
open_shared()
