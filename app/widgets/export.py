"""Downloads of what is on screen: pictures for papers, tables, the trace, a report."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from analysis.attention import attention_table, looked, senses, spoken
from analysis.beam import END, Node, decoding_in_words, node_table
from analysis.changes import change_table, deletion_table
from analysis.collocations import cluster, lift_table, ranked
from analysis.diff import align
from analysis.page import Account, page
from analysis.paper import ONE, TWO, Still, drawn, source
from analysis.stills import (
    beam_still,
    caption_still,
    change_still,
    collocations_still,
    curve_still,
    group_still,
    groups_still,
    lifts_still,
    pair_still,
    pivot_still,
    word_still,
)
from app.components.removal import After
from app.components.tree import nodes_of
from app.engine.ask import engine, name_here
from app.engine.engine import KEPT, USUAL, Answer, Engine, Question
from app.photographs.gallery import entries, folder
from app.photographs.photograph import Photograph
from app.texts import plain
from app.widgets.pick import pick_one
from app.widgets.tables import as_csv
from glied.functions import GLIED, AttentionFunction, Over, feeding, find
from glied.scene import Edit
from glied.traces import Deletion, Trace

HEIGHT = 480  # pixels of the downloads, about
WIDTHS = {"two columns": TWO, "one column": ONE}
MIMES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "npz": "application/octet-stream",
    "json": "application/json",
    "html": "text/html",
}


class File(NamedTuple):
    """A download: the label of its button, the name of its file, and the function that makes it after a click."""

    label: str
    name: str
    make: Callable[[], str | bytes]


class Picture(NamedTuple):
    """A still, and what its files are called."""

    name: str
    still: Still


# ---- what each page offers


@st.fragment
def draw_export(photograph: Photograph, answer: Answer, step: int, head: int, region: int | None) -> None:
    """Explore: the word, the caption, groups and collocations; `region`: whose group, by default that of the region
    that the word looked at most."""

    def offer() -> None:
        trace = answer.trace
        pictures = _of_words(trace, photograph, step, head)
        if find(trace.functions, "regions", "grouping"):
            weights = looked(trace, head)
            own = int(weights[step].argmax()) if region is None and weights is not None else region or 0
            pictures["group"] = Picture(f"group-of-region-{own + 1}", group_still(trace, own, photograph.image, head))
            pictures["groups"] = Picture("groups", groups_still(trace, head))
        if find(trace.functions, "attributes", "pivot"):
            pictures["collocations"] = Picture("collocations", collocations_still(trace, head))
        if answer.decoded:
            pictures["beam"] = Picture("beam", beam_still(trace, nodes_of(answer), decoding=answer.question.decoding))
        _draw_offers(_file_name(photograph, trace), pictures, _numbers(photograph, trace, step, head))
        _draw_report(photograph, answer)

    _draw_popover(offer)


@st.fragment
def draw_decoding_export(photograph: Photograph, answer: Answer, node: Node, pinned: bool, head: int) -> None:
    """Decoding: the beam as it stands, and where the word in view looked; `pinned`: whether it is framed."""

    def offer() -> None:
        trace, nodes = answer.trace, nodes_of(answer)
        seen = trace if node.best else _begun(photograph, trace, node, falls=False)
        tree = beam_still(trace, nodes, node.id if pinned else None, answer.question.decoding)
        pictures = {"beam": Picture("beam", tree)}
        pictures |= _of_words(seen, photograph, node.step, head, whole=trace)
        name = _file_name(photograph, trace)
        measured = (lambda: trace) if node.best else partial(_begun, photograph, trace, node, falls=True)
        numbers = _numbers(photograph, trace, node.step, head, measured, spoken(node.word))
        table = File("The tree (CSV)", f"{name}-beam.csv", lambda: as_csv(node_table(nodes)))
        _draw_offers(name, pictures, [table, *numbers])
        _draw_report(photograph, answer)

    _draw_popover(offer)


@st.fragment
def draw_collocations_export(
    photograph: Photograph,
    trace: Trace,
    asked: Mapping[str, Trace],
    head: int,
    pivot: int,
    likeness: bool,
    least: float,
) -> None:
    """Collocations of a photograph: the map in its order, with the words asked, less what is hidden; and one row.

    Args:
        asked: as in `lift_table`. `pivot`: the row in view. `likeness`, `least`: as in `lifts_still`.
    """

    def offer() -> None:
        lifts, name = lift_table(trace, asked, head), _file_name(photograph, trace)
        word = spoken([*trace.inputs, *asked][pivot])
        foot = source(trace, [find(trace.functions, "attributes", "pivot")], head)
        falls = trace.attribute_falls[pivot].astype(float) if pivot < len(trace.attribute_falls) else None
        row = f"{name}-pivot-{_safe(word)}"
        pictures = {
            "map": Picture("collocations", collocations_still(trace, head, asked, likeness, least)),
            "pivot": Picture(f"pivot-{_safe(word)}", pivot_still(lifts.iloc[pivot], word, foot)),
        }
        numbers = [
            File("The map (CSV)", f"{name}-collocations.csv", lambda: lifts.rename_axis("pivot").to_csv()),
            File("The pivot (CSV)", f"{row}.csv", lambda: as_csv(ranked(lifts.iloc[pivot], word, None, falls))),
        ]
        _draw_offers(name, pictures, numbers)

    _draw_popover(offer)


@st.fragment
def draw_lifts_export(report: Mapping[str, Any], lifts: pd.DataFrame) -> None:
    """Collocations over a data set: the map of mean lifts, its rows and columns in the order of their likeness."""

    def offer() -> None:
        table, foot, name = lifts.iloc[cluster(lifts).order], _measured(report), f"{_safe(report['data'])}-collocations"
        caption = f"Attribute collocations: which attributes (columns) each word (row, the pivot) calls up. {foot}."
        picture = Picture("map", lifts_still("Attribute collocations over a data set", caption, table, foot))
        _draw_offers(name, {"map": picture}, [File("The map (CSV)", f"{name}.csv", table.rename_axis("pivot").to_csv)])

    _draw_popover(offer, "export map")


@st.fragment
def draw_pivot_export(report: Mapping[str, Any], pivot: str, table: pd.DataFrame) -> None:
    """One pivot over a data set; `table` has columns attribute and lift."""

    def offer() -> None:
        name = f"{_safe(report['data'])}-pivot-{_safe(pivot)}"
        picture = Picture("bars", pivot_still(table.set_index("attribute")["lift"], pivot, _measured(report)))
        _draw_offers(name, {"pivot": picture}, [File("The pivot (CSV)", f"{name}.csv", lambda: as_csv(table))])

    _draw_popover(offer, "export pivot")


def _measured(report: Mapping[str, Any]) -> str:
    """Where the collocations of a report come from, as `source` says of a trace."""
    found = report["grounding"]
    measured = f"means over {found['photographs']:,} photographs of {report['data']} {report['split']} and all heads"
    declared = [AttentionFunction(**f) for f in found["functions"]] if "functions" in found else GLIED  # of 0.1.0
    pivot = find(declared, "attributes", "pivot")
    equation = f"Eq. ({pivot.equation}), " if pivot and pivot.equation else ""
    return f"{report['title']}, checkpoint {report['checkpoint']}, {equation}{measured}"


@st.fragment
def draw_compare_export(
    left: tuple[str, Photograph, Trace],
    right: tuple[str, Photograph, Trace],
    step: int,
    head: int,
    on_right: bool,
    tables: Mapping[str, Callable[[], pd.DataFrame]],
) -> None:
    """Compare: where both sides looked for the word in view, on one scale, and the tables of the page.

    Args:
        left, right: what each side is called, its photograph and its trace. `step`: the word in view of the left side,
        of the right one if `on_right`. `tables`: what each is called -> what makes it.
    """

    def offer() -> None:
        pairs = align(left[2].words, right[2].words)
        at = (pairs.right[step], step) if on_right else (step, pairs.left[step])
        sides = [
            (title, trace, None if own < 0 else own, photograph.image)
            for (title, photograph, trace), own in zip((left, right), at, strict=True)
        ]
        name = "-".join(dict.fromkeys(_file_name(photograph, trace) for _, photograph, trace in (left, right)))
        word = (right if on_right else left)[2].words[step]
        drawn = any(own is not None and feeding(t.functions, "regions") for _, t, own, _ in sides)
        pictures = {"word": Picture(f"{step + 1}-{_safe(word)}", pair_still(sides, head))} if drawn else {}
        numbers = [
            File(f"{title} (CSV)", f"{name}-{_safe(title)}.csv", partial(_csv, make)) for title, make in tables.items()
        ]
        numbers += [
            File(
                f"“{spoken(t.words[own])}”, {side} (CSV)",
                f"{name}-{_safe(side)}-word.csv",
                partial(_word, t, own, head),
            )
            for side, t, own, _ in sides
            if own is not None and list(senses(t))
        ]
        _draw_offers(name, pictures, numbers)

    _draw_popover(offer)


@st.fragment
def draw_whatif_export(
    photograph: Photograph,
    title: str,
    before: Trace,
    edit: Edit,
    after: After | None,
    step: int,
    curve: tuple[Over, Deletion] | None,
) -> None:
    """What if: the photograph with what was struck, both captions and the fall of every word; the deletion curve.

    Args:
        title: of the captioner. `after`: None before a change. `step`, `curve`: the word in view, and what becomes of
        it as these are taken away; None of a captioner without attention.
    """

    def offer() -> None:
        name = f"{_file_name(photograph, before)}-what-if"
        word = f"{step + 1}-{_safe(before.words[step])}"
        pictures, numbers = {}, []
        if after:
            still = change_still(title, before, after.said, after.replayed, edit, photograph.image)
            pictures["change"] = Picture("change", still)
            numbers.append(
                File("The change (CSV)", f"{name}.csv", lambda: as_csv(change_table(before, after.replayed)))
            )
        if curve:
            pictures["curve"] = Picture(f"curve-{word}", curve_still(before, step, *curve))
            table = partial(deletion_table, *curve)
            numbers.append(File("The curve (CSV)", f"{name}-curve-{word}.csv", lambda: as_csv(table())))
        _draw_offers(name, pictures, numbers)

    _draw_popover(offer)


# ---- the popover


def _draw_popover(draw: Callable[[], None], key: str = "export") -> None:
    """A popover with downloads, which are laid out when it opens and made when they are clicked."""
    place = st.popover("Export", icon=":material/download:", key=key, on_change="rerun")
    with place:
        if place.open:
            draw()
        else:
            st.space(HEIGHT)  # it opens where there is room for what comes


def _draw_offers(name: str, pictures: Mapping[str, Picture], numbers: list[File]) -> None:
    if pictures:
        _draw_pictures(name, pictures)
    if not numbers:
        st.caption("There is nothing to export yet: change the scene first.")
        return
    st.markdown("**Numbers**")
    with st.container(horizontal=True):
        for label, file, make in numbers:
            _offer(label, file, MIMES[file.rsplit(".", 1)[1]], make)


def _draw_pictures(name: str, pictures: Mapping[str, Picture]) -> None:
    keys = list(pictures)
    if len(keys) > 1:
        titles = {key: pictures[key].still.title for key in keys}
        chosen = st.selectbox("Picture", keys, format_func=titles.__getitem__, key=f"picture of {' '.join(keys)}")
    else:
        (chosen,) = keys
        st.markdown(f"**{plain(pictures[chosen].still.title)}**")
    part, still = pictures[chosen]
    wide = pick_one("Width on paper", WIDTHS, f"width of {' '.join(keys)}", persist_state="session")
    file = f"{name}-{part}" + ("" if WIDTHS[wide] == TWO else "-one-column")
    with st.container(horizontal=True):
        for kind in ("png", "svg", "pdf"):
            _offer(kind.upper(), f"{file}.{kind}", MIMES[kind], partial(drawn, still, kind, WIDTHS[wide]))
    st.caption("Its caption, to copy; the file holds it too. Do not scale the picture: it has its size on paper.")
    st.code(still.caption, language=None, wrap_lines=True)


def _draw_report(photograph: Photograph, answer: Answer) -> None:
    running, address = engine(), _address(photograph)
    _offer(
        "Report of the photograph (HTML)",
        f"{_safe(photograph.id)}.html",
        MIMES["html"],
        lambda: _report(running, photograph, answer, address),
    )
    st.caption("A .npz file holds the photograph too: whoever gets it can open it on Explore, without a model.")


def _offer(label: str, name: str, mime: str, make: Callable[[], str | bytes]) -> None:
    st.download_button(
        label, make, file_name=name, mime=mime, on_click="ignore", help=name, key=f"export {label} {name}"
    )


# ---- what it is made of


def _of_words(
    trace: Trace, photograph: Photograph, step: int, head: int, whole: Trace | None = None
) -> dict[str, Picture]:
    """Pictures of one word, and of every word of the `whole` caption, by default that of `trace`. None for a captioner
    that attends to no region."""
    if not feeding(trace.functions, "regions"):
        return {}
    word = f"{step + 1}-{_safe(trace.words[step])}"
    return {
        "word": Picture(word, word_still(trace, step, photograph.image, head)),
        "words": Picture("words", caption_still(whole or trace, photograph.image, head)),
    }


def _numbers(
    photograph: Photograph,
    trace: Trace,
    step: int,
    head: int,
    measured: Callable[[], Trace] | None = None,
    word: str = "",
) -> list[File]:
    """The table of one word, where the captioner attends to anything, and the trace. `measured`: gives the trace that
    has the `word`, if that is another."""
    name = _file_name(photograph, trace)
    own = measured or (lambda: trace)
    file = f"{name}-{step + 1}-{_safe(word or trace.words[step])}.csv"
    table = [File("The word (CSV)", file, lambda: _word(own(), step, head))] if list(senses(trace)) else []
    return [
        *table,
        File("Trace (.npz)", f"{name}.npz", lambda: trace.packed(photograph.jpeg)),
        File("Trace (JSON)", f"{name}.json", trace.json),
    ]


def _csv(make: Callable[[], pd.DataFrame]) -> str:
    return as_csv(make())


def _word(trace: Trace, step: int, head: int) -> str:
    return attention_table(trace, step, head).to_csv(index=False)


def _begun(photograph: Photograph, trace: Trace, node: Node, falls: bool) -> Trace:
    """The trace of the words of a beam up to one that is none of the caption's."""
    running = engine()
    model = running.name_of(trace.checkpoint)
    assert model  # the page has just asked it
    words = tuple(word for word in node.words if word != END)
    return running.read(photograph, model, Question(words=words, falls=falls), most=KEPT).trace


def _report(running: Engine, photograph: Photograph, shown: Answer, address: str) -> str:
    """The report of a photograph by GLIED and Base, of the same training as the caption in view, and by the captioner
    in view if it is another; all asked what that captioner was asked: how to decode and the words to begin with."""
    own = running.name_of(shown.trace.checkpoint)
    pair = next((pair for pair in running.pairs if own in pair), running.pair)
    accounts = {}
    for model in dict.fromkeys([*([own] if own and own not in pair else []), *pair]):
        answer = running.read(photograph, model, shown.question, most=KEPT)  # no page would show that it is full
        accounts[running.titles[model] + _describe_question(shown.question)] = Account(
            answer.trace, nodes_of(answer), shown.question.decoding
        )
    return page(photograph.title, photograph.alt, photograph.credit, address, photograph.jpeg, accounts)


def _describe_question(question: Question) -> str:
    """The unusual part of a question, to be put after the captioner's name."""
    begun = f", made to begin with “{' '.join(question.prefix)}”" if question.prefix else ""
    return begun + (f", {decoding_in_words(question.decoding)}" if question.decoding != USUAL else "")


def _address(photograph: Photograph) -> str:
    """Where this app shows a photograph of the gallery; empty for a person's own."""
    if photograph.id not in {entry.id for entry in entries(folder())[0]}:
        return ""
    home = (st.context.url or "").rstrip("/").removesuffix("/explore").removesuffix("/decoding")  # pages with reports
    return f"{home}/explore?{urlencode({'photo': photograph.id})}"


def _file_name(photograph: Photograph, trace: Trace) -> str:
    """What files about a photograph and its captioner are called."""
    return f"{_safe(photograph.id)}-{name_here(trace.checkpoint) or _safe(trace.architecture)}"


def _safe(text: str) -> str:
    """Letters and digits of a name of ours, fit for any file system."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:40] or "photograph"
