"""Two captions -> which of their words correspond, what differs, and what the differing words rest on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.attention import cited, senses, spoken
from glied.traces import Trace


@dataclass(frozen=True)
class Alignment:
    """Two lists of words side by side.

    Attributes:
        left: for each word on the left, the position of its partner on the right, or -1.
        right: the same from the right.
        left_differs, right_differs: whether the word is outside every common run.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_differs: tuple[bool, ...]
    right_differs: tuple[bool, ...]


def _runs(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[bool, range, range]]:
    """Whether the words are the same, and where the run lies on the left and on the right."""
    for kind, i, i_end, j, j_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        yield kind == "equal", range(i, i_end), range(j, j_end)


def align(left: Sequence[str], right: Sequence[str]) -> Alignment:
    """Pairs the words of common runs, and replaced words one by one from the left."""
    pairs: list[tuple[int, int]] = []
    same: list[tuple[int, int]] = []
    for equal, here, there in _runs(left, right):
        run = list(zip(here, there, strict=False))
        pairs += run
        same += run if equal else []
    to_right, to_left = dict(pairs), {j: i for i, j in pairs}
    return Alignment(
        tuple(to_right.get(i, -1) for i in range(len(left))),
        tuple(to_left.get(j, -1) for j in range(len(right))),
        tuple(i not in dict(same) for i in range(len(left))),
        tuple(j not in {j for _, j in same} for j in range(len(right))),
    )


def differing(left: Sequence[str], right: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Positions of the words that differ, in the captions' order; None where the other caption has no such word."""
    return [pair for equal, here, there in _runs(left, right) if not equal for pair in zip_longest(here, there)]


def differing_words(
    left: Trace, right: Trace, left_by_right: Trace | None, right_by_left: Trace | None
) -> pd.DataFrame:
    """One row for every place where two captions differ, in their order.

    Args:
        left, right: what two captioners say. `left_by_right`: the left's caption replayed by the right's captioner.
            `right_by_left`: the other way round. None where that captioner does not run here.

    Returns:
        `left` and `right`, the words, None where a caption has none there; `left_own` and `left_other`, the
        log-probability of the left's word under its own captioner and under the other, after the words before it in
        its own caption; `right_own` and `right_other`, the same for the right's word. NaN where there is no word or no
        captioner to replay it.
    """
    rows = [
        (
            *(None if t is None else spoken(trace.words[t]) for trace, t in ((left, i), (right, j))),
            *(_at(trace, i) for trace in (left, left_by_right)),
            *(_at(trace, j) for trace in (right, right_by_left)),
        )
        for i, j in differing(left.words, right.words)
    ]
    return pd.DataFrame(rows, columns=["left", "right", "left_own", "left_other", "right_own", "right_other"])


def rivals(trace: Trace, other: Trace, step: int) -> tuple[str, str]:
    """A word of a caption and its rival. Where the captions part, the rival is the word of the other caption after the
    same words; later, it is the word at the same place in the other caption, if that differs; else the likeliest
    alternative."""
    word, partner = trace.words[step], align(trace.words, other.words).left[step]
    if trace.words[:step] == other.words[:step] and len(other.words) > step and other.words[step] != word:
        return word, other.words[step]
    if partner >= 0 and other.words[partner] != word:
        return word, other.words[partner]
    return word, next(likely for likely in trace.alternatives[step] if likely != word)


def moves_table(trace: Trace, log_p: Float[np.ndarray, "rows 2"]) -> pd.DataFrame:
    """How log p of a word and of its rival changes when each attention function in turn is made even.

    Args:
        trace: of the captioner. `log_p`: as `glied.replay.log_p_when_even` gives it.

    Returns:
        A row for each function: `name`, in words; `equation`; the changes of `word` and `rival`.
    """
    changes = (log_p[1:] - log_p[0]).astype(float)
    return pd.DataFrame(
        {
            "name": [f"{f.role} attention to {f.over}" for f in trace.functions],
            "equation": [cited(trace, f) or f.name for f in trace.functions],
            "word": changes[:, 0],
            "rival": changes[:, 1],
        }
    )


@dataclass(frozen=True)
class Move:
    """The effect of one attention function on a word and its rival.

    Attributes:
        name, equation: of the function. `words`: the one that it favours, and the other. `changes`: of their log p
            when it is even.
    """

    name: str
    equation: str
    words: tuple[str, str]
    changes: tuple[float, float]


def strongest_move(moves: pd.DataFrame, words: tuple[str, str]) -> Move | None:
    """The row of a `moves_table` that changes the difference of log p of the two words most; None without rows."""
    if moves.empty:
        return None
    row = moves.loc[(moves.word - moves.rival).abs().idxmax()]
    both = sorted(zip((row.word, row.rival), words, strict=True), key=lambda pair: float(pair[0]))
    return Move(row["name"], row.equation, (both[0][1], both[1][1]), (float(both[0][0]), float(both[1][0])))


def _at(trace: Trace | None, step: int | None) -> float:
    return float("nan") if trace is None or step is None else float(trace.log_probabilities[step])


def evidence_table(trace: Trace, steps: Sequence[int]) -> pd.DataFrame:
    """What each of some words looked at most, and how far its log-probability falls without it.

    Returns:
        `word`; `region`, `region_attention`, `region_fall`; `attribute`, `attribute_attention`, `attribute_fall`. A
        fall is NaN where the trace was made without falls, or the photograph has only one to remove. The columns of
        attributes are missing where the captioner attends to none.
    """
    rows = {"word": [spoken(trace.words[step]) for step in steps]}
    table = pd.DataFrame(rows, dtype=object)
    for kind, names, weights, falls in senses(trace):
        tops = [int(weights[step].argmax()) for step in steps]
        shown = [f"{i + 1} {names[i]}" if kind == "region" else spoken(names[i]) for i in tops]
        table[kind] = pd.Series(shown, dtype=object)
        table[f"{kind}_attention"] = np.array([weights[t, i] for t, i in zip(steps, tops, strict=True)], float)
        fell = [falls[t, i] if len(falls) else np.nan for t, i in zip(steps, tops, strict=True)]
        table[f"{kind}_fall"] = np.array(fell, float)
    return table


def photograph_scores(
    left: Mapping[str, Mapping[str, Any]], right: Mapping[str, Mapping[str, Any]], id: str, metrics: Sequence[str]
) -> pd.DataFrame:
    """Scores of two captions of the photograph `id`, times 100, one row per metric that both reports have for it.

    Args:
        left, right: `images` of two reports: photograph -> its scores by metric.

    Returns:
        `left`, `right`, `difference` (right minus left) and `spread`, the standard deviation of that difference over
        the photographs of both reports: NaN for one alone.
    """
    rows = {}
    for metric in [m for m in metrics if m in left[id] and m in right[id]]:
        both = [i for i in left.keys() & right.keys() if metric in left[i] and metric in right[i]]
        gaps = pd.Series([100 * (right[i][metric] - left[i][metric]) for i in both])
        own, other = 100 * left[id][metric], 100 * right[id][metric]
        rows[metric] = {"left": own, "right": other, "difference": other - own, "spread": gaps.std()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["left", "right", "difference", "spread"])
