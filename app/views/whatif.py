"""What if: strike out regions and attributes, add a word, or edit the caption, and see how the captioner answers."""

import numpy as np
import pandas as pd
import streamlit as st

from analysis.changes import caption_table, change_table
from analysis.numbers import percent, signed
from app.components.removal import After, removal, requested_edit, requested_over
from app.edits import Change, History, address_of, change_of, in_words, sensible, why_not_said
from app.engine.ask import engine, traced, warn_if_unlike
from app.engine.engine import Question
from app.photographs.photograph import Photograph
from app.state import (
    HISTORIES,
    HISTORY,
    NEW_CAPTION,
    REFUSED_CAPTION,
    REFUSED_WORD,
    REMOVAL,
    choose,
    chosen,
    step_of,
    travelled,
)
from app.texts import plain
from app.widgets.export import draw_whatif_export
from app.widgets.pick import lacks, pick_model, pick_photograph, show_gallery
from app.widgets.tables import as_written
from glied.errors import GliedError
from glied.scene import AS_IT_IS, Edit
from glied.traces import Trace
from glied.vocabulary import Vocabulary, tokenize

KEPT = 20  # photographs whose changes a session remembers


def settle(photograph: Photograph, trace: Trace, vocabulary: Vocabulary) -> None:
    """Puts the history of this photograph into the session; a new one begins with what the address asks for. A toast
    says what cannot be."""
    begun = HISTORY.get()
    history = begun or History(photograph.key)
    if history.photograph != photograph.key:
        kept = {**HISTORIES.get(), history.photograph: history}
        history = kept.pop(photograph.key, History(photograph.key))
        HISTORIES.keep(dict(list(kept.items())[-KEPT:]))
        _forget_refusals()
    obey = photograph.id != "yours" and (begun is None or travelled())
    wish, problems = change_of(st.query_params) if obey else (history.now, [])
    change, more = sensible(wish, trace, vocabulary)
    for problem in [*problems, *more]:
        st.toast(plain(problem))
    HISTORY.keep(history.then(change))
    address = {} if photograph.id == "yours" else address_of(change)
    for name in ("out", "without", "add", "say"):
        if name in st.query_params and name not in address:
            del st.query_params[name]
    if any(st.query_params.get(name) != text for name, text in address.items()):
        st.query_params.update(address)


# ---- what a person does


def _history() -> History:
    """The one that `settle` has begun."""
    history = HISTORY.get()
    assert history
    return history


def _change(edit: Edit | None = None, words: tuple[str, ...] | None = None) -> None:
    history = _history()
    HISTORY.keep(history.then(Change(edit or history.now.edit, words or history.now.words)))


def _take(trace: Trace, vocabulary: Vocabulary) -> None:
    """What was changed on the photograph, but for new words that cannot become attributes."""
    if (wish := requested_edit(trace)) is not None:
        change, problems = sensible(Change(wish), trace, vocabulary)
        REFUSED_WORD.keep(" ".join(problems))
        _change(change.edit)


def _say() -> None:
    words = tuple(tokenize(NEW_CAPTION.get() or ""))
    refused = why_not_said(words)
    REFUSED_CAPTION.keep(refused)
    if not refused:
        _change(words=words)


def _go(by: int) -> None:
    """Goes `by` steps from the step in view now, which may be another than the page has drawn."""
    history = _history()
    HISTORY.keep(history.to(history.at + by))
    _forget_refusals()


def _start_over() -> None:
    HISTORY.keep(_history().then(Change()))
    _forget_refusals()


def _forget_refusals() -> None:
    REFUSED_CAPTION.forget()
    REFUSED_WORD.forget()


# ---- what is drawn


def apply_edit(photograph: Photograph, model: str, before: Trace, edit: Edit) -> After | str | None:
    """What the captioner says after an edit; None without an edit, a sentence where nothing is left to see."""
    if edit == AS_IT_IS:
        return None
    try:
        said = traced(photograph, model, Question(edit=edit, falls=False)).trace
        return After(said, traced(photograph, model, Question(words=before.words[:-1], edit=edit, falls=False)).trace)
    except GliedError as error:
        return str(error)


def draw_scene(photograph: Photograph, model: str, before: Trace, vocabulary: Vocabulary, after: After | None) -> None:
    """The photograph and its attributes, to be struck out or added to, beside the changed scene."""
    view, over = chosen(before), requested_over(before)
    title, edit = engine().titles[model], _history().now.edit
    curve = (over, engine().deletion(photograph, model, before.words[:-1], view[0], over)) if over else None
    removal(
        before,
        photograph,
        title,
        edit,
        after,
        view,
        curve,
        on_edit=lambda: _take(before, vocabulary),
        on_choice=lambda: choose(REMOVAL),
    )
    if refused := REFUSED_WORD.get():
        st.warning(plain(refused), icon=":material/error:")
    draw_whatif_export(photograph, title, before, edit, after, view[0], curve)


def draw_history(trace: Trace) -> None:
    """Every step in words, and the ways back and forth."""
    history = _history()
    last = len(history.steps) - 1
    with st.container(horizontal=True):
        st.button("Undo", icon=":material/undo:", disabled=not history.at, on_click=_go, args=(-1,))
        st.button("Redo", icon=":material/redo:", disabled=history.at == last, on_click=_go, args=(1,))
        untouched = history.now == Change()
        st.button("Start over", icon=":material/restart_alt:", disabled=untouched, on_click=_start_over)
    if not last:
        return
    before = (Change(), *history.steps)
    labels = [in_words(step, earlier, trace) for step, earlier in zip(history.steps, before, strict=False)]
    chosen_step = step_of(history)
    with st.expander(f"History: {labels[history.at]}", icon=":material/history:"):
        st.radio(
            "Steps so far; choose one to return to it",
            range(len(labels)),
            format_func=lambda i: f"{i}. {labels[i]}",
            index=history.at,
            key=chosen_step.name,
            on_change=lambda: _go(chosen_step.get() - _history().at),
        )


def draw_effect(before: Trace, replayed: Trace) -> None:
    """How the log p of every word of the first caption changes on the changed scene."""
    table = change_table(before, replayed)
    total = float(replayed.log_probabilities.sum() - before.log_probabilities.sum())
    st.markdown(f"The first caption, replayed on the changed scene: {_describe_fall(table, total)}")
    reach = max(1.0, float(table[["fell", "rose"]].to_numpy().max()))
    bar = st.column_config.ProgressColumn(width="small", format="%.2f", min_value=0.0, max_value=reach)
    with st.expander("Its words on the changed scene, as a table", icon=":material/table:"):
        st.dataframe(
            as_written(table, {"before": signed, "after": signed}),
            hide_index=True,
            height="content",
            column_config={
                "fell": bar,
                "rose": bar,
                "before": "log p before",
                "after": "log p after",
                "likeliest": "likeliest there now",
            },
            alt="Change in log-probability of every word of the first caption",
        )


def _describe_fall(table: pd.DataFrame, total: float) -> str:
    if abs(total) < 0.005:
        return "its log p stays the same."
    kind, verb = ("fell", "falls") if total < 0 else ("rose", "rises")
    most = table.iloc[int(np.argmax(table[kind]))]
    return f"its log p {verb} by {abs(total):.2f}; **{plain(most.word)}** {verb} most, by {most[kind]:.2f}."


def draw_caption(photograph: Photograph, model: str, own: Trace, change: Change, vocabulary: Vocabulary) -> None:
    """A place to write another caption, and how likely the captioner finds each of its words."""
    title, words = engine().titles[model], change.words
    if NEW_CAPTION.get() is None:  # the page was left and entered again: show no refused caption
        REFUSED_CAPTION.forget()
    refused = REFUSED_CAPTION.get()
    if not refused:
        NEW_CAPTION.keep(" ".join(words or own.words[:-1]))
    st.text_input(
        f"Edit the caption: words for {title} to read, on the scene as it is now",
        key=NEW_CAPTION.name,
        max_chars=1000,
        on_change=_say,
    )
    if refused:
        st.warning(plain(refused), icon=":material/error:")
    if words is None:
        return
    if unknown := [word for word in dict.fromkeys(words) if word not in vocabulary]:
        listed = ", ".join(f"“{plain(word)}”" for word in unknown)
        st.info(f"{title} has no word for {listed} and reads (unknown) there.", icon=":material/info:")
    said = traced(photograph, model, Question(words=words, edit=change.edit, falls=False)).trace
    table = caption_table(words, said, own)
    sums = [float(trace.log_probabilities.sum()) for trace in (said, own)]
    st.markdown(f"These words have log p {signed(sums[0])}, {title}’s own, “{plain(own.text)}”, {signed(sums[1])}.")
    st.dataframe(
        as_written(table, {"log_p": signed, "likeliest_p": percent, "own_log_p": signed}),
        hide_index=True,
        height="content",
        placeholder="–",
        column_config={
            "log_p": "log p",
            "likeliest": f"{title} would have said",
            "likeliest_p": "with probability",
            "own": "word of its own caption",
            "own_log_p": "log p of that",
        },
        alt=f"Log-probability of every word that was written, beside {title}’s own caption",
    )


@st.fragment
def draw(photograph: Photograph, model: str, before: Trace) -> None:
    """All that a change concerns."""
    vocabulary = engine().models[model].vocabulary
    settle(photograph, before, vocabulary)
    change = _history().now
    found = apply_edit(photograph, model, before, change.edit)
    after = found if isinstance(found, After) else None
    draw_history(before)
    draw_scene(photograph, model, before, vocabulary, after)
    if isinstance(found, str):  # the scene above stays, to put something back
        st.error(found, icon=":material/error:")
        return
    if after:
        draw_effect(before, after.replayed)
    draw_caption(photograph, model, after.said if after else before, change, vocabulary)


show_gallery()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    model = pick_model()
before = traced(photograph, model).trace
if lacking := lacks(before.captioner, before.functions, "attention to regions", "attention to attributes"):
    st.caption(lacking)
warn_if_unlike(before)
draw(photograph, model, before)
