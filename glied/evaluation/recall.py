"""How well a region source finds the boxes that people drew: those of Flickr30k Entities or COCO."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glied.data.annotations import LayoutError, check_within, read_boxes
from glied.data.dataset import load_dataset
from glied.data.phrases import KINDS, label_object, name_object, singulars
from glied.errors import GliedError
from glied.images import open_image
from glied.records import shown
from glied.regions import RegionSource
from glied.regions.boxes import iou
from glied.terminal import track

COUNTS = (10, 36, 100)
MATCH = 0.5  # IoU at which a region covers a human box
LABELLED = 36  # regions among which the label of a human box is looked up


def measure(data: Path, split: str, source: RegionSource) -> dict[str, Any]:
    """Share of the human boxes of a split that one of the best 10, 36 and 100 regions covers (IoU >= 0.5).

    A source that gives fewer regions is measured on those. Photographs with a teacher's boxes are not measured on.

    Returns:
        recall@10, recall@36, recall@100; label_accuracy, the share of the boxes with a name, among those that one of
        36 regions covers, whose closest region has the right object: the one that people named, a synonym, or, for a
        class, a kind of it (None where the source has no labels); ms_per_image of finding the regions of an opened
        photograph; the numbers of photographs, boxes and regions; `problems`, a sentence for each thing left out.
    """
    dataset = load_dataset(data)
    photographs, problems = read_boxes(dataset, dataset.split(split), human=True)
    singular = singulars(p for boxed in photographs for p in boxed.said)
    covered: dict[int, list[bool]] = {k: [] for k in COUNTS}
    right: list[bool] = []
    problems = [*dataset.problems, *problems]
    seconds, opened, count = 0.0, 0, 0
    for boxed in track(photographs, desc=f"recall ({source.name})", unit="image"):
        try:
            image = open_image(boxed.photograph.path)
            check_within(boxed.boxes, image.info["size"])
        except GliedError as error:
            problems.append(str(error))
            continue
        except LayoutError as error:
            problems.append(f"{shown(boxed.photograph.id)}: left out, {error}")
            continue
        opened += 1
        started = time.perf_counter()
        regions = source.find_regions(image).scaled(image.info["size"])
        seconds += time.perf_counter() - started
        count += len(regions.boxes)
        overlap = iou(boxed.boxes, torch.from_numpy(regions.boxes.copy()))
        for k in COUNTS:
            covered[k] += (overlap[:, :k].amax(1) >= MATCH).tolist()
        best, which = overlap[:, :LABELLED].max(1)
        for g in torch.nonzero(best >= MATCH)[:, 0].tolist() if regions.labels else []:
            if objects := {name_object(phrase, singular) for phrase in boxed.phrases[g]} - {""}:
                said = label_object(regions.labels[which[g]], singular)
                kinds = set().union(*(KINDS.get(name, ()) for name in objects)) if boxed.origin == "classes" else set()
                right.append(said in objects | kinds)
    if not opened:
        raise GliedError(f"Expected readable photographs in split {split} of {data}, found none: {problems[-1]}")
    return {
        "source": source.name,
        "data": dataset.name,
        "split": split,
        **{f"recall@{k}": float(np.mean(covered[k])) for k in COUNTS},
        "label_accuracy": float(np.mean(right)) if right else None,
        "ms_per_image": 1000 * seconds / opened,
        "photographs": opened,
        "human_boxes": len(covered[LABELLED]),
        "regions_per_image": count / opened,
        "problems": problems,
    }
