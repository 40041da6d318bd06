"""Boxes in photographs, and what they show: of Flickr30k Entities, of COCO, and of a teacher."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glied.data.dataset import Dataset, Photograph
from glied.data.phrases import Parsed, parse
from glied.errors import GliedError
from glied.records import DAMAGE, Names, as_id, list_of, match_names, read_json, reason, refuse, shown, tell_strangers

# Who drew the boxes. phrases: people, of what captions mention. classes: people, of all objects of some classes.
# persons: people drew the persons, a teacher the rest. teacher: another detector drew all of them.
Origin = Literal["phrases", "classes", "persons", "teacher"]
SOURCES: dict[str, Origin] = {"human": "classes", "person": "persons", "teacher": "teacher"}  # in boxes.json


class Boxed(NamedTuple):
    """A photograph with boxes.

    Attributes:
        boxes: [G, 4] x1 y1 x2 y2 in pixels.
        phrases: of every box, all that name it, parsed; a class is a phrase without modifiers.
        said: every phrase about the photograph once, parsed.
        chains: of every box, the entities that it shows.
        sentences: every caption with its phrases (text, parsed, entity); empty where the boxes have classes.
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
        """Whether people drew all boxes that should be there; only such boxes can measure anything."""
        return self.origin in ("phrases", "classes")


Annotations = tuple[list[Boxed], list[str]]  # photographs with boxes, and a sentence for each thing that was left out
LAYOUTS = "expected x1, y1, x2, y2, these look like x, y, width, height"


def read_boxes(dataset: Dataset, photographs: Sequence[Photograph], human: bool = False) -> Annotations:
    """The photographs that have boxes, in entities.json (Flickr30k Entities), boxes.json, or COCO's
    annotations/instances_*.json in the folder of their data set; and a sentence for each thing that was left out.

    Args:
        human: only those whose boxes are all by people.

    Raises:
        GliedError: no photograph has boxes, or a file of boxes is damaged.
    """
    found: list[Boxed] = []
    problems: list[str] = []
    looked = []
    for subset in dataset.subsets:
        own, everyone = ([p for p in some if p.dataset == subset.name] for some in (photographs, dataset.photographs))
        kinds = {"entities.json": read_entities, "boxes.json": read_class_boxes}
        here = [name for name in kinds if (subset.folder / name).is_file()]
        instances = sorted(subset.folder.glob("annotations/instances_*.json"))
        if here:
            path = subset.folder / here[0]
            boxes, told = kinds[here[0]](path, own, everyone)
        elif instances:
            path = instances[0].with_name("instances_*.json")
            boxes, told = read_instances(instances, own, everyone)
        else:
            path, boxes, told = subset.folder / "entities.json", [], []
        found += boxes
        problems += told
        unread = [*here[1:], *([f"annotations/{f.name}" for f in instances] if here else [])]
        problems += [f"{name}: not read, {here[0]} was" for name in unread]
        looked.append(path)
    found = [boxed for boxed in found if boxed.human or not human]
    if not found:
        raise GliedError(
            f"Expected {'human ' if human else ''}boxes for the photographs of {dataset.name} in "
            f"{' or '.join(map(str, looked))} (or boxes.json, or annotations/instances_*.json), found none"
            f"{f' ({problems[0]})' if problems else ''}; put one of "
            "these beside captions.json, and check its file names."
        )
    return found, problems


def read_entities(path: Path, photographs: Sequence[Photograph], everyone: Sequence[Photograph] = ()) -> Annotations:
    """The photographs that entities.json (Flickr30k Entities) has boxes for.

    Args:
        everyone: all photographs of the data set; records of others are reported.
    """
    what, advice = "boxes and phrases of Flickr30k Entities", "put entities.json beside captions.json"
    content, problems = read_json(path, what, advice)

    def build(photograph: Photograph, record: Any) -> Boxed | None:
        if not record["boxes"]:
            return None
        named: dict[int, list[Parsed]] = defaultdict(list)
        sentences = [
            (str(sentence["raw"]), [(str(p["phrase"]), parse(p["phrase"]), p["chain"]) for p in sentence["phrases"]])
            for sentence in record["sentences"]
        ]
        said = [parsed for _, phrases in sentences for _, parsed, _ in phrases]
        for _, parsed, chain in (phrase for _, phrases in sentences for phrase in phrases):
            named[chain].append(parsed)
        boxes, kept = _corners([box["box"] for box in record["boxes"]], photograph, problems)
        if "width" in record and "height" in record:
            check_within(boxes, (record["width"], record["height"]))
        humans = [record["boxes"][i] for i in kept]
        phrases = [[p for chain in box["chains"] for p in named[chain]] for box in humans]
        chains = [set(box["chains"]) for box in humans]
        return Boxed(photograph, boxes, phrases, said, chains, sentences, "phrases", torch.ones(len(boxes)))

    return _build_all(path, content, photographs, everyone, build, problems, (what, advice))


def read_class_boxes(path: Path, photographs: Sequence[Photograph], everyone: Sequence[Photograph] = ()) -> Annotations:
    """The photographs that boxes.json has boxes for: {id: {source, boxes: [[x1, y1, x2, y2, class, score]]}}, the
    source human (all boxes by people), person (persons by people, the rest by a teacher) or teacher."""
    what = "boxes with classes, {id: {source, boxes: [[x1, y1, x2, y2, class, score]]}},"
    content, problems = read_json(path, what)

    def build(photograph: Photograph, record: Any) -> Boxed | None:
        if not record["boxes"]:
            return None
        if not isinstance(record["source"], str) or record["source"] not in SOURCES:
            raise ValueError(f"its source {shown(record['source'])} is none of {', '.join(SOURCES)}")
        *corners, classes, scores = zip(*record["boxes"], strict=True)
        boxes = list(zip(*corners, strict=True))
        return _classify(photograph, boxes, classes, scores, SOURCES[record["source"]], problems)

    return _build_all(path, content, photographs, everyone, build, problems, (what, "correct the file"))


def read_instances(
    paths: Sequence[Path], photographs: Sequence[Photograph], everyone: Sequence[Photograph] = ()
) -> Annotations:
    """The photographs that COCO's instances_*.json have boxes for; crowds, one box for many, are left out."""
    what, advice = "COCO's instances", "fetch them again"
    problems: list[str] = []
    listed = []
    for path in paths:
        content, lost = read_json(path, what, advice)
        try:
            listed.append((path.stem.removeprefix("instances_"), _list_instances(path, content, problems)))
        except DAMAGE as error:
            raise refuse(what, path, reason(error), advice) from error
        problems += lost
    bearers = Counter(name for _, images in listed for name in images)
    images = {  # a name in several files means the one in each file's folder, as in COCO's train2014/, val2014/
        name if bearers[name] == 1 else f"{folder}/{name}": image
        for folder, own in listed
        for name, image in own.items()
    }

    def build(photograph: Photograph, image: Any) -> Boxed | None:
        size, rows = image
        if not rows:
            return None
        places, objects = zip(*rows, strict=True)
        boxed = _classify(photograph, places, objects, [1.0] * len(places), "classes", problems)
        if None not in size:
            check_within(boxed.boxes, size, "expected x, y, width, height, these look like x1, y1, x2, y2")
        return boxed

    return _build_all(paths[0], images, photographs, everyone, build, problems, (what, advice))


def _list_instances(path: Path, content: Any, problems: list[str]) -> dict[str, tuple[tuple[Any, Any], list[Any]]]:
    """File name -> width and height, if the file says so, and boxes with their classes."""
    classes = {as_id(category["id"]): str(category["name"]) for category in list_of(content, "categories")}
    files = {as_id(image["id"]): str(image["file_name"]) for image in list_of(content, "images")}
    found: dict[str, tuple[tuple[Any, Any], list[Any]]] = {
        str(image["file_name"]): ((image.get("width"), image.get("height")), []) for image in content["images"]
    }
    ids, meant = Names(files), dict[str, str | None]()
    crowds, empty, strangers = 0, 0, dict[str, None]()
    for each in list_of(content, "annotations"):
        try:
            if each.get("iscrowd"):
                crowds += 1
                continue
            id = as_id(each["image_id"])
            x, y, width, height = each["bbox"]
            if id not in meant:
                meant[id] = ids.find(id)
            if (own := meant[id]) is None:
                strangers[id] = None
            elif width > 0 and height > 0:
                found[files[own]][1].append(([x, y, x + width, y + height], classes[as_id(each["category_id"])]))
            else:
                empty += 1
        except DAMAGE as error:
            problems.append(f"{path.name}: a box was left out, {reason(error)}: {shown(each)}")
    if crowds:
        problems.append(f"{path.name}: {crowds} box(es) of crowds were left out")
    if empty:
        problems.append(f"{path.name}: {empty} box(es) without area were left out")
    problems += tell_strangers(f"image id(s) of boxes in {path.name} are of no image there", [*strangers], files)
    return found


class LayoutError(ValueError):
    """Boxes whose ends come before their starts, as those of another layout would."""


def _build_all(
    path: Path,
    content: Any,
    photographs: Sequence[Photograph],
    everyone: Sequence[Photograph],
    build: Callable[[Photograph, Any], Boxed | None],
    problems: list[str],
    words: tuple[str, str],
) -> Annotations:
    """The boxes of every photograph that a file has a record of. A record that cannot be used is left out and reported.
    Raises GliedError if none can be used, or if so many fail that the file must be in another layout."""
    what, advice = words
    if not isinstance(content, dict):
        raise refuse(what, path, "it is no object with photographs as keys", advice)
    keys, doubts = match_names([p.place or p.id for p in everyone or photographs], Names(content))
    if everyone:
        meant = set(keys.values())
        strangers = [key for key in content if key not in meant]
        problems += tell_strangers(
            f"photograph(s) in {path.name} are not in the data set", strangers, (p.id for p in everyone)
        )
    problems += [f"{path.name}: {doubt}" for doubt in doubts]
    found: list[Boxed] = []
    wrong: list[Exception] = []
    for photograph in photographs:
        if (key := keys.get(photograph.place or photograph.id)) is None:
            continue
        try:
            boxed = build(photograph, content[key])
        except DAMAGE as error:
            wrong.append(error)
            problems.append(f"{shown(photograph.id)}: its boxes were left out, {reason(error)}")
        else:
            found += [boxed] if boxed else []
    turned = sum(isinstance(error, LayoutError) for error in wrong)
    if wrong and (not found or 3 * turned > len(found) + len(wrong)):
        worst = next((error for error in wrong if isinstance(error, LayoutError)), wrong[0])
        raise refuse(what, path, f"{len(wrong)} of {len(found) + len(wrong)} photographs: {reason(worst)}", advice)
    return found, problems


def _classify(
    photograph: Photograph,
    boxes: Sequence[Any],
    classes: Sequence[str],
    scores: Sequence[float],
    origin: Origin,
    problems: list[str],
) -> Boxed:
    corners, kept = _corners(boxes, photograph, problems)
    certainty = torch.tensor(scores, dtype=torch.float)[kept]
    classes = [classes[i] for i in kept]
    if not ((certainty > 0) & (certainty <= 1)).all() or not all(isinstance(name, str) for name in classes):
        raise ValueError("a box is without class, or has a score outside 0 to 1")
    phrases: list[Parsed] = [(name, ()) for name in classes]
    chains = [{g} for g in range(len(corners))]
    return Boxed(photograph, corners, [[p] for p in phrases], list(Counter(phrases)), chains, [], origin, certainty)


def _corners(
    boxes: Sequence[Any], photograph: Photograph, problems: list[str]
) -> tuple[Float[Tensor, "G 4"], list[int]]:
    """The boxes that have an area, and their positions in the list; the number of the others is reported.

    Raises:
        LayoutError: some end before they start.
        ValueError: they are not boxes, or none has an area.
    """
    corners = torch.tensor(boxes, dtype=torch.float).view(len(boxes), 4)
    if turned := int((corners[:, 2:] < corners[:, :2]).any(1).sum()):
        raise LayoutError(f"{turned} of {len(boxes)} boxes end before they start: {LAYOUTS}")
    kept = ((corners[:, 2:] > corners[:, :2]).all(1) & corners.isfinite().all(1)).nonzero()[:, 0].tolist()
    if not kept:
        raise ValueError("each is a box without area")
    if len(kept) < len(boxes):
        problems.append(f"{shown(photograph.id)}: {len(boxes) - len(kept)} box(es) without area were left out")
    return corners[kept], kept


def check_within(boxes: Float[Tensor, "G 4"], size: Sequence[Any], layouts: str = LAYOUTS) -> None:
    """Raises LayoutError if more than a third of the boxes reach beyond a photograph of this size, as those of another
    layout would."""
    if 3 * (beyond := count_beyond(boxes, size)) > len(boxes):
        raise LayoutError(f"{beyond} of {len(boxes)} boxes reach beyond its {size[0]} x {size[1]} pixels: {layouts}")


def count_beyond(boxes: Float[Tensor, "G 4"], size: Sequence[Any]) -> int:
    """How many boxes reach beyond a photograph of this size by more than a pixel."""
    return int(((boxes < -1).any(1) | (boxes > torch.tensor([*size, *size]) + 1).any(1)).sum())
