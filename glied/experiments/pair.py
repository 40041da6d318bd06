"""Base and GLIED trained alike, by cross-entropy and then self-critical, with several seeds; and what they score."""

import json
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glied.checkpoint import Checkpoint
from glied.errors import GliedError
from glied.evaluation.metrics import interval, paired, score
from glied.evaluation.report import table as markdown_table
from glied.experiments.rows import PAIR
from glied.files import replacing
from glied.training.cross_entropy import train_captioner
from glied.training.loop import OutOfTimeError, join
from glied.training.material import Material, caption_split, prepare, references_by_set
from glied.training.options import Places, ReinforceOptions, TrainOptions
from glied.training.self_critical import reinforce
from glied.workers import begin

STAGES = {"xe": "cross-entropy", "rl": "self-critical"}
SCORES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")  # those that need no Java


def train_pairs(
    places: Places, seeds: Sequence[int], xe: TrainOptions, rl: ReinforceOptions, minutes: float, together: int
) -> dict[str, Any]:
    """Trains Base and GLIED with each seed, by cross-entropy and then self-critical, each in a folder of the run's.

    Can be stopped at any time: started again, it goes on where it was. Finished captioners lie in the run's folder as
    MODEL-STAGE-SEED.safetensors, and what they score on val beside them as JSON.

    Args:
        minutes: trainings stop after so many, with their states saved; 0 for no limit.
        together: processes that share the trainings and the device.

    Returns:
        what `compare` finds; `stopped`: a sentence for each training that the time was too short for; the machine.
    """
    if xe.mirror != rl.mirror:
        raise GliedError("Expected mirrored photographs in both stages or in none; give both or neither their mirror.")
    until = time.time() + 60 * minutes if minutes else math.inf
    jobs = [(model, seed) for seed in seeds for model in PAIR]
    shares = [jobs[i::together] for i in range(min(together, len(jobs)))]
    threads = max(1, torch.get_num_threads() // len(shares))
    if len(shares) == 1:
        ends = [_train(jobs, places, xe, rl, until)]
    else:
        os.environ["TQDM_DISABLE"] = "1"  # their bars would write over each other
        spawn = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(len(shares), spawn, begin, (threads,)) as pool:
                ends = list(pool.map(partial(_train, places=places, xe=xe, rl=rl, until=until), shares))
        except BrokenProcessPool as error:
            raise GliedError(
                "Expected every process to end by itself, one was stopped, perhaps for want of memory; start the same "
                "command again, with a smaller --together."
            ) from error
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    machine = {"device": where, "threads": threads, "together": len(shares), "torch": torch.__version__}
    return compare(places.run, seeds) | {"stopped": [end for end in ends if end], "machine": machine}


def _train(
    jobs: Sequence[tuple[str, int]], places: Places, xe: TrainOptions, rl: ReinforceOptions, until: float
) -> str | None:
    """Trains both stages of some captioners, one after another, until the time is over; says where that was."""
    material = prepare(places, xe.mirror, xe.min_count)
    for model, seed in jobs:
        start: Path | None = None
        for stage, options in (("xe", xe), ("rl", rl)):
            name = f"{model}-{stage}-{seed}"
            out = places.run / f"{name}.safetensors"
            there = replace(places, run=places.run / name, out=out)
            left = 0.0 if until == math.inf else max(1e-6, (until - time.time()) / 60)
            own: Any = replace(options, seed=seed, minutes=left)
            try:
                if start is None:
                    checkpoint = train_captioner(model, there, own, material=material)
                else:
                    checkpoint = reinforce(start, there, own, material)
            except OutOfTimeError as over:
                return str(over)
            _score(checkpoint, material, places.run / f"{name}.json")
            start = out
    return None


def _score(checkpoint: Checkpoint, material: Material, file: Path) -> None:
    """Scores a captioner on the val photographs of each set, unless it has its scores already."""
    if file.is_file() and json.loads(file.read_text())["checkpoint"] == checkpoint.digest:
        return
    device, _, _ = join()
    model = checkpoint.model.to(device)
    captions = caption_split(model, material.val, material.val_attributes, material.vocabulary)
    val = {}
    for name, references in references_by_set(material.val).items():
        found = score(references, {id: captions[id] for id in references}, SCORES)
        images = {id: {"caption": captions[id], **values} for id, values in found.images.items()}
        val[name] = {"scores": found.corpus, "tokenizer": found.tokenizer, "images": images}
    card = checkpoint.provenance
    about = {"checkpoint": checkpoint.digest, "epoch": card["epochs"], "minutes": card["minutes"]}
    _write(file, about | {"parameters": sum(p.numel() for p in model.parameters()), "val": val})


def _write(file: Path, value: Any) -> None:
    with replacing(file) as aside:
        aside.write_text(json.dumps(value))


def compare(run: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """What the finished captioners in a folder score on val.

    Returns:
        `captioners`: by name (MODEL-STAGE-SEED) the epoch, the minutes and the scores by data set; `unfinished`: names
        of the others; `rows`: for each stage and data set, over the seeds with which both captioners are finished, the
        CIDEr and BLEU-4 of each (by seed, their mean and their deviation), and the CIDEr of GLIED minus Base: by seed,
        and of the means over the seeds, with its 95 percent interval over photographs.
    """
    names = [f"{model}-{stage}-{seed}" for stage in STAGES for seed in seeds for model in PAIR]
    found = {name: json.loads(file.read_text()) for name in names if (file := run / f"{name}.json").is_file()}
    rows = []
    for stage, title in STAGES.items():
        done = [seed for seed in seeds if all(f"{model}-{stage}-{seed}" in found for model in PAIR)]
        for name in found[f"base-{stage}-{done[0]}"]["val"] if done else ():
            row: dict[str, Any] = {"stage": title, "data": name, "seeds": done}
            images: dict[str, np.ndarray] = {}  # CIDEr by seed and photograph
            for model in PAIR:
                val = [found[f"{model}-{stage}-{seed}"]["val"][name] for seed in done]
                images[model] = np.array([[each["CIDEr"] for each in v["images"].values()] for v in val])
                scores = {key: [v["scores"][key] for v in val] for key in ("CIDEr", "Bleu_4")}
                low, high = interval(images[model].mean(0))
                row[model] = {key: summary(values) for key, values in scores.items()} | {"low": low, "high": high}
            by_seed = (images["glied"] - images["base"]).mean(1).tolist()
            row["difference"] = summary(by_seed) | paired(images["glied"].mean(0), images["base"].mean(0))
            rows.append(row)
    for each in found.values():
        each["val"] = {name: v["scores"] | {"tokenizer": v["tokenizer"]} for name, v in each["val"].items()}
    return {"captioners": found, "unfinished": [name for name in names if name not in found], "rows": rows}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """A score by seed, its mean and its standard deviation (None of one seed)."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"by_seed": list(values), "mean": float(np.mean(values)), "deviation": deviation}


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown, and what is not done."""
    head = ["val", "stage", "seeds", "Base: CIDEr", "GLIED: CIDEr", "BLEU-4 of both", "GLIED minus Base"]
    rows = []
    for row in result["rows"]:
        cells = [row["data"], row["stage"], " ".join(map(str, row["seeds"]))]
        cells += [_spread(row[model]["CIDEr"]) for model in PAIR]
        cells.append(", ".join(f"{row[model]['Bleu_4']['mean']:.3f}" for model in PAIR))
        difference = row["difference"]
        cells.append(f"{_spread(difference)} ({difference['low']:+.3f} to {difference['high']:+.3f})")
        rows.append(cells)
    lines = [markdown_table([*head], rows)] if rows else []
    lines += result["stopped"]
    if unfinished := result["unfinished"]:
        lines.append(f"not done yet: {', '.join(unfinished)}; the same command goes on")
    return "\n".join(lines)


def _spread(values: dict[str, Any]) -> str:
    return f"{values['mean']:.3f}" + ("" if values["deviation"] is None else f" ± {values['deviation']:.3f}")
