"""The states of a captioner over many photographs, as short vectors, and their file. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int8, UInt
from safetensors import safe_open
from safetensors.numpy import save

from glied.errors import GliedError
from glied.files import replacing
from glied.scene import frozen

FORMAT = "glied-states-1"
AXES = 56  # numbers that a state is made of in the file
LARGEST = 64 * 2**20  # bytes of a file
Kind = Literal["words", "regions", "pivots"]
States = Mapping[Kind, Float[np.ndarray, "rows d"]]


class Photographed(NamedTuple):
    """A photograph whose states are known.

    Attributes:
        id: its file name in the data set called `dataset`. words: of the captioner's own caption.
    """

    id: str
    dataset: str
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """The states of one kind, of n rows over many photographs, as directions in the D axes along which they vary most.

    Attributes:
        mean, axes: of the states from which the axes were found; `project` maps a state to the axes.
        rows: [n, D] the states' directions, the largest number of each 127 or -127.
        photographs: [n] of each row. `places`: [n] step of its word or pivot, or number of its region, from 0.
    """

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d D"]
    rows: Int8[np.ndarray, "n D"]
    photographs: UInt[np.ndarray, " n"]
    places: UInt[np.ndarray, " n"]

    def __post_init__(self) -> None:
        for name, array in self.arrays().items():
            object.__setattr__(self, name, frozen(array, array.dtype.type))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file holds of it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def project(self, states: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n D"]:
        """Directions of states along the axes, of length 1."""
        return _unit((states - self.mean) @ self.axes.astype(np.float32))

    @cached_property
    def directions(self) -> Float[np.ndarray, "n D"]:
        """The rows, of length 1."""
        return _unit(self.rows.astype(np.float32))


def _unit(rows: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def reduce(states: Float[np.ndarray, "n d"], photographs: Sequence[int], places: Sequence[int]) -> Known:
    """The states, centred, along their AXES principal components, as int8. As similarity is the cosine of two
    directions, the length of a state is not kept."""
    mean = states.mean(0)
    centred = (states - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # the largest last
    axes = vectors[:, ::-1][:, :AXES].astype(np.float16)
    drawn = centred @ axes
    rows = np.round(127 * drawn / np.maximum(np.abs(drawn).max(-1, keepdims=True), 1e-12)).astype(np.int8)
    narrow = [np.array(numbers, np.min_scalar_type(max(numbers))) for numbers in (photographs, places)]
    return Known(mean.astype(np.float32), axes, rows, *narrow)


@dataclass(frozen=True, eq=False)
class Archive:
    """The states of a captioner over the photographs of data sets, each with its own caption.

    Attributes:
        checkpoint: digest of the captioner's file. `split`: of the data sets.
        known: the states by kind; a captioner without groups has no regions, one without pivots no pivots.
        boxes: [n, 4] of `known["regions"]`, x1 y1 x2 y2 as shares of the photograph. `labels`: of those regions.
    """

    checkpoint: str
    split: str
    photographs: tuple[Photographed, ...]
    known: Mapping[Kind, Known]
    boxes: Float[np.ndarray, "n 4"]
    labels: tuple[str, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(photograph.dataset for photograph in self.photographs))

    def save(self, path: Path) -> None:
        """Writes a safetensors file whole or not at all."""
        tensors = {f"{kind}.{name}": v for kind, known in self.known.items() for name, v in known.arrays().items()}
        names = list(dict.fromkeys(self.labels))
        header = {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "split": self.split,
            "photographs": [[p.id, self.datasets.index(p.dataset), " ".join(p.words)] for p in self.photographs],
            "datasets": self.datasets,
            "names": names,
        }
        tensors["boxes"] = np.round(self.boxes * 65535).astype(np.uint16)
        tensors["labels"] = np.array([names.index(label) for label in self.labels], np.uint16)
        with replacing(path) as aside:
            aside.write_bytes(save(tensors, {"glied": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> "Archive":
        """The states from their file, checked.

        Raises:
            GliedError: there is no such file, or it is not a file of states.
        """
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"it is larger than {LARGEST / 2**20:.0f} MB")
            with safe_open(path, "np") as file:
                header = json.loads((file.metadata() or {}).get("glied", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _unpacked(header, tensors)
        except Exception as error:  # a foreign file can fail in many ways
            reason = str(error) if type(error) is ValueError else type(error).__name__
            raise GliedError(
                f"Expected the states of a captioner ({FORMAT}) in {path}, it is missing, damaged or of another kind "
                f"({reason[:100]}); `python -m glied states` writes one."
            ) from error


def _unpacked(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> Archive:
    """The archive of a file's parts; ValueError where they do not fit together, and KeyError where one is missing."""

    def demand(holds: object, otherwise: str) -> None:
        if not holds:
            raise ValueError(otherwise)

    demand(header.get("format") == FORMAT, "it has another format")
    sets = header["datasets"]
    photographs = tuple(Photographed(id, sets[i], tuple(text.split())) for id, i, text in header["photographs"])
    names, boxes, labels = header["names"], tensors["boxes"], tensors["labels"]
    texts = [header["checkpoint"], header["split"], *header["datasets"], *names, *(p.id for p in photographs)]
    demand(all(isinstance(text, str) and len(text) < 300 for text in texts), "a name in it is none")
    lengths = np.array([len(p.words) for p in photographs])
    known: dict[Kind, Known] = {}
    for kind in get_args(Kind):
        if f"{kind}.rows" not in tensors:
            continue
        parts = {f.name: tensors[f"{kind}.{f.name}"] for f in fields(Known)}
        mean, axes, rows, whose, places = parts.values()
        (n, D), (d,) = rows.shape, mean.shape
        fit = [axes.shape, whose.shape, places.shape] == [(d, D), (n,), (n,)] and rows.dtype == np.int8
        demand(n and D and fit and whose.dtype.kind == places.dtype.kind == "u", "its shapes disagree")
        demand(np.isfinite(mean).all() and np.isfinite(axes).all(), "its axes are not finite")
        demand(whose.max() < len(photographs), "a row of it is of no photograph")
        demand(kind == "regions" or (places <= lengths[whose]).all(), "a row of it is of no word")
        known[kind] = Known(**parts)
    demand("words" in known, "it has no words")
    regions = len(known["regions"].rows) if "regions" in known else 0
    demand(boxes.shape == (regions, 4) and labels.shape == (regions,), "its regions disagree")
    demand(boxes.dtype == np.uint16 and (labels < max(len(names), 1)).all(), "its regions disagree")
    return Archive(
        header["checkpoint"],
        header["split"],
        photographs,
        known,
        boxes.astype(np.float32) / 65535,
        tuple(names[i] for i in labels.tolist()),
    )
