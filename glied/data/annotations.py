"""Boxes in photographs, and what they show: of Flickr30k Entities, of COCO, and of a teacher."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glied.data.dataset import Dataset, Photograph
from glied.data.phrases import Parsed, parse
from glied.errors import GliedError

# Who drew the boxes. phrases: people, of what captions mention. classes: people, of all objects of some classes.
# persons: people drew the persons, a teacher the rest. teacher: another detector drew all of them.
Origin = Literal["phrases", "classes", "persons", "teacher"]
SOURCES: dict[str, Origin] = {"human": "classes", "person": "persons", "teacher": "teacher"}  # in boxes.json
# what reading a damaged file of boxes may raise
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, RecursionError)


class Boxed(NamedTuple):
    """A photograph with boxes.

    Attributes:
        boxes: [G, 4] x1 y1 x2 y2 in pixels.
        phrases: of every box, all that name it, parsed; a class is a phrase without modifiers.
        said: every phrase about the photograph once, parsed.
        chains: of every box, the entities that it shows.
        sentences: every caption with its phrases: text, parsed, entity; none where the boxes have classes.
        certainty: of every box: 1 if people drew it, else the teacher's score.
    """

    photograph: Photograph
    boxes: Float[Tensor, "G 4"]
    phrases: list[list[Parsed]]
    said: list[Parsed]
    chains: list[set[int]]
    sentences: list[tuple[str, list[tuple[str, Parsed, int]]]]
    origin: Origin
    certainty: Float[Tensor, " G"]

    @property
    def human(self) -> bool:
        """Whether people drew all boxes, of all that these should show: only then can they measure anything."""
        return self.origin in ("phrases", "classes")


def read_boxes(dataset: Dataset, photographs: Sequence[Photograph], human: bool = False) -> list[Boxed]:
    """The photographs that have boxes: in entities.json (Flickr30k Entities), boxes.json, or COCO's
    annotations/instances_*.json in the folder of their data set.

    Args:
        human: only those whose boxes are all by people.

    Raises:
        GliedError: no photograph has boxes, or a file of boxes is damaged.
    """
    found: list[Boxed] = []
    looked = []
    for part in dataset.parts:
        own = [p for p in photographs if p.dataset == part.name]
        if (path := part.folder / "entities.json").is_file():
            found += read_entities(path, own)
        elif (path := part.folder / "boxes.json").is_file():
            found += read_class_boxes(path, own)
        elif paths := sorted(part.folder.glob("annotations/instances_*.json")):
            found += read_instances(paths, own)
            path = paths[0].with_name("instances_*.json")
        else:
            path = part.folder / "entities.json"
        looked.append(path)
    found = [boxed for boxed in found if boxed.human or not human]
    if not found:
        raise GliedError(
            f"Expected {'human ' if human else ''}boxes for the photographs of {dataset.name} in "
            f"{' or '.join(map(str, looked))} (or boxes.json, or annotations/instances_*.json), found none; put one of "
            "these beside captions.json, and check its file names."
        )
    return found


def read_entities(path: Path, photographs: Sequence[Photograph]) -> list[Boxed]:
    """The photographs that entities.json (Flickr30k Entities) has boxes for."""
    found = []
    try:
        entities = json.loads(path.read_bytes())
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
            boxes = _corners([box["box"] for box in humans], photograph)
            phrases = [[p for chain in box["chains"] for p in named[chain]] for box in humans]
            chains = [set(box["chains"]) for box in humans]
            sure = torch.ones(len(boxes))
            found.append(Boxed(photograph, boxes, phrases, said, chains, sentences, "phrases", sure))
    except DAMAGE as error:
        raise GliedError(
            f"Expected boxes and phrases of Flickr30k Entities in {path}, could not read them ({error!r}); "
            "put entities.json beside captions.json."
        ) from error
    return found


def read_class_boxes(path: Path, photographs: Sequence[Photograph]) -> list[Boxed]:
    """The photographs that boxes.json has boxes for: {id: {source, boxes: [[x1, y1, x2, y2, class, score]]}}, the
    source human (all boxes by people), person (persons by people, the rest by a teacher) or teacher."""
    try:
        records = json.loads(path.read_bytes())
        found = []
        for photograph in photographs:
            record = records.get(photograph.id, {"boxes": []})
            if record["boxes"]:
                *corners, classes, scores = zip(*record["boxes"], strict=True)
                boxes = list(zip(*corners, strict=True))
                found.append(_classified(photograph, boxes, classes, scores, SOURCES[record["source"]]))
        return found
    except DAMAGE as error:
        raise GliedError(
            f"Expected boxes with classes, {{id: {{source, boxes: [[x1, y1, x2, y2, class, score]]}}}}, in {path}, "
            f"could not read them ({error!r}); correct the file."
        ) from error


def read_instances(paths: Sequence[Path], photographs: Sequence[Photograph]) -> list[Boxed]:
    """The photographs that COCO's instances_*.json have boxes for; crowds, one box for many, are left out."""
    try:
        boxes: dict[str, list[tuple[list[float], str]]] = defaultdict(list)
        for path in paths:
            content = json.loads(path.read_bytes())
            classes = {category["id"]: str(category["name"]) for category in content["categories"]}
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for each in content["annotations"]:
                x, y, width, height = each["bbox"]
                if not each.get("iscrowd") and width > 0 and height > 0:
                    corners = [x, y, x + width, y + height]
                    boxes[names[each["image_id"]]].append((corners, classes[each["category_id"]]))
        found = []
        for photograph in (p for p in photographs if p.id in boxes):
            places, objects = zip(*boxes[photograph.id], strict=True)
            found.append(_classified(photograph, places, objects, [1.0] * len(places), "classes"))
        return found
    except DAMAGE as error:
        raise GliedError(
            f"Expected COCO's instances in {', '.join(map(str, paths))}, could not read them ({error!r}); fetch them "
            "again."
        ) from error


def _classified(
    photograph: Photograph, boxes: Sequence[Any], classes: Sequence[str], scores: Sequence[float], origin: Origin
) -> Boxed:
    corners = _corners(boxes, photograph)
    certainty = torch.tensor(scores, dtype=torch.float)
    if not ((certainty > 0) & (certainty <= 1)).all() or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{photograph.id} has a box without class, or with a score outside 0 to 1")
    phrases: list[Parsed] = [(name, ()) for name in classes]
    chains = [{g} for g in range(len(corners))]
    return Boxed(photograph, corners, [[p] for p in phrases], list(Counter(phrases)), chains, [], origin, certainty)


def _corners(boxes: Sequence[Any], photograph: Photograph) -> Float[Tensor, "G 4"]:
    corners = torch.tensor(boxes, dtype=torch.float).view(len(boxes), 4)
    if not ((corners[:, 2:] > corners[:, :2]).all() and corners.isfinite().all()):
        raise ValueError(f"{photograph.id} has a box without area")
    return corners
