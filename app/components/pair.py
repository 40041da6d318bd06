"""Two captions side by side: their words, what is said of them, and where on the photographs each word was found."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.diff import align
from app.components.parts import PHOTO, beginning, caption_of, component, rounded
from app.photographs.photograph import Photograph
from app.state import PAIR, STARTS
from glied.functions import feeding
from glied.traces import Trace

_pair = component(*PHOTO, "pair")
Sentence = Sequence[tuple[str, bool]]  # its parts, and whether each is printed bold


def pair(
    traces: tuple[Trace, Trace],
    photographs: tuple[Photograph, Photograph],
    titles: tuple[str, str],
    sentences: Sequence[Sentence],
    step: int,
    head: int,
    on_choice: Callable[[], None],
) -> None:
    """Draws two captions, of one photograph or of two; `on_choice` is called after every choice of a word or head,
    which `app.state.choose` takes over.

    Args:
        sentences: what is said below the captions. `step`: the word in view at first, of the first caption.
    """
    drawn = "-".join([*(trace.digest for trace in traces), str(STARTS.get())])
    left, right = traces
    one = photographs[0].key == photographs[1].key
    shown = {
        "photos": [p.url for p in photographs[: 1 if one else 2]],
        "same": {
            "regions": one and np.array_equal(left.boxes, right.boxes),
            "attributes": one and left.attributes == right.attributes,
        },
        "alts": [p.alt for p in photographs],
        "titles": titles,
        "sentences": sentences,
        "start": beginning(step, head),
    }
    _pair(key=PAIR.name, data={"drawn": drawn, "traces": packed(*traces)} | shown, on_choice_change=on_choice)


@lru_cache(maxsize=16)
def packed(left: Trace, right: Trace) -> str:
    """Both payloads as JSON: written once, not at every click."""
    return json.dumps([payload(left, right), payload(right, left)])


def payload(trace: Trace, partner: Trace) -> dict[str, Any]:
    """What is drawn of one caption, for every word, head and region."""
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    pairs = align(trace.words, partner.words)
    return caption_of(trace) | {
        "fine": rounded(trace.attention[fine.name]) if fine else None,
        "read": rounded(trace.attention[read.name]) if read else None,
        "reads": any(f.over == "attributes" for f in trace.functions),
        "pairs": pairs.left,
        "differs": pairs.left_differs,
    }
