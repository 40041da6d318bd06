"""One safetensors file holds everything a model needs: weights, configuration, words, provenance."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from glied.attributes import AttributeDetector
from glied.config import ModelConfig
from glied.errors import GliedError
from glied.files import replacing
from glied.model import Captioner, build
from glied.vocabulary import Vocabulary

FORMAT = "glied-1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained captioner and what it was trained on.

    Attributes:
        attributes: the attribute words the captioner saw in training, most frequent first.
        source: name of the region source; features of any other are refused.
        provenance: data, command, commit, seed, epochs, scores: whatever the training recorded.
        digest: first 12 hex digits of the file's SHA-256.
    """

    model: Captioner
    vocabulary: Vocabulary
    attributes: tuple[str, ...]
    source: str
    provenance: dict[str, Any] = field(default_factory=dict)
    digest: str = ""

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all; weights as float16."""
        header = {
            "kind": "captioner",
            "config": asdict(self.model.config),
            "vocabulary": self.vocabulary.words,
            "attributes": self.attributes,
            "source": self.source,
            "provenance": self.provenance,
        }
        _write(path, self.model, header)


def load(path: Path) -> Checkpoint:
    """A captioner from its file, in evaluation mode. Nothing is unpickled."""
    header, tensors, digest = _read(path, "captioner")
    with _described(path):
        model = build(ModelConfig(**header["config"]))
        _fill(model, tensors, path)
        return Checkpoint(
            model.eval(),
            Vocabulary(tuple(header["vocabulary"])),
            tuple(header["attributes"]),
            header["source"],
            header["provenance"],
            digest,
        )


def save_detector(path: Path, detector: AttributeDetector, provenance: dict[str, Any]) -> None:
    """Writes an attribute detector, as `Checkpoint.save` does a captioner."""
    header = {
        "kind": "attributes",
        "words": detector.words,
        "feature_dim": detector.feature_dim,
        "hidden": detector.hidden,
        "source": detector.source,
        "provenance": provenance,
    }
    _write(path, detector, header)


def load_detector(path: Path) -> tuple[AttributeDetector, dict[str, Any]]:
    """An attribute detector from its file, in evaluation mode, and its provenance with the file's digest."""
    header, tensors, digest = _read(path, "attributes")
    with _described(path):
        detector = AttributeDetector(tuple(header["words"]), header["feature_dim"], header["source"], header["hidden"])
        _fill(detector, tensors, path)
        return detector.eval(), header["provenance"] | {"digest": digest}


def load_pair(captioner: Path, detector: Path) -> tuple[Checkpoint, AttributeDetector]:
    """A captioner and the very detector whose attributes it was trained on."""
    checkpoint = load(captioner)
    attributes, card = load_detector(detector)
    expected = checkpoint.provenance.get("detector", card["digest"])
    if (attributes.words, attributes.source, card["digest"]) != (checkpoint.attributes, checkpoint.source, expected):
        raise GliedError(
            f"Expected the attribute detector that {captioner.name} was trained with ({expected}), got another "
            f"({card['digest']}) in {detector}; name the right one with --attributes, or fetch both files again."
        )
    return checkpoint, attributes


def describe(path: Path) -> dict[str, Any]:
    """What a file of ours says about itself: its header, size and digest."""
    header, tensors, digest = _read(path, None)
    modules: dict[str, int] = {}
    for name, tensor in tensors.items():
        module = name.rsplit(".", 2)[0] if name.count(".") > 1 else name.split(".")[0]
        modules[module] = modules.get(module, 0) + tensor.numel()
    return {"file": str(path), "digest": digest, "bytes": Path(path).stat().st_size, **header, "parameters": modules}


def _write(path: Path, module: nn.Module, header: dict[str, Any]) -> None:
    tensors = {name: p.detach().half().contiguous() for name, p in module.named_parameters()}
    # one entry: safetensors writes several in a random order, and the same content is to be the same file
    with replacing(path) as aside:
        save_file(tensors, aside, {"glied": json.dumps({"format": FORMAT, **header})})


def _read(path: Path, kind: str | None) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
    path = Path(path)
    if not path.is_file():
        raise GliedError(f"Expected a checkpoint at {path}, found no such file; train one or name another.")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("glied", "{}"))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise GliedError(
            f"Expected a safetensors checkpoint of this project in {path}, it is damaged or of another "
            f"kind ({error}); pickled weights are never loaded."
        ) from error
    if header.get("format") != FORMAT or (kind and header.get("kind") != kind):
        found = header.get("kind") or header.get("format") or "weights without a description"
        wanted = {"captioner": "captioner", "attributes": "attribute detector"}.get(kind or "", "checkpoint")
        raise GliedError(f"Expected a {wanted} ({FORMAT}) in {path}, found {found}; choose another file.")
    return header, tensors, hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@contextmanager
def _described(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError) as error:  # an entry is missing, or one is unknown
        raise GliedError(
            f"Expected a description of the model in {path} that this version reads, it does not fit ({error}); "
            "the file was made by another version, train or fetch it again."
        ) from error


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copies `tensors` into the parameters of the same name; shared parameters are stored once."""
    parameters = dict(module.named_parameters())
    wrong = [
        n
        for n in parameters.keys() | tensors.keys()
        if n not in tensors or n not in parameters or parameters[n].shape != tensors[n].shape
    ]
    if wrong:
        raise GliedError(
            f"Expected weights that fit the configuration inside {path}, {len(wrong)} differ "
            f"({sorted(wrong)[0]} first); the file was made by another version, train or fetch it again."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
