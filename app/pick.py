"""The widgets that every page shares: which photograph, which captioner."""

import streamlit as st

from app.components.strip import strip
from app.gallery import MOST, Photograph, entries, folder, open_entry, own_photograph
from app.services import engine
from app.uploads import MAX_BYTES, TYPES
from glied.errors import GliedError

PER_PAGE = 24
RL = "RL: self-critical training, in which a captioner's own captions are scored against people's (CIDEr-D)"


def show_gallery() -> None:
    """The photographs to choose from, a page of them."""
    gallery, skipped = entries(folder())
    if skipped:
        st.caption(
            f"{skipped} file(s) of the folder were left out: unreadable, too small or large, or past the first {MOST}."
        )
    pages = -(-len(gallery) // PER_PAGE)
    page = st.pagination(pages, key="gallery_page", persist_state="session") if pages > 1 else 1
    strip(gallery[(page - 1) * PER_PAGE : page * PER_PAGE], _settled(), on_pick=_take_pick)


def pick_photograph() -> Photograph:
    """One of the gallery, or a person's own."""
    gallery, _ = entries(folder())
    titles = {"yours": "Your photograph"} | {entry.id: entry.title for entry in gallery}
    options = list(titles)[0 if "yours" in st.session_state else 1 :]
    _settled()
    id = st.selectbox(
        "Photograph",
        options,
        format_func=titles.__getitem__,
        key="photo",
        persist_state="session",
        label_visibility="collapsed",
        width=240,
    )
    _ask_upload()
    if id == "yours":
        st.query_params.pop("photo", None)  # an upload stays with its owner
        return st.session_state.yours
    st.query_params["photo"] = id
    return open_entry(next(entry for entry in gallery if entry.id == id))


def pick_model() -> str:
    """Base or GLIED, and the same before self-critical training where they are there."""
    titles = engine().titles
    best = next(iter(titles))
    chosen = st.segmented_control(
        "Captioner",
        list(titles),
        format_func=titles.__getitem__,
        default=best,
        required=True,
        label_visibility="collapsed",
        key="model",
        bind="query-params",
        help=RL if len(titles) > 2 else None,
    )
    return chosen or best  # an empty ?model=


def pick_pair() -> tuple[str, str]:
    """GLIED and Base, after self-critical training or before it."""
    pairs = engine().pairs
    best = next(iter(pairs))
    if len(pairs) == 1:
        return pairs[best]
    chosen = st.segmented_control(
        "Training",
        list(pairs),
        default=best,
        required=True,
        label_visibility="collapsed",
        key="training",
        bind="query-params",
        help=RL,
    )
    return pairs[chosen or best]


def _settled() -> str:
    """The photograph in view: the one chosen, else the one that the address names, else the gallery's first."""
    known = [entry.id for entry in entries(folder())[0]]
    wanted = st.session_state.get("photo") or st.query_params.get("photo") or known[0]
    if wanted not in known and not (wanted == "yours" and "yours" in st.session_state):
        st.toast("The address asked for a photograph that is not in this gallery; another is shown.")
        wanted = known[0]
    st.session_state.photo = wanted
    return wanted


def _take_pick() -> None:
    picked = (st.session_state.get("strip") or {}).get("picked")
    if picked in {entry.id for entry in entries(folder())[0]}:
        st.session_state.photo = picked


def _ask_upload() -> None:
    with st.popover("Use your own", icon=":material/upload:"):
        st.file_uploader(
            f"A JPEG, PNG or WebP photograph of at most {MAX_BYTES // 2**20} MB. It stays in this session.",
            type=TYPES,
            max_upload_size=MAX_BYTES // 2**20,
            key="upload",
            on_change=_take_upload,
        )
        if "refused" in st.session_state:
            st.error(st.session_state.refused)


def _take_upload() -> None:
    st.session_state.pop("refused", None)
    if st.session_state.upload is None:
        return
    try:
        st.session_state.yours = own_photograph(st.session_state.upload.getvalue())
        st.session_state.photo = "yours"
    except GliedError as error:
        st.session_state.refused = str(error)
