"""The gallery as a strip of thumbnails; a click picks one."""

from collections.abc import Callable, Sequence

from app.components.parts import component
from app.photographs.gallery import Entry, thumbnail
from app.state import STRIP
from glied.errors import GliedError

_strip = component("rove", "strip")


def strip(gallery: Sequence[Entry], picked: str, on_pick: Callable[[], None]) -> None:
    """Draws the thumbnails; a file that turns out damaged is left out."""
    tiles = []
    for entry in gallery:
        try:
            tiles.append({"id": entry.id, "title": entry.title, "alt": entry.alt, "photo": thumbnail(entry)})
        except GliedError:
            continue
    _strip(key=STRIP.name, data={"tiles": tiles, "picked": picked}, on_picked_change=on_pick)
