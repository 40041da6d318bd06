"""The history of a search -> a tree of words, tables of it, and how local attention differs from global attention."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.attention import spoken
from glied.captions import BeamHistory, Decoded, DecodeOptions, rank
from glied.traces import Outlook
from glied.vocabulary import EOS, SPECIAL

END = SPECIAL[EOS]


@dataclass(frozen=True)
class Node:
    """A word that beam search has weighed after a beginning of a caption.

    Attributes:
        id: its place in the list of nodes. `parent`: the id of the word before it, -1 for the start.
        step: words before it. `words`: all words up to it, itself last.
        total: log-probability of all its words. `own`: of the last one alone, after the others.
        score: what a caption that ends here is ranked by: `total` over a measure of its length.
        status: `kept`, `finished` or `dropped`.
        forced: whether a person has set it. `best`: whether it is part of the caption that won.
        outlook: row of the Outlook for the words before it.
        group: of diverse beam search, from 0. `taken`: hypotheses of earlier groups that took this word at this step.
        met: which of the words that must come are among `words`.
        drawn: in sampling, the number of samples that contain it here.
    """

    id: int
    parent: int
    step: int
    words: tuple[str, ...]
    total: float
    own: float
    score: float
    status: str
    forced: bool
    best: bool
    outlook: int
    group: int = 0
    taken: int = 0
    met: tuple[str, ...] = ()
    drawn: int = 0

    @property
    def word(self) -> str:
        """The word itself, <eos> for the end."""
        return self.words[-1]


def beam_nodes(
    history: BeamHistory,
    caption: tuple[str, ...],
    outlook: Outlook,
    forced: int = 0,
    group: int = 0,
    samples: Sequence[tuple[str, ...]] = (),
) -> tuple[Node, ...]:
    """Every possible candidate, step by step in the order of the history; parents before children.

    Args:
        caption: the words that won. `forced`: how many of the first words were set. `group`: in which it won.
        samples: all captions that were drawn.
    """
    rows = {words: row for row, words in enumerate(outlook.prefixes)}
    winner = (*caption, END)
    through = Counter((*words, END)[: i + 1] for words in samples for i in range(len(words) + 1))
    nodes: list[Node] = []
    slots: list[Node | None] = [None] * history.groups
    for step, words in enumerate(history.words):
        before, slots = slots, []
        taken: Counter[tuple[int, str]] = Counter()  # by group and word
        candidates = zip(
            history.parents[step].tolist(), words, history.scores[step].tolist(), history.status[step], strict=False
        )
        for c, (slot, word, total, status) in enumerate(candidates):
            if not np.isfinite(total):
                continue
            parent, own = before[slot], history.group(step, c)
            said = (*parent.words, word) if parent else (word,)
            taken[own, word] += status != "dropped"
            node = Node(
                id=len(nodes),
                parent=parent.id if parent else -1,
                step=step,
                words=said,
                total=total,
                own=total - (parent.total if parent else 0.0),
                score=rank(total, len(said), history.length_penalty),
                status=status,
                forced=step < forced,
                best=winner[: step + 1] == said and own == group,
                outlook=rows[said[:-1]],
                group=own,
                taken=sum(taken[earlier, word] for earlier in range(own)),
                met=tuple(each for each in history.require if each in said),
                drawn=through[said],
            )
            nodes.append(node)
            if status == "kept":
                slots.append(node)
    return tuple(nodes)


def searched(decoded: Decoded, outlook: Outlook, decoding: DecodeOptions, forced: int = 0) -> tuple[Node, ...]:
    """The words that a search with a history has weighed; `forced`: how many of the first words were set."""
    assert decoded.history
    best, *_ = decoded.captions
    samples = [each.words for each in decoded.captions] if decoding.method == "sample" else ()
    return beam_nodes(decoded.history, best.words, outlook, forced, best.group, samples)


def finished_table(nodes: tuple[Node, ...]) -> pd.DataFrame:
    """The captions that finished, the best ranked first, and the step at which each ended."""
    ended = sorted((node for node in nodes if node.status == "finished"), key=lambda node: -node.score)
    return pd.DataFrame(
        _steered(ended, nodes)
        | {
            "caption": [" ".join(node.words[:-1]) for node in ended],
            "log p": [node.total for node in ended],
            "ranked by": [node.score for node in ended],
            "ended at step": [node.step + 1 for node in ended],
        }
    )


def node_table(nodes: tuple[Node, ...]) -> pd.DataFrame:
    """The whole tree, a row for each word that was weighed."""
    return pd.DataFrame(
        _steered(nodes, nodes)
        | {
            "step": [node.step + 1 for node in nodes],
            "after": [" ".join(node.words[:-1]) for node in nodes],
            "word": [spoken(node.word) for node in nodes],
            "probability": [np.exp(node.own) for node in nodes],
            "log p so far": [node.total for node in nodes],
            "status": [node.status for node in nodes],
            "forced": [node.forced for node in nodes],
            "in the caption": [node.best for node in nodes],
        }
    )


def _steered(rows: Sequence[Node], nodes: tuple[Node, ...]) -> dict[str, list]:
    """The columns of a table of nodes about groups, required words and samples, if the search has any."""
    columns: dict[str, list] = {}
    if any(node.group for node in nodes):
        columns["group"] = [node.group + 1 for node in rows]
    if any(node.met for node in nodes):
        columns["required so far"] = [" ".join(node.met) for node in rows]
    if any(node.drawn for node in nodes):
        columns["samples"] = [node.drawn for node in rows]
    return columns


def title_of(options: DecodeOptions) -> str:
    """What a way to decode is called."""
    if options.method == "sample":
        return "Nucleus sampling"
    return "Diverse beam search" if options.groups > 1 else "Beam search"


def decoding_in_words(options: DecodeOptions) -> str:
    """How a captioner decodes, in words: the method, its numbers, and the words required and forbidden."""
    if options.method == "sample":
        numbers = f"{options.n_best} samples, nucleus {options.top_p:g}, seed {options.seed}"
    elif options.groups > 1:
        numbers = f"{options.groups} groups of {options.beam // options.groups}, diversity {options.diversity:g}"
    else:
        numbers = f"{options.beam} hypotheses kept"
    how = f"{title_of(options).lower()}, {numbers}"
    how += f", with {quoted(options.require)}" if options.require else ""
    return how + (f", without {quoted(options.forbid)}" if options.forbid else "")


def quoted(words: tuple[str, ...]) -> str:
    """Words in quotation marks, one after another."""
    return ", ".join(f"“{word}”" for word in words)


def revisits(
    groups: Float[np.ndarray, "P N"], regions: Float[np.ndarray, "P N"]
) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """How local attention, GLIED Eq. (13), differs from global attention, Eq. (12): the share of attention that moved
    (their total variation distance), and the regions that gained and lost most."""
    change = regions - groups
    return np.abs(change).sum(-1) / 2, change.argmax(-1), change.argmin(-1)
