"""How a captioner works, as a diagram of the attention functions that it declares, with the numbers of one trace."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from analysis.attention import cited, first_step, spoken
from analysis.components import PHOTO, caption_of, rounded
from app.components.parts import beginning, component
from app.photographs.photograph import Photograph
from app.state import FLOW
from glied.functions import AttentionFunction, Functions, find
from glied.traces import Trace

SOURCES = ("regions", "attributes", "words")  # what the functions begin with; attributes where they are read
NEXT = "next"  # the word that they choose
TITLES = {"regions": "Regions", "attributes": "Attributes", "words": "The word just read", NEXT: "The next word"}
_flow = component(*PHOTO, "flow")


class Edge(NamedTuple):
    """An arrow from one box to another: the word on its way (`query`), or what the other box attends to (`keys`)."""

    source: str
    target: str
    kind: str


class Wiring(NamedTuple):
    """The boxes of the diagram by name: the functions, what they begin with, and the next word.

    Attributes:
        columns: box -> its column; the sources stand in column 0.
    """

    columns: dict[str, int]
    edges: list[Edge]


def wire(functions: Functions) -> Wiring:
    """The arrows between the functions, from what they declare. Groupings come before any word. Then the word just read
    goes from function to function; neighbouring local functions are one step. The global functions read the groupings
    of their keys; without global functions the local ones do."""
    read = any(f.over == "attributes" for f in functions)
    columns, edges = {source: 0 for source in SOURCES if source != "attributes" or read}, []
    gathered: dict[str, str] = {}  # keys -> the last grouping over them
    for f in functions:
        if f.role == "grouping":
            before = gathered.get(f.over, f.over)
            columns[f.name] = columns[before] + 1
            edges.append(Edge(before, f.name, "keys"))
            gathered[f.over] = f.name
    path = [f for f in functions if f.role != "grouping"]
    at, column = ["words"], 0
    for _, step in groupby(enumerate(path), key=lambda pair: ("local",) if pair[1].role == "local" else pair):
        members = [f for _, f in step]
        column = 1 + max([column, *(columns[gathered[f.over]] for f in members if f.over in gathered)])
        for f in members:
            columns[f.name] = column
            edges += [Edge(name, f.name, "query") for name in at]
            if f.over != "words":
                raw = f.role == "pivot" or (f.role == "local" and find(functions, f.over, "global"))
                edges.append(Edge(f.over if raw else gathered.get(f.over, f.over), f.name, "keys"))
        at = [f.name for f in members]
    columns[NEXT] = column + 1
    edges += [Edge(name, NEXT, "query") for name in at]
    return Wiring(columns, edges)


def title_of(box: str, functions: Functions) -> str:
    """What a box is called."""
    function = function_of(box, functions)
    if function is None:
        return TITLES[box]
    of = {"regions": "Region", "attributes": "Attribute", "words": "Word"}[function.over]
    again = " revisited" if any(f.role == "global" for f in functions) else ""
    return {
        "grouping": f"{of} groups",
        "pivot": "Collocations",
        "context": "Words so far",
        "global": "Groups first" if find(functions, function.over, "grouping") else f"{of}s first",
        "local": f"{of}s{again}",
    }[function.role]


def function_of(box: str, functions: Functions) -> AttentionFunction | None:
    """The function of a box; None if the box is not a function."""
    return next((f for f in functions if f.name == box), None)


def boxes(functions: Functions) -> Sequence[str]:
    """The boxes, in the order of the word's way."""
    columns = wire(functions).columns
    return sorted(columns, key=columns.__getitem__)


def flow(trace: Trace, photograph: Photograph, step: int, head: int, box: str, on_choice: Callable[[], None]) -> None:
    """Draws the diagram, at first with this word, head and chosen box. `on_choice` is called after a click on a box,
    and after a choice of a word or head once it stays."""
    data = _drawn(trace, photograph) | {"box": box, "start": beginning(step, head)}
    _flow(key=FLOW.name, data=data, on_choice_change=on_choice)


def small_flow(trace: Trace, photograph: Photograph) -> tuple[str, int] | None:
    """Draws the diagram without heads and equations; the box that was just opened, and the word in view then."""
    data = _drawn(trace, photograph) | {"compact": True, "start": beginning(first_step(trace), 0)}
    match _flow(key="small_flow", data=data, on_opened_change=lambda: None).opened:
        case {"box": str(box), "step": int(step)} if box in boxes(trace.functions) and 0 <= step < len(trace.words):
            return box, step
    return None


def _drawn(trace: Trace, photograph: Photograph) -> dict[str, Any]:
    return {"digest": trace.digest, "trace": packed(trace), "photo": photograph.url, "alt": photograph.alt}


@lru_cache(maxsize=16)
def packed(trace: Trace) -> str:
    """All that the diagram draws, for every word and head, as JSON."""
    functions, wiring = trace.functions, wire(trace.functions)
    about = [
        {
            "name": name,
            "title": title_of(name, functions),
            "column": wiring.columns[name],
            "over": f.over if f else name if name in SOURCES else "words",
            "role": f.role if f else None,
            "cited": cited(trace, f),
            "weights": rounded(trace.attention[name]) if f else None,
        }
        for name in boxes(functions)
        for f in [function_of(name, functions)]
    ]
    more = {
        "inputs": [spoken(word) for word in trace.inputs],
        "about": about,
        "edges": [edge._asdict() for edge in wiring.edges],
    }
    return json.dumps(caption_of(trace) | more)
