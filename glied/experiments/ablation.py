"""GLIED's variants, and the captioners that the paper compares it with, trained alike and scored on val: tables."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from glied.captions import DecodeOptions
from glied.checkpoint import load, load_attribute_detector, load_pair
from glied.data.dataset import load_dataset
from glied.data.features import FeatureCache
from glied.data.split import read_split
from glied.evaluation.evaluate import evaluate, read_scenes
from glied.evaluation.metrics import interval
from glied.evaluation.report import table as markdown_table
from glied.experiments.rows import PAPER, ROWS, SYSTEMS
from glied.files import replacing, to_json
from glied.regions import open_source
from glied.training.cross_entropy import train_captioner
from glied.training.material import caption_split, find_all
from glied.training.options import Places, TrainOptions


def ablate(places: Places, names: Sequence[str], seeds: Sequence[int], options: TrainOptions) -> dict[str, Any]:
    """Trains every variant with every seed, each in a folder of the run's, and scores its best epoch on val.

    Can be stopped at any time: started again, it goes on where it was. Photographs are resampled for the intervals,
    over the mean of a variant's seeds.

    Returns:
        `rows`: for each variant its parameters, and for each seed the epoch, the minutes and the scores.
    """
    rows = []
    for name in names:
        runs = []
        images: list[np.ndarray] = []
        for seed in seeds:
            there = replace(places, run=places.run / f"{name}-{seed}", out=None)
            checkpoint = train_captioner(name, there, replace(options, seed=seed))
            file = there.run / "val.json"
            known = json.loads(file.read_text()) if file.is_file() else {}
            if known.get("checkpoint") != checkpoint.digest or "tokenizer" not in known:
                checkpoint, detector = load_pair(there.best, places.detector)
                scenes = read_scenes(load_dataset(places.data), "val", places.cache, detector)
                report = evaluate(checkpoint, scenes, DecodeOptions())
                with replacing(file) as aside:
                    aside.write_text(to_json(report), encoding="utf-8")
            report = json.loads(file.read_text())
            images.append(np.array([image["CIDEr"] for _, image in sorted(report["images"].items())]))
            card = checkpoint.provenance
            runs.append({"seed": seed, "epoch": card["epochs"], "minutes": card["minutes"], **report["scores"]})
        parameters = sum(p.numel() for p in checkpoint.model.parameters())
        cider = [run["CIDEr"] for run in runs]
        low, high = interval(np.mean(images, axis=0))
        rows.append(
            {
                "variant": name,
                "parameters": parameters,
                "CIDEr": float(np.mean(cider)),
                "CIDEr_low": low,
                "CIDEr_high": high,
                "CIDEr_deviation": float(np.std(cider, ddof=1)) if len(cider) > 1 else None,
                "Bleu_4": float(np.mean([run["Bleu_4"] for run in runs])),
                "runs": runs,
            }
        )
    return {"seeds": list(seeds), "rows": rows}


def compare_systems(places: Places, names: Sequence[str], options: TrainOptions) -> dict[str, Any]:
    """Trains Base, GLIED and those of SYSTEMS alike, and measures how fast each captions val at beam 3.

    Can be stopped and resumed as `ablate`. The speeds are of one run: the systems take turns, each counts its best.

    Returns:
        `rows` as `ablate`, with `minutes` to the best epoch and `images_per_s`; `machine`: its threads.
    """
    result = ablate(places, names, (options.seed,), options)
    speeds: dict[str, float] = dict.fromkeys(names, 0.0)
    models = {name: load(places.run / f"{name}-{options.seed}" / "best.safetensors") for name in names}
    detector, _ = load_attribute_detector(places.detector)
    val = read_split(load_dataset(places.data), FeatureCache(places.cache, open_source(detector.source)), "val")
    vocabulary = next(iter(models.values())).vocabulary
    attributes = find_all(detector, val, vocabulary, {})
    for name in [*names, *names, *names]:
        start = time.perf_counter()
        caption_split(models[name].model, val, attributes, vocabulary)
        speeds[name] = max(speeds[name], len(val.photographs) / (time.perf_counter() - start))
    rows = [row | row["runs"][0] | {"images_per_s": speeds[row["variant"]]} for row in result["rows"]]
    return result | {"rows": rows, "machine": {"threads": torch.get_num_threads()}}


def systems_table(result: dict[str, Any]) -> str:
    """The rows as Markdown, the paper's beside them."""
    head = ["", "parameters", "minutes to best CIDEr", "images per second", "CIDEr", "95 % interval"]
    head += ["paper: parameters", "hours", "images per second", "CIDEr (MSCOCO)"]
    rows = []
    for row in result["rows"]:
        name, paper = row["variant"], [f"{value:.1f}" for value in PAPER.get(row["variant"], ())] or [""] * 4
        cost = [f"{row['parameters'] / 1e6:.1f}M", f"{row['minutes']:.0f}", f"{row['images_per_s']:.0f}"]
        rows.append([SYSTEMS[name], *cost, *_cider(row), *paper])
    return markdown_table(head, rows)


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    rows = []
    for row in result["rows"]:
        deviation = "" if row["CIDEr_deviation"] is None else f"{row['CIDEr_deviation']:.3f}"
        size = f"{row['parameters'] / 1e6:.2f}M"
        rows.append([ROWS[row["variant"]], size, f"{row['Bleu_4']:.3f}", *_cider(row), deviation])
    return markdown_table(["variant", "parameters", "Bleu_4", "CIDEr", "95 % interval", "seeds' deviation"], rows)


def _cider(row: dict[str, Any]) -> list[str]:
    return [f"{row['CIDEr']:.3f}", f"{row['CIDEr_low']:.3f} to {row['CIDEr_high']:.3f}"]
