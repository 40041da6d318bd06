"""Small maps side by side, one for the mean over heads and one for each head; a click picks one."""

from collections.abc import Callable, Sequence

from app.components.parts import component
from app.state import MAPS
from app.texts import head_name

_maps = component("rove", "maps")


def maps(pictures: Sequence[str], picked: int, label: str, on_pick: Callable[[], None]) -> None:
    """Draws the maps.

    Args:
        pictures: addresses of the mean over heads, then of every head.
    """
    titles = map(head_name, range(len(pictures)))
    drawn = [{"title": title, "picture": picture} for title, picture in zip(titles, pictures, strict=True)]
    _maps(key=MAPS.name, data={"maps": drawn, "picked": picked, "label": label}, on_picked_change=on_pick)
