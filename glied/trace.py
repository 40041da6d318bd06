"""(model, scene, words) -> Trace: every attention behind a caption, in one pass. torch stops here."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from glied.checkpoint import Checkpoint
from glied.data import stack
from glied.decode import NEVER
from glied.errors import GliedError
from glied.files import replacing
from glied.model import Inputs, Memory
from glied.scene import Attributes, Scene, frozen
from glied.vocabulary import BOS, EOS, UNK, Vocabulary

FORMAT = "glied-trace-1"
TOP = 10
UNPACKED = 64 * 2**20  # bytes of a file's arrays, as it declares them; no more is ever unpacked
LONGEST = 200  # characters of a word or label
HEADS = 64  # of a file's attention: more cannot be told apart on a page
OVER_ATTRIBUTES = ("a", "ad", "al")  # attention functions


@dataclass(frozen=True, eq=False)
class Trace:
    """How a model sees one caption of one photograph, word by word. Immutable; equal by value.

    Attributes:
        architecture, checkpoint: `base` or `glied`, and the digest of the checkpoint's file.
        size: (width, height) in pixels of the photograph, a large one scaled down (see `open_image`).
        boxes: [N, 4] x1 y1 x2 y2 in pixels. `labels`: one per box, or empty. `source`: of the regions.
        attributes: M words. `attribute_scores`: [M]. `attribute_regions`: [M, N], where each was seen.
        inputs: L input words, <bos> first: the pivots of attribute distilling.
        words: L words that each step produced (inputs[t + 1] is words[t]), <eos> last.
        log_probabilities: [L] of each word.
        alternatives: the 10 most probable words of each step that decoding may produce.
        alternative_log_probabilities: [L, 10].
        attention: name -> weights, head by head; rows sum to 1. GLIED: vd [k, N, N] (region groupings),
            ad [k, L, M] (collocations of the INPUT word), x [k, L, L], v [k, L, N] (over groupings),
            vl [k, L, N] and al [k, L, M] (local, of the word PRODUCED). Base: x, v, a.
        visual_drop, attribute_drop: [L, N] and [L, M]: how much the word's log-probability falls when that
            region or attribute is removed; empty where it was not asked for.
    """

    architecture: str
    checkpoint: str
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
    visual_drop: Float[np.ndarray, "P N"]
    attribute_drop: Float[np.ndarray, "P M"]

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

    def save(self, path: Path) -> None:
        """Writes an .npz file whole or not at all."""
        with replacing(path) as aside:
            aside.write_bytes(self.packed())

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """A trace from its .npz file, checked as in `unpack`."""
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
            size = sum(entry.file_size for entry in directory.infolist())
        if size > most:
            raise ValueError(f"it would unpack to {size / 2**20:.0f} MB, {most / 2**20:.0f} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")))
        if header.pop("format") != FORMAT:
            raise ValueError("it has another format")
        photograph = arrays.pop("photograph", np.zeros(0, np.uint8)).astype(np.uint8, casting="no").tobytes()
        attention = {n.split(".")[1]: arrays.pop(n) for n in list(arrays) if n.startswith("attention.")}
        lists: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header.items()}
        lists["alternatives"] = tuple(tuple(row) for row in header["alternatives"])
        _check(lists, arrays, attention)
        return Trace(**(lists | arrays), attention=attention), photograph
    except Exception as error:  # a foreign zip can fail in many ways
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise GliedError(
            f"Expected a {FORMAT} file of this project in {name}, it is damaged or of another kind "
            f"({reason[:100]}); have it made and sent again."
        ) from error


def _check(texts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], attention: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the parts of a Trace do not fit together; a missing part raises KeyError."""

    def demand(holds: object, otherwise: str) -> None:
        if not holds:
            raise ValueError(otherwise)

    lists = [texts[name] for name in ("labels", "attributes", "inputs", "words")] + list(texts["alternatives"])
    names = [texts[name] for name in ("architecture", "checkpoint", "source")]
    demand(all(isinstance(each, tuple) for each in lists), "its words are no lists")
    for text in [*names, *(word for each in lists for word in each)]:
        demand(isinstance(text, str) and len(text) <= LONGEST, "a word is none, or too long")
        text.encode()  # a lone surrogate is no text
    sized = len(texts["size"]) == 2 and all(type(side) is int and side > 0 for side in texts["size"])
    demand(sized, "its photograph has no size")
    N, M, L, T = len(arrays["boxes"]), len(texts["attributes"]), len(texts["words"]), len(texts["alternatives"][0])
    k, steps = len(attention["x"]), len(arrays["visual_drop"])
    demand(k <= HEADS, f"it has {k} heads, at most {HEADS} can be shown")
    demand(min(N, M, L, T, k) > 0 and len(texts["labels"]) in (0, N), "it has no regions, attributes or words")
    demand([len(row) for row in texts["alternatives"]] == [T] * L, "its alternatives do not agree")
    demand(len(texts["inputs"]) == L and texts["inputs"][1:] == texts["words"][:-1], "its words do not agree")
    glied = {"vd": (k, N, N), "ad": (k, L, M), "vl": (k, L, N), "al": (k, L, M)}
    weights = {"x": (k, L, L), "v": (k, L, N), **{"base": {"a": (k, L, M)}, "glied": glied}[texts["architecture"]]}
    shapes = {
        "boxes": (N, 4),
        "attribute_scores": (M,),
        "attribute_regions": (M, N),
        "log_probabilities": (L,),
        "alternative_log_probabilities": (L, T),
        "visual_drop": (steps, N),
        "attribute_drop": (steps, M),
    }
    demand({name: array.shape for name, array in arrays.items()} == shapes and steps in (0, L), "its shapes disagree")
    demand({name: array.shape for name, array in attention.items()} == weights, "the shapes of its attention disagree")
    for name, array in [*arrays.items(), *attention.items()]:
        demand(array.dtype == np.float32, f"its {name} has no numbers")
        unknown = np.isnan(array) & ({"visual_drop": N, "attribute_drop": M}.get(name) == 1)  # alone: never removed
        demand((unknown | (np.abs(array) < 1e6)).all(), f"its {name} is not finite")
    for w in attention.values():
        demand((w >= 0).all() and np.allclose(w.sum(-1), 1, atol=1e-3), "its attention does not sum to 1")
    for p in (arrays["attribute_scores"], arrays["attribute_regions"]):
        demand((p >= 0).all() and (p < 1.001).all(), "its attributes have no probabilities")
    (width, height), (x1, y1, x2, y2) = texts["size"], arrays["boxes"].T
    inside = (x1 > -1) & (y1 > -1) & (x2 < width + 1) & (y2 < height + 1) & (x1 < x2) & (y1 < y2)  # a pixel's grace
    demand(inside.all(), "its boxes do not lie on the photograph")


def trace(checkpoint: Checkpoint, scene: Scene, words: Sequence[str], removals: bool = False) -> Trace:
    """Replays a finished caption: the model's own, another's, a human's, or an edited one.

    Args:
        words: without EOS; a word outside the vocabulary is read as <unk>.
        removals: also remove each region and each attribute in turn and see how far every word falls.
    """
    if scene.regions.source != checkpoint.source:
        raise GliedError(
            f"Expected regions of {checkpoint.source}, which this checkpoint was trained on, got "
            f"{scene.regions.source}; use that source or another checkpoint."
        )
    architecture = checkpoint.model.config.architecture
    if architecture not in ("base", "glied"):
        raise GliedError(f"Expected Base or GLIED to trace, got the ablation's {architecture}; choose another.")
    limit = 100
    if len(words) > limit:
        raise GliedError(f"Expected a caption of at most {limit} words, got {len(words)}; shorten it.")
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    scene = Scene(scene.regions, known(scene.attributes, checkpoint))
    ids = vocabulary.encode(words)
    inputs, targets = [BOS, *ids], [*ids, EOS]
    batch = stack([scene], vocabulary)
    with torch.inference_mode():
        memory = model.encode(batch)
        output = model(torch.tensor([[inputs]]), memory)
        log_p = model.logits(output.c_tilde).log_softmax(-1)[0, 0]
        likeliest, their_log_p = _likeliest(log_p, vocabulary)
        chosen = log_p.gather(-1, torch.tensor(targets)[:, None])[:, 0]
        regions, attributes = _drops(checkpoint, batch, memory, inputs, targets, chosen) if removals else (None, None)
    N, M = len(scene.regions.boxes), len(scene.attributes.words)
    weights = memory.weights | output.weights
    return Trace(
        architecture=architecture,
        checkpoint=checkpoint.digest,
        size=scene.regions.size,
        boxes=scene.regions.boxes,
        labels=scene.regions.labels,
        source=scene.regions.source,
        attributes=scene.attributes.words,
        attribute_scores=scene.attributes.scores,
        attribute_regions=scene.attributes.by_region,
        inputs=tuple(vocabulary.words[i] for i in inputs),
        words=tuple(vocabulary.words[i] for i in targets),
        log_probabilities=chosen.numpy(),
        alternatives=likeliest,
        alternative_log_probabilities=their_log_p,
        attention={name: w[0, 0].numpy() for name, w in weights.items() if w is not None},
        visual_drop=np.zeros((0, N)) if regions is None else regions.numpy(),
        attribute_drop=np.zeros((0, M)) if attributes is None else attributes.numpy(),
    )


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a captioner sees before the word that follows each of P beginnings of a caption.

    Attributes:
        prefixes: the beginnings, without <bos>.
        attention: name -> [k, P, keys], as in Trace, of the word after each: v, vl, al, or v, a.
        alternatives: the 10 most probable words after each. `alternative_log_probabilities`: [P, 10].
    """

    prefixes: tuple[tuple[str, ...], ...]
    attention: Mapping[str, np.ndarray]
    alternatives: tuple[tuple[str, ...], ...]
    alternative_log_probabilities: Float[np.ndarray, "P T"]


def look_ahead(checkpoint: Checkpoint, scene: Scene, prefixes: Sequence[Sequence[str]]) -> Outlook:
    """The attention with which the word after each prefix is chosen, all in one pass: attention comes before the word,
    so what follows a prefix shares it."""
    vocabulary, model = checkpoint.vocabulary, checkpoint.model
    longest = max(map(len, prefixes))
    rows = [[BOS, *vocabulary.encode(words), *[EOS] * (longest - len(words))] for words in prefixes]
    last = [len(words) for words in prefixes]
    P = torch.arange(len(rows))
    with torch.inference_mode():
        output = model(torch.tensor([rows]), model.encode(stack([scene], vocabulary)))
        log_p = model.logits(output.c_tilde[0, P, last]).log_softmax(-1)
        likeliest, their_log_p = _likeliest(log_p, vocabulary)
    return Outlook(
        tuple(map(tuple, prefixes)),
        {
            n: frozen(w[0, P, :, last].transpose(0, 1).numpy())
            for n, w in output.weights.items()
            if w is not None and n not in ("x", "ad")
        },
        likeliest,
        frozen(their_log_p),
    )


def _likeliest(
    log_p: Float[torch.Tensor, "R W"], vocabulary: Vocabulary
) -> tuple[tuple[tuple[str, ...], ...], Float[np.ndarray, "R T"]]:
    """The TOP most probable words of each of R rows that can be said, and their log-probabilities."""
    sayable = log_p.index_fill(-1, torch.tensor(NEVER), -torch.inf)
    top = sayable.topk(min(TOP, log_p.shape[-1] - len(NEVER)), -1)
    return tuple(tuple(vocabulary.words[i] for i in row) for row in top.indices.tolist()), top.values.numpy()


def known(attributes: Attributes, checkpoint: Checkpoint) -> Attributes:
    """The attributes that the captioner has a word for; <unk> alone where it has none."""
    keep = [i for i, word in enumerate(attributes.words) if word in checkpoint.vocabulary]
    words = tuple(attributes.words[i] for i in keep) or (checkpoint.vocabulary.words[UNK],)
    keep = keep or [0]
    return Attributes(words, attributes.scores[keep], attributes.by_region[keep])


def _drops(
    checkpoint: Checkpoint,
    batch: Inputs,
    memory: Memory,
    inputs: list[int],
    targets: list[int],
    chosen: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """[L, N] and [L, M]: log p(word) minus log p(word) without that region, without that attribute.

    A photograph with a single region or attribute cannot lose it: NaN. Without a region the others group anew, so the
    photograph is encoded once more under N masks; without an attribute it stays as it is, and M captions of it each
    miss one.
    """
    N, M, L = batch.features.shape[1], batch.attributes.shape[1], len(inputs)
    model, words = checkpoint.model, torch.tensor([[inputs]])
    fewer = model.encode(batch._replace(region_mask=~torch.eye(N, dtype=torch.bool)))
    others = ~torch.eye(M, dtype=torch.bool).repeat_interleave(L, 0)[None, None]
    keys = {name: k._replace(mask=others) if name in OVER_ATTRIBUTES else k for name, k in memory.keys.items()}
    regions = model(words.expand(N, 1, L), fewer).c_tilde[:, 0]
    attributes = model(words.expand(1, M, L), memory._replace(keys=keys)).c_tilde[0]
    log_p = model.logits(torch.cat([regions, attributes])).log_softmax(-1)
    left = log_p.gather(-1, torch.tensor(targets).expand(N + M, -1)[..., None])[..., 0]
    drop = (chosen - left).T
    return drop[:, :N], drop[:, N:]
