"""Explore: one photograph through one captioner, word by word and region by region."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from analysis.attention import attention_table, looked, region_names, senses, spoken
from analysis.groups import groupings, most_sought, region_table
from analysis.paper import heads_in_words
from app.components.board import board
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import Answer
from app.panels.nearest import draw_nearest
from app.photographs.photograph import Photograph
from app.state import BOARD, choose, chosen, pinned
from app.texts import plain
from app.widgets.export import draw_export
from app.widgets.pick import lacks, layers, pick_model, pick_photograph, show_credit, show_gallery
from app.widgets.shared import open_shared
from app.widgets.tables import show_table
from glied.errors import GliedError
from glied.functions import find
from glied.traces import Trace

# Streamlit's own formats: `as_written` took almost half of the time of a click on a word, which draws the tables anew.
COLUMNS = {
    "attention": st.column_config.NumberColumn(format="percent"),
    "own share": st.column_config.NumberColumn("own share of its group", format="percent"),
    "lift": st.column_config.NumberColumn("times the even share", format="%.1f×"),
    "fall": st.column_config.NumberColumn("fall of log p without it", format="%.3f"),
}


@st.fragment(key="word")
def draw_word(answer: Answer, photograph: Photograph) -> None:
    """The board, and what follows the word and head that are chosen on it."""
    trace = answer.trace
    step, head = chosen(trace)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(introduction(trace), width="content")
        draw_export(photograph, answer, step, head, pinned(trace))
    board(trace, photograph, key=BOARD, on_choice=partial(choose, BOARD))
    word = f"“{plain(spoken(trace.words[step]))}”, number {step + 1} of the caption; {heads_in_words(trace, head)}"
    if list(senses(trace)):
        draw_table(
            "What the chosen word looked at, as a table",
            f"The word is {word}.",
            lambda: attention_table(trace, step, head),
            f"What the word {trace.words[step]} attended to, and by how much",
            "word.csv",
        )
    measured = "Fall is that" if looked(trace) is None else "Attention and fall are those"
    draw_table(
        "The regions, as a table",
        f"Boxes are in pixels of a photograph of {trace.size[0]} × {trace.size[1]}. {measured} of the word {word}."
        + (f" All regions seek some: they gather most from {plain(sought)}." if (sought := most(trace, head)) else ""),
        lambda: region_table(trace, step, head),
        f"The regions: name, box, and what the word {trace.words[step]} has of each",
        "regions.csv",
    )
    draw_nearest(answer, photograph)


def introduction(trace: Trace) -> str:
    """What to do on the board, and what this captioner lacks."""
    grouped, seen = groupings(trace) is not None, looked(trace) is not None
    parts = [
        "Choose a word to see where the captioner looked for it"
        + ("; in its region groups, hover over the photograph." if grouped else ".")
        if seen
        else "Choose a word to see what it needs of the photograph.",
        lacks(trace.captioner, trace.functions),
        layers(trace.functions),
    ]
    return " ".join(filter(None, parts))


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


def draw_asked() -> None:
    """What a captioner that runs here says of a photograph."""
    with st.container(horizontal=True, vertical_alignment="center"):
        photograph = pick_photograph()
        model = pick_model()
    answer = traced(photograph, model)
    warn_if_unlike(answer.trace)
    draw_word(answer, photograph)
    with st.container(horizontal=True):
        if find(answer.trace.functions, "attributes", "pivot"):
            st.page_link("views/collocations.py", label="Its attribute collocations", icon=":material/grid_on:")
        st.page_link("views/decoding.py", label="How its caption was found", icon=":material/account_tree:")
    show_credit(photograph)


show_gallery()
try:
    draw_asked()
except GliedError as error:  # shared traces need no captioner
    st.error(plain(str(error)), icon=":material/error:")
open_shared()
