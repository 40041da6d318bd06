"""Decoding: beam search step by step, what it looked at before every word, where it goes from words of your own."""

import streamlit as st

from analysis.beam import beam_nodes, finished_table, node_table
from app.components.tree import tree, words_in
from app.engine.ask import traced, warn_if_unlike
from app.engine.engine import BEAM, Question, Reading
from app.photographs.photograph import Photograph
from app.state import BEGINNING, TREE, chosen, travelled
from app.texts import plain
from app.widgets.export import draw_export
from app.widgets.pick import pick_head, pick_model, pick_one, pick_photograph, show_gallery
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
    """Takes over what was clicked in the tree; nothing from a browser is trusted."""
    if words := words_in((TREE.get() or {}).get("forced")):
        begin_with(photograph, words)


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
            st.caption(f"{title}: log p {best.log_probability:.2f}, ranked by {best.score:.2f}")
            st.text(best.text)
    st.button(
        "Back to the free caption", icon=":material/undo:", on_click=begin_with, args=(photograph, ()), key="free"
    )
    st.caption("Log p counts the forced words too: it says how likely the captioner finds the whole sentence.")


def draw_tables(reading: Reading, forced: int) -> None:
    """The finished captions, and the whole tree, as tables."""
    assert reading.decoded
    assert reading.decoded.history
    assert reading.outlook
    nodes = beam_nodes(reading.decoded.history, reading.decoded.captions[0].words, reading.outlook, forced)
    st.subheader("Captions that finished")
    numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in ("log p", "ranked by", "log p so far")}
    st.dataframe(
        finished_table(nodes),
        hide_index=True,
        column_config=numbers,
        alt="Captions that beam search finished, best first",
    )
    st.caption(
        "Log p is that of the whole caption; the ranking divides it by a measure of length. The search ends once as "
        "many captions have finished as hypotheses are kept and none that is unfinished can still rank above them."
    )
    with st.expander("The whole tree, as a table", icon=":material/table:"):
        st.dataframe(
            node_table(nodes),
            hide_index=True,
            column_config=numbers | {"probability": st.column_config.NumberColumn(format="percent")},
            alt="Every word that beam search weighed, step by step",
        )


show_gallery()
with st.container(horizontal=True, vertical_alignment="bottom"):
    photograph = pick_photograph()
    model = pick_model()
    beam = pick_beam()
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
step, _ = chosen(reading.trace)
head = pick_head(reading.trace)
tree(reading, photograph, len(prefix), lambda: take_forced(photograph), step, head)
draw_export(photograph, reading, step, head)
draw_tables(reading, len(prefix))
if photograph.credit:
    st.caption(f"{photograph.title}: {photograph.credit}")
