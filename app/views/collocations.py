"""Collocations: which attributes each word calls up, on one photograph and over a data set, beside the captions'
statistics."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from analysis.attention import spoken
from analysis.collocations import cluster, lift_table, pair_table, ranked
from analysis.figures import collocation_map
from app.engine.ask import engine, traced, warn_if_unlike
from app.engine.engine import Question
from app.engine.reports import report_or_why
from app.panels.collocations import (
    draw_agreement,
    draw_extremes,
    draw_grid,
    draw_heads,
    draw_map,
    draw_pairs,
    show_rows,
)
from app.panels.nearest import draw_fold
from app.photographs.photograph import Photograph
from app.state import choose_pivot, chosen, pivot_of
from app.texts import plain
from app.widgets.export import draw_collocations_export
from app.widgets.pick import (
    pick_figure_file,
    pick_head,
    pick_model,
    pick_one,
    pick_photograph,
    pick_report_set,
    show_credit,
)
from glied.errors import GliedError
from glied.functions import find, lacking
from glied.traces import Trace
from glied.vocabulary import SPECIAL, tokenize

SCOPES = ("This photograph", "The whole data set")
ASKED = 8  # other words at once


@st.fragment
def draw_photograph(trace: Trace, photograph: Photograph, model: str) -> None:
    """The pivots of one photograph: those of its caption, and other words that a person asks."""
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
    across = None if order == "by score" else cluster(lifts.T)
    pivot = pick_pivot(trace, asked, list(lifts.index))
    draw_map(
        collocation_map(lifts, across=across, least=least),
        "Heat map of attribute collocations: pivot words by attributes of the photograph",
    )
    draw_heads(trace, asked, head, across)
    draw_pivot(trace, asked, lifts, model, pivot)
    draw_collocations_export(photograph, trace, asked, head, pivot, order == "by likeness", least)
    said, at = (
        ((list(asked)[pivot - len(trace.inputs)],), 1) if pivot >= len(trace.inputs) else (trace.words[:-1], pivot)
    )
    word = trace.inputs[pivot] if pivot < len(trace.inputs) else said[0]
    draw_fold(trace, photograph, said, {"pivots": (f"the pivot “{spoken(word)}”", at)})


def pick_pivot(trace: Trace, asked: Mapping[str, Trace], names: list[str]) -> int:
    """The row of the table of lifts in view: the last word asked, else the word chosen on any page."""
    key = f"pivot {trace.digest} {' '.join(asked)}"
    usual = len(names) - 1 if asked else min(chosen(trace)[0] + 1, len(names) - 1)
    picked = st.pills(
        "Pivot word",
        range(len(names)),
        default=usual,
        required=True,
        key=key,
        format_func=lambda row: plain(names[row]),
        on_change=lambda: choose_pivot(trace, pivot_of(key).get()),
    )
    return usual if picked is None else picked


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
        help="A pivot attends by its word and position alone (with the preset `context`, by its word alone), so a word "
        "is asked as the first word of a caption.",
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


def draw_pivot(trace: Trace, asked: Mapping[str, Trace], lifts: pd.DataFrame, model: str, pivot: int) -> None:
    """The attributes of one pivot, beside what the captions say."""
    words = [*trace.inputs, *asked]
    report = report_or_why(engine().folder, model)
    pairs = None if isinstance(report, str) else pair_table(report)
    falls = trace.attribute_falls[pivot].astype(float) if pivot < len(trace.inputs) else None
    table = ranked(lifts.iloc[pivot], words[pivot], pairs, falls)
    show_rows(table, f"What {spoken(words[pivot])} calls up", f"pivot-{spoken(words[pivot])}.csv")
    if falls is None:
        said = [f"“{plain(words[pivot])}” was asked alone, so there is no next word whose fall could be measured."]
    else:
        word = plain(spoken(trace.words[pivot]))
        said = [f"Fall: how far log p of the word that came next, “{word}”, falls when the attribute is taken away."]
    if pairs is None:
        said.append(f"The captions’ statistics are missing. {report}")
    else:
        said.append(
            "PMI and counts are of the training captions; they stay empty for function words and for pairs that met "
            "in fewer than 20 photographs of the report."
        )
    st.caption(" ".join(said))


with st.container(horizontal=True, vertical_alignment="center"):
    scope = pick_one("Scope", SCOPES, "scope", label_visibility="collapsed", bind="query-params")
    photograph = None if scope == SCOPES[1] else pick_photograph()
    model = pick_model()
st.caption(
    "Before a word is said, the word **before** it, the pivot, calls up attributes that go with it (GLIED: Eq. (10)). "
    "**Lift** is its attention as a multiple of the even share: 1× is even, orange more, blue less. It is not "
    "symmetric: what “dog” gives “grass” is not what “grass” gives “dog”. It tells where the captioner read, not why "
    "it chose a word."
)
captioner = engine().models[model]
if not find(captioner.functions, "attributes", "pivot"):
    known = [
        engine().titles[name] for name, card in engine().models.items() if "collocations" not in lacking(card.functions)
    ]
    st.info(
        f"{plain(captioner.title)} has no collocations: no word calls up attributes before the next is said. "
        + (f"Choose {plain(known[0])} to see them." if known else "No captioner here has them."),
        icon=":material/info:",
    )
elif photograph:
    reading = traced(photograph, model)
    warn_if_unlike(reading.trace)
    draw_photograph(reading.trace, photograph, model)
    pick_figure_file()
    show_credit(photograph)
elif isinstance(report := report_or_why(engine().folder, model, pick_report_set()), str):
    st.info(report, icon=":material/info:")
elif (pairs := pair_table(report)).empty:
    st.info(
        "The report of this captioner has no collocations; `python -m glied evaluate --grounding` measures them, on a "
        "data set with human boxes, over at least 20 photographs.",
        icon=":material/info:",
    )
else:
    draw_agreement(report, pairs)
    draw_pairs(report, pairs)
    draw_grid(report, pairs)
    draw_extremes(report, pairs)
    pick_figure_file()
