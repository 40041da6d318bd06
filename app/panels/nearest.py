"""Where a captioner was in the most similar state: the nearest photographs of the data sets whose states were kept."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import streamlit as st
from PIL import ImageDraw

from analysis.attention import region_names, spoken
from analysis.nearest import Neighbour, find_nearest
from analysis.numbers import decimal
from app.engine.ask import engine
from app.engine.engine import Answer
from app.engine.states import archive_or_why
from app.photographs.gallery import Entry, entries, folder
from app.photographs.photograph import Photograph, as_jpeg, data_url
from app.state import chosen, pinned
from app.texts import marked, plain
from app.widgets.pick import pick_one
from glied.errors import GliedError
from glied.functions import find
from glied.images import open_image
from glied.scene import AS_IT_IS, Edit
from glied.states import Kind
from glied.traces import Trace

SIDE = 200  # pixels of a picture
TITLE = "Where it was in the most similar state"


def draw_nearest(answer: Answer, photograph: Photograph) -> None:
    """Of the word in view, or of the group of the region that is pinned; for the end of a page with a board."""
    trace = answer.trace
    step, region = chosen(trace)[0], pinned(trace)
    choices: dict[Kind, tuple[str, int]] = {"words": (f"the word “{spoken(trace.words[step])}”", step)}
    if region is not None and find(trace.functions, "regions", "grouping"):
        choices["regions"] = (f"the group of region {region + 1} {region_names(trace)[region]}", region)
    draw_fold(trace, photograph, trace.words[:-1], choices, answer.question.edit)


def draw_fold(
    trace: Trace,
    photograph: Photograph,
    words: tuple[str, ...],
    choices: Mapping[Kind, tuple[str, int]],
    edit: Edit = AS_IT_IS,
) -> None:
    """A fold with the nearest photographs to one of the states of a caption, found once it is opened.

    Args:
        trace: of the captioner. `words`: of the caption, or others that it reads instead.
        choices: kind of the state -> what it is of, and its place.
    """
    place = st.expander(TITLE, icon=":material/image_search:", key="nearest", on_change="rerun")
    if not place.open:
        return
    with place:
        archive = archive_or_why(trace.checkpoint)
        if isinstance(archive, str):
            st.info(archive, icon=":material/info:")
            return
        kind = next(iter(choices))
        if len(choices) > 1:
            kind = pick_one("State of", choices, "nearest_of", format_func=lambda kind: plain(choices[kind][0]))
        title, at = choices[kind]
        try:
            model = engine().name_of(trace.checkpoint)
            assert model  # its states are here
            state = engine().states(photograph, model, words, edit)[kind][at]
        except GliedError as error:  # a fragment's errors do not reach main.py
            st.error(plain(str(error)), icon=":material/error:")
            return
        near = find_nearest(archive, kind, state, without=photograph.id)
        _list(near.neighbours, kind)
        st.caption(
            f"The nearest to {plain(title)}, among {len(archive.photographs):,} photographs "
            f"({plain(' and '.join(archive.datasets))}, {plain(archive.split)}), each with {plain(trace.captioner)}’s "
            f"own caption. {OF[kind]} The number is the cosine of the two states, after subtracting the mean state: 1 "
            f"is the same direction; half of the photographs reach at most {decimal(near.usual)}."
        )


OF: dict[Kind, str] = {
    "words": "A word’s state is the vector from which it is predicted.",
    "regions": "A region’s state is its vector after it has gathered its group; only the regions that words attend to "
    "most are compared.",
    "pivots": "A pivot’s state is what it called up of the attributes.",
}


def _list(neighbours: tuple[Neighbour, ...], kind: Kind) -> None:
    """Side by side with their pictures where the gallery has one of them, else as lines."""
    gallery = {entry.id: entry for entry in entries(folder())[0]}
    told = [(each, f"**{decimal(each.similarity)}** {_describe(each, kind)}") for each in neighbours]
    if not any(each.photograph.id in gallery for each in neighbours):
        st.markdown("\n".join(f"1. {text}" for _, text in told))
        return
    with st.container(horizontal=True):
        for each, text in told:
            with st.container(width=SIDE):
                if entry := gallery.get(each.photograph.id):
                    with suppress(GliedError):  # a damaged file
                        st.image(_picture(entry, each.box), alt=entry.alt)
                    st.page_link("views/explore.py", label=text, query_params={"photo": entry.id})
                else:
                    st.markdown(text)


def _describe(neighbour: Neighbour, kind: Kind) -> str:
    """The caption of a neighbour with its word marked, the region before it where it is one."""
    words, at = [plain(word) for word in neighbour.photograph.words], neighbour.place
    if kind == "regions":
        label = neighbour.label or f"region {at + 1}"
        return f"{marked(label)} in “{' '.join(words)}”"
    ends = {"words": [*neighbour.photograph.words, "<eos>"], "pivots": ["<bos>", *neighbour.photograph.words]}
    shown = [marked(spoken(word)) if i == at else plain(word) for i, word in enumerate(ends[kind])]
    special = {"words": len(words), "pivots": 0}[kind]
    return " ".join(word for i, word in enumerate(shown) if i != special or i == at)


@lru_cache(maxsize=64)
def _picture(entry: Entry, box: tuple[float, ...] | None) -> Any:
    """A small picture, a region of it framed."""
    image = open_image(entry.path, side=SIDE)
    if box:
        image = image.copy()
        scaled = [share * side for share, side in zip(box, image.size * 2, strict=True)]
        ImageDraw.Draw(image).rectangle(scaled, outline="#ffffff", width=5)
        ImageDraw.Draw(image).rectangle(scaled, outline="#b4500a", width=3)
    return data_url(as_jpeg(image))
