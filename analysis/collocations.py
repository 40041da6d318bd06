"""Attribute collocations of one photograph (Trace) or of a data set (report) -> ordered tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import dendrogram, linkage

from analysis.attention import collocations, spoken
from glied.traces import Trace

LEAST = 2.0**-6  # lifts below are drawn and compared as this one, so that logarithms stay finite


class Tree(NamedTuple):
    """A hierarchy of n things.

    Attributes:
        order: the n things from left to right, those most alike side by side.
        forks: for each of the n - 1 joints, its four corners (place in `order`, height), from left foot to right foot.
    """

    order: Int[np.ndarray, " n"]
    forks: Float[np.ndarray, "joints 4 2"]


def cluster(table: pd.DataFrame) -> Tree:
    """The rows of a table of lifts, clustered: average linkage over the distance of their log lifts, leaves ordered so
    that neighbours are as alike as the tree allows (Bar-Joseph et al. 2001). An unknown lift counts as even."""
    if len(table) < 2:
        return Tree(np.arange(len(table)), np.zeros((0, 4, 2)))
    return tree(linkage(log_lifts(table).fillna(0).to_numpy(), "average", optimal_ordering=True))


def tree(joined: Float[np.ndarray, "joints 4"]) -> Tree:
    """The hierarchy that `scipy.cluster.hierarchy.linkage` found."""
    found = dendrogram(joined, no_plot=True)
    places = (np.array(found["icoord"]) - 5) / 10  # scipy puts leaves at 5, 15, 25 ...
    return Tree(np.array(found["leaves"]), np.stack([places, np.array(found["dcoord"])], -1))


def log_lifts(table: pd.DataFrame) -> pd.DataFrame:
    """Base 2: 0 is an even share, 1 twice that."""
    return np.log2(table.clip(lower=LEAST))


def lift_table(trace: Trace, asked: Mapping[str, Trace], head: int = 0) -> pd.DataFrame:
    """Lift of each attribute for each pivot of a photograph, GLIED Eq. (10).

    Args:
        asked: other words -> the trace in which that word stands alone, of the same photograph and captioner.

    Returns:
        one row a pivot: the input words of the caption, numbered, then the words asked; one column an attribute.
    """
    rows = [*collocations(trace, head), *(collocations(alone, head)[1] for alone in asked.values())]
    names = [f"{t} {spoken(word)}" for t, word in enumerate(trace.inputs)] + [f"+ {word}" for word in asked]
    return pd.DataFrame(np.array(rows, float), names, [spoken(word) for word in trace.attributes])


def pair_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Every pair of pivot and attribute that a report of `evaluate --grounding` knows, the highest lift first; empty if
    it knows none.

    Columns: pivot, attribute, lift (mean over `photographs` photographs), pmi (pointwise mutual information, natural
    logarithm) and together (photographs) in the training captions, where (ids of the photographs of highest lift).
    """
    found = report.get("grounding", {}).get("collocations", {}).get("pairs", [])
    columns = ["pivot", "attribute", "lift", "pmi", "together", "photographs", "where"]
    return pd.DataFrame(found, columns=columns).sort_values("lift", ascending=False, kind="stable", ignore_index=True)


def ranked(
    lifts: pd.Series, pivot: str, pairs: pd.DataFrame | None, falls: Float[np.ndarray, " M"] | None = None
) -> pd.DataFrame:
    """The attributes of one pivot, the highest lift first, with the statistics of each pair in the captions.

    Args:
        lifts: attribute -> lift. `pairs`: of `pair_table`, if there is a report; cells of other pairs stay empty.
        falls: how far log p of the next word falls without each attribute, in the order of `lifts`, if known.
    """
    table = pd.DataFrame({"attribute": lifts.index, "lift": lifts.to_numpy()})
    if falls is not None:
        table["fall"] = falls
    if pairs is not None:
        known = pairs.loc[pairs["pivot"] == pivot, ["attribute", "pmi", "together"]]
        table = table.merge(known, "left", "attribute").astype({"together": "Int64"})
    return table.sort_values("lift", ascending=False, kind="stable", ignore_index=True)


def frequent(pairs: pd.DataFrame) -> list[str]:
    """The pivots, those that met attributes most often first."""
    return pairs.groupby("pivot")["photographs"].sum().sort_values(ascending=False, kind="stable").index.tolist()


def lift_grid(pairs: pd.DataFrame, pivots: Sequence[str], most: int) -> pd.DataFrame:
    """Mean lift over the data set, one row a pivot, one column an attribute, NaN where the two seldom met.

    Of the attributes that met at least half of the pivots (of all, if none did), the `most` whose lifts differ most
    between pivots, on a log scale.
    """
    grid = pairs[pairs["pivot"].isin(pivots)].pivot(index="pivot", columns="attribute", values="lift")
    grid = grid.reindex(list(pivots))
    met = grid.notna().sum() >= len(pivots) / 2
    grid = grid.loc[:, met] if met.any() else grid
    spread = log_lifts(grid).std(ddof=0).sort_values(ascending=False, kind="stable")
    return grid[spread.index[:most]]
