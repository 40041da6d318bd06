"""What a person chose, the same on every page and in the address of the page."""

from dataclasses import dataclass, replace

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from analysis.attention import first_step
from app.texts import plain
from glied.traces import Trace


@dataclass(frozen=True)
class Choice:
    """The word and head in view: of which trace, and None for `step` until a word was chosen."""

    trace: str = ""
    step: int | None = None
    head: int = 0


def travelled() -> bool:
    """Whether this run shows an address to which the browser went back or forward: then it wins over the session."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def redraws_a_part() -> bool:
    """Whether this run redraws a part of the page and leaves the rest."""
    context = get_script_run_ctx()
    return context is not None and bool(context.fragment_ids_this_run)


def start() -> Choice:
    """The choice that the address asked for when this session began, or last went back or forward; a toast for what
    makes no sense."""
    if "start" not in st.session_state:
        st.session_state.starts = st.session_state.get("starts", 0) + 1
        st.session_state.start = Choice(step=_number("step", None), head=_number("head", 0) or 0)
        st.session_state.choice = st.session_state.start
    return st.session_state.start


def _number(name: str, default: int | None) -> int | None:
    text = st.query_params.get(name, "")
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text)
    if text:
        st.toast(f"The address asked for {name} “{plain(text[:20])}”, which is none; the usual one is shown.")
    return default


def chosen(trace: Trace) -> tuple[int, int]:
    """The step and head in view of a trace: those chosen for it, else its first word of content."""
    start()
    if not st.session_state.choice.trace:  # the address speaks of the first trace that is shown
        st.session_state.choice = replace(st.session_state.choice, trace=trace.digest)
    choice: Choice = st.session_state.choice
    step = choice.step if choice.trace == trace.digest and choice.step is not None else first_step(trace)
    heads = next(iter(trace.attention.values())).shape[0]
    if step >= len(trace.words) or choice.head > heads:
        st.toast("The address asked for a word or head that is not there; the nearest is shown.")
    step, head = min(step, len(trace.words) - 1), min(choice.head, heads)
    now = step if choice.trace == trace.digest else choice.step
    st.session_state.choice = replace(choice, step=now, head=head)  # so that a toast comes once
    if (st.query_params.get("step"), st.query_params.get("head")) != (str(step), str(head)):
        st.query_params.update(step=str(step), head=str(head))
    return step, head


def choose(key: str) -> None:
    """Takes over what was clicked in the board `key`; nothing from a browser is trusted."""
    sent = (st.session_state.get(key) or {}).get("choice") or {}
    match sent.get("trace"), sent.get("step"), sent.get("head"):
        case str(trace), int(step), int(head) if 0 <= step < 1000 and 0 <= head < 1000:
            st.session_state.choice = Choice(trace, step, head)


def choose_point(chart: str, key: str, known: set[str]) -> None:
    """Takes over the point that was clicked in a Plotly chart: the first of its `customdata`, where it is known."""
    for point in st.session_state[chart]["selection"]["points"]:
        first = next(iter(point.get("customdata") or ()), None)
        if first in known:
            st.session_state[key] = first
