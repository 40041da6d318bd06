"""A photograph whose regions and attributes are struck out and put back by a click, or by Enter, and others added."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from analysis.attention import region_names, spoken
from app.components.board import PHOTO, PHOTO_CSS
from app.edits import ADDED
from app.photographs.photograph import Photograph
from app.state import MADE, REMOVAL
from glied.scene import Edit
from glied.traces import Trace

HERE = Path(__file__).parent
LONGEST = 40  # characters of a word that is added
_removal = st.components.v2.component(
    "glied_removal", css=PHOTO_CSS + (HERE / "removal.css").read_text(), js=PHOTO + (HERE / "removal.js").read_text()
)


def removal(trace: Trace, photograph: Photograph, edit: Edit, on_edit: Callable[[], None]) -> None:
    """Draws the scene of a trace as `edit` changes it; `on_edit` is called after every change."""
    struck = [m for m, word in enumerate(trace.attributes) if word in edit.attributes]
    changed = {"regions": edit.regions, "struck": struck, "added": edit.added, "made": MADE.get()}
    shown = {"photo": photograph.url, "alt": photograph.alt, "most": ADDED, "longest": LONGEST}
    _removal(key=REMOVAL.name, data=payload(trace) | changed | shown, on_edit_change=on_edit)


@lru_cache(maxsize=16)
def payload(trace: Trace) -> dict[str, Any]:
    """The regions and attributes of a scene, and how far the whole caption falls without each alone."""
    return {
        "digest": trace.digest,
        "size": trace.size,
        "boxes": trace.boxes.astype(float).round(1).tolist(),
        "names": region_names(trace),
        "attributes": [spoken(word) for word in trace.attributes],
        "scores": trace.attribute_scores.astype(float).round(4).tolist(),
        "region_falls": _falls(trace.region_falls),
        "attribute_falls": _falls(trace.attribute_falls),
    }


def _falls(falls: np.ndarray) -> list[float | None]:
    """Summed over the words; None where there is no other to be left."""
    return [None if np.isnan(fall) else round(float(fall), 4) for fall in falls.sum(0)]


def taken(trace: Trace) -> Edit | None:
    """The edit of this trace's scene that the browser asks for, its new words still to be judged; None for nonsense."""
    match (REMOVAL.get() or {}).get("edit"):
        case {
            "trace": trace.digest,
            "made": int(made),
            "regions": list(regions),
            "attributes": list(attributes),
            "added": list(added),
        } if (
            all(type(i) is int for i in [*regions, *attributes])
            and set(regions) <= set(range(len(trace.boxes)))
            and set(attributes) <= set(range(len(trace.attributes)))
            and len(added) <= ADDED
            and all(isinstance(word, str) and len(word) <= LONGEST for word in added)
        ):
            MADE.keep(made)
            struck = tuple(trace.attributes[m] for m in sorted(set(attributes)))
            return Edit(tuple(sorted(set(regions))), struck, tuple(dict.fromkeys(added)))
    return None
