"""Compare: two captioners on the same photograph."""

import math
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import streamlit as st

from analysis.diff import align, difference_table, differing, evidence_table, score_table
from app.components.board import board
from app.engine.ask import engine, traced, warn_if_unlike
from app.engine.engine import Question, Reading
from app.engine.reports import comparable
from app.photographs.gallery import folder, human_captions
from app.photographs.photograph import Photograph
from app.state import BOARD_LEFT, BOARD_RIGHT, CHOICE, LEFT, RIGHT, Key, choose, chosen
from app.texts import plain, without_minus_zero
from app.widgets.pick import RL, pick_photograph, show_gallery, warn_of_unknown
from glied.evaluation.report import COMPARED
from glied.traces import Trace

LOG_P = st.column_config.NumberColumn(format="%.2f")
SHARE = st.column_config.NumberColumn(format="percent")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two captioners, and what it says of the photograph."""

    model: str
    title: str
    reading: Reading

    @property
    def trace(self) -> Trace:
        """Why it says so."""
        return self.reading.trace


def pick_sides() -> tuple[str, str]:
    """Two captioners; at first Base and GLIED, both after self-critical training where such are there."""
    glied, base, *_ = engine().titles
    left = _pick(LEFT, base)
    st.button("", icon=":material/swap_horiz:", key="swap", help="Swap left and right", on_click=_swap)
    return left, _pick(RIGHT, glied)


def _pick(side: Key[str | None], usual: str) -> str:
    titles = engine().titles
    warn_of_unknown(side.name)
    chosen = st.selectbox(
        f"The captioner on the {side.name}",
        [usual, *(name for name in titles if name != usual)],
        format_func=titles.__getitem__,
        key=side.name,
        bind="query-params",
        label_visibility="collapsed",
        width=190,
    )
    return chosen or usual  # an empty ?left=


def _swap() -> None:
    left, right = LEFT.get(), RIGHT.get()
    LEFT.keep(right)
    RIGHT.keep(left)


@st.fragment
def draw_boards(photograph: Photograph, left: Side, right: Side) -> None:
    """Both captions with their attention; a word or region chosen on one is followed on the other."""
    for column, (key, own, other) in zip(
        st.columns(2, gap="large"), ((BOARD_LEFT, left, right), (BOARD_RIGHT, right, left)), strict=True
    ):
        with column:
            st.subheader(own.title)
            board(own.trace, photograph, key, on_choice=partial(choose, key), partner=other.trace)
    _keep_in_address(left.trace, right.trace)


def _keep_in_address(left: Trace, right: Trace) -> None:
    """The address names the word and head of the board on the left; a word chosen on the right is its partner there."""
    choice = CHOICE.get()
    if choice.trace == right.digest and choice.step is not None and choice.step < len(right.words):
        partner = align(left.words, right.words).right[choice.step]
        if partner >= 0:
            CHOICE.keep(replace(choice, trace=left.digest, step=partner))
    chosen(left)


def draw_differences(photograph: Photograph, left: Side, right: Side) -> None:
    """The words that differ, how likely each captioner finds them, and what they rest on."""
    st.subheader("The words that differ")
    places = differing(left.trace.words, right.trace.words)
    if not places:
        st.write(f"None: {left.title} and {right.title} say the same; the boards show whether for the same reasons.")
        return
    left_by_right, right_by_left = (
        traced(photograph, other.model, Question(words=own.trace.words[:-1], falls=False)).trace
        for own, other in ((left, right), (right, left))
    )
    table = difference_table(left.trace, right.trace, left_by_right, right_by_left)
    st.markdown("\n".join(f"- {_sentence(row, left.title, right.title)}" for _, row in table.iterrows()))
    st.caption(
        "In brackets, the probability of the word after the words before it in its own caption, which both captioners "
        "replay. Where two captions have parted, those words differ as well."
    )
    names = {
        "left": f"{left.title} says",
        "left_own": f"its log p under {left.title}",
        "left_other": f"and under {right.title}",
        "right": f"{right.title} says",
        "right_own": f"its log p under {right.title}",
        "right_other": f"and under {left.title}",
    }
    st.dataframe(
        without_minus_zero(table[list(names)]).rename(columns=names),
        hide_index=True,
        height="content",
        placeholder="–",
        column_config={name: LOG_P for column, name in names.items() if "_" in column},
        alt=f"Words that differ between {left.title} and {right.title}, with their log-probabilities under both",
    )
    _draw_evidence(left, right, places)


def _sentence(row: pd.Series, left: str, right: str) -> str:
    def said(word: str, own: float, other: float, elsewhere: str) -> str:
        return f"**{plain(word)}** ({_percent(own)}; {elsewhere} would with {_percent(other)})"

    on_left = said(row.left, row.left_own, row.left_other, right) if pd.notna(row.left) else ""
    on_right = said(row.right, row.right_own, row.right_other, left) if pd.notna(row.right) else ""
    if on_left and on_right:
        return f"{right} says {on_right} where {left} says {on_left}."
    return f"Only {right} says {on_right}." if on_right else f"Only {left} says {on_left}."


def _percent(log_p: float) -> str:
    p = math.exp(log_p)
    return f"{p:.0%}" if p >= 0.0995 else f"{p:.1%}" if p >= 0.001 else "under 0.1%"


def _draw_evidence(left: Side, right: Side, places: list[tuple[int | None, int | None]]) -> None:
    """What the words that differ looked at most, and how far they fall without it."""
    st.markdown("**What these words looked at most**")
    tables = [
        evidence_table(side.trace, [step for place in places if (step := place[at]) is not None])
        for at, side in enumerate((left, right))
    ]
    names = {
        "word": "word",
        "region": "region",
        "region_attention": "attention to it",
        "region_fall": "fall of log p without it",
        "attribute": "attribute",
        "attribute_attention": "attention to the attribute",
        "attribute_fall": "fall of log p without the attribute",
    }
    table = (
        pd.concat(tables, keys=(left.title, right.title), names=["captioner", None])
        .reset_index("captioner")
        .rename(columns=names)
    )
    kinds = {name: SHARE if "attention" in column else LOG_P for column, name in names.items() if "_" in column}
    st.dataframe(
        without_minus_zero(table),
        hide_index=True,
        height="content",
        placeholder="–",
        column_config=kinds,
        alt="Region and attribute that each differing word looked at most, and the fall of its log p without them",
    )
    st.caption(
        "Attention (mean over heads) says where a value was read, the fall how far the word depends on it. Regions "
        "overlap: what is taken away with one may still be seen in another."
    )


def draw_runners_up(left: Side, right: Side) -> None:
    """The captions that beam search ended with."""
    st.subheader("What the beam ended with")
    for column, side in zip(st.columns(2, gap="large"), (left, right), strict=True):
        assert side.reading.decoded
        found = side.reading.decoded.captions
        column.dataframe(
            pd.DataFrame(
                {
                    "log p": [c.log_probability for c in found],
                    "ranked by": [c.score for c in found],
                    "caption": [c.text for c in found],
                }
            ).round(2),
            hide_index=True,
            alt=f"The best captions of {side.title} with their scores",
        )
    st.caption(
        "Log p is that of the whole caption; the ranking divides it by a measure of length. "
        "The two captioners’ numbers are each their own: neither says which caption is better."
    )


def draw_human_captions(photograph: Photograph, left: Side, right: Side) -> None:
    """What people wrote, where the folder of photographs knows it, and how near both captions come to it."""
    written = human_captions(folder()).get(photograph.id, ())
    if not written:
        return
    st.subheader("What people wrote")
    for caption in written:
        st.text(caption)
    known = [pair for pair in comparable(left.model, right.model) if photograph.id in pair[0]]
    if not known:
        return
    own, other = known[0]
    st.markdown("**How near both captions come to that**")
    table = score_table(own, other, photograph.id, COMPARED)
    names = {"left": left.title, "right": right.title, "difference": f"{right.title} minus {left.title}"}
    st.dataframe(
        table.rename(columns=names | {"spread": "its usual size"}),
        column_config=dict.fromkeys([*names.values(), "its usual size"], st.column_config.NumberColumn(format="%.1f")),
        alt=f"Scores of {left.title} and {right.title} on this photograph, times 100",
    )
    st.caption(
        "Times 100, from the reports beside the checkpoints. A single word can move a photograph’s scores: its usual "
        f"size is the standard deviation of the difference over the {len(own)} photographs that "
        "both reports know. Only the mean over a data set tells captioners apart."
    )


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    models = pick_sides()
titles = engine().titles
if models[0] == models[1]:
    st.info(f"Both sides are {titles[models[0]]}; choose another captioner on one of them.", icon=":material/compare:")
    st.stop()
left, right = (Side(model, titles[model], traced(photograph, model)) for model in models)
warn_if_unlike(right.trace)
st.caption(
    "Underlined words differ. Choose a word or hover over a region on one side: the other side follows."
    + (f" {RL}." if len(titles) > 2 else "")
)
draw_boards(photograph, left, right)
draw_differences(photograph, left, right)
draw_runners_up(left, right)
draw_human_captions(photograph, left, right)
