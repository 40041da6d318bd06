"""The widgets that every page shares: which photograph, which captioner."""

from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from typing import Any, TypeVar

import streamlit as st

from app.components.strip import strip
from app.engine.ask import engine
from app.engine.reports import report_files
from app.photographs.gallery import entries, folder, open_entry
from app.photographs.photograph import Photograph, own_photograph
from app.photographs.uploads import MAX_BYTES, MAX_PIXELS, TYPES
from app.state import (
    ADDRESSED,
    CAMERA,
    FIGURE_FILE,
    HEAD,
    LEFT,
    OWN,
    PHOTO,
    REFUSED,
    RIGHT,
    STRIP,
    TAKEN,
    UPLOAD,
    WITH_CAMERA,
    YOURS,
    Key,
    choose_head,
    chosen,
)
from app.texts import head_name, plain
from glied.errors import GliedError
from glied.functions import Functions, lacking
from glied.traces import Trace

T = TypeVar("T")
PER_PAGE = 24
BUTTONS = 6  # captioners that have a button each; more are in a list
RL = "RL: self-critical training, in which a captioner’s own captions are scored against people’s (CIDEr-D)"
GONE = (
    "Your own photograph is gone: it was kept in memory for one visit, which a reload ends. Upload it again to see it."
)


def show_gallery() -> None:
    """The photographs to choose from, a page of them."""
    gallery, _ = entries(folder())
    pages = -(-len(gallery) // PER_PAGE)
    page = st.pagination(pages, key="gallery_page", persist_state="session") if pages > 1 else 1
    strip(gallery[(page - 1) * PER_PAGE : page * PER_PAGE], _settled(), on_pick=_take_pick)


def show_credit(photograph: Photograph) -> None:
    """Whose the photograph is, if known."""
    if photograph.credit:
        st.caption(f"{photograph.title}: {photograph.credit}")


def pick_photograph() -> Photograph:
    """One of the gallery, or a person's own."""
    gallery, _ = entries(folder())
    titles = {"yours": "Your photograph"} | {entry.id: entry.title for entry in gallery}
    yours = YOURS.get()
    options = list(titles)[0 if yours else 1 :]
    _settled()
    id = st.selectbox(
        "Photograph",
        options,
        format_func=titles.__getitem__,
        key=PHOTO.name,
        persist_state="session",
        label_visibility="collapsed",
        width=200,
    )
    ask_upload()
    ADDRESSED.keep(id)
    st.query_params["photo"] = id
    if yours and id == "yours":
        return yours
    return open_entry(next(entry for entry in gallery if entry.id == id))


def pick_one(label: str, options: Iterable[T], key: str, usual: T | None = None, **more: Any) -> T:
    """One of a few options side by side: the `usual`, or the first, until another is chosen."""
    options = list(options)
    if more.get("bind") == "query-params":
        warn_of_unknown(key, [str(more.get("format_func", str)(option)) for option in options], f"the {label.lower()}")
    usual = options[0] if usual is None else usual
    chosen = st.segmented_control(label, options, default=usual, required=True, key=key, **more)
    return usual if chosen is None else chosen


def forget_empty(key: str) -> None:
    """Removes a widget's parameter from the address if it is empty."""
    if st.query_params.get(key) == "":
        del st.query_params[key]


def warn_of_unknown(key: str, known: Iterable[str] | None = None, what: str = "the captioner") -> None:
    """A toast if the address asks for a value that is not `known` (by default: a captioner). Streamlit shows the usual
    one and corrects the address."""
    forget_empty(key)
    wanted = st.query_params.get(key)
    if wanted and wanted not in (engine().titles.values() if known is None else known):
        st.toast(f"The address asked for {what} “{plain(wanted[:20])}”, which is not here; the usual one is shown.")


def pick_model() -> str:
    """One of the captioners, the best GLIED at first: by a button while these fit, else from a list that can be
    searched. Those of one kind stand together."""
    titles = engine().titles
    usual = engine().pair[0]
    if len(titles) > BUTTONS:
        model = _pick_of_list("Captioner", "model", usual)
    else:
        more = {"label_visibility": "collapsed", "bind": "query-params"}
        model = pick_one("Captioner", titles, "model", usual, format_func=titles.__getitem__, **more)
    explain_rl()
    return model


def pick_two(
    usual: tuple[str, str],
    places: tuple[str, str] = ("on the left", "on the right"),
    keys: tuple[Key[str | None], Key[str | None]] = (LEFT, RIGHT),
) -> tuple[str, str]:
    """Two captioners, at first the `usual`; `places`: where they stand on the page. One may be chosen twice."""
    one = _pick_of_list(f"The captioner {places[0]}", keys[0].name, usual[0])
    st.button("", icon=":material/swap_horiz:", key="swap", help="Swap the two captioners", on_click=_swap, args=keys)
    other = _pick_of_list(f"The captioner {places[1]}", keys[1].name, usual[1])
    explain_rl()
    return one, other


def _pick_of_list(label: str, key: str, usual: str) -> str:
    titles = engine().titles
    warn_of_unknown(key)
    chosen = st.selectbox(
        label,
        [usual, *(name for name in titles if name != usual)],
        format_func=titles.__getitem__,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
        width=200,
    )
    return chosen or usual  # an empty ?left=


def _swap(left: Key[str | None], right: Key[str | None]) -> None:
    one, other = left.get(), right.get()
    left.keep(other)
    right.keep(one)


def say_refused() -> None:
    """A sentence for each checkpoint of the folder that cannot be used."""
    for sentence in engine().refused:
        st.warning(plain(sentence), icon=":material/error:")


def explain_rl() -> None:
    """Explains “RL” where it is in the name of a captioner; as a label of the buttons it would take another line."""
    if any("RL" in title for title in engine().titles.values()):
        st.caption("RL", help=f"{RL}.", width="content")


def lacks(captioner: str, functions: Functions, *parts: str) -> str:
    """A sentence on those of `parts` (by default of all parts) that a captioner lacks; empty if it lacks none."""
    missing = [part for part in lacking(functions) if part == "attention" or not parts or part in parts]
    if missing == ["attention"]:
        return f"{plain(captioner)} has no attention: it sees the photograph as a whole."
    if not missing:
        return ""
    *most, last = missing
    listed = f"{', '.join(most)} or {last}" if most else last
    return f"{plain(captioner)} has no {listed}."


def layers(functions: Functions) -> str:
    """Which of several layers of attention is shown, in a sentence; empty where there is one of each."""
    alike = Counter((f.over, f.role) for f in functions)
    count = max(alike.values(), default=1)
    return f"Of its {count} layers the last is shown; *How it works* has all." if count > 1 else ""


def pick_report_set() -> str:
    """Which data set's reports are shown, where there are several; gives their `kind` (see `report_or_why`)."""
    files = report_files(engine().folder)
    if len(files) < 2:
        return next(iter(files.values()), "")
    return files[pick_one("Data set", files, "set", format_func=plain, bind="query-params")]


def pick_head(trace: Trace) -> int:
    """The head in view, 0 for the mean over heads: chosen here, on a board or by the address."""
    HEAD.keep(chosen(trace)[1])
    return st.selectbox(
        "Head",
        range(trace.heads + 1),
        format_func=head_name,
        key=HEAD.name,
        on_change=choose_head,
        width=180,
    )


def pick_figure_file() -> None:
    """The file format of the camera above a chart."""
    pick_one("The camera above a chart saves", ("PNG", "SVG"), FIGURE_FILE.name, persist_state="session")


def figure_config() -> dict[str, Any]:
    """Plotly's configuration for every chart of a page."""
    kind = str(FIGURE_FILE.get() or "PNG").lower()
    return {"displaylogo": False, "toImageButtonOptions": {"format": kind, "scale": 2}}


def _settled() -> str:
    """The photograph in view: the one that a new address names, else the one chosen, else the gallery's first."""
    known = [entry.id for entry in entries(folder())[0]]
    asked = st.query_params.get("photo")
    chosen = PHOTO.get()
    wanted = (chosen if asked == ADDRESSED.get() else asked or chosen) or known[0]
    if wanted not in known and not (wanted == "yours" and YOURS.get()):
        if wanted == "yours":
            st.toast(GONE, duration="long")
        else:
            st.toast("The address asked for a photograph that is not in this gallery; another is shown.")
        wanted = known[0]
        ADDRESSED.keep(asked)  # so that the toast comes once
    PHOTO.keep(wanted)
    return wanted


def _take_pick() -> None:
    picked = (STRIP.get() or {}).get("picked")
    if picked in {entry.id for entry in entries(folder())[0]}:
        PHOTO.keep(picked)


def ask_upload() -> bool:
    """A person's own photograph, from a file or the camera; whether one was just taken."""
    limit = MAX_BYTES // 2**20
    with st.popover("Use your own", icon=":material/upload:", key=OWN.name, on_change="rerun"):
        st.markdown(
            f"A JPEG, PNG or WebP photograph of at most {limit} MB and {MAX_PIXELS // 10**6} megapixels. It is kept in "
            "this server’s memory, for this visit only: a reload or the end of the visit deletes it."
        )
        st.file_uploader(
            "Your photograph",
            type=TYPES,
            max_upload_size=limit,
            key=UPLOAD.name,
            on_change=_take,
            args=(UPLOAD, "The photograph you uploaded"),
        )
        if st.toggle("Use the camera", key=WITH_CAMERA.name):
            alt = "The picture you took"
            st.camera_input("Take a picture", key=CAMERA.name, on_change=_take, args=(CAMERA, alt), width=320)
        if refused := REFUSED.get():
            st.error(refused)
    taken = TAKEN.get()
    TAKEN.forget()
    return taken


def _take(source: Key[BytesIO | None], alt: str) -> None:
    REFUSED.forget()
    if (file := source.get()) is None:
        return
    try:
        YOURS.keep(own_photograph(file.getvalue(), alt))
    except GliedError as error:
        REFUSED.keep(str(error))
        return
    PHOTO.keep("yours")
    TAKEN.keep(True)
    WITH_CAMERA.keep(False)
    OWN.keep(False)
