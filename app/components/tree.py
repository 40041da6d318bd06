"""The tree of beam search, and what the captioner looked at before each of its words; hovering never leaves the
browser."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from analysis.beam import Node, searched
from analysis.components import PHOTO, beam_payload
from app.components.parts import beginning, component
from app.engine.engine import Answer
from app.photographs.photograph import Photograph
from app.state import TREE

_tree = component(*PHOTO, "tree")


def tree(
    answer: Answer,
    photograph: Photograph,
    node: Node,
    pinned: bool,
    head: int,
    on_forced: Callable[[], None],
    on_choice: Callable[[], None],
) -> None:
    """Draws the tree of a decoded caption, at first with `node` in view, with the attention of `head` (0: the mean of
    all). The value of TREE then gets {"prefix": words} as `forced` after a click on "decode on" or an alternative, and
    {"node": its id, "pinned": whether it is pinned} as `choice` when another word comes into view."""
    start = beginning(node.step, head) | {"node": node.id, "pinned": pinned}
    shown = {"photo": photograph.url, "alt": photograph.alt, "start": start}
    _tree(
        key=TREE.name,
        data=payload(answer, head) | shown,
        on_forced_change=on_forced,
        on_choice_change=on_choice,
    )


def nodes_of(answer: Answer) -> tuple[Node, ...]:
    """The words that the search behind a caption weighed; those that it was made to begin with are marked."""
    assert answer.decoded
    assert answer.outlook
    return searched(answer.decoded, answer.outlook, answer.question.decoding, len(answer.question.prefix))


def node_in(sent: object, nodes: tuple[Node, ...]) -> tuple[Node, bool] | None:
    """The word that a browser sent as the one in view, and whether it is pinned; None if there is no such word."""
    match sent:
        case {"node": int(id), "pinned": bool(pinned)} if 0 <= id < len(nodes):
            return nodes[id], pinned
    return None


@lru_cache(maxsize=16)
def payload(answer: Answer, head: int = 0) -> dict[str, Any]:
    """All that the tree draws but the photograph, with the attention of a head or the mean (0)."""
    assert answer.outlook
    return beam_payload(answer.trace, answer.outlook, nodes_of(answer), answer.question.decoding, head)
