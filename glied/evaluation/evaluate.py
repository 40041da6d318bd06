"""checkpoint, split -> report."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from glied.attributes import AttributeDetector
from glied.batch import stack
from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint
from glied.data.dataset import Data, load_dataset
from glied.data.features import FeatureCache
from glied.data.split import encode_captions
from glied.decode import caption
from glied.errors import GliedError
from glied.evaluation.metrics import habits, score
from glied.regions import open_source
from glied.scene import Scene
from glied.vocabulary import PAD

BATCH = 50


def evaluate(
    checkpoint: Checkpoint, detector: AttributeDetector, data: Data, split: str, cache: Path, options: DecodeOptions
) -> dict[str, Any]:
    """Captions every photograph of a split and scores the captions against its human ones.

    Returns:
        `title` of the captioner, `scores` (corpus), `missing` and `tokenizer` (see metrics.py), `perplexity` of the
        words of the human captions, `habits` of the captions and of the first human ones (`novel`: not said in the
        training captions), `images` (per image: caption and scores), and what is needed to repeat it: checkpoint, data,
        split, options, seconds by stage, problems.
    """
    dataset = load_dataset(data)
    photographs = dataset.split(split)
    features = FeatureCache(cache, open_source(checkpoint.source))
    seconds = {}
    start = time.perf_counter()
    keys, problems = features.extract([p.path for p in photographs])
    photographs = [p for p in photographs if p.path in keys]
    if not photographs:
        raise GliedError(f"Expected photographs with regions in split {split}, none of them has any: {problems[0]}")
    seconds["regions"], start = time.perf_counter() - start, time.perf_counter()
    captions: dict[str, str] = {}
    log_p: list[Tensor] = []
    bar = tqdm(total=len(photographs), desc=f"captions of {split}", unit="image")
    for i in range(0, len(photographs), BATCH):
        chosen = photographs[i : i + BATCH]
        scenes = [Scene(r, detector.find_attributes(r)) for r in features.read(keys[p.path] for p in chosen)]
        decoded = caption(checkpoint, scenes, options)
        log_p.append(human_log_probability(checkpoint, scenes, [p.tokens for p in chosen]))
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
        "split": split,
        "options": asdict(options),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "problems": [*dataset.problems, *problems],
    }


def title(checkpoint: Checkpoint) -> str:
    """What tables call a captioner: "GLIED, self-critical"."""
    rl = checkpoint.provenance.get("command") == "train rl"
    return f"{checkpoint.model.title}, {'self-critical' if rl else 'cross-entropy'}"


@torch.inference_mode()
def human_log_probability(
    checkpoint: Checkpoint, scenes: Sequence[Scene], texts: Sequence[Sequence[Sequence[str]]]
) -> Float[Tensor, " n"]:
    """log p of every word (EOS counted) of the first five human captions of each scene; of <unk> where it is one."""
    model = checkpoint.model
    tokens = encode_captions(texts, checkpoint.vocabulary, model.config.max_length)
    target = tokens[:, :, 1:]
    live = target != PAD
    output = model(tokens[:, :, :-1], model.encode(stack(scenes, checkpoint.vocabulary)))
    return model.logits(output.c_tilde[live]).log_softmax(-1).gather(-1, target[live][:, None])[:, 0]
