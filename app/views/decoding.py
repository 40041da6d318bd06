"""Decoding: a search step by step, what it looked at before every word, and how it goes on from words of your own."""

from dataclasses import replace

import streamlit as st

from analysis.beam import Node, decoding_in_words, finished_table, node_table, quoted, title_of
from analysis.components import words_in
from analysis.numbers import percent, signed
from app.components.tree import node_in, nodes_of, tree
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import Answer, Question
from app.photographs.photograph import Photograph
from app.state import BEGINNING, BRANCH, CHOICE, FORBID, REQUIRE, TREE, chosen, travelled
from app.texts import plain
from app.widgets.export import draw_decoding_export
from app.widgets.pick import pick_head, pick_model, pick_photograph, show_credit, show_gallery
from app.widgets.way import Way, pick_way
from glied.errors import GliedError

HOW = {
    "Beam search": "Beam search writes a caption word by word: at each step it extends the hypotheses it has kept, and "
    "keeps the likeliest.",
    "Diverse beam search": "Diverse beam search keeps groups of hypotheses. A group chooses after the groups above it, "
    "and lowers a word’s score if they took it at the same step; the log p shown is without that penalty. Where the "
    "captioner is sure, groups still find the same caption: a higher diversity separates them.",
    "Nucleus sampling": "Nucleus sampling draws each word at random among the likeliest. Samples that begin alike "
    "share a branch; dashed words could have been drawn instead.",
}
BANKS = (
    " With words that must come, the search keeps as many hypotheses for each number of them that have come: none, one "
    "and so on. Only a caption with all of them may end."
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
    """From now on the caption of the photograph begins with these words."""
    BEGINNING.keep((photograph.key, words))


def take_forced(photograph: Photograph) -> None:
    """Takes over what was clicked in the tree; nothing from a browser is trusted. The last of the words stays in
    view. The whole page follows, not the tree alone."""
    if words := words_in((TREE.get() or {}).get("forced")):
        begin_with(photograph, words)
        BRANCH.keep(("", 0, (), False))  # whatever the address has pinned
        CHOICE.keep(replace(CHOICE.get(), trace="", step=len(words) - 1))  # of the trace that comes
        st.rerun()


def take_choice(answer: Answer) -> None:
    """Takes over which word of the tree is in view; nothing from a browser is trusted."""
    if found := node_in((TREE.get() or {}).get("choice"), nodes_of(answer)):
        (node, pinned), trace = found, answer.trace
        BRANCH.keep((trace.digest, node.group, node.words, pinned))
        CHOICE.keep(replace(CHOICE.get(), trace=trace.digest, step=min(node.step, len(trace.words) - 1)))


def in_view(answer: Answer, step: int) -> tuple[Node, bool]:
    """The word of the tree that is in view, and whether it is pinned: the one chosen there, else that of the address,
    else the caption's at `step`. The address names a pinned word by all words up to it, and by its
    group if that is not the first."""
    nodes, trace = {(node.group, node.words): node for node in nodes_of(answer)}, answer.trace
    last = len(trace.words) - 1
    kept, asked = BRANCH.get(), st.query_params.get("pin", "")
    if kept is None or travelled():
        words, number = tuple(asked.split()), st.query_params.get("lane", "1")
        group = int(number) - 1 if number in map(str, range(1, 100)) else -1
        if (group, words) in nodes:
            step = min(nodes[group, words].step, last)
            CHOICE.keep(replace(CHOICE.get(), trace=trace.digest, step=step))
            st.query_params["step"] = str(step)
        elif asked:
            st.toast("The address asked for a word that this search has not weighed; one of the caption is shown.")
        kept = (trace.digest, group, words, True)
        BRANCH.keep(kept)
    digest, group, words, pinned = kept
    node = nodes.get((group, words)) if digest == trace.digest else None
    if node is None or min(node.step, last) != step:  # another word was chosen elsewhere
        node, pinned = next(node for node in nodes.values() if node.best and node.step == step), False
    for name, value in {"pin": " ".join(node.words), "lane": str(node.group + 1)}.items():
        if pinned and (name == "pin" or node.group):
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)
    return node, pinned


@st.fragment
def draw_tree(answer: Answer, photograph: Photograph) -> None:
    """The tree, and the pictures and tables of what is in view there."""
    step, head = chosen(answer.trace)
    node, pinned = in_view(answer, step)
    tree(
        answer,
        photograph,
        node,
        pinned,
        head,
        on_forced=lambda: take_forced(photograph),
        on_choice=lambda: take_choice(answer),
    )
    draw_decoding_export(photograph, answer, node, pinned, head)


def decode(photograph: Photograph, model: str, way: Way, prefix: tuple[str, ...]) -> Answer:
    """The captioner's answer with these first words, and with the words that must and must not come. If there is none,
    a warning and the answer without any of them."""
    try:
        decoding = replace(way.decoding, require=way.require, forbid=way.forbid)
        return traced(photograph, model, Question(decoding, prefix))
    except GliedError as error:
        if not (prefix or way.require or way.forbid):
            raise
        st.warning(plain(f"{error} The free caption is shown."), icon=":material/warning:")
        return traced(photograph, model, Question(way.decoding))


def set_free(photograph: Photograph) -> None:
    """Removes all words that were asked for."""
    begin_with(photograph, ())
    REQUIRE.keep("")
    FORBID.keep("")


def draw_captions(free: Answer, asked: Answer, photograph: Photograph) -> None:
    """The best caption with the words that were asked for beside the free one."""
    prefix, decoding = asked.question.prefix, asked.question.decoding
    parts = {"beginning with": prefix and (" ".join(prefix),), "with": decoding.require, "without": decoding.forbid}
    told = plain(", ".join(f"{how} {quoted(words)}" for how, words in parts.items() if words))
    titles = ("Free caption", told[0].upper() + told[1:])
    for column, title, answer in zip(st.columns(2), titles, (free, asked), strict=True):
        assert answer.decoded
        best = answer.decoded.captions[0]
        with column.container(border=True):
            st.caption(f"{title}: log p {signed(best.log_probability)}, ranked by {signed(best.score)}")
            st.text(best.text)
    st.button("Back to the free caption", icon=":material/undo:", on_click=set_free, args=(photograph,), key="free")
    st.caption(
        "Log p counts the words that were asked for too: it says how likely the captioner finds the whole sentence."
    )


def draw_tables(answer: Answer) -> None:
    """The finished captions, and the whole tree, as tables."""
    nodes = nodes_of(answer)
    st.header("Captions that finished")
    st.dataframe(
        finished_table(nodes).style.format({"log p": signed, "ranked by": signed}),
        hide_index=True,
        alt="Captions that finished, best first",
    )
    ends = (
        ""
        if answer.question.decoding.method == "sample"
        else " The search ends once as many captions have finished as hypotheses are kept and none that is unfinished "
        "can still rank above them."
    )
    st.caption(f"Log p is that of the whole caption; the ranking divides it by a measure of length.{ends}")
    with st.expander("The whole tree, as a table", icon=":material/table:"):
        st.dataframe(
            node_table(nodes).style.format({"probability": percent, "log p so far": signed}),
            hide_index=True,
            alt="Every word that was weighed, step by step",
        )


show_gallery()
with st.container(horizontal=True, vertical_alignment="bottom"):
    photograph = pick_photograph()
    model = pick_model()
    way = pick_way()
with st.container(horizontal=True, vertical_alignment="center"):
    about, place = st.container(width=900), st.container(width=180)  # one above the other on a telephone
prefix = beginning(photograph)
answer = decode(photograph, model, way, prefix)
question = answer.question
if not (way.require or way.forbid):
    prefix = question.prefix  # what the captioner cannot begin with is forgotten
begin_with(photograph, prefix)
decoding = question.decoding
about.caption(
    f"{HOW[title_of(decoding)]}{BANKS if decoding.require else ''} Now: {plain(decoding_in_words(decoding))}. Play it, "
    "look at any word, or set a word yourself and let the captioner go on from there."
)
if prefix:
    st.query_params["prefix"] = " ".join(prefix)
else:
    st.query_params.pop("prefix", None)
if question != Question(way.decoding):
    draw_captions(traced(photograph, model, Question(way.decoding)), answer, photograph)
warn_if_unlike(answer.trace)
with place:
    pick_head(answer.trace)
draw_tree(answer, photograph)
draw_tables(answer)
show_credit(photograph)
