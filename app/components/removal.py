"""A photograph whose regions and attributes are struck out and put back, with new attributes, beside the result."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.attention import looked, senses, spoken
from analysis.components import PHOTO, caption_of, rounded
from analysis.diff import align
from app.components.parts import beginning, component
from app.edits import ADDED
from app.photographs.photograph import Photograph
from app.state import MADE, REMOVAL, STARTS
from glied.functions import Over, feeding
from glied.scene import Edit
from glied.traces import Deletion, Trace

LONGEST = 40  # characters of a word that is added
_removal = component(*PHOTO, "removal")


@dataclass(frozen=True, eq=False)
class After:
    """The result of a change.

    Attributes:
        said: the captioner's caption of the changed scene. `replayed`: the caption before the change, replayed there.
    """

    said: Trace
    replayed: Trace


def removal(
    trace: Trace,
    photograph: Photograph,
    title: str,
    edit: Edit,
    after: After | None,
    view: tuple[int, int],
    curve: tuple[Over, Deletion] | None,
    on_edit: Callable[[], None],
    on_choice: Callable[[], None],
) -> None:
    """Draws the scene of a trace as `edit` changes it; `on_edit` is called after every change, `on_choice` after every
    choice of a word, or of what the curve is of.

    Args:
        title: of the captioner. `after`: None before a change, or when nothing is left. `view`: the word and the head.
        curve: what becomes of that word as these are taken away; None of a captioner without attention.
    """
    step, head = view
    struck = [m for m, word in enumerate(trace.attributes) if word in edit.attributes]
    data = {
        "drawn": f"{trace.digest}-{photograph.key}-{STARTS.get()}",
        "scene": packed(trace),
        "title": title,
        "photo": photograph.url,
        "alt": photograph.alt,
        "most": ADDED,
        "longest": LONGEST,
        "start": beginning(step, head),
        "over": curve[0] if curve else "regions",
        "regions": edit.regions,
        "struck": struck,
        "added": edit.added,
        "made": MADE.get(),
        "after": after and changed(trace, edit, after),
        "curve": curve and curve_payload(step, *curve),
    }
    _removal(key=REMOVAL.name, data=data, on_edit_change=on_edit, on_choice_change=on_choice)


def curve_payload(step: int, over: Over, deletion: Deletion) -> dict[str, Any]:
    """A deletion curve as the browser draws it."""
    return {
        "step": step,
        "over": over,
        "order": deletion.order,
        "most_first": rounded(deletion.most_first),
        "least_first": rounded(deletion.least_first),
    }


def changed(trace: Trace, edit: Edit, after: After) -> dict[str, Any]:
    """The caption of the changed scene, and every word of the first one there: its log p, and its attention to each
    region, where it attends to them, 0 to those struck out."""
    pairs = align(trace.words, after.said.words)
    kept = [i for i in range(len(trace.boxes)) if i not in edit.regions]
    fine, seen = np.zeros((len(trace.words), len(trace.boxes))), looked(after.replayed)
    if seen is not None:
        fine[:, kept] = seen
    return {
        "words": [spoken(word) for word in after.said.words[:-1]] or ["(no word)"],
        "differs": pairs.right_differs,
        "same": trace.words == after.said.words,
        "total": round(float(after.said.log_probabilities.sum()), 3),
        "log_probabilities": rounded(after.replayed.log_probabilities),
        "fine": None if seen is None else rounded(fine),
    }


@lru_cache(maxsize=16)
def packed(trace: Trace) -> str:
    """The payload as JSON: written once, not at every click."""
    return json.dumps(payload(trace))


def payload(trace: Trace) -> dict[str, Any]:
    """The regions and attributes of a scene, the attention of every word to them (mean over heads), and how far the
    word, and the whole caption, falls without each alone."""
    weights = {sense.kind: rounded(sense.weights) for sense in senses(trace)}
    return caption_of(trace) | {
        "total": round(float(trace.log_probabilities.sum()), 3),
        "fine": weights.get("region"),
        "read": weights.get("attribute"),
        "reads": any(f.over == "attributes" for f in trace.functions),
        "falls_of_caption": _summed(trace.attribute_falls),
    }


def _summed(falls: np.ndarray) -> list[float | None]:
    """Summed over the words; None where a fall is unknown, because nothing else would be left."""
    return [None if np.isnan(fall) else round(float(fall), 4) for fall in falls.sum(0)]


def requested_edit(trace: Trace) -> Edit | None:
    """The edit of this trace's scene that the browser asks for, its new words not checked yet; None for nonsense."""
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


def requested_over(trace: Trace) -> Over | None:
    """Whether the browser asks for the curve over regions or over attributes: regions, unless attributes were chosen or
    the captioner attends to attributes alone. None where it attends to nothing."""
    sent = (REMOVAL.get() or {}).get("choice")
    wanted = isinstance(sent, dict) and sent.get("over") == "attributes"
    kinds: tuple[Over, ...] = ("attributes", "regions") if wanted else ("regions", "attributes")
    return next((over for over in kinds if feeding(trace.functions, over)), None)
