"""How components are put on a page of the app; what they draw of a trace: analysis/components.py."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.components import read_files
from app.state import CHOICE, STARTS

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer


def component(*names: str) -> "ComponentRenderer":
    """A component, called as the last of these files; each has a script, a style, or both."""
    css, js = read_files(*names)
    return st.components.v2.component(f"glied_{names[-1]}", css=css or None, js=js)


def beginning(step: int | None, head: int | None = None) -> dict[str, Any]:
    """The word and head that a component shows first, unless this tab remembers a choice of the same `count`."""
    return {"step": step, "head": CHOICE.get().head if head is None else head, "count": STARTS.get()}
