"""Collocations: which attributes each word calls up, on one photograph and over a data set, beside the captions'
statistics."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from analysis.attention import first_step, spoken
from analysis.collocations import cluster, frequent, lift_grid, lift_table, pair_table, ranked
from analysis.figures import collocation_map, lift_against_pmi
from app.gallery import MOST, Entry, Photograph, entries, folder, thumbnail
from app.pick import figure_config, pick_figure_file, pick_model, pick_one, pick_photograph
from app.reports import report_or_why
from app.services import Question, engine, traced, warn_if_unlike
from app.state import choose_point
from app.tables import offer_csv, show_table
from app.texts import plain
from glied.errors import GliedError
from glied.trace import Trace
from glied.vocabulary import SPECIAL, tokenize

SCOPES = ("This photograph", "The whole data set")
ASKED = 8  # other words at once
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


@st.fragment
def draw_photograph(trace: Trace, photograph: Photograph, model: str) -> None:
    """The pivots of one photograph: those of its caption and whatever word is asked."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        head = pick_head(trace)
        order = pick_one(
            "Order of the attributes",
            ("by likeness", "by score"),
            "order",
            bind="query-params",
            help="By likeness: attributes that the same words call up stand side by side, and the tree above joins "
            "them. By score: the attribute that the detector is surest of comes first.",
        )
        least = st.slider("Hide lifts below", 0.0, 4.0, 0.0, 0.25, "%.2f×", key="least", bind="query-params", width=240)
    asked = ask_words(trace, photograph, model)
    lifts = lift_table(trace, asked, head)
    draw_map(
        collocation_map(lifts, across=None if order == "by score" else cluster(lifts.T), least=least),
        "Heat map of attribute collocations: pivot words by attributes of the photograph",
    )
    draw_pivot(trace, asked, lifts, model)


def draw_map(figure: Any, alt: str) -> None:
    """A map; where the page is too narrow for its labels, it scrolls."""
    with st.container(key="wide"):
        st.plotly_chart(figure, key="map", config=figure_config(), alt=alt)
    st.html("<style>.st-key-wide { overflow-x: auto } .st-key-wide > * { min-width: 44rem }</style>")


def pick_head(trace: Trace) -> int:
    """0 for the mean over heads."""
    heads = trace.attention["ad"].shape[0]
    return st.selectbox(
        "Head",
        range(heads + 1),
        format_func=lambda head: f"head {head}" if head else "mean of the heads",
        key="distilling_head",
        bind="query-params",
        width=180,
    )


def ask_words(trace: Trace, photograph: Photograph, model: str) -> dict[str, Trace]:
    """Any other words as pivots, each replayed alone on the photograph."""
    vocabulary = engine().models[model].vocabulary
    given = st.multiselect(
        "Ask other words",
        vocabulary.words[len(SPECIAL) :],
        key="ask",
        bind="query-params",
        accept_new_options=True,
        max_selections=ASKED,
        select_all=False,
        placeholder="Any word, whether the caption says it or not",
        help="The query of a collocation is the input word with its position (the preset `context` leaves that out), "
        "nothing else: a word is asked as the first word of a caption.",
    )
    words = [word for text in given for word in ([text] if text in vocabulary.ids else tokenize(text) or [text])]
    known = [word for word in dict.fromkeys(words) if word in vocabulary and word not in SPECIAL]
    strange = [f"“{word[:40]}”" for word in dict.fromkeys(words) if word not in known]
    if strange:
        count = len(vocabulary) - len(SPECIAL)
        st.text(f"The captioner does not know {', '.join(strange[:ASKED])}; ask one of its {count:,} words.")
    try:
        return {word: traced(photograph, model, Question(words=(word,), falls=False)).trace for word in known[:ASKED]}
    except GliedError as error:  # a fragment's errors do not reach main.py
        st.error(plain(str(error)), icon=":material/error:")
        return {}


@st.fragment
def draw_pivot(trace: Trace, asked: Mapping[str, Trace], lifts: pd.DataFrame, model: str) -> None:
    """The attributes of one pivot, beside what the captions say."""
    words = [*trace.inputs, *asked]
    pivot = st.pills(
        "Pivot word",
        range(len(words)),
        default=len(words) - 1 if asked else min(first_step(trace) + 1, len(words) - 1),
        required=True,
        key=f"pivot {trace.digest} {' '.join(asked)}",
        format_func=lambda t: plain(lifts.index[t]),
    )
    report = report_or_why(engine().folder, model)
    pairs = None if isinstance(report, str) else pair_table(report)
    falls = trace.attribute_drop[pivot].astype(float) if pivot < len(trace.inputs) else None
    table = ranked(lifts.iloc[pivot], words[pivot], pairs, falls)
    show_table(table, f"What {spoken(words[pivot])} calls up", f"pivot-{spoken(words[pivot])}.csv", COLUMNS)
    if falls is None:
        said = [f"“{plain(words[pivot])}” was asked alone, so there is no next word whose fall could be measured."]
    else:
        word = plain(spoken(trace.words[pivot]))
        said = [f"Fall: how far log p of the word that came next, “{word}”, drops when the attribute is taken away."]
    if pairs is None:
        said.append(f"The captions’ statistics are missing. {report}")
    else:
        said.append(
            "PMI and counts are of the training captions; they stay empty for function words and for pairs that met "
            "in fewer than 20 photographs of the report."
        )
    st.caption(" ".join(said))


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
def draw_grid(pairs: pd.DataFrame) -> None:
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


@st.fragment
def draw_pairs(pairs: pd.DataFrame) -> None:
    """Any pivot of the report, by itself and among all others."""
    st.subheader("One pivot")
    pivot = st.selectbox("Pivot", frequent(pairs), key="pivot", bind="query-params", width=240)
    draw_pairs_of(pairs, pivot)
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
        key="scatter",
        config=figure_config(),
        on_select=lambda: choose_point("scatter", "pivot", set(pairs["pivot"])),
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


with st.container(horizontal=True, vertical_alignment="center"):
    scope = pick_one("Scope", SCOPES, "scope", label_visibility="collapsed", bind="query-params")
    photograph = None if scope == SCOPES[1] else pick_photograph()
    model = pick_model()
st.caption(
    "Before a word is said, the word **before** it, the pivot, calls up attributes that go with it (GLIED Eq. (10)). "
    "**Lift** is its attention as a multiple of the even share: 1× is even, orange more, blue less. It is not "
    "symmetric: what “dog” gives “grass” is not what “grass” gives “dog”. It tells where the captioner read, not why "
    "it chose a word."
)
if engine().models[model].model.config.architecture == "base":
    st.info(
        "Base has no collocations: it attends to attributes as they are. Choose GLIED to see them.",
        icon=":material/info:",
    )
elif photograph:
    reading = traced(photograph, model)
    warn_if_unlike(reading.trace)
    draw_photograph(reading.trace, photograph, model)
    pick_figure_file()
    if photograph.credit:
        st.caption(f"{photograph.title}: {photograph.credit}")
elif isinstance(report := report_or_why(engine().folder, model), str):
    st.info(report, icon=":material/info:")
elif (pairs := pair_table(report)).empty:
    st.info(
        "The report of this captioner has no collocations; `python -m glied evaluate --grounding` measures them, on a "
        "data set with human boxes, over at least 20 photographs.",
        icon=":material/info:",
    )
else:
    draw_agreement(report, pairs)
    draw_grid(pairs)
    draw_pairs(pairs)
    draw_extremes(report, pairs)
    pick_figure_file()
