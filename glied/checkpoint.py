"""Captioners and attribute detectors and their files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glied.attributes import AttributeDetector
from glied.baselines.build import build
from glied.baselines.ensemble import Ensemble
from glied.config import ModelConfig
from glied.errors import GliedError
from glied.functions import Functions
from glied.model import Captioner
from glied.vocabulary import FUNCTION_WORDS, Vocabulary
from glied.weights import Unfilled, described, fill, read_header, read_weights, write_weights


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
            "config": self.model.config.stored(),
            "vocabulary": self.vocabulary.words,
            "attributes": self.attributes,
            "source": self.source,
            "provenance": self.provenance,
        }
        write_weights(path, self.model, header)


@dataclass(frozen=True, eq=False)
class Card:
    """The description in a captioner's file: a Checkpoint without the weights.

    Attributes:
        title: what people call the captioner. `functions`: what it attends with.
    """

    config: ModelConfig
    title: str
    functions: Functions
    vocabulary: Vocabulary
    attributes: tuple[str, ...]
    source: str
    provenance: dict[str, Any]
    digest: str


def read_card(path: Path) -> Card:
    """The card of a captioner's file; much faster than `load`."""
    header, digest = read_header(path, "captioner")
    with described(path):
        config = ModelConfig(**header["config"])
        model = build(
            replace(config, vocabulary_size=4, d=16, d_head=8)
        )  # what it declares does not depend on its size
        words = Vocabulary(tuple(header["vocabulary"]))
        attributes, source, provenance = tuple(header["attributes"]), header["source"], header["provenance"]
        return Card(config, model.title, model.functions, words, attributes, source, provenance, digest)


def load(path: Path) -> Checkpoint:
    """A captioner from its file, in evaluation mode. Nothing is unpickled."""
    header, tensors, digest = read_weights(path, "captioner")
    with described(path), Unfilled():
        model = build(ModelConfig(**header["config"]))
        fill(model, tensors, path)
        return Checkpoint(
            model.eval(),
            Vocabulary(tuple(header["vocabulary"])),
            tuple(header["attributes"]),
            header["source"],
            header["provenance"],
            digest,
        )


def save_attribute_detector(path: Path, detector: AttributeDetector, provenance: dict[str, Any]) -> None:
    """Writes an attribute detector, as `Checkpoint.save` does a captioner."""
    header = {
        "kind": "attributes",
        "words": detector.words,
        "feature_dim": detector.feature_dim,
        "hidden": detector.hidden,
        "source": detector.source,
        "without": sorted(detector.without),
        "provenance": provenance,
    }
    write_weights(path, detector, header)


def load_attribute_detector(path: Path) -> tuple[AttributeDetector, dict[str, Any]]:
    """An attribute detector from its file, in evaluation mode, and its provenance with the file's digest."""
    header, tensors, digest = read_weights(path, "attributes")
    with described(path), Unfilled():
        without = frozenset(header.get("without", FUNCTION_WORDS))  # files of version 0.1.0 do not say
        shape = (tuple(header["words"]), header["feature_dim"], header["source"], header["hidden"])
        detector = AttributeDetector(*shape, without=without)
        fill(detector, tensors, path)
        return detector.eval(), header["provenance"] | {"digest": digest}


def load_pair(captioner: Path, detector: Path) -> tuple[Checkpoint, AttributeDetector]:
    """A captioner and the attribute detector that it was trained with; any other raises GliedError."""
    checkpoint = load(captioner)
    attributes, card = load_attribute_detector(detector)
    check_pair(checkpoint, captioner, attributes, card["digest"], detector)
    return checkpoint, attributes


def load_ensemble(captioners: Sequence[Path], detector: Path) -> tuple[Checkpoint, AttributeDetector]:
    """An ensemble of captioners of one vocabulary, which averages their probabilities at every step, and their
    attribute detector. A single file gives that captioner itself."""
    checkpoints, detectors = zip(*(load_pair(path, detector) for path in captioners), strict=True)
    first = checkpoints[0]
    if len(checkpoints) == 1:
        return first, detectors[0]
    for path, each in zip(captioners, checkpoints, strict=True):
        if each.vocabulary != first.vocabulary:
            raise GliedError(
                f"Expected captioners of one vocabulary, {path.name} has other words than {captioners[0].name}; choose "
                "captioners that were trained on the same captions."
            )
    digests = [each.digest for each in checkpoints]
    digest = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]
    card = {"command": first.provenance.get("command"), "ensemble": digests}
    model = Ensemble([each.model for each in checkpoints]).eval()
    return replace(first, model=model, provenance=card, digest=digest), detectors[0]


def check_pair(
    captioner: Checkpoint | Card, path: Path, detector: AttributeDetector, digest: str, detector_path: Path
) -> None:
    """Raises GliedError where a captioner was trained with another attribute detector than the one of this digest."""
    expected = captioner.provenance.get("detector", digest)
    if (detector.words, detector.source, digest) != (captioner.attributes, captioner.source, expected):
        raise GliedError(
            f"Expected the attribute detector that {path.name} was trained with ({expected}), got another "
            f"({digest}) in {detector_path}; name the right one with --attributes, or fetch both files again."
        )


def describe(path: Path) -> dict[str, Any]:
    """What a file of ours says about itself: its header, size and digest."""
    header, tensors, digest = read_weights(path, None)
    modules: dict[str, int] = {}
    for name, tensor in tensors.items():
        module = name.rsplit(".", 2)[0] if name.count(".") > 1 else name.split(".")[0]
        modules[module] = modules.get(module, 0) + tensor.numel()
    return {"file": str(path), "digest": digest, "bytes": Path(path).stat().st_size, **header, "parameters": modules}
