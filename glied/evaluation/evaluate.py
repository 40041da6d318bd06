"""checkpoint, split -> report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycocoevalcap  # noqa: F401  for the scores: fails here, before the work, if it is missing
import torch
from jaxtyping import Float
from torch import Tensor

from glied.attributes import AttributeDetector
from glied.batch import stack
from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint
from glied.data.dataset import Dataset, Photograph
from glied.data.features import FeatureCache
from glied.data.split import encode_captions
from glied.decode import caption
from glied.errors import GliedError
from glied.evaluation.metrics import doubt, habits, score
from glied.regions import open_source
from glied.scene import Scene
from glied.terminal import track
from glied.vocabulary import PAD

BATCH = 50


@dataclass(frozen=True, eq=False)
class Scenes:
    """The photographs of a split that have regions, and where their scenes are read from, one after another.

    Attributes:
        keys: of the photographs in `features`. `problems`: a sentence for each photograph that has no regions.
        seconds: that finding the regions took.
    """

    dataset: Dataset
    split: str
    photographs: Sequence[Photograph]
    keys: Mapping[Path, str]
    features: FeatureCache
    detector: AttributeDetector
    problems: Sequence[str]
    seconds: float

    def read(self, photographs: Sequence[Photograph]) -> Iterator[Scene]:
        """The scenes of some of the photographs."""
        for regions in self.features.read(self.keys[p.path] for p in photographs):
            yield Scene(regions, self.detector.find_attributes(regions))


def read_scenes(dataset: Dataset, split: str, cache: Path, detector: AttributeDetector) -> Scenes:
    """Finds the regions of a split that are not in the cache yet."""
    start = time.perf_counter()
    features = FeatureCache(cache, open_source(detector.source))
    photographs = dataset.split(split)
    known = {p.path: p.key for p in photographs if p.key}
    keys, problems = features.extract([p.path for p in photographs], known=known)
    photographs = [p for p in photographs if p.path in keys]
    if not photographs:
        raise GliedError(f"Expected photographs with regions in split {split}, found none: {problems[0]}")
    return Scenes(dataset, split, photographs, keys, features, detector, problems, time.perf_counter() - start)


def evaluate(checkpoint: Checkpoint, scenes: Scenes, options: DecodeOptions) -> dict[str, Any]:
    """Captions every photograph of a split and scores the captions against its human ones.

    Returns:
        `title` of the captioner, `scores` (corpus), `missing` and `tokenizer` (see metrics.py), `perplexity` of the
        words of the human captions, `habits` of the captions and of the first human ones (`novel`: not among the
        training captions), `images` (per image: caption and scores), and what describes the run: checkpoint, data,
        split, options, seconds by stage, problems.
    """
    dataset, photographs = scenes.dataset, scenes.photographs
    seconds, start = {"regions": scenes.seconds}, time.perf_counter()
    captions: dict[str, str] = {}
    log_p: list[Tensor] = []
    bar = track(total=len(photographs), desc=f"captions of {scenes.split}", unit="image")
    for i in range(0, len(photographs), BATCH):
        chosen = photographs[i : i + BATCH]
        read = list(scenes.read(chosen))
        decoded = caption(checkpoint, read, options)
        log_p.append(human_log_probability(checkpoint, read, [p.tokens for p in chosen]))
        captions |= {p.id: d.captions[0].text for p, d in zip(chosen, decoded, strict=True)}
        bar.update(len(chosen))
    bar.close()
    seconds["captions"], start = time.perf_counter() - start, time.perf_counter()
    scores = score({p.id: p.captions for p in photographs}, captions)
    known = [text for p in dataset.photographs if p.split in ("train", "restval") for text in p.captions]
    seconds["scores"] = time.perf_counter() - start
    return {
        "title": title(checkpoint),
        "scores": scores.corpus,
        "missing": scores.missing,
        "tokenizer": scores.tokenizer,
        "perplexity": torch.cat(log_p).mean().neg().exp().item(),
        "habits": habits(captions.values(), known),
        "human_habits": habits((p.captions[0] for p in photographs), known),
        "images": {
            id: {"caption": captions[id], **{name: round(value, 5) for name, value in values.items()}}
            for id, values in scores.images.items()
        },
        "checkpoint": checkpoint.digest,
        "data": dataset.name,
        "split": scenes.split,
        "options": asdict(options),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "problems": [*dataset.problems, *scenes.problems, *doubt(len(photographs))],
    }


def title(checkpoint: Checkpoint) -> str:
    """What tables call a captioner: "GLIED, self-critical"."""
    rl = checkpoint.provenance.get("command") == "train rl"
    return f"{checkpoint.model.title}, {'self-critical' if rl else 'cross-entropy'}"


@torch.inference_mode()
def human_log_probability(
    checkpoint: Checkpoint, scenes: Sequence[Scene], texts: Sequence[Sequence[Sequence[str]]]
) -> Float[Tensor, " n"]:
    """log p of every word (EOS counted) of the first five human captions of each scene; of <unk> for unknown words."""
    model = checkpoint.model
    tokens = encode_captions(texts, checkpoint.vocabulary, model.config.max_length)
    target = tokens[:, :, 1:]
    live = target != PAD
    output = model(tokens[:, :, :-1], model.encode(stack(scenes, checkpoint.vocabulary)))
    return model.logits(output.c_tilde[live]).log_softmax(-1).gather(-1, target[live][:, None])[:, 0]
