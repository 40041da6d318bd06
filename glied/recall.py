"""How well a region source finds what people mention: the boxes and phrases of Flickr30k Entities."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from glied.data import Photograph, load_dataset, report
from glied.errors import GliedError
from glied.images import open_image
from glied.phrases import Parsed, parse, singulars
from glied.regions import RegionSource
from glied.regions.boxes import iou
from glied.scene import Regions

COUNTS = (10, 36, 100)
MATCH = 0.5  # IoU at which a region covers a human box
LABELLED = 36  # regions among which the label of a human box is looked up


class Boxed(NamedTuple):
    """A photograph and what people mentioned in it.

    Attributes:
        size: width and height in pixels. `boxes`: [G, 4] x1 y1 x2 y2 in pixels.
        phrases: of every box, all that name it, parsed.
        said: every phrase about the photograph once, parsed.
        chains: of every box, the entities that it shows.
        sentences: every caption with its phrases: text, parsed, entity.
    """

    photograph: Photograph
    size: tuple[int, int]
    boxes: Float[Tensor, "G 4"]
    phrases: list[list[Parsed]]
    said: list[Parsed]
    chains: list[set[int]]
    sentences: list[tuple[str, list[tuple[str, Parsed, int]]]]


def read_entities(data: Path, photographs: Sequence[Photograph]) -> list[Boxed]:
    """The photographs that DIR/entities.json (Flickr30k Entities) has boxes for."""
    path = data / "entities.json"
    found = []
    try:
        entities = json.loads(path.read_text(encoding="utf-8"))
        for photograph in photographs:
            record = entities.get(photograph.id, {"boxes": []})
            if not record["boxes"]:
                continue
            named: dict[int, list[Parsed]] = defaultdict(list)
            sentences = [
                (
                    str(sentence["raw"]),
                    [(str(p["phrase"]), parse(p["phrase"]), p["chain"]) for p in sentence["phrases"]],
                )
                for sentence in record["sentences"]
            ]
            said = [parsed for _, phrases in sentences for _, parsed, _ in phrases]
            for _, parsed, chain in (phrase for _, phrases in sentences for phrase in phrases):
                named[chain].append(parsed)
            humans = record["boxes"]
            boxes = torch.tensor([box["box"] for box in humans], dtype=torch.float).view(len(humans), 4)
            if not ((boxes[:, 2:] > boxes[:, :2]).all() and boxes.isfinite().all()):
                raise ValueError(f"{photograph.id} has a box without area")
            phrases = [[p for chain in box["chains"] for p in named[chain]] for box in humans]
            chains = [set(box["chains"]) for box in humans]
            found.append(
                Boxed(photograph, (record["width"], record["height"]), boxes, phrases, said, chains, sentences)
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise GliedError(
            f"Expected boxes and phrases of Flickr30k Entities in {path}, could not read them ({error!r}); "
            "put entities.json beside captions.json."
        ) from error
    if not found:
        raise GliedError(f"Expected boxes for the photographs of {data} in {path}, found none; check its file names.")
    return found


def measure(data: Path, split: str, source: RegionSource) -> dict[str, Any]:
    """Share of the human boxes of a split that one of the best 10, 36 and 100 regions covers (IoU >= 0.5).

    A source that gives fewer regions is measured on those. Unreadable photographs are reported and left out.

    Returns:
        recall@10, recall@36, recall@100; label_accuracy, over the boxes with a noun that one of 36 regions covers: is
        the object of the closest a noun that people used (None where the source has no labels); ms_per_image of
        finding the regions of an opened photograph; and how many photographs, boxes and regions that is about.
    """
    photographs = read_entities(data, load_dataset(data).split(split))
    label = singulars(p for boxed in photographs for p in boxed.said)
    covered: dict[int, list[bool]] = {k: [] for k in COUNTS}
    right: list[bool] = []
    problems: list[str] = []
    seconds, opened, count = 0.0, 0, 0
    for boxed in tqdm(photographs, desc=f"recall ({source.name})", unit="image"):
        try:
            image = open_image(boxed.photograph.path)
        except GliedError as error:
            problems.append(str(error))
            continue
        opened += 1
        started = time.perf_counter()
        regions = source.find_regions(image)
        seconds += time.perf_counter() - started
        count += len(regions.boxes)
        overlap = iou(boxed.boxes, torch.from_numpy(regions.boxes.copy()))
        for k in COUNTS:
            covered[k] += (overlap[:, :k].amax(1) >= MATCH).tolist()
        best, which = overlap[:, :LABELLED].max(1)
        for g in torch.nonzero(best >= MATCH)[:, 0].tolist() if regions.labels else []:
            if nouns := {label[head] for head, _ in boxed.phrases[g] if head}:
                said = parse(regions.labels[which[g]])[0]
                right.append(label.get(said, said) in nouns)
    report(problems)
    if not opened:
        raise GliedError(f"Expected readable photographs in split {split} of {data}, none of them is; see above.")
    return {
        "source": source.name,
        "split": split,
        **{f"recall@{k}": float(np.mean(covered[k])) for k in COUNTS},
        "label_accuracy": float(np.mean(right)) if right else None,
        "ms_per_image": 1000 * seconds / opened,
        "photographs": opened,
        "human_boxes": len(covered[LABELLED]),
        "regions_per_image": count / opened,
    }


class SelectiveSearch:
    """Selective search (Uijlings et al. 2013), fast mode, best 100: boxes without training, features or labels."""

    name = "selective-search"
    feature_dim = 0

    def __init__(self) -> None:
        try:
            import cv2

            self.search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        except (ImportError, AttributeError) as error:
            raise GliedError(
                f"Expected OpenCV with its contributed modules for selective search, found none ({error}); "
                "`pip install opencv-contrib-python-headless`."
            ) from error

    def find_regions(self, image: Image.Image) -> Regions:
        """Boxes of an RGB photograph."""
        self.search.setBaseImage(np.ascontiguousarray(np.array(image.convert("RGB"))[:, :, ::-1]))
        self.search.switchToSelectiveSearchFast()
        x, y, w, h = self.search.process()[: COUNTS[-1]].T
        boxes = np.stack([x, y, x + w, y + h], 1).astype(np.float32)
        return Regions(boxes, np.zeros((len(boxes), 0), np.float32), image.size, self.name)
