"""The tree of beam search, and what the captioner looked at before each of its words; hovering never leaves the
browser."""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from analysis.attention import cited, pooled
from analysis.beam import Node, beam_nodes, revisits
from app.components.parts import PHOTO, beginning, component, regions_of, rounded
from app.engine.engine import Reading
from app.photographs.photograph import Photograph
from app.state import TREE
from glied.functions import feeding, find

MOST, LONGEST = 100, 40  # words to begin with, characters of a word
_tree = component(*PHOTO, "tree")


def tree(
    reading: Reading,
    photograph: Photograph,
    node: Node,
    pinned: bool,
    head: int,
    on_forced: Callable[[], None],
    on_choice: Callable[[], None],
) -> None:
    """Draws the tree of a decoded caption, at first with one of its words in view, with the attention of `head` (0: the
    mean of all). In what TREE holds, a click on "decode on" or an alternative arrives as {"prefix": words} in `forced`,
    and another word in view as {"node": its id, "pinned": whether it stays} in `choice`."""
    start = beginning(node.step, head) | {"node": node.id, "pinned": pinned}
    shown = {"photo": photograph.url, "alt": photograph.alt, "start": start}
    _tree(
        key=TREE.name,
        data=payload(reading, head) | shown,
        on_forced_change=on_forced,
        on_choice_change=on_choice,
    )


def nodes_of(reading: Reading) -> tuple[Node, ...]:
    """The words that the beam behind a caption weighed, those marked that it was made to begin with."""
    assert reading.decoded
    assert reading.decoded.history
    assert reading.outlook
    forced = len(reading.question.prefix)
    return beam_nodes(reading.decoded.history, reading.decoded.captions[0].words, reading.outlook, forced)


def words_in(sent: object) -> tuple[str, ...]:
    """The words that a browser sent to begin with, none if they cannot be; a captioner may still not know them."""
    match sent:
        case {"prefix": list(words)} if len(words) <= MOST and all(map(_is_word, words)):
            return tuple(words)
    return ()


def node_in(sent: object, nodes: tuple[Node, ...]) -> tuple[Node, bool] | None:
    """The word that a browser sent as the one in view, and whether it is pinned; None if there is no such word."""
    match sent:
        case {"node": int(id), "pinned": bool(pinned)} if 0 <= id < len(nodes):
            return nodes[id], pinned
    return None


def _is_word(text: object) -> bool:
    return isinstance(text, str) and text.split() == [text] and len(text) <= LONGEST


@lru_cache(maxsize=16)
def payload(reading: Reading, head: int = 0) -> dict[str, Any]:
    """All that the tree draws but the photograph: its nodes, and the attention at each, of a head or the mean (0)."""
    trace, outlook, nodes = reading.trace, reading.outlook, nodes_of(reading)
    assert outlook
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse = find(trace.functions, "regions", "global")
    found: dict[str, Any] = regions_of(trace) | {
        "trace": trace.digest,
        "nodes": [[n.parent, n.step, n.word, round(n.total, 4), round(n.own, 4), n.status, n.outlook] for n in nodes],
        "best": [n.id for n in nodes if n.best],
        "forced": len(reading.question.prefix),
        "cited": {"coarse": cited(trace, coarse), "fine": cited(trace, fine)},
        "alternatives": outlook.alternatives,
        "alternative_log_probabilities": rounded(outlook.alternative_log_probabilities),
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
    }
    regions = pooled(outlook.attention[fine.name], head) if fine else None
    seen: dict[str, Any] = {
        "head": head,
        "fine": None if regions is None else rounded(regions),
        "read": rounded(pooled(outlook.attention[read.name], head)) if read else None,
        "coarse": None,
        "revisits": None,
    }
    if coarse and coarse != fine and regions is not None:
        groups = pooled(outlook.attention[coarse.name], head)
        moved, gained, lost = revisits(groups, regions)
        seen["coarse"] = rounded(groups)
        seen["revisits"] = list(zip(rounded(moved), gained.tolist(), lost.tolist(), strict=True))
    return found | seen | {"tree": _digest(found), "digest": _digest(found | seen)}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
