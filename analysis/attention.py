"""Trace -> readings of its attention: local attention, lift, collocations, and how far it agrees with removal."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from glied.traces import Trace
from glied.vocabulary import FUNCTION_WORDS

# The attention over regions and over attributes that feeds the word produced: GLIED Eq. (13), Base Eq. (8).
LOCAL = {"glied": ("vl", "al"), "base": ("v", "a")}


def pooled(weights: Float[np.ndarray, "k *rows keys"], head: int = 0) -> Float[np.ndarray, "*rows keys"]:
    """The mean over heads (`head` 0), or one head (1 .. k)."""
    return weights.mean(0) if head == 0 else weights[head - 1]


def local(trace: Trace, head: int = 0) -> tuple[Float[np.ndarray, "L N"], Float[np.ndarray, "L M"]]:
    """Attention over regions and over attributes that each word PRODUCED drew on; GLIED Eq. (13), Base Eq. (8)."""
    regions, attributes = LOCAL[trace.architecture]
    return pooled(trace.attention[regions], head), pooled(trace.attention[attributes], head)


def lift(weights: Float[np.ndarray, "*rows keys"]) -> Float[np.ndarray, "*rows keys"]:
    """Attention as a multiple of the even share: 1 is uniform."""
    return weights * weights.shape[-1]


def collocations(trace: Trace, head: int = 0) -> Float[np.ndarray, "L M"]:
    """Lift of each attribute for each INPUT word as pivot, GLIED Eq. (10)."""
    return lift(pooled(trace.attention["ad"], head))


def region_names(trace: Trace) -> list[str]:
    """What to call each region: its label, else where it lies and its share of the photograph."""
    if trace.labels:
        return list(trace.labels)
    width, height = trace.size
    names = []
    for x1, y1, x2, y2 in trace.boxes / np.array([width, height, width, height]):
        wide, tall = x2 - x1 > 0.95, y2 - y1 > 0.95
        across = ("left", "centre", "right")[int(min(x1 + x2, 1.999) / 2 * 3)]
        down = ("top", "middle", "bottom")[int(min(y1 + y2, 1.999) / 2 * 3)]
        place = "whole photograph" if wide and tall else down if wide else across if tall else f"{down} {across}"
        names.append(place if wide and tall else f"{place} ({(x2 - x1) * (y2 - y1):.0%})")
    return names


def spoken(word: str) -> str:
    """A word as people read it: the special ones in brackets."""
    return {"<bos>": "(start)", "<eos>": "(end)", "<unk>": "(unknown)"}.get(word, word)


def first_step(trace: Trace) -> int:
    """The first word with content of its own, for a view to begin with."""
    return next((t for t, word in enumerate(trace.words[:-1]) if word not in FUNCTION_WORDS), 0)


def attention_table(trace: Trace, step: int, head: int = 0) -> pd.DataFrame:
    """What one produced word looked at, regions and attributes, most attended first.

    `fall` is how far the word's log-probability falls without that region or attribute.
    """
    tables = []
    drops = (trace.visual_drop, trace.attribute_drop)
    for kind, names, weights, drop in zip(
        ("region", "attribute"), (region_names(trace), trace.attributes), local(trace, head), drops, strict=True
    ):
        w = weights[step]
        fall = drop[step] if len(drop) else np.full(len(w), np.nan)
        tables.append(pd.DataFrame({"kind": kind, "name": names, "attention": w, "lift": lift(w), "fall": fall}))
    return pd.concat(tables).sort_values("attention", ascending=False, kind="stable").reset_index(drop=True)
