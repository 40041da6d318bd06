"""The browser's history: what Back leads to, and how the app follows it."""

import streamlit as st

from app.components.parts import component
from app.state import FOLLOWED, travelled

_history = component("history")


def follow_history() -> None:
    """Another page, photograph, word, head, pinned region or forced beginning makes an entry in the browser's history,
    and nothing else does; where Back or Forward was pressed, a word, head and region in the address win over those
    that the session remembers."""
    with st.container(key="history"):
        _history(key="history_of_the_browser")
    if travelled() and {"step", "head", "region"} & set(st.query_params):
        FOLLOWED.forget()
