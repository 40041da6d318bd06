"""(Archive, state) -> the photographs in which a captioner was in the most similar state."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from glied.states import Archive, Kind, Photographed


class Neighbour(NamedTuple):
    """A photograph, and the word, pivot or region in it with the most similar state.

    Attributes:
        similarity: cosine of the two states after subtracting the mean state; 1: the same direction.
        place: step of the word or pivot, or number of the region, from 0.
        label, box: of the region (box as shares of the photograph), where it is one.
    """

    photograph: Photographed
    similarity: float
    place: int
    label: str
    box: tuple[float, float, float, float] | None


class Nearest(NamedTuple):
    """The nearest photographs, the most similar first, and the usual similarity.

    Attributes:
        usual: the median similarity over all photographs.
    """

    neighbours: tuple[Neighbour, ...]
    usual: float


def find_nearest(
    archive: Archive, kind: Kind, state: Float[np.ndarray, " d"], count: int = 5, without: str = ""
) -> Nearest:
    """The photographs in which a state of this kind was most similar, each with its most similar one.

    Args:
        without: id of a photograph to leave out: the one in view.
    """
    known = archive.known[kind]
    similar = known.directions @ known.project(state)
    best = np.full(len(archive.photographs), -np.inf)
    np.maximum.at(best, known.photographs, similar)
    best[[photograph.id == without for photograph in archive.photographs]] = -np.inf
    neighbours = []
    for at in best.argsort(kind="stable")[::-1][:count]:
        if best[at] == -np.inf:
            break
        row = int(np.where(known.photographs == at, similar, -np.inf).argmax())
        label, box = (archive.labels[row], tuple(archive.boxes[row].tolist())) if kind == "regions" else ("", None)
        neighbours.append(Neighbour(archive.photographs[at], float(best[at]), int(known.places[row]), label, box))
    return Nearest(tuple(neighbours), float(np.median(best[best > -np.inf])) if neighbours else 0.0)
