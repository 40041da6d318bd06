"""The board: a photograph, its regions and the words about it; what follows the pointer never leaves the browser."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from analysis.attention import agreements, cited, first_step, key_shares, region_names, spoken
from analysis.diff import align
from analysis.groups import ALIKE, cluster_regions, described, groupings
from app.engine.reports import reported_key_shares
from app.photographs.photograph import Photograph
from app.state import STARTS, Key, Sent, start
from glied.functions import AttentionFunction, feeding, find
from glied.traces import Trace

HERE = Path(__file__).parent
ROVE = (HERE / "rove.js").read_text()
PHOTO, PHOTO_CSS = ROVE + (HERE / "photo.js").read_text(), (HERE / "photo.css").read_text()
_board = st.components.v2.component(
    "glied_board",
    css=PHOTO_CSS + "".join((HERE / f"{name}.css").read_text() for name in ("matrix", "board")),
    js=PHOTO + "".join((HERE / f"{name}.js").read_text() for name in ("matrix", "board")),
)


def board(
    trace: Trace, photograph: Photograph, key: Key[Sent], on_choice: Callable[[], None], partner: Trace | None = None
) -> None:
    """Draws the board of a trace; `on_choice` is called after every choice of a word, head or region, which
    `app.state.choose` takes over. `partner` is the trace of the board beside it, which then moves along."""
    first = start()
    begun = {"step": first.step, "head": first.head, "region": first.region, "count": STARTS.get()}
    drawn = {"digest": trace.digest, "partner": partner.digest if partner else None, "trace": packed(trace, partner)}
    title, shares = reported_key_shares(trace.checkpoint)
    reported = {name: round(shares[f.name], 2) for name, f in functions(trace).items() if f and f.name in shares}
    shown = {"photo": photograph.url, "alt": photograph.alt, "start": begun, "reported": reported | {"over": title}}
    _board(key=key.name, data=drawn | shown, on_choice_change=on_choice)


def functions(trace: Trace) -> dict[str, AttentionFunction | None]:
    """The attention functions that the board draws, as it calls them."""
    groups, coarse = (find(trace.functions, "regions", role) for role in ("grouping", "global"))
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse, context = (None if coarse == fine else coarse), find(trace.functions, "words", "context")
    return {"groups": groups, "coarse": coarse, "fine": fine, "read": read, "context": context}


@lru_cache(maxsize=16)
def packed(trace: Trace, partner: Trace | None) -> str:
    """The payload as JSON: written once, not at every click, and read in the browser once, when it is drawn."""
    return json.dumps(payload(trace, partner))


def payload(trace: Trace, partner: Trace | None) -> dict[str, Any]:
    """All that the board draws on the photograph, for every word, head and region."""
    drawn, shares = functions(trace), key_shares(trace)
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
        "key_shares": {
            name: None if np.isnan(shares[f.name]) else round(shares[f.name], 2)
            for name, f in drawn.items()
            if f and f.name in shares
        },
        "alike": None if partner else alike(trace),
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
        "agreement": rounded(agreements(trace), 2),
        "first": first_step(trace),
        "pairs": pairs.left if pairs else None,
        "differs": pairs.left_differs if pairs else None,
    }


def alike(trace: Trace) -> dict[str, Any] | None:
    """Which regions gather alike: by the mean over heads and by each head, the order of the regions, the joints of
    their tree, where those that gather alike end, and who they are. None of a captioner without groupings."""
    names, found = region_names(trace), []
    for head in range(trace.heads + 1):
        if (shares := groupings(trace, head)) is None:
            return None
        known = cluster_regions(shares)
        ends = np.cumsum([len(members) for members in known.members]).tolist()
        forks = rounded(known.tree.forks, 3)
        found.append(
            {"order": known.tree.order.tolist(), "forks": forks, "ends": ends, "told": described(shares, known, names)}
        )
    return {"heads": found, "cut": 1 - ALIKE, "from": ALIKE}


def rounded(array: np.ndarray, digits: int = 5) -> list:
    """Nested lists that JSON can hold: NaN becomes None. Finer than what is shown, lest rounding twice make two views
    of a number differ."""
    values = array.astype(float).round(digits).astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()
