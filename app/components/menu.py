"""The menu of pages on a telephone."""

from pathlib import Path

import streamlit as st

_menu = st.components.v2.component("glied_menu", js=Path(__file__).with_name("menu.js").read_text())


def close_menu() -> None:
    """On a telephone the menu of pages closes once a page was chosen in it."""
    with st.container(key="menu"):
        _menu(key="menu_of_pages")
