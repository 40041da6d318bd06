"""Trace and Outlook: every attention behind a caption, frozen NumPy values, and their file. No torch."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from glied.errors import GliedError
from glied.files import replacing
from glied.functions import BASE, GLIED, AttentionFunction, Functions, Over, Role
from glied.scene import frozen

FORMAT = "glied-trace-2"
UNPACKED = 64 * 2**20  # bytes of a file's arrays, as it declares them; no more is ever unpacked
LONGEST = 200  # characters of a word or label
HEADS = 64  # of a file's attention: more cannot be told apart on a page
MOST = {"regions": 1000, "attributes": 1000, "words": 200, "alternatives": 100, "functions": 50}  # of a file


@dataclass(frozen=True, eq=False)
class Trace:
    """How a model sees one caption of one photograph, word by word. Immutable; equal by value.

    Attributes:
        captioner: what people call it. `architecture`, `checkpoint`: which it is, and the digest of its file.
        functions: what it attends with, as it declares them.
        size: (width, height) in pixels of the photograph, a large one scaled down (see `open_image`).
        boxes: [N, 4] x1 y1 x2 y2 in pixels. `labels`: one per box, or empty. `source`: of the regions.
        attributes: M words. `attribute_scores`: [M]. `attribute_regions`: [M, N], where each was seen.
        inputs: L input words, <bos> first: the pivots.
        words: L words that each step produced (inputs[t + 1] is words[t]), <eos> last.
        log_probabilities: [L] of each word.
        alternatives: the 10 most probable words of each step that decoding may produce.
        alternative_log_probabilities: [L, 10].
        attention: name of a function -> weights, head by head, [k, rows, keys]; rows sum to 1. Keys are regions (N),
            attributes (M) or words (L). A grouping has a row for each of its keys; of a pivot or context, row t is that
            of the INPUT word; of a global or local function, that of the word PRODUCED.
        region_falls, attribute_falls: [L, N] and [L, M]: how much the word's log-probability falls when that
            region or attribute is removed; empty where it was not asked for, or nothing attends to attributes.
    """

    captioner: str
    architecture: str
    checkpoint: str
    functions: Functions
    size: tuple[int, int]
    boxes: Float[np.ndarray, "N 4"]
    labels: tuple[str, ...]
    source: str
    attributes: tuple[str, ...]
    attribute_scores: Float[np.ndarray, " M"]
    attribute_regions: Float[np.ndarray, "M N"]
    inputs: tuple[str, ...]
    words: tuple[str, ...]
    log_probabilities: Float[np.ndarray, " L"]
    alternatives: tuple[tuple[str, ...], ...]
    alternative_log_probabilities: Float[np.ndarray, "L T"]
    attention: Mapping[str, np.ndarray]
    region_falls: Float[np.ndarray, "P N"]
    attribute_falls: Float[np.ndarray, "Q M"]

    def __post_init__(self) -> None:
        for name, array in self._arrays().items():
            if name not in self.attention:
                object.__setattr__(self, name, frozen(array))
        attention = {name: frozen(w) for name, w in self.attention.items()}
        object.__setattr__(self, "attention", MappingProxyType(attention))

    def _arrays(self) -> dict[str, np.ndarray]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in own.items() if isinstance(v, np.ndarray)} | dict(self.attention)

    def _texts(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        own["functions"] = [asdict(function) for function in self.functions]
        return {name: v for name, v in own.items() if not isinstance(v, np.ndarray) and name != "attention"}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the trace holds."""
        digest = hashlib.sha256(json.dumps(self._texts()).encode())
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.digest == other.digest

    def __reduce__(self) -> tuple:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Trace, tuple((values | {"attention": dict(self.attention)}).values())

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def heads(self) -> int:
        """How many heads every attention function has; 0 where there is none."""
        return max((len(weights) for weights in self.attention.values()), default=0)

    @property
    def text(self) -> str:
        """The caption as a line, without <eos>."""
        return " ".join(self.words[:-1])

    def json(self) -> str:
        """All of the trace as JSON: `format`, then the attributes under their names, arrays as nested lists (by rows,
        `null` where a number is unknown), `attention` as {name: [head][row][key]}."""
        arrays = {name: array.astype(object) for name, array in self._arrays().items()}
        for array in arrays.values():
            array[array != array] = None  # NaN
        lists = {name: array.tolist() for name, array in arrays.items()}
        attention = {name: lists.pop(name) for name in self.attention}
        return json.dumps({"format": FORMAT, **self._texts(), **lists, "attention": attention}, allow_nan=False)

    def packed(self, photograph: bytes = b"") -> bytes:
        """The trace as an .npz file, and with it the photograph as a JPEG file, for someone else to open."""
        arrays = {f"attention.{n}" if n in self.attention else n: a for n, a in self._arrays().items()}
        if photograph:
            arrays["photograph"] = np.frombuffer(photograph, np.uint8)
        buffer = io.BytesIO()
        header = np.array(json.dumps({"format": FORMAT, **self._texts()}))
        np.savez_compressed(buffer, allow_pickle=False, header=header, **arrays)
        return buffer.getvalue()

    def save(self, path: Path | str) -> None:
        """Writes an .npz file whole or not at all."""
        with replacing(path) as aside:
            aside.write_bytes(self.packed())

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """A trace from its .npz file, of version 0.1.0 too, checked as in `unpack`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise GliedError(
                f"Expected a {FORMAT} file in {path}, could not read it ({error.strerror}); check the path."
            ) from error
        return unpack(data, str(path))[0]


def unpack(data: bytes, name: str = "the file", most: int = UNPACKED) -> tuple[Trace, bytes]:
    """A trace from the bytes of its .npz file, which may be a stranger's, and the photograph packed with it, if any.

    Nothing is unpickled, nothing is read that would unpack to more than `most` bytes; shapes agree, numbers are finite,
    boxes lie on the photograph, weights sum to 1. The photograph is not looked at.

    Raises:
        GliedError: the file is none of ours.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as directory:
            entries = directory.infolist()
            size = sum(entry.file_size for entry in entries)
        packings = {entry.compress_type for entry in entries}
        if len(entries) > 100 or packings - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError("it is packed in another way")
        if size > most:
            raise ValueError(f"it would unpack to {size / 2**20:.0f} MB, {most / 2**20:.0f} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")))
        stated = header.pop("format")
        if stated == "glied-trace-1":
            header, arrays = _renewed(header, arrays)
        elif stated != FORMAT:
            raise ValueError("it has another format")
        photograph = arrays.pop("photograph", np.zeros(0, np.uint8)).astype(np.uint8, casting="no").tobytes()
        attention = {n.removeprefix("attention."): arrays.pop(n) for n in list(arrays) if n.startswith("attention.")}
        lists: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header.items()}
        lists["alternatives"] = tuple(tuple(row) for row in header["alternatives"])
        lists["functions"] = tuple(_function(row) for row in header["functions"])
        _check(lists, arrays, attention)
        return Trace(**(lists | arrays), attention=attention), photograph
    except Exception as error:  # a foreign zip can fail in many ways
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise GliedError(
            f"Expected a {FORMAT} file of this project in {name}, it is damaged or of another kind "
            f"({reason[:100]}); have it made and sent again."
        ) from error


def _renewed(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The parts of a file of version 0.1.0, which names its captioner only, as those of today."""
    captioner, functions = {"base": ("Base", BASE), "glied": ("GLIED", GLIED)}[header["architecture"]]
    names = {"visual_drop": "region_falls", "attribute_drop": "attribute_falls"}
    header |= {"captioner": captioner, "functions": [asdict(function) for function in functions]}
    return header, {names.get(name, name): array for name, array in arrays.items()}


def _function(row: Mapping[str, Any]) -> AttentionFunction:
    """An attention function as a file declares it."""
    number = row["equation"] is None or type(row["equation"]) is int
    text = isinstance(row["name"], str) and len(row["name"]) <= LONGEST
    if not (text and number and row["over"] in get_args(Over) and row["role"] in get_args(Role)):
        raise ValueError("an attention function of it is none")
    return AttentionFunction(**row)


def _check(texts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], attention: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the parts of a Trace do not fit together; a missing part raises KeyError."""

    def demand(holds: object, otherwise: str) -> None:
        if not holds:
            raise ValueError(otherwise)

    lists = [texts[name] for name in ("labels", "attributes", "inputs", "words")] + list(texts["alternatives"])
    names = [texts[name] for name in ("captioner", "architecture", "checkpoint", "source")]
    demand(all(isinstance(each, tuple) for each in lists), "its words are no lists")
    for text in [*names, *(word for each in lists for word in each)]:
        demand(isinstance(text, str) and len(text) <= LONGEST, "a word is none, or too long")
        text.encode()  # a lone surrogate is no text
    sized = len(texts["size"]) == 2 and all(type(side) is int and side > 0 for side in texts["size"])
    demand(sized, "its photograph has no size")
    N, M, L, T = len(arrays["boxes"]), len(texts["attributes"]), len(texts["words"]), len(texts["alternatives"][0])
    functions: Functions = texts["functions"]
    k = max(map(len, attention.values()), default=0)
    steps, told = len(arrays["region_falls"]), len(arrays["attribute_falls"])
    demand(k <= HEADS, f"it has {k} heads, at most {HEADS} can be shown")
    counts = {"regions": N, "attributes": M, "words": L, "alternatives": T, "functions": len(functions)}
    for name, count in counts.items():
        demand(count <= MOST[name], f"it has {count} {name}, at most {MOST[name]} can be shown")
    demand(
        min(N, M, L, T) > 0 and (k > 0 or not functions) and len(texts["labels"]) in (0, N),
        "it has no regions, attributes or words",
    )
    demand([len(row) for row in texts["alternatives"]] == [T] * L, "its alternatives do not agree")
    demand(len(texts["inputs"]) == L and texts["inputs"][1:] == texts["words"][:-1], "its words do not agree")
    keys = {"regions": N, "attributes": M, "words": L}
    weights = {f.name: (k, keys[f.over] if f.role == "grouping" else L, keys[f.over]) for f in functions}
    demand(
        len(weights.keys() | arrays.keys()) == len(functions) + len(arrays),
        "its attention functions are not told apart",
    )
    shapes = {
        "boxes": (N, 4),
        "attribute_scores": (M,),
        "attribute_regions": (M, N),
        "log_probabilities": (L,),
        "alternative_log_probabilities": (L, T),
        "region_falls": (steps, N),
        "attribute_falls": (told, M),
    }
    fit = steps in (0, L) and told == (steps if any(f.over == "attributes" for f in functions) else 0)
    demand({name: array.shape for name, array in arrays.items()} == shapes and fit, "its shapes disagree")
    demand({name: array.shape for name, array in attention.items()} == weights, "the shapes of its attention disagree")
    for name, array in [*arrays.items(), *attention.items()]:
        demand(array.dtype == np.float32, f"its {name} has no numbers")
        unknown = np.isnan(array) & ({"region_falls": N, "attribute_falls": M}.get(name) == 1)  # alone: never removed
        demand((unknown | (np.abs(array) < 1e6)).all(), f"its {name} is not finite")
    for w in attention.values():
        demand((w >= 0).all() and np.allclose(w.sum(-1), 1, atol=1e-3), "its attention does not sum to 1")
    for p in (arrays["attribute_scores"], arrays["attribute_regions"]):
        demand((p >= 0).all() and (p < 1.001).all(), "its attributes have no probabilities")
    (width, height), (x1, y1, x2, y2) = texts["size"], arrays["boxes"].T
    inside = (x1 > -1) & (y1 > -1) & (x2 < width + 1) & (y2 < height + 1) & (x1 < x2) & (y1 < y2)  # a pixel's grace
    demand(inside.all(), "its boxes do not lie on the photograph")


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a captioner sees before the word that follows each of P beginnings of a caption.

    Attributes:
        prefixes: the beginnings, without <bos>.
        attention: name -> [k, P, keys], as in Trace, of the word after each, by the functions that feed it.
        alternatives: the 10 most probable words after each. `alternative_log_probabilities`: [P, 10].
    """

    prefixes: tuple[tuple[str, ...], ...]
    attention: Mapping[str, np.ndarray]
    alternatives: tuple[tuple[str, ...], ...]
    alternative_log_probabilities: Float[np.ndarray, "P T"]


@dataclass(frozen=True, eq=False)
class Deletion:
    """What becomes of a word as regions or attributes are taken away one after another; one always stays.

    Attributes:
        order: positions of all of them, the most attended first.
        most_first: [keys] log p of the word once 0, 1, 2 ... are taken away in that order. `least_first`: the other way
            round.
    """

    order: tuple[int, ...]
    most_first: Float[np.ndarray, " keys"]
    least_first: Float[np.ndarray, " keys"]
