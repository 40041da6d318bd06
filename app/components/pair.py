"""Two captions side by side: their words, what is said of them, and where on the photographs each word was found."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.attention import region_names, spoken
from analysis.diff import align
from app.components.board import PHOTO, PHOTO_CSS, rounded
from app.photographs.photograph import Photograph
from app.state import PAIR, STARTS
from glied.functions import feeding
from glied.traces import Trace

HERE = Path(__file__).parent
_pair = st.components.v2.component(
    "glied_pair", css=PHOTO_CSS + (HERE / "pair.css").read_text(), js=PHOTO + (HERE / "pair.js").read_text()
)
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
    one = photographs[0].key == photographs[1].key
    shown = {
        "photos": [p.url for p in photographs[: 1 if one else 2]],
        "alts": [p.alt for p in photographs],
        "titles": titles,
        "sentences": sentences,
        "step": step,
        "head": head,
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
    return {
        "digest": trace.digest,
        "size": trace.size,
        "boxes": rounded(trace.boxes, 1),
        "names": region_names(trace),
        "labels": trace.labels,
        "attributes": [spoken(word) for word in trace.attributes],
        "scores": rounded(trace.attribute_scores),
        "seen": rounded(trace.attribute_regions),
        "words": [spoken(word) for word in trace.words],
        "log_probabilities": rounded(trace.log_probabilities),
        "alternatives": [[spoken(word) for word in words[:5]] for words in trace.alternatives],
        "alternative_log_probabilities": rounded(trace.alternative_log_probabilities[:, :5]),
        "heads": trace.heads,
        "fine": rounded(trace.attention[fine.name]) if fine else None,
        "read": rounded(trace.attention[read.name]) if read else None,
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
        "pairs": pairs.left,
        "differs": pairs.left_differs,
    }
