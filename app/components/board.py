"""The board: a photograph, its regions and the words about it; what follows the pointer never leaves the browser."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from analysis.attention import agreements, cited, first_step, region_names, spoken
from analysis.diff import align
from app.photographs.photograph import Photograph
from app.state import STARTS, Key, Sent, start
from glied.functions import feeding, find
from glied.traces import Trace

HERE = Path(__file__).parent
PHOTO, PHOTO_CSS = (HERE / "photo.js").read_text(), (HERE / "photo.css").read_text()
_board = st.components.v2.component(
    "glied_board", css=PHOTO_CSS + (HERE / "board.css").read_text(), js=PHOTO + (HERE / "board.js").read_text()
)


def board(
    trace: Trace, photograph: Photograph, key: Key[Sent], on_choice: Callable[[], None], partner: Trace | None = None
) -> None:
    """Draws the board of a trace; `on_choice` is called after every click on a word or head, which `app.state.choose`
    takes over. `partner` is the trace of the board beside it, which then moves along."""
    first = start()
    begun = {"step": first.step, "head": first.head, "count": STARTS.get()}
    drawn = {"digest": trace.digest, "partner": partner.digest if partner else None, "trace": packed(trace, partner)}
    shown = {"photo": photograph.url, "alt": photograph.alt, "start": begun}
    _board(key=key.name, data=drawn | shown, on_choice_change=on_choice)


@lru_cache(maxsize=16)
def packed(trace: Trace, partner: Trace | None) -> str:
    """The payload as JSON: written once, not at every click, and read in the browser once, when it is drawn."""
    return json.dumps(payload(trace, partner))


def payload(trace: Trace, partner: Trace | None) -> dict[str, Any]:
    """All that the board draws on the photograph, for every word, head and region."""
    groups, coarse = (find(trace.functions, "regions", role) for role in ("grouping", "global"))
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    drawn = {"groups": groups, "coarse": None if coarse == fine else coarse, "fine": fine, "read": read}
    pairs = align(trace.words, partner.words) if partner else None
    return {
        "size": trace.size,
        "boxes": rounded(trace.boxes, 1),
        "names": region_names(trace),
        "labels": trace.labels,
        "attributes": [spoken(word) for word in trace.attributes],
        "scores": rounded(trace.attribute_scores),
        "seen": rounded(trace.attribute_regions),
        "words": [spoken(word) for word in trace.words],
        "log_probabilities": rounded(trace.log_probabilities),
        "total": round(float(trace.log_probabilities.sum()), 2),
        "alternatives": [[spoken(word) for word in words] for words in trace.alternatives],
        "alternative_log_probabilities": rounded(trace.alternative_log_probabilities),
        "heads": trace.heads,
        "cited": {name: cited(trace, function) for name, function in drawn.items()},
        **{name: rounded(trace.attention[function.name]) if function else None for name, function in drawn.items()},
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
        "agreement": rounded(agreements(trace), 2),
        "first": first_step(trace),
        "pairs": pairs.left if pairs else None,
        "differs": pairs.left_differs if pairs else None,
    }


def rounded(array: np.ndarray, digits: int = 5) -> list:
    """Nested lists that JSON can hold: NaN becomes None. Finer than what is shown, lest rounding twice make two views
    of a number differ."""
    values = array.astype(float).round(digits).astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()
