"""What a person can take away: pictures, tables, the trace, a report; and a trace that someone else has sent."""

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

import streamlit as st
from matplotlib.figure import Figure

from analysis.attention import attention_table, looked, spoken
from analysis.beam import Node, beam_nodes
from analysis.page import Account, page
from analysis.stills import beam_still, caption_still, collocations_still, drawn, group_still, groups_still, word_still
from app.engine.ask import engine
from app.engine.engine import BEAM, KEPT, Engine, Question, Reading
from app.photographs.gallery import entries, folder
from app.photographs.photograph import Photograph
from app.texts import plain
from glied.functions import find

HEIGHT = 540  # pixels of the downloads, about


@st.fragment
def draw_export(photograph: Photograph, reading: Reading, step: int, head: int, region: int | None = None) -> None:
    """A popover of downloads, each made when it is clicked; `region`: whose group is among the pictures."""
    place = st.popover("Export", icon=":material/download:", key="export", on_change="rerun")
    with place:
        if place.open:
            _draw_offers(photograph, reading, step, head, region)
        else:
            st.space(HEIGHT)  # it opens where there is room for what comes


def _draw_offers(photograph: Photograph, reading: Reading, step: int, head: int, region: int | None) -> None:
    trace = reading.trace
    name = f"{_safe(photograph.id)}-{_name_of(trace.checkpoint) or trace.architecture}"
    st.markdown(f"**Pictures** of “{plain(spoken(trace.words[step]))}” and of the caption")
    for title, (part, make) in _figures(photograph, reading, step, head, region).items():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(title, width="stretch")
            _offer("PNG", f"{name}-{part}.png", "image/png", partial(_draw, make, "png"))
            _offer("SVG", f"{name}-{part}.svg", "image/svg+xml", partial(_draw, make, "svg"))
            _offer("PDF", f"{name}-{part}.pdf", "application/pdf", partial(_draw, make, "pdf"))
    st.markdown("**Numbers**")
    with st.container(horizontal=True):
        word = f"{name}-{step + 1}-{_safe(trace.words[step])}"
        _offer(
            "The word (CSV)",
            f"{word}.csv",
            "text/csv",
            lambda: attention_table(trace, step, head).to_csv(index=False),
        )
        _offer("Trace (.npz)", f"{name}.npz", "application/octet-stream", lambda: trace.packed(photograph.jpeg))
        _offer("Trace (JSON)", f"{name}.json", "application/json", trace.json)
    st.caption(
        "The .npz file holds the photograph too: whoever gets it can open it on the page Explore, without a model."
    )
    st.markdown("**All of it**")
    running, address = engine(), _address(photograph)
    _offer(
        "Report of the photograph (HTML)",
        f"{_safe(photograph.id)}.html",
        "text/html",
        lambda: _report(running, photograph, reading, address),
    )


def _offer(label: str, name: str, mime: str, make: Callable[[], str | bytes]) -> None:
    st.download_button(
        label, make, file_name=name, mime=mime, on_click="ignore", help=name, key=f"export {label} {name}"
    )


def _figures(
    photograph: Photograph, reading: Reading, step: int, head: int, region: int | None
) -> dict[str, tuple[str, Callable[[], Figure]]]:
    """Title -> what its files are called, and how it is drawn."""
    trace = reading.trace
    word = f"{step + 1}-{_safe(trace.words[step])}"
    found: dict[str, tuple[str, Callable[[], Figure]]] = {
        "Where the word looked": (word, lambda: word_still(trace, step, photograph.image, head)),
        "Where every word looked": ("words", lambda: caption_still(trace, photograph.image, head)),
    }
    if find(trace.functions, "regions", "grouping"):
        own = int(looked(trace, head)[step].argmax()) if region is None else region
        part = f"group-of-region-{own + 1}"
        found[f"The group of region {own + 1}"] = (part, lambda: group_still(trace, own, photograph.image, head))
        found["Region groupings"] = ("groups", lambda: groups_still(trace, head))
    if find(trace.functions, "attributes", "pivot"):
        found["Attribute collocations"] = ("collocations", lambda: collocations_still(trace, head))
    if reading.decoded:
        found["Beam search"] = ("beam", lambda: beam_still(trace, _nodes(reading)))
    return found


def _draw(make: Callable[[], Figure], kind: str) -> bytes:
    return drawn(make(), kind)


def _nodes(reading: Reading) -> tuple[Node, ...]:
    assert reading.decoded
    assert reading.decoded.history
    assert reading.outlook
    return beam_nodes(reading.decoded.history, reading.decoded.captions[0].words, reading.outlook)


def _report(running: Engine, photograph: Photograph, shown: Reading, address: str) -> str:
    """The report of a photograph by Base and GLIED, of the same training as the caption in view, both asked what that
    captioner was asked: the beam and the words to begin with."""
    own = _name_of(shown.trace.checkpoint, running)
    pairs = [pair for pair in running.pairs.values() if own in pair]
    glied, base = pairs[0] if pairs else next(iter(running.pairs.values()))
    accounts = {}
    for model in (base, glied):
        reading = running.read(photograph, model, shown.question, most=KEPT)  # no page would show that it is full
        accounts[running.titles[model] + _asked(shown.question)] = Account(reading.trace, _nodes(reading))
    return page(photograph.title, photograph.alt, photograph.credit, address, photograph.jpeg, accounts)


def _asked(question: Question) -> str:
    """What a captioner was asked beyond the usual, after its name."""
    begun = f", made to begin with “{' '.join(question.prefix)}”" if question.prefix else ""
    return begun + (f", beam {question.beam}" if question.beam != BEAM else "")


def _address(photograph: Photograph) -> str:
    """Where this app shows a photograph of the gallery; empty for a person's own."""
    if photograph.id not in {entry.id for entry in entries(folder())[0]}:
        return ""
    home = (st.context.url or "").rstrip("/").removesuffix("/explore").removesuffix("/decoding")  # pages with exports
    return f"{home}/explore?{urlencode({'photo': photograph.id})}"


def _name_of(checkpoint: str, running: Engine | None = None) -> str | None:
    """What the engine calls a checkpoint, if it is one of its own."""
    models = (running or engine()).models
    return next((name for name, model in models.items() if model.digest == checkpoint), None)


def _safe(text: str) -> str:
    """Letters and digits of a name of ours, fit for any file system."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:40] or "photograph"
