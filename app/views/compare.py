"""Compare: Base beside GLIED on the same photograph."""

import pandas as pd
import streamlit as st

from app.components.board import board
from app.gallery import Photograph, folder, human_captions
from app.pick import pick_pair, pick_photograph, show_gallery
from app.services import Reading, engine, traced, warn_if_unlike


@st.fragment
def draw_boards(readings: dict[str, Reading], photograph: Photograph) -> None:
    """Both captions with their attention; a word or region chosen on one is followed on the other."""
    columns = st.columns(2, gap="large")
    for column, (model, reading), other in zip(columns, readings.items(), reversed(readings.values()), strict=True):
        with column:
            st.subheader(engine().titles[model])
            board(reading.trace, photograph, key=f"board_{model}", partner=other.trace)


def draw_runners_up(readings: dict[str, Reading]) -> None:
    """The captions that beam search ended with."""
    st.subheader("What the beam ended with")
    for column, (model, reading) in zip(st.columns(2, gap="large"), readings.items(), strict=True):
        assert reading.decoded
        found = reading.decoded.captions
        column.dataframe(
            pd.DataFrame(
                {
                    "log p": [c.log_probability for c in found],
                    "ranked by": [c.score for c in found],
                    "caption": [c.text for c in found],
                }
            ).round(2),
            hide_index=True,
            alt=f"The best captions of {engine().titles[model]} with their scores",
        )
    st.caption(
        "Log p is that of the whole caption; the ranking divides it by a measure of length. "
        "The two captioners' numbers are each their own: neither says which caption is better."
    )


def draw_human_captions(photograph: Photograph) -> None:
    """What people wrote, where the folder of photographs knows it."""
    written = human_captions(folder()).get(photograph.id, ())
    if written:
        st.subheader("What people wrote")
        for caption in written:
            st.text(caption)
        st.caption("Scores such as CIDEr compare whole splits; a single photograph's would say little.")


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    glied, base = pick_pair()
readings = {model: traced(photograph, model) for model in (base, glied)}
warn_if_unlike(readings[glied].trace)
st.caption("Underlined words differ. Choose a word or hover over a region on one side: the other side follows.")
draw_boards(readings, photograph)
draw_runners_up(readings)
draw_human_captions(photograph)
