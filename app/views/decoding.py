"""Decoding: beam search step by step, what it looked at before every word, where it goes from words of your own."""

from dataclasses import replace

import streamlit as st

from analysis.beam import Node, finished_table, node_table
from analysis.components import words_in
from analysis.numbers import percent, signed
from app.components.tree import node_in, nodes_of, tree
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import BEAM, Question, Reading
from app.photographs.photograph import Photograph
from app.state import BEGINNING, BRANCH, CHOICE, TREE, chosen, travelled
from app.texts import plain
from app.widgets.export import draw_decoding_export
from app.widgets.pick import pick_head, pick_model, pick_one, pick_photograph, show_credit, show_gallery
from glied.errors import GliedError

BEAMS = (1, 2, 3, 5)


def pick_beam() -> int:
    """How many hypotheses beam search keeps."""
    asked = st.query_params.get("beam", "")
    if asked and asked not in map(str, BEAMS):
        del st.query_params["beam"]
        st.toast("The address asked for a beam that is not offered; the usual one is shown.")
    return pick_one(
        "Hypotheses kept",
        BEAMS,
        "beam",
        usual=BEAM,
        format_func=str,
        bind="query-params",
        persist_state="session",
        help="How many hypotheses beam search keeps at each step; 1 is greedy decoding",
    )


def beginning(photograph: Photograph) -> tuple[str, ...]:
    """The words that the caption of this photograph must begin with: those chosen, else those of the address."""
    kept = BEGINNING.get()
    if kept is None or travelled():
        asked = st.query_params.get("prefix", "").split()
        words = words_in({"prefix": asked})
        if asked and not words:
            st.toast("The address asked for a beginning that cannot be one; the free caption is shown.")
        kept = (photograph.key, words)
        BEGINNING.keep(kept)
    of, words = kept
    return words if of == photograph.key else ()


def begin_with(photograph: Photograph, words: tuple[str, ...]) -> None:
    """From now on the caption of the photograph begins so."""
    BEGINNING.keep((photograph.key, words))


def take_forced(photograph: Photograph) -> None:
    """Takes over what was clicked in the tree; nothing from a browser is trusted. The last of the words stays in
    view. The whole page follows, not the tree alone."""
    if words := words_in((TREE.get() or {}).get("forced")):
        begin_with(photograph, words)
        BRANCH.keep(("", (), False))  # whatever the address has pinned
        CHOICE.keep(replace(CHOICE.get(), trace="", step=len(words) - 1))  # of the trace that comes
        st.rerun()


def take_choice(reading: Reading) -> None:
    """Takes over which word of the tree is in view; nothing from a browser is trusted."""
    if found := node_in((TREE.get() or {}).get("choice"), nodes_of(reading)):
        (node, pinned), trace = found, reading.trace
        BRANCH.keep((trace.digest, node.words, pinned))
        CHOICE.keep(replace(CHOICE.get(), trace=trace.digest, step=min(node.step, len(trace.words) - 1)))


def in_view(reading: Reading, step: int) -> tuple[Node, bool]:
    """The word of the tree that is in view, and whether it is pinned: the one chosen there, else that of the address,
    else the caption's at `step`. The address names a pinned word by all words up to it."""
    nodes, trace = {node.words: node for node in nodes_of(reading)}, reading.trace
    last = len(trace.words) - 1
    kept, asked = BRANCH.get(), st.query_params.get("pin", "")
    if kept is None or travelled():
        words = tuple(asked.split())
        if words in nodes:
            step = min(nodes[words].step, last)
            CHOICE.keep(replace(CHOICE.get(), trace=trace.digest, step=step))
            st.query_params["step"] = str(step)
        elif asked:
            st.toast("The address asked for a word that this search has not weighed; one of the caption is shown.")
        kept = (trace.digest, words, True)
        BRANCH.keep(kept)
    digest, words, pinned = kept
    node = nodes.get(words) if digest == trace.digest else None
    if node is None or min(node.step, last) != step:  # another word was chosen elsewhere
        node, pinned = next(node for node in nodes.values() if node.best and node.step == step), False
    if pinned:
        st.query_params["pin"] = " ".join(node.words)
    else:
        st.query_params.pop("pin", None)
    return node, pinned


@st.fragment
def draw_tree(reading: Reading, photograph: Photograph) -> None:
    """The tree, and the pictures and tables of what is in view there."""
    step, head = chosen(reading.trace)
    node, pinned = in_view(reading, step)
    tree(
        reading,
        photograph,
        node,
        pinned,
        head,
        on_forced=lambda: take_forced(photograph),
        on_choice=lambda: take_choice(reading),
    )
    draw_decoding_export(photograph, reading, node, pinned, head)


def decode(photograph: Photograph, model: str, beam: int, prefix: tuple[str, ...]) -> tuple[Reading, tuple[str, ...]]:
    """What the captioner says with these first words, and the words; without them where it cannot say them."""
    try:
        return traced(photograph, model, Question(beam=beam, prefix=prefix)), prefix
    except GliedError as error:
        if not prefix:
            raise
        st.warning(plain(f"{error} The free caption is shown."), icon=":material/warning:")
        return traced(photograph, model, Question(beam=beam)), ()


def draw_captions(free: Reading, begun: Reading, prefix: tuple[str, ...], photograph: Photograph) -> None:
    """The best caption that begins with the forced words beside the free one."""
    titles = ("Free caption", f"Beginning with “{plain(' '.join(prefix))}”")
    for column, title, reading in zip(st.columns(2), titles, (free, begun), strict=True):
        assert reading.decoded
        best = reading.decoded.captions[0]
        with column.container(border=True):
            st.caption(f"{title}: log p {signed(best.log_probability)}, ranked by {signed(best.score)}")
            st.text(best.text)
    st.button(
        "Back to the free caption", icon=":material/undo:", on_click=begin_with, args=(photograph, ()), key="free"
    )
    st.caption("Log p counts the forced words too: it says how likely the captioner finds the whole sentence.")


def draw_tables(reading: Reading) -> None:
    """The finished captions, and the whole tree, as tables."""
    nodes = nodes_of(reading)
    st.header("Captions that finished")
    st.dataframe(
        finished_table(nodes).style.format({"log p": signed, "ranked by": signed}),
        hide_index=True,
        alt="Captions that beam search finished, best first",
    )
    st.caption(
        "Log p is that of the whole caption; the ranking divides it by a measure of length. The search ends once as "
        "many captions have finished as hypotheses are kept and none that is unfinished can still rank above them."
    )
    with st.expander("The whole tree, as a table", icon=":material/table:"):
        st.dataframe(
            node_table(nodes).style.format({"probability": percent, "log p so far": signed}),
            hide_index=True,
            alt="Every word that beam search weighed, step by step",
        )


show_gallery()
with st.container(horizontal=True, vertical_alignment="bottom"):
    photograph = pick_photograph()
    model = pick_model()
    beam = pick_beam()
    place = st.empty()
st.caption(
    "Beam search writes a caption word by word: at each step it extends the hypotheses it has kept, and keeps the "
    "likeliest. Play it, look at any word, or set a word yourself and let the captioner go on from there."
)
reading, prefix = decode(photograph, model, beam, beginning(photograph))
begin_with(photograph, prefix)
if prefix:
    st.query_params["prefix"] = " ".join(prefix)
    draw_captions(traced(photograph, model, Question(beam=beam)), reading, prefix, photograph)
else:
    st.query_params.pop("prefix", None)
warn_if_unlike(reading.trace)
with place:
    pick_head(reading.trace)
draw_tree(reading, photograph)
draw_tables(reading)
show_credit(photograph)
