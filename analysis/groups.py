"""Region groupings, GLIED Eq. (9) -> regions that gather alike, in order and in words, and a table of the regions.

A region's group is its row of the groupings. Regions with similar groups are said to gather alike. That similarity is
ours, not the paper's; a set of such regions is never called a group.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from analysis.attention import looked, pooled, region_names, weights_of
from analysis.collocations import LEAST, Tree, tree
from analysis.numbers import percent
from glied.traces import Trace

ALIKE = 0.5  # the mean correlation from which regions gather alike; ours, the paper has no such threshold


class Alike(NamedTuple):
    """The regions of a photograph, clustered by what they gather from and what gathers from them.

    Attributes:
        tree: their hierarchy; heights are 1 minus the mean correlation. `members`: the regions that gather alike,
        together, in the order of the tree.
    """

    tree: Tree
    members: list[list[int]]


def groupings(trace: Trace, head: int = 0) -> Float[np.ndarray, "N N"] | None:
    """How much each region (row) gathers from each (column): rows sum to 1. None of a captioner without groupings."""
    weights = weights_of(trace, "regions", "grouping")
    return None if weights is None else pooled(weights, head)


def over_usual(shares: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """Shares as multiples of what the average region gathers from that one: 1 is as usual.

    Some regions are sought by all others, which makes up much of a matrix of groupings; this removes it.
    """
    return shares / np.maximum(shares.mean(0), np.finfo(shares.dtype).tiny)


def cluster_regions(shares: Float[np.ndarray, "N N"]) -> Alike:
    """Joins regions that gather, more than usual, from the same regions, and that the same regions gather from.

    Average linkage over 1 minus the correlation of (row, column) of the logarithm of `over_usual`: symmetric, though
    `shares` is not. A region that gathers as usual from all correlates with none.
    """
    if len(shares) < 2:
        return Alike(Tree(np.arange(len(shares)), np.zeros((0, 4, 2))), [list(range(len(shares)))])
    logs = np.log2(np.maximum(over_usual(shares.astype(float)), LEAST)).round(9)  # rounding errors are no likeness
    with np.errstate(invalid="ignore"):
        apart = pdist(np.hstack([logs, logs.T]), "correlation")
    joined = linkage(np.clip(np.nan_to_num(apart, nan=1.0), 0, 2), "average", optimal_ordering=True)
    found, cluster = tree(joined), fcluster(joined, 1 - ALIKE, "distance")
    members: dict[int, list[int]] = {}
    for region in found.order.tolist():
        members.setdefault(int(cluster[region]), []).append(region)
    return Alike(found, list(members.values()))


def described(shares: Float[np.ndarray, "N N"], alike: Alike, names: Sequence[str]) -> list[str]:
    """Regions that gather alike, in words: their names, what they gather from one another (not from themselves), and
    what other regions gather from them. Regions that gather like no other come last, together."""
    shares = shares - np.diag(shares.diagonal())  # what a region keeps of itself is no gathering
    together = [members for members in alike.members if len(members) > 1]
    alone = [region for members in alike.members if len(members) == 1 for region in members]
    found = []
    for members in together:
        drawn, inside = shares[:, members].sum(1), np.isin(np.arange(len(shares)), members)
        others = "" if inside.all() else f", the other regions {percent(drawn[~inside].mean())} from them"
        told = f"On average they gather {percent(drawn[inside].mean())} from one another{others}."
        found.append(f"{in_words(names, members)}. {told}")
    return found + ([f"Like no other: {in_words(names, alone)}."] if alone else [])


def in_words(names: Sequence[str], members: Sequence[int]) -> str:
    """Regions by name, the commonest first, numbered from 1: `dog (2, 5), grass (1)`."""
    numbers: dict[str, list[int]] = {}
    for region in sorted(members):
        numbers.setdefault(names[region], []).append(region + 1)
    ordered = sorted(numbers.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{name} ({', '.join(map(str, found))})" for name, found in ordered)


def region_table(trace: Trace, step: int, head: int = 0) -> pd.DataFrame:
    """Every region of a photograph, as the board shows it for one produced word.

    Columns: region (from 1), name, box (left, top, right, bottom; pixels), attention of the word where the captioner
    attends to regions, fall of its log-probability without the region; where regions are grouped also `own share`, the
    part of its group that is the region itself, and `group partners`, the three others it gathers most from.
    """
    names = region_names(trace)
    table = pd.DataFrame({"region": np.arange(1, len(names) + 1), "name": names})
    table[["left", "top", "right", "bottom"]] = trace.boxes.round().astype(int)
    if (weights := looked(trace, head)) is not None:
        table["attention"] = weights[step]
    table["fall"] = trace.region_falls[step] if len(trace.region_falls) else np.nan
    if (shares := groupings(trace, head)) is not None:
        table["own share"] = shares.diagonal()
        table["group partners"] = [
            _strongest(np.where(np.arange(len(row)) == i, 0, row), names) for i, row in enumerate(shares)
        ]
    return table


def most_sought(shares: Float[np.ndarray, "N N"], names: Sequence[str]) -> str:
    """The three regions that the average region gathers most from, as `3 dog 8.1%`."""
    return _strongest(shares.mean(0), names)


def _strongest(row: Float[np.ndarray, " N"], names: Sequence[str]) -> str:
    best = np.argsort(-row, kind="stable")[:3].tolist()
    return ", ".join(f"{i + 1} {names[i]} {percent(row[i])}" for i in best if row[i] > 0)
