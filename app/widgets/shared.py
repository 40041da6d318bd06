"""Shared traces: opened from a file, drawn without a model."""

import math

import streamlit as st

from app.components.board import board
from app.engine.ask import engine
from app.photographs.photograph import SIDE, Photograph, Shared, as_jpeg
from app.photographs.uploads import fitted, open_upload
from app.state import BOARD_SHARED, SHARED, SHARED_FILE, SHARED_REFUSED
from app.texts import plain
from glied.errors import GliedError
from glied.traces import unpack

UNPACKED = 8 * 2**20  # bytes of a shared trace: ten times those of a long caption with 100 regions
TALLER = 0.02  # by how much the sides of a shared photograph may differ from what its trace says, for rounding


def open_shared() -> None:
    """Takes a trace that someone has sent, and draws its board. No model runs."""
    with st.expander("Open a shared trace", icon=":material/folder_open:"):
        st.file_uploader(
            "A trace (.npz) from Export. It stays in this session.",
            type=["npz"],
            max_upload_size=UNPACKED // 2**20,
            key=SHARED_FILE.name,
            on_change=_take_shared,
        )
        if refused := SHARED_REFUSED.get():
            st.error(plain(refused))
        if shared := SHARED.get():
            _draw_shared(shared)


def shared_from(data: bytes) -> Shared:
    """A trace and its photograph from a file that may be anyone's.

    Raises:
        GliedError: it is damaged, too large or none of ours, or its photograph is missing or another.
    """
    if len(data) > UNPACKED:
        raise GliedError(
            f"Expected a trace of at most {UNPACKED // 2**20} MB, got {len(data) / 2**20:.1f}; export again."
        )
    trace, picture = unpack(data, "your file", UNPACKED)
    if not picture:
        raise GliedError("Expected a trace with its photograph, your file has none; use Export on the page Explore.")
    image = open_upload(picture, math.inf)  # as slender as the gallery has them
    (width, height), (wide, tall) = trace.size, image.size
    if abs(wide * height - tall * width) > TALLER * max(wide * height, tall * width):
        raise GliedError(
            f"Expected a photograph of {width} x {height} or its like, your file has {wide} x {tall}; export it again."
        )
    alt, jpeg = "The photograph of the shared trace", as_jpeg(fitted(image, SIDE))
    return Shared(trace, Photograph(image.info["sha256"], "shared", "Shared photograph", alt, "", image, jpeg))


def _draw_shared(shared: Shared) -> None:
    trace, ours = shared.trace, engine().name_of(shared.trace.checkpoint)
    known = f"the one that runs here as {engine().titles[ours]}" if ours else "none of those that run here"
    st.caption(f"The file says that its checkpoint is {plain(trace.checkpoint)}: {known}. Nothing was run again.")
    _shared_board(shared)


@st.fragment
def _shared_board(shared: Shared) -> None:
    board(shared.trace, shared.photograph, key=BOARD_SHARED, on_choice=lambda: None)  # no page follows it


def _take_shared() -> None:
    SHARED.forget()
    SHARED_REFUSED.forget()
    if (file := SHARED_FILE.get()) is None:
        return
    try:
        SHARED.keep(shared_from(file.getvalue()))
    except GliedError as error:
        SHARED_REFUSED.keep(str(error))
