"""What a session remembers, by typed keys; the word and head that a person chose, on every page and in its address."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Generic, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from analysis.attention import first_step
from app.edits import History
from app.photographs.photograph import Photograph, Shared
from app.texts import plain
from glied.traces import Trace


@dataclass(frozen=True)
class Choice:
    """The word (`step`, None until one is chosen), the head and the pinned region in view, and their trace."""

    trace: str = ""
    step: int | None = None
    head: int = 0
    region: int | None = None


T = TypeVar("T")
Sent = Mapping[str, Any] | None  # what a component or chart last sent


@dataclass(frozen=True)
class Key(Generic[T]):
    """A value of the session. Its name is the key of the widget or component that sets it, if one does.

    Attributes:
        usual: the value before any was kept.
    """

    name: str
    usual: T

    def get(self) -> T:
        """The value now."""
        return st.session_state.get(self.name, self.usual)

    def keep(self, value: T) -> None:
        """From now on this value; of a widget, before it is drawn."""
        st.session_state[self.name] = value

    def forget(self) -> None:
        """The usual value again."""
        st.session_state.pop(self.name, None)


# All that a session remembers; tests/app/test_state.py checks that other modules keep to it.
FOLLOWED = Key("followed", False)  # whether the address was followed since the session began or the browser went back
STARTS = Key("starts", 0)  # how often a choice was made for the boards; at another count they forget their own
CHOICE = Key("choice", Choice())
HEAD = Key("head_chosen", 0)  # on a page without a board
PHOTO: Key[str | None] = Key("photo", None)
ADDRESSED: Key[str | None] = Key("addressed", None)  # the photograph that the address named last
YOURS: Key[Photograph | None] = Key("yours", None)
UPLOAD: Key[BytesIO | None] = Key("upload", None)
CAMERA: Key[BytesIO | None] = Key("camera", None)
WITH_CAMERA = Key("with_camera", False)
OWN = Key("own", False)  # whether the pop-up that takes it is open
TAKEN = Key("taken", False)  # whether a photograph of one's own was just taken
REFUSED: Key[str | None] = Key("refused", None)  # why an upload was
SHARED: Key[tuple[Shared, ...]] = Key("shared", ())
SHARED_FILE: Key[list[Any] | None] = Key("shared_file", None)  # the files, as Streamlit has them
SHARED_NOW: Key[tuple[str, ...]] = Key("shared_now", ())  # digests of what these files have opened
SHARED_REFUSED: Key[tuple[str, ...]] = Key("shared_refused", ())
LEFT: Key[str | None] = Key("left", None)  # captioners of Compare and Data set
RIGHT: Key[str | None] = Key("right", None)
BY: Key[str | None] = Key("by", None)  # captioners of the gallery
BESIDE: Key[str | None] = Key("beside", None)
SECOND: Key[str | None] = Key("second", None)  # the other photograph of Compare
PAGE = Key("page", 1)  # of the gallery
FIGURE_FILE: Key[str | None] = Key("figure_file", None)
POINT: Key[str | None] = Key("point", None)  # photograph of the data set
PIVOT: Key[str | None] = Key("pivot", None)
BEGINNING: Key[tuple[str, tuple[str, ...]] | None] = Key("beginning", None)  # photograph, words to begin with
BRANCH: Key[tuple[str, int, tuple[str, ...], bool] | None] = Key("branch", None)  # of Decoding: see its `in_view`
REQUIRE = Key("require", "")  # words that must come
FORBID = Key("forbid", "")
HISTORY: Key[History | None] = Key("history", None)  # of What if
HISTORIES: Key[Mapping[str, History]] = Key("histories", {})  # of other photographs, the oldest first
MADE: Key[int | None] = Key("made", None)  # changes that the browser has counted
NEW_CAPTION: Key[str | None] = Key("new_caption", None)
REFUSED_WORD: Key[str | None] = Key("refused_word", None)
REFUSED_CAPTION: Key[str | None] = Key("refused_caption", None)
TOUR: Key[int | None] = Key("tour", None)
BOARD: Key[Sent] = Key("board", None)
PAIR: Key[Sent] = Key("pair", None)
BOARD_SHARED: Key[Sent] = Key("shared_board", None)
REMOVAL: Key[Sent] = Key("removal", None)
TREE: Key[Sent] = Key("tree", None)
FLOW: Key[Sent] = Key("flow", None)
STRIP: Key[Sent] = Key("strip", None)
MAPS: Key[Sent] = Key("maps", None)
SCATTER: Key[Sent] = Key("scatter", None)


def rows_of(table: str) -> Key[Any]:
    """What is selected in the table of this name."""
    return Key(table, None)


def step_of(history: History) -> Key[int]:
    """The chosen step of a history. Every history has a key of its own, so that late messages of a browser about an
    earlier history have no effect."""
    return Key(f"step of {hash(history)}", history.at)


def pivot_of(picker: str) -> Key[int]:
    """The pivot chosen in the picker of this name."""
    return Key(picker, 0)


def travelled() -> bool:
    """Whether this run shows an address to which the browser went back or forward: then it wins over the session."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def follow_address() -> None:
    """Chooses what the address asks for: once when the session begins, and after the browser went back or forward. A
    toast says what cannot be."""
    if FOLLOWED.get():
        return
    FOLLOWED.keep(True)
    region = _number("region", None, least=1)  # numbered from 1, as people see it
    _begin_with(Choice("", _number("step", None), _number("head", 0) or 0, region - 1 if region else None))


def _number(name: str, default: int | None, least: int = 0) -> int | None:
    text = st.query_params.get(name, "")
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) >= least:
        return int(text)
    if text:
        st.toast(f"The address asked for {name} “{plain(text[:20])}”, which is not valid; the usual one is shown.")
    return default


def chosen(trace: Trace) -> tuple[int, int]:
    """The step and head in view of a trace: those chosen for it, else its first word of content."""
    follow_address()
    choice = CHOICE.get()
    if not choice.trace:  # the address speaks of the first trace that is shown
        choice = replace(choice, trace=trace.digest)
    step = choice.step if choice.trace == trace.digest and choice.step is not None else first_step(trace)
    if step >= len(trace.words) or (choice.head > trace.heads and choice.trace == trace.digest):
        st.toast("The address asked for a word or head that is not there; the nearest is shown.")
    step, head = min(step, len(trace.words) - 1), min(choice.head, trace.heads)
    now = step if choice.trace == trace.digest else choice.step
    CHOICE.keep(replace(choice, step=now, head=head))  # so that a toast comes once
    if (st.query_params.get("step"), st.query_params.get("head")) != (str(step), str(head)):
        st.query_params.update(step=str(step), head=str(head))
    return step, head


def pinned(trace: Trace) -> int | None:
    """The region of a trace that is pinned on its board, after `chosen`; the address names it."""
    choice = CHOICE.get()
    region = choice.region if choice.trace == trace.digest else None
    if region is not None and region >= len(trace.boxes):
        st.toast(f"The address asked for region {region + 1}, of which there are {len(trace.boxes)}; none is pinned.")
        CHOICE.keep(replace(choice, region=None))
        region = None
    text = None if region is None else str(region + 1)
    if text is None:
        st.query_params.pop("region", None)
    elif st.query_params.get("region") != text:
        st.query_params["region"] = text
    return region


def choose(board: Key[Sent]) -> None:
    """Takes over what was clicked in a board; nothing from a browser is trusted."""
    sent = (board.get() or {}).get("choice") or {}
    match sent.get("trace"), sent.get("step"), sent.get("head"):
        case str(trace), int(step), int(head) if 0 <= step < 1000 and 0 <= head < 1000:
            region = sent.get("region")
            CHOICE.keep(Choice(trace, step, head, region if isinstance(region, int) and region >= 0 else None))


def choose_head() -> None:
    """Takes over the head that was chosen on a page without a board."""
    _begin_with(replace(CHOICE.get(), head=HEAD.get()))


def choose_map(heads: int) -> None:
    """Takes over the head whose small map was clicked, 0 for the mean; nothing from a browser is trusted."""
    match (MAPS.get() or {}).get("picked"):
        case int(head) if 0 <= head <= heads:
            _begin_with(replace(CHOICE.get(), head=head))


def choose_pivot(trace: Trace, pivot: int) -> None:
    """Takes over a pivot of a caption, which is the word before it; the start of a caption is none."""
    if 1 <= pivot < len(trace.inputs):
        _begin_with(replace(CHOICE.get(), trace=trace.digest, step=pivot - 1))


def _begin_with(choice: Choice) -> None:
    """Keeps this choice, also on boards, which otherwise keep what was last chosen on them."""
    CHOICE.keep(choice)
    STARTS.keep(STARTS.get() + 1)


def choose_point(key: Key[str | None], known: set[str]) -> None:
    """Takes over the point that was clicked in the scatter: the first of its `customdata`, where it is known."""
    for point in (SCATTER.get() or {})["selection"]["points"]:
        first = next(iter(point.get("customdata") or ()), None)
        if first in known:
            key.keep(first)
