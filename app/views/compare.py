"""Compare: two captioners on the same photograph, two photographs under the same captioner, or two shared traces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.attention import looked, region_names, spoken
from analysis.diff import (
    align,
    differing,
    differing_words,
    evidence_table,
    moves_table,
    photograph_scores,
    rivals,
    strongest_move,
)
from analysis.numbers import decimal, percent, signed, times
from app.components.pair import Sentence, pair
from app.engine.ask import engine, traced, warn_if_unlike
from app.engine.engine import Answer, Question
from app.engine.reports import comparable
from app.photographs.gallery import entries, folder, human_captions, open_entry
from app.photographs.photograph import Photograph
from app.state import CHOICE, PAIR, SECOND, choose, chosen, follow_address
from app.texts import plain
from app.widgets.export import draw_compare_export
from app.widgets.pick import (
    RL,
    forget_empty,
    lacks,
    pick_model,
    pick_one,
    pick_photograph,
    pick_two,
    show_gallery,
)
from app.widgets.shared import pick_shared, take_shared
from app.widgets.tables import as_written, show_table
from glied.evaluation.report import COMPARED
from glied.traces import Trace

ICON = ":material/compare:"
FALL = partial(signed, digits=3)
KINDS = ("Two captioners", "Two photographs", "Two shared traces")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two captions: its photograph, the title of its side, and its trace."""

    photograph: Photograph
    title: str
    trace: Trace


@dataclass(frozen=True, eq=False)
class Asked(Side):
    """A side whose captioner runs here, so that it can be asked more questions."""

    model: str
    answer: Answer

    def replayed(self, words: Sequence[str]) -> Trace:
        """The trace of other words, replayed by the captioner of this side."""
        return traced(self.photograph, self.model, Question(words=tuple(words), falls=False)).trace


def ask(photograph: Photograph, model: str, title: str) -> Asked:
    """What a captioner says of a photograph, as one of the sides."""
    answer = traced(photograph, model)
    return Asked(photograph, title, answer.trace, model, answer)


def pick_second(first: Photograph) -> Photograph:
    """Another photograph of the gallery than the first."""
    gallery = entries(folder())[0]
    others = {entry.id: entry for entry in gallery if entry.id != first.id}
    if SECOND.get() == first.id:  # the second has become the first
        SECOND.keep(next(iter(others)))
    forget_empty(SECOND.name)
    wanted = st.query_params.get(SECOND.name)
    if wanted and wanted not in {entry.title for entry in gallery}:
        st.toast("The address asked for a second photograph that is not in this gallery; another is shown.")
    chosen = st.selectbox(
        "The second photograph",
        list(others),
        format_func=lambda id: others[id].title,
        key=SECOND.name,
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        width=200,
    )
    return open_entry(others[chosen or next(iter(others))])


@st.fragment
def draw_pair(left: Side, right: Side, sentences: Sequence[Sentence], captioners: bool) -> None:
    """Both captions with their attention; a word or region chosen on one is followed on the other."""
    _begin(left.trace, right.trace)
    step, head = chosen(left.trace)
    pair(
        (left.trace, right.trace),
        (left.photograph, right.photograph),
        (left.title, right.title),
        sentences,
        step,
        head,
        on_choice=partial(choose, PAIR),
    )
    own, other, at = _in_view(left, right, step)
    first, second = ((side.title, side.photograph, side.trace) for side in (left, right))
    tables = {"The words that differ": partial(differences, left, right)}
    draw_compare_export(first, second, at, head, own is right, tables)
    if captioners and isinstance(own, Asked) and isinstance(other, Asked):
        draw_moves(own, other, at)
    else:
        st.markdown(_where_both_looked(own, other, at, head, captioners))


def _begin(left: Trace, right: Trace) -> None:
    """Makes sure that a word is in view: the chosen one, at first the one where the captions part. The address names it
    as a word of the left caption."""
    follow_address()
    choice = CHOICE.get()
    if choice.trace == right.digest and choice.step is not None and choice.step < len(right.words):
        partner = align(left.words, right.words).right[choice.step]
        if partner >= 0:
            CHOICE.keep(replace(choice, trace=left.digest, step=partner))
    elif choice.trace != left.digest and (choice.trace or choice.step is None):
        places = differing(left.words, right.words)
        if places:
            at = next(i for i in places[0] if i is not None)
            CHOICE.keep(replace(choice, trace=left.digest, step=min(at, len(left.words) - 1)))


def _in_view(left: Side, right: Side, step: int) -> tuple[Side, Side, int]:
    """Whose word is in view, the other side, and which word: one that only the right caption has is its own."""
    choice = CHOICE.get()
    if choice.trace == right.trace.digest and choice.step is not None:
        return right, left, min(choice.step, len(right.trace.words) - 1)
    return left, right, step


def differences(left: Side, right: Side) -> pd.DataFrame:
    """The words that differ, and their log-probabilities on both sides where their captioners run here: see
    `differing_words`."""
    by_right = right.replayed(left.trace.words[:-1]) if isinstance(right, Asked) else None
    by_left = left.replayed(right.trace.words[:-1]) if isinstance(left, Asked) else None
    return differing_words(left.trace, right.trace, by_right, by_left)


def describe_differences(table: pd.DataFrame, left: str, right: str, verb: str) -> list[Sentence]:
    """The words that differ, each in a sentence."""

    def said(word: str, own: float, other: float, elsewhere: str) -> Sentence:
        would = "" if math.isnan(other) else f"; {elsewhere} would with {percent(math.exp(other))}"
        return [(word, True), (f" ({percent(math.exp(own))}{would})", False)]

    sentences: list[Sentence] = []
    for row in table.itertuples():
        on_left = said(row.left, row.left_own, row.left_other, right) if pd.notna(row.left) else None
        on_right = said(row.right, row.right_own, row.right_other, left) if pd.notna(row.right) else None
        if on_left and on_right:
            sentences.append(
                [(f"{right} {verb} ", False), *on_right, (f" where {left} {verb} ", False), *on_left, (".", False)]
            )
        elif on_right:
            sentences.append([(f"Only {right} {verb} ", False), *on_right, (".", False)])
        elif on_left:
            sentences.append([(f"Only {left} {verb} ", False), *on_left, (".", False)])
    same = f"No word differs: {left} and {right} say the same; the photographs show whether they looked alike."
    return sentences or [[(same, False)]]


def draw_moves(own: Asked, other: Asked, step: int) -> None:
    """Which attention function moves the word in view and its rival, in both captioners."""
    trace = own.trace
    words, before = rivals(trace, other.trace, step), trace.words[:step]
    names = [plain(spoken(word)) for word in words]
    st.markdown(f"**What moves “{names[0]}” and “{names[1]}”**")
    tables = {}
    for side in (own, other):
        tables[side.title] = moves_table(side.trace, engine().even(side.photograph, side.model, before, words))
    st.markdown("\n".join(f"- {_moved(title, table, words)}" for title, table in tables.items()))
    after = f"after “{plain(' '.join(before))}”" if before else "at the beginning"
    with st.expander("Every attention function in turn", icon=":material/table:"):
        st.caption(
            f"Both captioners choose a word {after}. In turn, each of their attention functions is made even: it reads "
            "a plain mean. The numbers are the changes of log p of the two words. The sentence above names the "
            "function that changes their difference most."
        )
        table = pd.concat(tables, names=["captioner", None]).reset_index("captioner")
        shown = {"name": "attention function", "word": f"“{spoken(words[0])}”", "rival": f"“{spoken(words[1])}”"}
        show_table(
            table.rename(columns=shown),
            f"Changes of log p of {words[0]} and {words[1]} when one attention function is even",
            "even-attention.csv",
            written=dict.fromkeys((shown["word"], shown["rival"]), signed),
        )


def _moved(title: str, moves: pd.DataFrame, words: tuple[str, str]) -> str:
    found = strongest_move(moves, words)
    if moves.empty:
        return f"{plain(title)} has no attention function."
    if found is None or max(map(abs, found.changes)) < 0.005:
        return f"No attention function of {plain(title)} moves either word."
    for_, against = (plain(spoken(word)) for word in found.words)
    changes = [f"{'falls' if change < 0 else 'rises'} by {abs(change):.2f}" for change in found.changes]
    return (
        f"{plain(title)}’s {found.name}, {plain(found.equation)}, speaks for **{for_}**: with even attention its log p "
        f"{changes[0]}, that of {against} {changes[1]}."
    )


def _where_both_looked(own: Side, other: Side, step: int, head: int, captioners: bool) -> str:
    """Which words both captions have, and where each looked most for the one in view."""
    pairs = align(own.trace.words, other.trace.words).left
    both = [w for w, at in zip(own.trace.words[:-1], pairs, strict=False) if at >= 0 and other.trace.words[at] == w]
    shared = ", ".join(f"“{plain(word)}”" for word in dict.fromkeys(both))
    sentences = f"Both captions say {shared}." if both else "The captions share no word."
    for side, at in ((own, step), (other, pairs[step])):
        every = looked(side.trace, min(head, side.trace.heads))
        if at >= 0 and every is not None:
            weights, names = every[at], region_names(side.trace)
            top = int(weights.argmax())
            where = f"In the caption of {plain(side.title)}" if captioners else f"On {plain(side.title)}"
            word = plain(spoken(side.trace.words[at]))
            sentences += (
                f" {where}, “{word}” looked most at region {top + 1} ({plain(names[top])}): {percent(weights[top])}, "
                f"{times(weights[top] * len(weights))} the even share."
            )
    return sentences


def draw_differences(left: Side, right: Side, table: pd.DataFrame, verb: str) -> None:
    """The words that differ as tables: how likely each side finds them, and what they rest on."""
    if table.empty:
        return
    names = {
        "left": f"{left.title} {verb}",
        "left_own": f"its log p under {left.title}",
        "left_other": f"and under {right.title}",
        "right": f"{right.title} {verb}",
        "right_own": f"its log p under {right.title}",
        "right_other": f"and under {left.title}",
    }
    names = {
        column: name for column, name in names.items() if column[-6:] != "_other" or not table[column].isna().all()
    }
    with st.expander("The words that differ, as a table", icon=":material/table:"):
        st.caption(
            "The probability of a word is the one after the words before it in its own caption"
            + (", which both sides replay. " if "left_other" in names or "right_other" in names else ". ")
            + "After two captions have parted, the words before it differ too."
        )
        st.dataframe(
            as_written(
                table[list(names)].rename(columns=names),
                {name: signed for column, name in names.items() if "_" in column},
            ),
            hide_index=True,
            height="content",
            placeholder="–",
            alt=f"Words that differ between {left.title} and {right.title}, with their log-probabilities under both",
        )
        _draw_evidence(left, right)


def _draw_evidence(left: Side, right: Side) -> None:
    """What the words that differ looked at most, and how far they fall without it."""
    st.markdown("**What these words looked at most**")
    places = differing(left.trace.words, right.trace.words)
    tables = [
        evidence_table(side.trace, [step for place in places if (step := place[at]) is not None])
        for at, side in enumerate((left, right))
    ]
    names = {
        "word": "word",
        "region": "region",
        "region_attention": "attention to it",
        "region_fall": "fall of log p without it",
        "attribute": "attribute",
        "attribute_attention": "attention to the attribute",
        "attribute_fall": "fall of log p without the attribute",
    }
    table = (
        pd.concat(tables, keys=(left.title, right.title), names=["side", None])
        .reset_index("side")
        .rename(columns=names)
    )
    if not {"region", "attribute"} & set(table):
        return
    written = {n: percent if "attention" in column else FALL for column, n in names.items() if "_" in column}
    st.dataframe(
        as_written(table, written),
        hide_index=True,
        height="content",
        placeholder="–",
        alt="Region and attribute that each differing word looked at most, and the fall of its log p without them",
    )
    st.caption(
        "Attention (mean over heads) says where a value was read, the fall how far the word depends on it. Regions "
        "overlap: what is taken away with one may still be seen in another."
    )


def draw_runners_up(left: Asked, right: Asked) -> None:
    """The captions that beam search ended with."""
    place = st.expander("What the beam ended with", icon=":material/table:")
    for column, side in zip(place.columns(2, gap="large"), (left, right), strict=True):
        assert side.answer.decoded
        found = side.answer.decoded.captions
        column.dataframe(
            as_written(
                pd.DataFrame(
                    {
                        "log p": [c.log_probability for c in found],
                        "ranked by": [c.score for c in found],
                        "caption": [c.text for c in found],
                    }
                ),
                {"log p": signed, "ranked by": signed},
            ),
            hide_index=True,
            alt=f"The best captions of {side.title} with their scores",
        )
    place.caption(
        "Log p is that of the whole caption; the ranking divides it by a measure of length. "
        "Each side has its own numbers: they do not say which caption is better."
    )


def draw_human_captions(photograph: Photograph, left: Asked, right: Asked) -> None:
    """What people wrote, where the folder of photographs knows it, and how near both captions come to it."""
    written = human_captions(folder()).get(photograph.id, ())
    if not written:
        return
    place = st.expander("What people wrote", icon=":material/group:")
    for caption in written:
        place.text(caption)
    known = [pair for pair in comparable(left.model, right.model) if photograph.id in pair[0]]
    if not known:
        return
    own, other = known[0]
    place.markdown("**How near both captions come to that**")
    table = photograph_scores(own, other, photograph.id, COMPARED)
    names = {"left": left.title, "right": right.title, "difference": f"{right.title} minus {left.title}"}
    place.dataframe(
        as_written(
            table.rename(columns=names | {"spread": "its usual size"}),
            dict.fromkeys([*names.values(), "its usual size"], partial(decimal, digits=1)),
        ),
        alt=f"Scores of {left.title} and {right.title} on this photograph, times 100",
    )
    place.caption(
        "Times 100, from the reports beside the checkpoints. A single word can move a photograph’s scores: its usual "
        f"size is the standard deviation of the difference over the {len(own)} photographs that "
        "both reports know. Only the mean over a data set tells captioners apart."
    )


def draw_asked(captioners: bool, row: DeltaGenerator) -> None:
    """Two captioners on a photograph, or two photographs under a captioner; they are picked in the `row`."""
    titles = engine().titles
    with row:
        photograph = pick_photograph()
        if not captioners:
            photographs = (photograph, pick_second(photograph))
            models = (pick_model(),) * 2
    if captioners:
        best, other = engine().pair
        with st.container(horizontal=True, vertical_alignment="center"):
            models = pick_two((other, best))
        photographs = (photograph, photograph)
    if captioners and models[0] == models[1]:
        st.info(f"Both sides are {titles[models[0]]}; choose another captioner on one of them.", icon=ICON)
        return
    left, right = (
        ask(shown, model, titles[model] if captioners else shown.title)
        for model, shown in zip(models, photographs, strict=True)
    )
    for side in (right,) if captioners else (left, right):
        warn_if_unlike(side.trace)
    draw_sides(left, right, captioners)
    draw_runners_up(left, right)
    if captioners:
        draw_human_captions(photograph, left, right)
    st.caption(
        "Underlined words differ. In brackets, the probability of a word after the words before it in its own caption, "
        "which both sides replay." + (f" {RL}." if any("RL" in title for title in titles.values()) else "")
    )


def draw_shared() -> None:
    """Two traces that came as files. No model runs."""
    known = take_shared()
    if len(known) < 2:
        st.info("Open two shared traces to see them side by side.", icon=ICON)
        return
    one, other = pick_shared(known)
    if one == other:
        st.info("Both sides are the same trace; choose another on one of them.", icon=ICON)
        return
    left, right = (Side(known[name].photograph, name, known[name].trace) for name in (one, other))
    if left.photograph != right.photograph:
        st.info("These traces are of two photographs, or of two copies of one; each stands on its own.", icon=ICON)
    draw_sides(left, right, True)
    st.caption(
        "Underlined words differ. In brackets, the probability of a word after the words before it in its own caption, "
        "as its file says. Nothing was run again."
    )


def draw_sides(left: Side, right: Side, captioners: bool) -> None:
    """Both captions, what differs, and what each lacks."""
    table, verb = differences(left, right), "says" if captioners else "has"
    lacking = [lacks(side.title, side.trace.functions, "attention to regions") for side in (left, right)]
    if any(lacking) and captioners:
        st.caption(" ".join(filter(None, lacking)))
    draw_pair(left, right, describe_differences(table, left.title, right.title, verb), captioners)
    draw_differences(left, right, table, verb)


strip, row = st.container(), st.container(horizontal=True, vertical_alignment="center")
with row:
    kind = pick_one("Compare", KINDS, "kind", label_visibility="collapsed", bind="query-params")
if kind == KINDS[2]:
    draw_shared()
else:
    with strip:
        show_gallery()
    draw_asked(kind == KINDS[0], row)
