"""(model, scene, words) -> Trace: every attention behind a caption, in one pass. torch stops here."""

import hashlib
import json
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
from glied.model import Inputs
from glied.scene import Attributes, Scene, frozen
from glied.vocabulary import BOS, EOS, UNK

FORMAT = "glied-trace-1"
TOP = 10


@dataclass(frozen=True, eq=False)
class Trace:
    """How a model sees one caption of one photograph, word by word. Immutable; equal by value.

    Attributes:
        architecture, checkpoint: `base` or `glied`, and the digest of the checkpoint's file.
        size: (width, height) of the photograph in pixels.
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

    def save(self, path: Path) -> None:
        """Writes an .npz file whole or not at all."""
        arrays = {f"attention.{n}" if n in self.attention else n: a for n, a in self._arrays().items()}
        header = np.array(json.dumps({"format": FORMAT, **self._texts()}))
        with replacing(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, header=header, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """A trace from its .npz file. Nothing is unpickled."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            header = json.loads(str(arrays.pop("header")))
            if header.pop("format") != FORMAT:
                raise ValueError("another format")
            attention = {n.split(".")[1]: arrays.pop(n) for n in list(arrays) if n.startswith("attention.")}
            lists: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header.items()}
            lists["alternatives"] = tuple(tuple(row) for row in header["alternatives"])
            return cls(**(lists | arrays), attention=attention)
        except Exception as error:  # a foreign zip can fail in many ways
            raise GliedError(
                f"Expected a {FORMAT} file of this project in {path}, it is missing, damaged or of "
                f"another kind ({type(error).__name__}); make one with `python -m glied trace`."
            ) from error


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
        sayable = log_p.index_fill(-1, torch.tensor(NEVER), -torch.inf)
        top = sayable.topk(min(TOP, log_p.shape[-1] - len(NEVER)), -1)
        chosen = log_p.gather(-1, torch.tensor(targets)[:, None])[:, 0]
        regions, attributes = _drops(checkpoint, batch, inputs, targets, chosen) if removals else (None, None)
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
        alternatives=tuple(tuple(vocabulary.words[i] for i in row) for row in top.indices.tolist()),
        alternative_log_probabilities=top.values.numpy(),
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
        top = log_p.index_fill(-1, torch.tensor(NEVER), -torch.inf).topk(min(TOP, log_p.shape[-1] - len(NEVER)), -1)
    return Outlook(
        tuple(map(tuple, prefixes)),
        {
            n: frozen(w[0, P, :, last].transpose(0, 1).numpy())
            for n, w in output.weights.items()
            if w is not None and n not in ("x", "ad")
        },
        tuple(tuple(vocabulary.words[i] for i in row) for row in top.indices.tolist()),
        frozen(top.values.numpy()),
    )


def known(attributes: Attributes, checkpoint: Checkpoint) -> Attributes:
    """The attributes that the captioner has a word for; <unk> alone where it has none."""
    keep = [i for i, word in enumerate(attributes.words) if word in checkpoint.vocabulary]
    words = tuple(attributes.words[i] for i in keep) or (checkpoint.vocabulary.words[UNK],)
    keep = keep or [0]
    return Attributes(words, attributes.scores[keep], attributes.by_region[keep])


def _drops(
    checkpoint: Checkpoint, batch: Inputs, inputs: list[int], targets: list[int], chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """[L, N] and [L, M]: log p(word) minus log p(word) without that region, without that attribute.

    A photograph with a single region or attribute cannot lose it: NaN.
    """
    N, M = batch.features.shape[1], batch.attributes.shape[1]
    without = ~torch.eye(N + M, dtype=torch.bool)
    removed = Inputs(
        batch.features.expand(N + M, -1, -1), without[:, :N], batch.attributes.expand(N + M, -1), without[:, N:]
    )
    model = checkpoint.model
    output = model(torch.tensor([[inputs]]).expand(N + M, 1, -1), model.encode(removed))
    log_p = model.logits(output.c_tilde[:, 0]).log_softmax(-1)
    left = log_p.gather(-1, torch.tensor(targets).expand(N + M, -1)[..., None])[..., 0]
    drop = (chosen - left).T
    return drop[:, :N], drop[:, N:]
