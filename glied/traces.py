"""Trace and Outlook: every attention behind a caption, frozen NumPy values, and their file. No torch."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from jaxtyping import Float
from PIL import Image

from glied.errors import GliedError
from glied.files import replacing
from glied.functions import BASE, GLIED, AttentionFunction, Functions, Over, Role
from glied.images import open_image
from glied.scene import frozen

FORMAT = "glied-trace-2"
UNPACKED = 64 * 2**20  # bytes of a file's arrays, as it declares them; no more is ever unpacked
LONGEST = 200  # characters of a word or label
QUALITY = 85  # of a photograph's JPEG
HEADS = 64  # of a file's attention: more cannot be told apart on a page
MOST = {"regions": 1000, "attributes": 1000, "words": 200, "alternatives": 100, "functions": 50, "heads": HEADS}
TALLER = 0.02  # by how much the proportions of a photograph may differ from what its trace says, for rounding


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

    def save(self, path: Path | str, photograph: Image.Image | None = None) -> None:
        """Writes an .npz file whole or not at all; pages open only one with its photograph."""
        jpeg = io.BytesIO()
        if photograph is not None:
            photograph.convert("RGB").save(jpeg, "JPEG", quality=QUALITY)
        with replacing(path) as aside:
            aside.write_bytes(self.packed(jpeg.getvalue()))

    def faults(self) -> list[str]:
        """What would keep the saved trace from being opened again (see `find_faults`); a trace made here has none."""
        texts = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {name: value for name, value in texts.items() if isinstance(value, np.ndarray)}
        texts = {name: value for name, value in texts.items() if name not in arrays and name != "attention"}
        return list(_faults(texts, arrays, self.attention))

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

    Nothing is unpickled, nothing is read that would unpack to more than `most` bytes, and everything that docs/trace.md
    says of the file is checked. The photograph is not decoded.

    Raises:
        GliedError: the file is not a valid trace.
    """
    try:
        texts, arrays, attention, photograph = _parts(data, most)
        for fault in _faults(texts, arrays, attention):
            raise ValueError(fault)
        return Trace(**(texts | arrays), attention=attention), photograph
    except Exception as error:  # a foreign zip can fail in many ways
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise GliedError(
            f"Expected a {FORMAT} file of this project in {name}, it is damaged or of another kind "
            f"({reason[:200]}); have it made and sent again."
        ) from error


def find_faults(data: bytes, name: str = "the file") -> list[str]:
    """Everything that keeps pages from opening a file with these bytes as a trace, a sentence each; empty if they can.
    What depends on a missing or wrong part is not checked."""
    try:
        texts, arrays, attention, photograph = _parts(data, UNPACKED)
        found = list(_faults(texts, arrays, attention))
    except Exception as error:
        reason = str(error) if type(error) is ValueError else type(error).__name__
        return [f"it cannot be read as a {FORMAT} file ({reason[:200]})"]
    if not photograph:
        return [*found, "it has no photograph, without which no page opens it: save(path, photograph) adds it"]
    try:
        wide, tall = open_image(photograph, f"the photograph in {name}").info["size"]
    except GliedError as error:
        return [*found, str(error)]
    if _sized(texts.get("size")):
        width, height = texts["size"]
        if not same_shape((width, height), (wide, tall)):
            found.append(f"size is {width} x {height}, but the photograph has other proportions, {wide} x {tall}")
    return found


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether photographs of these widths and heights have the same proportions, but for rounding."""
    a, b = one[0] * other[1], one[1] * other[0]
    return abs(a - b) <= TALLER * max(a, b)


def _parts(data: bytes, most: int) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray], bytes]:
    """Texts, arrays, attention by function, and the photograph of a file, as they are today, unchecked.

    Raises ValueError, or whatever reading a foreign file raises."""
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
    photograph = arrays.pop("photograph", np.zeros(0, np.uint8))
    if photograph.dtype != np.uint8:
        raise ValueError(f"photograph must hold bytes of type uint8, it has {photograph.dtype}")
    attention = {n.removeprefix("attention."): arrays.pop(n) for n in list(arrays) if n.startswith("attention.")}
    texts: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header.items()}
    if isinstance(texts.get("alternatives"), tuple):
        texts["alternatives"] = tuple(tuple(v) if isinstance(v, list) else v for v in texts["alternatives"])
    if isinstance(texts.get("functions"), tuple):
        texts["functions"] = tuple(map(_function, texts["functions"]))
    return texts, arrays, attention, photograph.tobytes()


def _renewed(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The parts of a file of version 0.1.0, which names its captioner only, as those of today."""
    captioner, functions = {"base": ("Base", BASE), "glied": ("GLIED", GLIED)}[header["architecture"]]
    names = {"visual_drop": "region_falls", "attribute_drop": "attribute_falls"}
    header |= {"captioner": captioner, "functions": [asdict(function) for function in functions]}
    return header, {names.get(name, name): array for name, array in arrays.items()}


def _function(row: Any) -> AttentionFunction | None:
    """An attention function as a file declares it; None where it is none."""
    if not isinstance(row, dict) or row.keys() != {f.name for f in fields(AttentionFunction)}:
        return None
    number = row["equation"] is None or type(row["equation"]) is int
    known = row["over"] in get_args(Over) and row["role"] in get_args(Role)
    return AttentionFunction(**row) if _is_text(row["name"]) and number and known else None


def _is_text(value: Any) -> bool:
    """Whether it is a word or name: text of at most LONGEST characters, no lone surrogate among them."""
    return isinstance(value, str) and len(value) <= LONGEST and not re.search("[\ud800-\udfff]", value)


def _sized(size: Any) -> bool:
    return isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)


def _faults(
    texts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], attention: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """What is wrong with the parts of a Trace, as clauses with the part's name first. What depends on a wrong part is
    not checked."""
    known = {f.name for f in fields(Trace)} - {"attention"}
    missing = sorted(known - texts.keys() - arrays.keys())
    yield from (f"it lacks {name}" for name in missing)
    strange = sorted((texts.keys() | arrays.keys()) - known)
    yield from (f"{name[:LONGEST]} is none of the parts of a trace" for name in strange)
    if missing or strange:
        return
    wrong = False
    for name in ("captioner", "architecture", "checkpoint", "source"):
        if not _is_text(texts[name]):
            wrong = True
            yield f"{name} must be text of at most {LONGEST} characters"
    alternatives = texts["alternatives"] if isinstance(texts["alternatives"], tuple) else (None,)
    lists = {name: texts[name] for name in ("labels", "attributes", "inputs", "words")}
    lists |= {f"alternatives of word {i + 1}": row for i, row in enumerate(alternatives)}
    for name, words in lists.items():
        if not isinstance(words, tuple) or not all(map(_is_text, words)):
            wrong = True
            yield f"{name} must be a list of words of at most {LONGEST} characters each"
    if not _sized(texts["size"]):
        wrong = True
        yield "size must be the photograph's width and height in pixels"
    functions = texts["functions"] if isinstance(texts["functions"], tuple) else (None,)
    if None in functions:
        wrong = True
        overs, roles = ", ".join(get_args(Over)), ", ".join(get_args(Role))
        yield (
            f"function {functions.index(None) + 1} is none: it needs a name, an equation's number or null, over "
            f"({overs}) and a role ({roles})"
        )
    if wrong:
        return
    boxes = arrays["boxes"]
    N, M, L = boxes.shape[0] if boxes.ndim else 0, len(texts["attributes"]), len(texts["words"])
    T = max(map(len, alternatives), default=0)
    k = max((len(weights) if weights.ndim else 0 for weights in attention.values()), default=0)
    counts = {"regions": N, "attributes": M, "words": L, "alternatives": T, "functions": len(functions), "heads": k}
    for name, count in counts.items():
        if count > MOST[name]:
            wrong = True
            yield f"it has {count} {name}, at most {MOST[name]} can be shown"
        elif count == 0 and (functions or name not in ("functions", "heads")):
            wrong = True
            yield f"it has no {name}"
    if len(texts["labels"]) not in (0, N):
        yield f"labels must be one for each of the {N} regions, or none, it has {len(texts['labels'])}"
    if [len(row) for row in alternatives] != [T] * L:
        wrong = True
        yield f"alternatives must be as many for each of the {L} words"
    if len(texts["inputs"]) != L or texts["inputs"][1:] != texts["words"][:-1]:
        yield "inputs must be the begin of the caption and then its words but the last"
    for name in {f.name for f in functions} & known:
        wrong = True
        yield f"function {name} has the name of another part"
    if len({f.name for f in functions}) < len(functions):
        wrong = True
        yield "functions must have a name of their own each"
    if wrong:
        return
    steps = len(arrays["region_falls"]) if arrays["region_falls"].shape in ((0, N), (L, N)) else L
    keys = {"regions": N, "attributes": M, "words": L}
    shapes = {
        "boxes": (N, 4),
        "attribute_scores": (M,),
        "attribute_regions": (M, N),
        "log_probabilities": (L,),
        "alternative_log_probabilities": (L, T),
        "region_falls": (steps, N),
        "attribute_falls": (steps if any(f.over == "attributes" for f in functions) else 0, M),
    }
    shapes |= {f"attention.{f.name}": (k, keys[f.over] if f.role == "grouping" else L, keys[f.over]) for f in functions}
    found = dict(arrays) | {f"attention.{name}": weights for name, weights in attention.items()}
    yield from (f"it lacks {name}" for name in sorted(shapes.keys() - found.keys()))
    for name, array in found.items():
        if name not in shapes:
            yield f"{name[:LONGEST]} is of no function that it declares"
        elif array.shape != shapes[name]:
            yield f"{name} has the shape {array.shape}, expected {shapes[name]}"
        elif array.dtype != np.float32:
            yield f"{name} must hold numbers of type float32, it has {array.dtype}"
        else:
            # alone: it was never removed
            unknown = np.isnan(array) & ({"region_falls": N, "attribute_falls": M}.get(name) == 1)
            if not (unknown | (np.abs(array) < 1e6)).all():
                yield f"{name} is not finite"
            else:
                yield from _wrong_numbers(name, array, texts["size"])


def _wrong_numbers(name: str, array: np.ndarray, size: tuple[int, int]) -> Iterator[str]:
    """What is wrong with the finite numbers of one array of the right shape."""
    if name.startswith("attention."):
        sums = array.sum(-1)
        if (array < 0).any():
            yield f"{name} must have no weight below 0, it has {array.min():.3g}"
        elif (apart := np.abs(sums - 1) > 1e-3).any():
            head, row = np.argwhere(apart)[0].tolist()
            yield f"{name} must sum to 1 in each row, row {row + 1} of head {head + 1} sums to {sums[head, row]:.4g}"
    if name in ("attribute_scores", "attribute_regions") and ((array < 0) | (array >= 1.001)).any():
        yield f"{name} must hold probabilities, it has {array.flat[np.abs(array - 0.5).argmax()]:.3g}"
    if name == "boxes":
        (width, height), (x1, y1, x2, y2) = size, array.T
        inside = (x1 > -1) & (y1 > -1) & (x2 < width + 1) & (y2 < height + 1) & (x1 < x2) & (y1 < y2)  # a pixel's grace
        if not inside.all():
            i = int((~inside).argmax())
            told = " ".join(f"{side:g}" for side in array[i].tolist())
            yield f"boxes must lie on the photograph of {width} x {height}, that of region {i + 1} is {told}"


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
