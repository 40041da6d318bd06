"""Beam search's history -> a tree of words, tables of it, and what going back to the regions changes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.attention import spoken
from glied.captions import BeamHistory, rank
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
        forced: whether a person has set it. `best`: whether the caption that won runs through it.
        outlook: row of the Outlook in which it was chosen: that of the words before it.
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

    @property
    def word(self) -> str:
        """The word itself, <eos> for the end."""
        return self.words[-1]


def beam_nodes(history: BeamHistory, caption: tuple[str, ...], outlook: Outlook, forced: int = 0) -> tuple[Node, ...]:
    """Every candidate that could be, step by step in the order of their rank; parents before children.

    Args:
        caption: the words that won. `forced`: how many of the first words were set.
    """
    rows = {words: row for row, words in enumerate(outlook.prefixes)}
    winner = (*caption, END)
    nodes: list[Node] = []
    slots: list[Node | None] = [None]
    for step, words in enumerate(history.words):
        before, slots = slots, []
        for slot, word, total, status in zip(
            history.parents[step].tolist(), words, history.scores[step].tolist(), history.status[step], strict=False
        ):
            if not np.isfinite(total):
                continue
            parent = before[slot]
            said = (*parent.words, word) if parent else (word,)
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
                best=winner[: step + 1] == said,
                outlook=rows[said[:-1]],
            )
            nodes.append(node)
            if status == "kept":
                slots.append(node)
    return tuple(nodes)


def finished_table(nodes: tuple[Node, ...]) -> pd.DataFrame:
    """The captions that finished, the best ranked first, and with which word each ended."""
    ended = sorted((node for node in nodes if node.status == "finished"), key=lambda node: -node.score)
    return pd.DataFrame(
        {
            "caption": [" ".join(node.words[:-1]) for node in ended],
            "log p": [node.total for node in ended],
            "ranked by": [node.score for node in ended],
            "ended at step": [node.step + 1 for node in ended],
        }
    )


def node_table(nodes: tuple[Node, ...]) -> pd.DataFrame:
    """The whole tree, a row for each word that was weighed."""
    return pd.DataFrame(
        {
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


def revisits(
    groups: Float[np.ndarray, "P N"], regions: Float[np.ndarray, "P N"]
) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """What local attention changes after the global one: the share of attention that moved, GLIED Eq. (12) to
    Eq. (13), which is their total variation distance, and the regions that gained and lost most."""
    change = regions - groups
    return np.abs(change).sum(-1) / 2, change.argmax(-1), change.argmin(-1)
