"""The same words read twice, or other words than the captioner's own -> what changes, word by word."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.attention import spoken
from analysis.diff import align
from glied.functions import Over
from glied.traces import Deletion, Trace


def change_table(before: Trace, after: Trace) -> pd.DataFrame:
    """How the log-probability of every word of a caption changes from one scene to another, in caption order.

    Args:
        before, after: traces of the same words.

    Returns:
        `word`, `fell` and `rose`: by how much, 0 where it did not; `before` and `after`: log-probabilities;
        `likeliest`: the word that the captioner finds likeliest there after the change.
    """
    change = (after.log_probabilities - before.log_probabilities).astype(float)
    return pd.DataFrame(
        {
            "word": [spoken(word) for word in before.words],
            "fell": np.maximum(-change, 0) + 0.0,  # without minus zeros
            "rose": np.maximum(change, 0),
            "before": before.log_probabilities.astype(float),
            "after": after.log_probabilities.astype(float),
            "likeliest": [spoken(words[0]) for words in after.alternatives],
        }
    )


def caption_table(typed: Sequence[str], said: Trace, own: Trace) -> pd.DataFrame:
    """A person's words beside the captioner's own for the same scene, in the order of the person's.

    Args:
        typed: the words as they were written. `said`: their trace, which reads unknown words as <unk>.
        own: the captioner's own caption.

    Returns:
        `word`, `log_p`; `likeliest` and `likeliest_p`: what the captioner would have said there, and its probability;
        `own`, `own_log_p`: the word of its own caption at that place, None and NaN where there is none.
    """
    partners = align(said.words, own.words).left
    return pd.DataFrame(
        {
            "word": [*typed, spoken(said.words[-1])],
            "log_p": said.log_probabilities.astype(float),
            "likeliest": [spoken(words[0]) for words in said.alternatives],
            "likeliest_p": np.exp(said.alternative_log_probabilities[:, 0].astype(float)),
            "own": [spoken(own.words[t]) if t >= 0 else None for t in partners],
            "own_log_p": [float(own.log_probabilities[t]) if t >= 0 else float("nan") for t in partners],
        }
    )


def deletion_table(over: Over, deletion: Deletion) -> pd.DataFrame:
    """The log p of a word by the number of regions or attributes removed, in both orders."""
    return pd.DataFrame(
        {
            f"{over} taken away": range(len(deletion.most_first)),
            "the most attended first": deletion.most_first.astype(float),
            "the least attended first": deletion.least_first.astype(float),
        }
    )
