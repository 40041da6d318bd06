"""The gallery as tiles: a photograph, what each captioner says of it, and the way to Explore."""

from collections.abc import Sequence
from typing import Any

from analysis.attention import spoken
from analysis.diff import align
from app.components.parts import component
from app.engine.catalogue import Record
from app.photographs.gallery import Entry, thumbnail

SIDE = 320  # pixels
_tiles = component("tiles")


def tiles(shown: Sequence[dict[str, Any]]) -> str | None:
    """Draws what `tile` made. Returns the id of the tile that was just opened, as the browser sent it, unchecked."""
    return _tiles(key="tiles", data={"tiles": shown}, on_opened_change=lambda: None).opened


def tile(entry: Entry, record: Record | None, by: tuple[str, str], notes: Sequence[str]) -> dict[str, Any]:
    """A photograph, its captions `by` two captioners and lines of small print.

    Raises:
        GliedError: the file is damaged.
    """
    return {
        "id": entry.id,
        "title": entry.title,
        "alt": entry.alt,
        "photo": thumbnail(entry, SIDE),
        "badge": "Unlike the training photographs: expect a guess" if record and record.unlike else "",
        "captions": _captions(record, by) if record else [],
        "notes": notes,
    }


def _captions(record: Record, by: tuple[str, str]) -> list[dict]:
    """One line a captioner, its words and which of them the other does not share; one for both where they agree."""
    if not record.differs:
        return [_line(" and ".join(dict.fromkeys(by)), record.first.words, [False] * len(record.first.words))]
    pairs = align(record.first.words, record.second.words)
    return [
        _line(by[0], record.first.words, pairs.left_differs),
        _line(by[1], record.second.words, pairs.right_differs),
    ]


def _line(by: str, words: Sequence[str], differs: Sequence[bool]) -> dict:
    return {"by": by, "words": [spoken(word) for word in words], "differs": differs}
