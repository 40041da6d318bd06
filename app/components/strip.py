"""The gallery as a strip of thumbnails; a click picks one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from app.photographs.gallery import Entry, thumbnail
from app.state import STRIP
from glied.errors import GliedError

HERE = Path(__file__).parent
_strip = st.components.v2.component(
    "glied_strip",
    css=(HERE / "strip.css").read_text(),
    js=(HERE / "rove.js").read_text() + (HERE / "strip.js").read_text(),
)


def strip(gallery: Sequence[Entry], picked: str, on_pick: Callable[[], None]) -> None:
    """Draws the thumbnails; a file that turns out damaged is left out."""
    tiles = []
    for entry in gallery:
        try:
            tiles.append({"id": entry.id, "title": entry.title, "alt": entry.alt, "photo": thumbnail(entry)})
        except GliedError:
            continue
    _strip(key=STRIP.name, data={"tiles": tiles, "picked": picked}, on_picked_change=on_pick)
