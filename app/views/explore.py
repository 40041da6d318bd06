"""Explore: one photograph through one captioner, word by word and region by region."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from analysis.attention import attention_table, cited, region_names, spoken
from analysis.figures import group_map
from analysis.groups import ALIKE, cluster_regions, described, groupings, most_sought, region_table
from app.components.board import board
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import Reading
from app.panels.nearest import draw_nearest
from app.photographs.photograph import Photograph
from app.state import BOARD, CHOICE, choose, chosen, pinned, redraws_a_part
from app.texts import plain
from app.widgets.export import draw_export
from app.widgets.pick import figure_config, pick_model, pick_one, pick_photograph, show_gallery
from app.widgets.shared import open_shared
from app.widgets.tables import show_table
from glied.functions import find
from glied.traces import Trace

COLUMNS = {
    "attention": st.column_config.NumberColumn(format="percent"),
    "own share": st.column_config.NumberColumn("own share of its group", format="percent"),
    "lift": st.column_config.NumberColumn("times the even share", format="%.2f"),
    "fall": st.column_config.NumberColumn("fall in log p without it", format="%.3f"),
}


def follow() -> None:
    """Takes over what was chosen on the board; another head concerns the groups too, which a word leaves alone. Where
    the whole page is drawn anyway, another captioner may have been chosen with it, and is not to be lost."""
    before = CHOICE.get()
    choose(BOARD)
    if CHOICE.get().head != before.head and redraws_a_part():
        st.rerun(["word", "groups"])


@st.fragment(key="word")
def draw_word(reading: Reading, photograph: Photograph) -> None:
    """The board, and what follows the word and head that are chosen on it."""
    board(reading.trace, photograph, key=BOARD, on_choice=follow)
    trace = reading.trace
    step, head = chosen(trace)
    draw_export(photograph, reading, step, head, pinned(trace))
    word = f"“{plain(spoken(trace.words[step]))}”, number {step + 1} of the caption; {name_of(head)}"
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
        f"Attention and fall are those of the word {word}.",
        lambda: region_table(trace, step, head),
        f"The regions: name, box, group, and the attention of the word {trace.words[step]}",
        "regions.csv",
    )
    draw_nearest(reading, photograph)


def draw_table(title: str, said: str, make: Callable[[], pd.DataFrame], alt: str, file: str) -> None:
    """A table that is made once it is opened."""
    place = st.expander(title, icon=":material/table:", key=file, on_change="rerun")
    if place.open:
        with place:
            st.caption(said)
            show_table(make(), alt, file, COLUMNS)


@st.fragment(key="groups")
def draw_groups(trace: Trace) -> None:
    """Region distilling: which regions gather from which, in the order of their likeness."""
    st.subheader("Region groups, put in order")
    head = chosen(trace)[1]
    shares, names = groupings(trace, head), region_names(trace)
    if shares is None:
        st.info(
            f"{plain(trace.captioner)} has no groupings: it attends to regions as they are. Choose GLIED to see them.",
            icon=":material/info:",
        )
        return
    equation = cited(trace, find(trace.functions, "regions", "grouping"))
    groups = cluster_regions(shares)
    st.caption(
        "Before any word is said, each region (row) gathers from all regions (columns)"
        f"{equation and f', {equation}'}: orange more, blue less, "
        f"{name_of(head)}, as chosen above. All regions seek some: they gather most from "
        f"{plain(most_sought(shares, names))}. Beyond what is usual, some gather alike and are gathered from alike: "
        f"they stand side by side, framed where their mean correlation is {ALIKE} or more, the dotted line in the tree."
    )
    usual = "what is usual from that region"
    scale = pick_one("1× is", (usual, "an even share"), "group_scale", persist_state="session")
    st.plotly_chart(
        group_map(shares, groups, names, scale == usual),
        key="groups",
        config=figure_config(),
        alt="Heat map of region groupings: how much each region gathers from each other, in groups",
    )
    told = described(shares, groups, names)
    st.markdown("\n".join(f"- **{title}**: {plain(text)}" for title, text in told.items()))
    st.caption(
        "A group says that this captioner treats those regions alike. It does not say that they gather from one "
        "another (the numbers tell whether they do), that they are one object, or that a word depends on them. Where "
        "a group ends is our cut: the model’s own groups are soft, one for each region."
    )


def name_of(head: int) -> str:
    """The head in view, in words."""
    return "mean over heads" if head == 0 else f"head {head}"


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    model = pick_model()
st.caption(
    "Choose a word to see where the captioner looked for it; in GLIED’s region groups, hover over the photograph."
)
reading = traced(photograph, model)
warn_if_unlike(reading.trace)
draw_word(reading, photograph)
draw_groups(reading.trace)
with st.container(horizontal=True):
    st.page_link("views/collocations.py", label="Its attribute collocations", icon=":material/grid_on:")
    st.page_link("views/decoding.py", label="How its caption was found", icon=":material/account_tree:")
if photograph.credit:
    st.caption(f"{photograph.title}: {photograph.credit}")
open_shared()
