"""The tree of beam search, and what the captioner looked at before each of its words; hovering never leaves the
browser."""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.attention import cited, pooled, region_names
from analysis.beam import beam_nodes, revisits
from app.components.board import PHOTO, PHOTO_CSS, rounded
from app.engine.engine import Reading
from app.photographs.photograph import Photograph
from app.state import TREE
from glied.functions import feeding, find

HERE = Path(__file__).parent
MOST, LONGEST = 100, 40  # words to begin with, characters of a word
_tree = st.components.v2.component(
    "glied_tree", css=PHOTO_CSS + (HERE / "tree.css").read_text(), js=PHOTO + (HERE / "tree.js").read_text()
)


def tree(
    reading: Reading, photograph: Photograph, forced: int, on_forced: Callable[[], None], step: int = 0, head: int = 0
) -> None:
    """Draws the tree of a decoded caption, whose first `forced` words were set; a click on "decode on" or an
    alternative arrives as {"prefix": words} in `forced` of what TREE holds. At first the word of `step` is shown, with
    attention of `head` (0: the mean of all)."""
    shown = {"photo": photograph.url, "alt": photograph.alt}
    _tree(key=TREE.name, data=payload(reading, forced, step, head) | shown, on_forced_change=on_forced)


def words_in(sent: object) -> tuple[str, ...]:
    """The words that a browser sent to begin with, none if they cannot be; a captioner may still not know them."""
    match sent:
        case {"prefix": list(words)} if len(words) <= MOST and all(map(_is_word, words)):
            return tuple(words)
    return ()


def _is_word(text: object) -> bool:
    return isinstance(text, str) and text.split() == [text] and len(text) <= LONGEST


@lru_cache(maxsize=16)
def payload(reading: Reading, forced: int, step: int = 0, head: int = 0) -> dict[str, Any]:
    """All that the tree draws but the photograph: its nodes, and the attention at each, of a head or the mean (0)."""
    trace, decoded, outlook = reading.trace, reading.decoded, reading.outlook
    assert decoded
    assert decoded.history
    assert outlook
    nodes = beam_nodes(decoded.history, decoded.captions[0].words, outlook, forced)
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse = find(trace.functions, "regions", "global")
    assert fine
    regions = pooled(outlook.attention[fine.name], head)
    found: dict[str, Any] = {
        "size": trace.size,
        "boxes": rounded(trace.boxes, 1),
        "names": region_names(trace),
        "labels": trace.labels,
        "attributes": trace.attributes,
        "nodes": [[n.parent, n.step, n.word, round(n.total, 4), round(n.own, 4), n.status, n.outlook] for n in nodes],
        "best": [n.id for n in nodes if n.best],
        "forced": forced,
        "first": step,
        "head": head,
        "fine": rounded(regions),
        "read": rounded(pooled(outlook.attention[read.name], head)) if read else None,
        "cited": {"coarse": cited(trace, coarse), "fine": cited(trace, fine)},
        "coarse": None,
        "revisits": None,
        "alternatives": outlook.alternatives,
        "alternative_log_probabilities": rounded(outlook.alternative_log_probabilities),
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
    }
    if coarse and coarse != fine:
        groups = pooled(outlook.attention[coarse.name], head)
        moved, gained, lost = revisits(groups, regions)
        found["coarse"] = rounded(groups)
        found["revisits"] = list(zip(rounded(moved), gained.tolist(), lost.tolist(), strict=True))
    return found | {"digest": hashlib.sha256(json.dumps(found).encode()).hexdigest()}
