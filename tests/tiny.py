"""The smallest things the project's types allow: words, scenes, models and checkpoints for the tests."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glied import __main__ as cli
from glied.baselines.build import build
from glied.batch import stack
from glied.checkpoint import Checkpoint
from glied.config import ModelConfig
from glied.model import Captioner, Inputs
from glied.regions.grid import Grid
from glied.scene import Attributes, Regions, Scene
from glied.vocabulary import SPECIAL, Vocabulary

WORDS = ("a", "dog", "cat", "runs", "sits", "on", "grass", "red", "man", "the", "ball", "beach")
FEW = ("a", "dog", "runs", "red", "ball", "grass", "man", "sits")  # of the models for the command line
HOSTILE = "<img/src=x/onerror=alert(1)>"
SOURCE = "tiny-1"
WIDTH = 12
SMALL = ModelConfig(feature_dim=WIDTH, d=16, heads=2, d_head=8, max_length=8)


def vocabulary(words: Sequence[str] = WORDS) -> Vocabulary:
    return Vocabulary(SPECIAL + tuple(words))


def regions(n: int = 5, seed: int = 0, source: str = SOURCE, width: int = WIDTH) -> Regions:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 50, (n, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 40, (n, 2))], 1).astype(np.float32)
    return Regions(boxes, random.normal(size=(n, width)).astype(np.float32), (100, 90), source)


def scene(n: int = 5, m: int = 4, seed: int = 0, words: Sequence[str] = WORDS, source: str = SOURCE) -> Scene:
    """n regions with random features and m attributes, words of the vocabulary."""
    random = np.random.default_rng(1000 + seed)
    chosen = tuple(str(w) for w in random.choice(list(words), m, replace=False))
    by_region = random.uniform(0, 0.5, (m, n)).astype(np.float32)
    return Scene(regions(n, seed, source), Attributes(chosen, 1 - np.prod(1 - by_region, 1), by_region))


def model(config: ModelConfig, seed: int = 0) -> Captioner:
    """A random model in which nothing is 0 or 1 by chance of initialisation: every bias and gain is random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = build(config)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return built.eval()


def checkpoint(architecture: str = "glied", words: Sequence[str] = WORDS, seed: int = 0, **changes) -> Checkpoint:
    """A tiny random captioner over `words`; `changes` go to its configuration."""
    config = replace(SMALL, architecture=architecture, vocabulary_size=4 + len(words), **changes)
    return Checkpoint(model(config, seed), vocabulary(words), tuple(words[:6]), SOURCE, {"seed": seed}, f"tiny-{seed}")


def save_tiny(folder: Path, name: str, architecture: str) -> None:
    """A random captioner for the app, d = 32, as NAME.safetensors; one of its words is hostile."""
    words = (*WORDS, HOSTILE)
    config = ModelConfig(architecture, 4 + len(words), 1280, d=32, heads=2, d_head=16, max_length=5)  # type: ignore[arg-type]
    made = Checkpoint(model(config), vocabulary(words), words, Grid.name, {"data": "none"})
    made.save(folder / f"{name}.safetensors")


def batch(scenes: Sequence[Scene], words: Sequence[str] = WORDS) -> Inputs:
    """The scenes as a batch in double precision."""
    inputs = stack(scenes, vocabulary(words))
    return inputs._replace(features=inputs.features.double())


Human = tuple[tuple[float, float, float, float], tuple[str, ...]]  # a box, and the phrases that name it
COLOURS = ((240, 30, 30), (30, 240, 30), (30, 30, 240), (240, 240, 30), (30, 240, 240))


def boxed(folder: Path, *photographs: tuple[str, tuple[int, int], Sequence[Human]]) -> Path:
    """A data set of photographs 0.png, 1.png ... (split, size, people's boxes): each box is painted in its colour, and
    every phrase is a sentence of its own."""
    (folder / "images").mkdir(parents=True)
    records, entities = [], {}
    for i, (split, (width, height), humans) in enumerate(photographs):
        image = Image.new("RGB", (width, height), (60, 60, 60))
        sentences: list[dict] = [{"raw": "A photograph .", "phrases": []}]
        for g, (box, phrases) in enumerate(humans):
            image.paste(COLOURS[g % len(COLOURS)], tuple(round(v) for v in box))
            for phrase in phrases:
                named = {"chain": g, "types": ["other"], "phrase": phrase, "first_word": 0}
                sentences.append({"raw": f"{phrase} .", "phrases": [named]})
        image.save(folder / "images" / f"{i}.png")
        records.append({"filename": f"{i}.png", "split": split, "sentences": [{"raw": s["raw"]} for s in sentences]})
        boxes = [{"chains": [g], "box": list(box)} for g, (box, _) in enumerate(humans)]
        entities[f"{i}.png"] = {"width": width, "height": height, "sentences": sentences, "boxes": boxes}
    (folder / "captions.json").write_text(json.dumps({"images": records}))
    (folder / "entities.json").write_text(json.dumps(entities))
    return folder


Classed = tuple[tuple[float, float, float, float], str, float]  # a box, its class, and how sure that is


def classed(folder: Path, *photographs: tuple[str, str, tuple[int, int], Sequence[Classed]]) -> Path:
    """A data set of photographs c0.png, c1.png ... (split, source, size, boxes) with boxes.json; painted as `boxed`
    does."""
    (folder / "images").mkdir(parents=True)
    captions, records = [], {}
    for i, (split, source, size, found) in enumerate(photographs):
        image = Image.new("RGB", size, (60, 60, 60))
        for g, (box, _, _) in enumerate(found):
            image.paste(COLOURS[g % len(COLOURS)], tuple(round(v) for v in box))
        image.save(folder / "images" / f"c{i}.png")
        captions.append({"filename": f"c{i}.png", "split": split, "sentences": [{"raw": "A photograph ."}]})
        records[f"c{i}.png"] = {"source": source, "boxes": [[*box, name, score] for box, name, score in found]}
    (folder / "captions.json").write_text(json.dumps({"images": captions}))
    (folder / "boxes.json").write_text(json.dumps(records))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command line in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["glied", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
