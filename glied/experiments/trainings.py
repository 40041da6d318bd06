"""Captioners trained alike, by cross-entropy and then self-critical, and their scores on val: the data of tables."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glied.checkpoint import Checkpoint, load_ensemble
from glied.errors import GliedError
from glied.evaluation.metrics import interval, score
from glied.files import replacing
from glied.training.cross_entropy import train_captioner
from glied.training.loop import OutOfTimeError, join
from glied.training.material import Material, caption_split, prepare, references_by_set
from glied.training.options import Places, ReinforceOptions, TrainOptions
from glied.training.self_critical import reinforce
from glied.workers import Workers, spread

STAGES = {"xe": "cross-entropy", "rl": "self-critical"}
SCORES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")  # those that need no Java

Job = tuple[str, int]  # a preset, and a seed


def train_all(
    places: Places,
    jobs: Sequence[Job],
    xe: TrainOptions,
    rl: ReinforceOptions | None = None,
    minutes: float = 0.0,
    together: int = 1,
    metrics: Sequence[str] = SCORES,
) -> dict[str, Any]:
    """Trains captioners by cross-entropy and, with `rl`, self-critical from there, each in a folder of the run's.

    Can be stopped at any time: started again, it goes on where it was. Finished captioners lie in the run's folder as
    NAME-STAGE-SEED.safetensors, and what they score on each val set beside them as JSON.

    Args:
        minutes: trainings stop after this time, with their states saved; 0 for no limit.
        together: processes that share the trainings and the device.
        metrics: what is measured on val.

    Returns:
        `stopped`: a sentence for each training that ran out of time; the `machine`.
    """
    if rl is not None and xe.mirror != rl.mirror:
        raise GliedError(
            "Expected mirrored photographs in both stages or in none; set --xe.mirror and --rl.mirror alike."
        )
    until = time.time() + 60 * minutes if minutes else math.inf
    shares = [tuple(jobs[i::together]) for i in range(min(together, len(jobs)))]
    if len(shares) > 1:
        os.environ["TQDM_DISABLE"] = "1"  # the bars of several processes would overwrite each other
    work = Trainings(places, xe, rl, until, tuple(metrics))
    ends = sorted(filter(None, spread(work, shares, Workers(len(shares)))))
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    threads = max(1, torch.get_num_threads() // len(shares))
    machine = {"device": where, "threads": threads, "together": len(shares), "torch": torch.__version__}
    return {"stopped": ends, "machine": machine}


@dataclass(frozen=True)
class Trainings:
    """What every process does: see `train_all`. `until`: when the time is over, in seconds since the epoch."""

    places: Places
    xe: TrainOptions
    rl: ReinforceOptions | None
    until: float
    metrics: tuple[str, ...]

    def open(self) -> Callable[[Sequence[Job]], str | None]:
        """Reads the data set."""
        return partial(self.train, prepare(self.places, self.xe.mirror, self.xe.min_count))

    def train(self, material: Material, jobs: Sequence[Job]) -> str | None:
        """Trains all stages of some captioners, one after another, until the time is over; says where that was."""
        for model, seed in jobs:
            start: Path | None = None
            for stage, options in (("xe", self.xe), ("rl", self.rl)):
                if options is None:
                    continue
                name = f"{model}-{stage}-{seed}"
                out = self.places.run / f"{name}.safetensors"
                there = replace(self.places, run=self.places.run / name, out=out)
                left = 0.0 if self.until == math.inf else max(1e-6, (self.until - time.time()) / 60)
                own: Any = replace(options, seed=seed, minutes=left)
                try:
                    if start is None:
                        checkpoint = train_captioner(model, there, own, material=material)
                    else:
                        checkpoint = reinforce(start, there, own, material)
                except OutOfTimeError as over:
                    return str(over)
                _score(checkpoint, material, out.with_suffix(".json"), self.metrics)
                start = out
        return None


def _score(checkpoint: Checkpoint, material: Material, file: Path, metrics: Sequence[str]) -> None:
    """Scores a captioner on the val photographs of each set, unless it has its scores already."""
    if _scored(file, checkpoint.digest, metrics):
        return
    device, _, _ = join()
    model = checkpoint.model.to(device)
    captions = caption_split(model, material.val, material.val_attributes, material.vocabulary)
    val = {}
    for name, references in references_by_set(material.val).items():
        found = score(references, {id: captions[id] for id in references}, metrics)
        images = {id: {"caption": captions[id], **values} for id, values in found.images.items()}
        val[name] = {"scores": found.corpus, "tokenizer": found.tokenizer, "images": images}
    card = checkpoint.provenance
    about = {"checkpoint": checkpoint.digest, "epoch": card.get("epochs"), "minutes": card.get("minutes")}
    with replacing(file) as aside:
        parameters = sum(p.numel() for p in model.parameters())
        aside.write_text(json.dumps(about | {"parameters": parameters, "val": val}))


def _scored(file: Path, digest: str, metrics: Sequence[str]) -> bool:
    """Whether the file has all these scores, of the captioner of this digest."""
    if not file.is_file():
        return False
    known = json.loads(file.read_text())
    return known["checkpoint"] == digest and all(set(metrics) <= val["scores"].keys() for val in known["val"].values())


def score_ensemble(places: Places, members: Sequence[str], name: str, metrics: Sequence[str]) -> None:
    """Scores the ensemble of some captioners of the run (NAME-STAGE-SEED) under a name like theirs, once all of them
    are finished."""
    files = [places.run / f"{member}.safetensors" for member in members]
    if not all(file.with_suffix(".json").is_file() for file in files):
        return
    checkpoint, _ = load_ensemble(files, places.detector)
    file = places.run / f"{name}.json"
    if not _scored(file, checkpoint.digest, metrics):
        _score(checkpoint, prepare(places, False, checkpoint.vocabulary), file, metrics)


def read_scores(run: Path, name: str, stage: str, seed: int) -> dict[str, Any] | None:
    """What a finished captioner in a folder scores on val; None where it is not finished."""
    file = run / f"{name}-{stage}-{seed}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def images_of(runs: Sequence[dict[str, Any]], data: str) -> np.ndarray:
    """CIDEr of each photograph of a val set, the mean over the runs (one captioner with several seeds)."""
    return np.array([[image["CIDEr"] for image in run["val"][data]["images"].values()] for run in runs]).mean(0)


def summary(runs: Sequence[dict[str, Any]], data: str) -> dict[str, Any]:
    """Every score of runs on a val set, and `low` and `high`: the 95 percent interval of CIDEr over photographs."""
    scores = [run["val"][data]["scores"] for run in runs]
    low, high = interval(images_of(runs, data))
    return {name: average([each[name] for each in scores]) for name in scores[0]} | {"low": low, "high": high}


def average(values: Sequence[Any]) -> dict[str, Any]:
    """A score by seed, its mean (None without the score) and its standard deviation (None of one seed)."""
    if None in values:
        return {"by_seed": list(values), "mean": None, "deviation": None}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"by_seed": list(values), "mean": float(np.mean(values)), "deviation": deviation}


def tabulate(run: Path, names: Sequence[str], stages: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """What the finished captioners in a folder score on val.

    Returns:
        `rows`: for each captioner, stage and data set, over the seeds that are finished, what `summary` finds, the
        number of photographs and of parameters, and by seed the best epoch and the minutes to it; `unfinished`: names
        of the others.
    """
    rows, unfinished = [], []
    for name in names:
        for stage in stages:
            found = {seed: read_scores(run, name, stage, seed) for seed in seeds}
            unfinished += [f"{name}-{stage}-{seed}" for seed in seeds if not found[seed]]
            done = {seed: scores for seed, scores in found.items() if scores}
            runs = list(done.values())
            for data in runs[0]["val"] if runs else ():
                about = {"captioner": name, "stage": STAGES[stage], "data": data, "seeds": list(done)}
                about |= {"photographs": len(runs[0]["val"][data]["images"]), "parameters": runs[0]["parameters"]}
                by_seed = {key: [each[key] for each in runs] for key in ("epoch", "minutes")}
                rows.append(about | by_seed | summary(runs, data))
    return {"rows": rows, "unfinished": unfinished}


def say_unfinished(result: dict[str, Any]) -> list[str]:
    """Sentences on the captioners that are not finished."""
    unfinished = result["unfinished"]
    said = [f"not done yet: {', '.join(unfinished)}; the same command goes on"] if unfinished else []
    return [*result["stopped"], *said]
