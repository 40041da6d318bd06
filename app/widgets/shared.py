"""Shared traces: opened from files, of captioners that run here or of any other, and drawn without a model."""

import math
from collections import Counter
from collections.abc import Mapping

import streamlit as st

from app.components.board import board
from app.engine.ask import engine, name_here
from app.photographs.photograph import Shared, make_photograph
from app.photographs.uploads import open_upload
from app.state import BOARD_SHARED, SHARED, SHARED_FILE, SHARED_NOW, SHARED_REFUSED
from app.texts import plain
from app.widgets.pick import lacks, pick_one
from glied.errors import GliedError
from glied.terminal import show
from glied.traces import same_shape, unpack

UNPACKED = 8 * 2**20  # bytes of a shared trace: ten times those of a long caption with 100 regions
OPEN = 12  # shared traces at once


def open_shared() -> None:
    """Takes traces that someone has sent, and draws the board of one of them. No model runs."""
    with st.expander("Open a shared trace", icon=":material/folder_open:"):
        known = take_shared()
        if known:
            title = pick_one("Shared trace", known, "shared_one", format_func=plain)
            _draw_shared(known.get(title) or next(iter(known.values())))
        if len(known) > 1:
            st.page_link(
                "views/compare.py",
                label="Two of them side by side",
                icon=":material/compare:",
                query_params={"kind": "Two shared traces"},
            )


def take_shared() -> Mapping[str, Shared]:
    """The shared traces that are open in this session, by a title each, and a place to open more."""
    if not SHARED_FILE.get():  # the page was left since then: its open traces stay
        SHARED_NOW.forget()
        SHARED_REFUSED.forget()
    st.file_uploader(
        f"Traces (.npz) from Export or of any captioner, {OPEN} at most. They stay in this session.",
        type=["npz"],
        accept_multiple_files=True,
        max_upload_size=UNPACKED // 2**20,
        key=SHARED_FILE.name,
        on_change=_take_shared,
    )
    for refused in SHARED_REFUSED.get():
        st.error(plain(refused))
    if earlier := _earlier():
        names = ", ".join(plain(shared.trace.captioner) for shared in earlier)
        st.button(f"Close what was opened before: {names}", key="close", icon=":material/close:", on_click=_close)
    return entitled(SHARED.get())


def pick_shared(known: Mapping[str, Shared]) -> tuple[str, str]:
    """Two of at least two shared traces, by their titles; at first two of one photograph, if there are such."""
    titles = list(known)
    with st.container(horizontal=True, vertical_alignment="center"):
        one = st.selectbox("The trace on the left", titles, key="shared_left", label_visibility="collapsed", width=240)
        others = sorted(titles, key=lambda title: (title == one, known[title].photograph != known[one].photograph))
        other = st.selectbox(
            "The trace on the right", others, key=f"right of {one}", label_visibility="collapsed", width=240
        )
    return one, other


def entitled(opened: tuple[Shared, ...]) -> dict[str, Shared]:
    """Shared traces by title: their captioner, with the name of the file where several have the same captioner."""
    alike = Counter(shared.trace.captioner for shared in opened)
    titled: dict[str, Shared] = {}
    for shared in opened:
        name = show(shared.trace.captioner)
        title = name if alike[shared.trace.captioner] == 1 else f"{name} ({show(shared.name)})"
        titled[title if title not in titled else f"{title} {shared.trace.digest[:6]}"] = shared
    return titled


def shared_from(data: bytes, name: str = "your file") -> Shared:
    """A trace and its photograph from the bytes of a file of this name, which anyone may have made.

    Raises:
        GliedError: it is damaged, too large or not a trace, or its photograph is missing or does not fit.
    """
    if len(data) > UNPACKED:
        raise GliedError(
            f"Expected a trace of at most {UNPACKED // 2**20} MB, got {len(data) / 2**20:.1f} in {name}; export again."
        )
    trace, picture = unpack(data, name, UNPACKED)
    if not picture:
        raise GliedError(f"Expected a trace with its photograph, {name} has none; use Export on the page Explore.")
    image = open_upload(picture, math.inf)  # as slender as the gallery has them
    (width, height), (wide, tall) = trace.size, image.size
    if not same_shape(trace.size, image.size):
        raise GliedError(
            f"Expected a photograph of {width} x {height} or its like, {name} has {wide} x {tall}; export it again."
        )
    return Shared(
        trace, make_photograph(image, "shared", "Shared photograph", "The photograph of the shared trace"), name
    )


def _draw_shared(shared: Shared) -> None:
    trace, ours = shared.trace, name_here(shared.trace.checkpoint)
    known = f"the one that runs here as {plain(engine().titles[ours])}" if ours else "none of those that run here"
    if trace.checkpoint == "unknown":
        origin = "The file does not name its checkpoint."
    else:
        origin = f"The file says that its checkpoint is {plain(trace.checkpoint)}: {known}."
    st.caption(f"{origin} Nothing was run again. " + lacks(trace.captioner, trace.functions))
    _shared_board(shared)


@st.fragment
def _shared_board(shared: Shared) -> None:
    board(shared.trace, shared.photograph, key=BOARD_SHARED, on_choice=lambda: None)  # no page follows it


def _earlier() -> tuple[Shared, ...]:
    """The open shared traces that are not of the files in view: they were opened before the page was left."""
    return tuple(shared for shared in SHARED.get() if shared.trace.digest not in SHARED_NOW.get())


def _close() -> None:
    """Closes the shared traces that were opened before the page was left."""
    SHARED.keep(tuple(shared for shared in SHARED.get() if shared.trace.digest in SHARED_NOW.get()))


def _take_shared() -> None:
    """Opens the files that were added, and closes those that were taken out again."""
    earlier = _earlier()
    now, refused = {}, []
    for file in SHARED_FILE.get() or ():
        try:
            shared = shared_from(file.getvalue(), show(file.name))
        except GliedError as error:
            refused.append(str(error))
        else:
            now[shared.trace.digest] = shared
    opened = (*(shared for shared in earlier if shared.trace.digest not in now), *now.values())
    if len(opened) > OPEN:
        refused.append(f"Expected at most {OPEN} shared traces, got {len(opened)}; the first {OPEN} are open.")
    SHARED.keep(opened[:OPEN])
    SHARED_NOW.keep(tuple(now))
    SHARED_REFUSED.keep(tuple(refused))
