"""The browser's history: which choices Back and Forward undo and redo."""

import streamlit as st

from app.components.parts import component
from app.state import FOLLOWED, travelled

_history = component("history")


def follow_history() -> None:
    """Only a change of page, photograph, word, head, pinned region or forced beginning makes an entry in the browser's
    history. After Back or Forward, the word, head and region of the address win over those of the session."""
    with st.container(key="history"):
        _history(key="history_of_the_browser")
    if travelled() and {"step", "head", "region"} & set(st.query_params):
        FOLLOWED.forget()
