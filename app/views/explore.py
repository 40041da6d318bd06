"""Explore: one photograph through one captioner, word by word and region by region."""

import streamlit as st

from analysis.attention import attention_table, first_step, spoken
from analysis.figures import collocation_map, collocation_ranks
from app.components.board import board
from app.gallery import Photograph
from app.pick import pick_model, pick_photograph, show_gallery
from app.services import traced, warn_if_unlike
from app.state import chosen
from glied.trace import Trace


@st.fragment
def draw_words(trace: Trace, photograph: Photograph) -> None:
    """The board, and below it what follows the chosen word and head."""
    board(trace, photograph, key="board")
    step, head = chosen(trace)
    draw_collocations(trace, head)
    with st.expander("What the chosen word looked at, as a table", icon=":material/table:"):
        st.caption(f"The word is “{spoken(trace.words[step])}”, number {step + 1} of the caption.")
        st.dataframe(
            attention_table(trace, step, head),
            hide_index=True,
            alt=f"Attention of the word {trace.words[step]} to each region and attribute",
            column_config={
                "attention": st.column_config.NumberColumn(format="percent"),
                "lift": st.column_config.NumberColumn("times the even share", format="%.2f"),
                "fall": st.column_config.NumberColumn("fall in log p without it", format="%.3f"),
            },
        )


def draw_collocations(trace: Trace, head: int) -> None:
    """Attribute distilling: which attributes each input word calls up."""
    st.subheader("Attribute collocations")
    if "ad" not in trace.attention:
        st.info(
            "Base has no groupings and no collocations: it attends to regions and attributes as they are. "
            "Choose GLIED to see them.",
            icon=":material/info:",
        )
        return
    st.caption(
        "Before a word is said, the word **before** it calls up attributes that go with it (GLIED Eq. (10)). "
        "A row belongs to that INPUT word, the pivot. 1× is an even share, orange more, blue less; "
        f"{'mean over heads' if head == 0 else f'head {head}'}, as chosen above."
    )
    order = st.segmented_control(
        "Order of the attributes",
        ["by likeness", "by score"],
        default="by likeness",
        required=True,
        key="order",
        persist_state="session",
    )
    st.plotly_chart(
        collocation_map(trace, head, order == "by likeness"),
        key="collocations",
        config={"displaylogo": False},
        alt="Heat map of attribute collocations: input words by attributes",
    )
    pivot = st.pills(
        "Pivot word",
        range(len(trace.inputs)),
        default=min(first_step(trace) + 1, len(trace.inputs) - 1),
        required=True,
        key=f"pivot {trace.digest}",
        format_func=lambda t: spoken(trace.inputs[t]),
    )
    st.plotly_chart(
        collocation_ranks(trace, pivot, head),
        key="ranks",
        config={"displaylogo": False},
        alt=f"Attributes that {spoken(trace.inputs[pivot])} calls up most, by lift",
    )


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    model = pick_model()
st.caption(
    "Choose a word to see where the captioner looked for it; in GLIED’s region groups, hover over the photograph."
)
reading = traced(photograph, model)
warn_if_unlike(reading.trace)
draw_words(reading.trace, photograph)
if photograph.credit:
    st.caption(f"{photograph.title}: {photograph.credit}")
