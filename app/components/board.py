"""The board: a photograph, its regions and the words about it; what follows the pointer never leaves the browser."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.attention import agreements, cited, first_step, key_shares, region_names, senses
from analysis.groups import ALIKE, cluster_regions, described, groupings
from app.components.parts import PHOTO, beginning, caption_of, component, rounded
from app.engine.reports import reported_key_shares
from app.photographs.photograph import Photograph
from app.state import CHOICE, Choice, Key, Sent
from glied.functions import AttentionFunction, feeding, find
from glied.traces import Trace

_board = component(*PHOTO, "matrix", "board")


def board(trace: Trace, photograph: Photograph, key: Key[Sent], on_choice: Callable[[], None]) -> None:
    """Draws the board of a trace; `on_choice` is called after every choice of a word, head or region, which
    `app.state.choose` takes over."""
    choice = CHOICE.get()
    own = choice if choice.trace == trace.digest else Choice()
    title, shares = reported_key_shares(trace.checkpoint)
    reported = {name: round(shares[f.name], 2) for name, f in functions(trace).items() if f and f.name in shares}
    shown = {
        "digest": trace.digest,
        "trace": packed(trace),
        "photo": photograph.url,
        "alt": photograph.alt,
        "start": beginning(own.step) | {"region": own.region},
        "reported": reported | {"over": title},
    }
    _board(key=key.name, data=shown, on_choice_change=on_choice)


def functions(trace: Trace) -> dict[str, AttentionFunction | None]:
    """The attention functions that the board draws, as it calls them."""
    groups, coarse = (find(trace.functions, "regions", role) for role in ("grouping", "global"))
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse, context = (None if coarse == fine else coarse), find(trace.functions, "words", "context")
    return {"groups": groups, "coarse": coarse, "fine": fine, "read": read, "context": context}


@lru_cache(maxsize=16)
def packed(trace: Trace) -> str:
    """The payload as JSON: written once, not at every click, and read in the browser once, when it is drawn."""
    return json.dumps(payload(trace))


def payload(trace: Trace) -> dict[str, Any]:
    """All that the board draws on the photograph, for every word, head and region."""
    drawn, shares = functions(trace), key_shares(trace)
    return caption_of(trace) | {
        "total": round(float(trace.log_probabilities.sum()), 2),
        "cited": {name: cited(trace, function) for name, function in drawn.items()},
        **{name: rounded(trace.attention[function.name]) if function else None for name, function in drawn.items()},
        "key_shares": {
            name: None if np.isnan(shares[f.name]) else round(shares[f.name], 2)
            for name, f in drawn.items()
            if f and f.name in shares
        },
        "alike": alike(trace),
        "agreement": rounded(agreements(trace), 2),
        "senses": [f"{sense.kind}s" for sense in senses(trace)],
        "first": first_step(trace),
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
