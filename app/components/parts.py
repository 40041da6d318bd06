"""What components have in common: how they are put together, and what they draw of a trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from analysis.attention import region_names, spoken
from app.state import CHOICE, STARTS
from glied.traces import Trace

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

HERE = Path(__file__).parent
PHOTO = ("rove", "photo")  # put before a component that shows a photograph


def component(*names: str) -> "ComponentRenderer":
    """A component, called as the last of these files; each has a script, a style, or both."""
    files = {kind: [HERE / f"{name}.{kind}" for name in names] for kind in ("css", "js")}
    css, js = ("".join(file.read_text() for file in files[kind] if file.is_file()) for kind in ("css", "js"))
    return st.components.v2.component(f"glied_{names[-1]}", css=css or None, js=js)


def beginning(step: int | None, head: int | None = None) -> dict[str, Any]:
    """What a component begins with where this tab remembers nothing else; with another `count` it forgets."""
    return {"step": step, "head": CHOICE.get().head if head is None else head, "count": STARTS.get()}


def regions_of(trace: Trace) -> dict[str, Any]:
    """What is drawn on the photograph."""
    return {
        "size": trace.size,
        "boxes": rounded(trace.boxes, 1),
        "names": region_names(trace),
        "labels": trace.labels,
        "attributes": [spoken(word) for word in trace.attributes],
    }


def caption_of(trace: Trace) -> dict[str, Any]:
    """The regions and attributes of a trace, and its words with their probabilities."""
    return regions_of(trace) | {
        "digest": trace.digest,
        "scores": rounded(trace.attribute_scores),
        "seen": rounded(trace.attribute_regions),
        "words": [spoken(word) for word in trace.words],
        "log_probabilities": rounded(trace.log_probabilities),
        "alternatives": [[spoken(word) for word in words] for words in trace.alternatives],
        "alternative_log_probabilities": rounded(trace.alternative_log_probabilities),
        "heads": trace.heads,
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
    }


def rounded(array: np.ndarray, digits: int = 5) -> list:
    """Nested lists that JSON can hold: NaN becomes None. Finer than what is shown, lest rounding twice make two views
    of a number differ."""
    values = array.astype(float).round(digits).astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()
