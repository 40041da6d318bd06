"""Trace -> views of its attention: what fed each word, lift, collocations, and how far attention and fall agree."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.numbers import percent
from glied.functions import AttentionFunction, Over, Role, feeding, find, key_share
from glied.traces import Trace
from glied.vocabulary import FUNCTION_WORDS


class Sense(NamedTuple):
    """One kind of keys that words attend to, regions or attributes, each with a name.

    Attributes:
        weights: attention of each word produced. `falls`: of its log-probability without each; no rows where unknown.
    """

    kind: str
    names: list[str]
    weights: Float[np.ndarray, "L keys"]
    falls: Float[np.ndarray, "P keys"]


def pooled(weights: Float[np.ndarray, "k *rows keys"], head: int = 0) -> Float[np.ndarray, "*rows keys"]:
    """The mean over heads (`head` 0), or one head (1 .. k)."""
    return weights.mean(0) if head == 0 else weights[head - 1]


def looked(trace: Trace, head: int = 0) -> Float[np.ndarray, "L N"] | None:
    """The attention over regions nearest to each word PRODUCED (its last function); None if the captioner has none."""
    function = feeding(trace.functions, "regions")
    return pooled(trace.attention[function.name], head) if function else None


def senses(trace: Trace, head: int = 0) -> Iterator[Sense]:
    """Regions and attributes, where the captioner attends to them, with what each word produced attended to."""
    if (weights := looked(trace, head)) is not None:
        yield Sense("region", region_names(trace), weights, trace.region_falls)
    if function := feeding(trace.functions, "attributes"):
        weights = pooled(trace.attention[function.name], head)
        yield Sense("attribute", list(trace.attributes), weights, trace.attribute_falls)


def weights_of(trace: Trace, over: Over, role: Role) -> np.ndarray | None:
    """Weights of the function over such keys in a role, head by head; None if the captioner has none."""
    function = find(trace.functions, over, role)
    return trace.attention[function.name] if function else None


def cited(trace: Trace, function: AttentionFunction | None) -> str:
    """The equation of a function, with its captioner: "GLIED Eq. (9)"; empty where there is none to name."""
    if function is None or function.equation is None:
        return ""
    return f"{trace.captioner} Eq. ({function.equation})"


def lift(weights: Float[np.ndarray, "*rows keys"]) -> Float[np.ndarray, "*rows keys"]:
    """Attention as a multiple of the even share: 1 is uniform."""
    return weights * weights.shape[-1]


def collocations(trace: Trace, head: int = 0) -> Float[np.ndarray, "L M"]:
    """Lift of each attribute for each INPUT word as pivot, of a captioner that has pivots: GLIED Eq. (10)."""
    weights = weights_of(trace, "attributes", "pivot")
    assert weights is not None
    return lift(pooled(weights, head))


def agreements(trace: Trace) -> Float[np.ndarray, "heads P senses"]:
    """Spearman's rank correlation of attention and fall: of the mean over heads and of every head, for each word
    produced and each of `senses`. Ties take the mean of their ranks; NaN where either is constant or unknown."""

    def agree(weights: Float[np.ndarray, "L keys"], falls: Float[np.ndarray, "P keys"]) -> Float[np.ndarray, " P"]:
        ranks = (pd.DataFrame(each).rank(axis=1).to_numpy() for each in (weights[: len(falls)], falls))
        x, y = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
        with np.errstate(invalid="ignore"):
            return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))

    if not list(senses(trace)):
        return np.zeros((trace.heads + 1, len(trace.words), 0))
    heads = range(trace.heads + 1)
    return np.stack([np.stack([agree(s.weights, s.falls) for s in senses(trace, head)], -1) for head in heads])


def key_shares(trace: Trace) -> dict[str, float]:
    """Name of an attention function -> how far its attention in this trace depends on the key alone
    (`glied.functions.key_share`). Context attention is left out: its keys, the words so far, differ for each word."""
    return {f.name: key_share(trace.attention[f.name]) for f in trace.functions if f.role != "context"}


def region_names(trace: Trace) -> list[str]:
    """A name for each region: its label, else its place and its share of the photograph."""
    if trace.labels:
        return list(trace.labels)
    width, height = trace.size
    names = []
    for x1, y1, x2, y2 in trace.boxes / np.array([width, height, width, height]):
        wide, tall = x2 - x1 > 0.95, y2 - y1 > 0.95
        across = ("left", "centre", "right")[int(min(x1 + x2, 1.999) / 2 * 3)]
        down = ("top", "middle", "bottom")[int(min(y1 + y2, 1.999) / 2 * 3)]
        place = "whole photograph" if wide and tall else down if wide else across if tall else f"{down} {across}"
        names.append(place if wide and tall else f"{place} ({percent((x2 - x1) * (y2 - y1))})")
    return names


def spoken(word: str) -> str:
    """A word as people read it: the special ones in brackets."""
    return {"<bos>": "(start)", "<eos>": "(end)", "<unk>": "(unknown)"}.get(word, word)


def first_step(trace: Trace) -> int:
    """The first content word, for a view to begin with."""
    return next((t for t, word in enumerate(trace.words[:-1]) if word not in FUNCTION_WORDS), 0)


def attention_table(trace: Trace, step: int, head: int = 0) -> pd.DataFrame:
    """What one produced word looked at, regions and attributes, most attended first.

    Columns: kind, region (its number, from 1), name, attention, lift, fall (how far the word's log-probability falls
    without that region or attribute), and the box of a region (left, top, right, bottom; pixels of the photograph).
    Empty of a captioner that attends to neither.
    """
    tables = [pd.DataFrame(columns=["kind", "region", "name", "attention", "lift", "fall"])]
    for kind, names, weights, falls in senses(trace, head):
        w = weights[step]
        fall = falls[step] if len(falls) else np.full(len(w), np.nan)
        table = pd.DataFrame({"kind": kind, "name": names, "attention": w, "lift": lift(w), "fall": fall})
        numbers = range(1, len(w) + 1) if kind == "region" else [pd.NA] * len(w)
        table.insert(1, "region", pd.array(numbers, "Int64"))
        if kind == "region":
            table[["left", "top", "right", "bottom"]] = pd.DataFrame(trace.boxes.round().astype(int)).astype("Int64")
        tables.append(table)
    return (
        pd.concat(tables[1:] or tables).sort_values("attention", ascending=False, kind="stable").reset_index(drop=True)
    )
