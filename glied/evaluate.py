"""checkpoint, split -> report."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint
from glied.data import FeatureCache, load_dataset
from glied.decode import DecodeOptions, caption
from glied.errors import GliedError
from glied.metrics import habits, score
from glied.regions import open_source
from glied.scene import Scene

BATCH = 50


def evaluate(
    checkpoint: Checkpoint, detector: AttributeDetector, data: Path, split: str, cache: Path, options: DecodeOptions
) -> dict[str, Any]:
    """Captions every photograph of a split and scores the captions against its human ones.

    Returns:
        `scores` (corpus), `habits` of the captions and of the first human ones (see metrics.py), `images` (per image:
        caption and scores), and what is needed to repeat it: checkpoint, data, split, options, seconds by stage,
        problems.
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
    bar = tqdm(total=len(photographs), desc=f"captions of {split}", unit="image")
    for i in range(0, len(photographs), BATCH):
        chosen = photographs[i : i + BATCH]
        scenes = [Scene(r, detector.find_attributes(r)) for r in features.read(keys[p.path] for p in chosen)]
        decoded = caption(checkpoint, scenes, options)
        captions |= {p.id: d.captions[0].text for p, d in zip(chosen, decoded, strict=True)}
        bar.update(len(chosen))
    bar.close()
    seconds["captions"], start = time.perf_counter() - start, time.perf_counter()
    scores = score({p.id: p.captions for p in photographs}, captions)
    seconds["scores"] = time.perf_counter() - start
    return {
        "scores": scores.corpus,
        "habits": habits(captions.values()),
        "human_habits": habits(p.captions[0] for p in photographs),
        "images": {id: {"caption": captions[id], **values} for id, values in scores.images.items()},
        "checkpoint": checkpoint.digest,
        "data": dataset.name,
        "split": split,
        "options": asdict(options),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "problems": [*dataset.problems, *problems],
    }
