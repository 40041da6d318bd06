"""Data sets in Karpathy's or COCO's layout: photographs, their captions and their splits."""

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from glied.data.pack import is_pack, read_manifest
from glied.errors import GliedError
from glied.files import as_text
from glied.records import (
    Images,
    as_id,
    list_of,
    read_json,
    reason,
    refuse,
    same_name,
    shown,
    tell_strangers,
)
from glied.terminal import say
from glied.vocabulary import tokenize

CAPTIONS = 5  # captions of a photograph in training: those in one step, and those that name its attributes
SPLITS = ("train", "restval", "val", "test")


@dataclass(frozen=True)
class Photograph:
    """One photograph of the data set called `dataset` with its human captions, raw and tokenized.

    Attributes:
        id: its file name; its path below images/ if another photograph of the data set has the same file name.
        place: its path in the data set.
        key: in a pack, which has only its regions, the SHA-256 of its file (see pack.py); else "".
    """

    id: str
    path: Path
    split: str
    captions: tuple[str, ...]
    dataset: str = ""
    place: str = field(default="", compare=False)
    key: str = ""

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The captions as words."""
        return [[sys.intern(word) for word in tokenize(caption)] for caption in self.captions]  # few, of many captions


class Subset(NamedTuple):
    """One of the folders that make up a data set.

    Attributes:
        weight: its part of an epoch is in proportion to this; by default the square root of how many photographs it
            trains on, so that a large set does not drown a small one.
    """

    name: str
    folder: Path
    weight: float | None = None


@dataclass(frozen=True)
class Dataset:
    """Photographs that can be used, one sentence for each thing that was left out, and the folders they are from."""

    name: str
    photographs: tuple[Photograph, ...]
    problems: tuple[str, ...]
    subsets: tuple[Subset, ...] = ()

    def split(self, *names: str) -> list[Photograph]:
        """Photographs of the named splits."""
        chosen = [p for p in self.photographs if p.split in names]
        if not chosen:
            present = sorted({p.split for p in self.photographs})
            raise GliedError(
                f"Expected photographs in split {' or '.join(names)}, {self.name} has "
                f"{', '.join(present) or 'none'}; name one of these."
            )
        return chosen


Data = Path | Sequence[Path]  # a folder, a file that lists folders and their weights, or several of these


def load_dataset(data: Data) -> Dataset:
    """Reads one data set, or several as one.

    A folder has captions.json (or dataset*.json; Karpathy's layout, or COCO's) with images/, or COCO's
    annotations/captions_*.json, or it is a pack. A file is JSON, {"FOLDER": WEIGHT, ...}, with folders relative to it.
    Whatever cannot be used is left out and reported; it ends no run half-way.
    """
    subsets = [subset for path in ([data] if isinstance(data, Path) else data) for subset in _subsets(Path(path))]
    if not subsets:
        raise GliedError("Expected a data set, got none; name its folder with --data.")
    if len({subset.weight is None for subset in subsets}) > 1:
        raise GliedError("Expected weights for all data sets or for none; list every folder in the JSON file.")
    names = [subset.name for subset in subsets]
    if len(set(names)) < len(names):
        raise GliedError(f"Expected data sets of different names, got {' and '.join(names)}; rename a folder.")
    photographs: dict[str, Photograph] = {}
    problems: list[str] = []
    for subset in subsets:
        for photograph in _load_folder(subset, problems):
            if (known := photographs.get(photograph.id)) is None:
                photographs[photograph.id] = photograph
            elif _is_same(known, photograph):
                problems.append(f"{shown(photograph.id)}: in {known.dataset} too, left out of {subset.name}")
            else:  # another photograph of the same name
                other = replace(photograph, id=f"{subset.name}/{photograph.place}")
                photographs[other.id] = other
    return Dataset(" + ".join(names), tuple(photographs.values()), tuple(problems), tuple(subsets))


def _is_same(one: Photograph, other: Photograph) -> bool:
    """Whether two photographs of one name are the same: the same file, or the same words about both."""
    if any(words in other.tokens for words in one.tokens) or (one.key and one.key == other.key):
        return True
    try:
        sizes = [p.path.stat().st_size for p in (one, other)]
        return sizes[0] == sizes[1] and one.path.read_bytes() == other.path.read_bytes()
    except OSError:
        return False


def _subsets(path: Path) -> list[Subset]:
    if is_pack(path):
        return [Subset(name, path / name, weight) for name, weight in read_manifest(path)["sets"].items()]
    if not path.is_file():
        return [Subset(as_text(path.resolve().name), path)]
    what, advice = 'folders and their weights, {"FOLDER": WEIGHT, ...},', "or give the folders themselves"
    content, problems = read_json(path, what, f"correct the file, {advice}")
    try:
        weights = {path.parent / folder: float(weight) for folder, weight in content.items()}
        if problems:
            raise ValueError(problems[0])
        if not weights or min(weights.values()) <= 0 or not np.isfinite(list(weights.values())).all():
            raise ValueError("a weight is not above 0")
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise refuse(what, path, reason(error), f"correct the file, {advice}") from error
    return [Subset(as_text(folder.resolve().name), folder, weight) for folder, weight in weights.items()]


class Listed(NamedTuple):
    """What a data set says of one photograph.

    Attributes:
        place: its path, as the data set gives it; `folder`: where else it may lie, for example COCO's val2014.
        captions: those that have words. `empty`: number of those without. `key`: as in `Photograph`.
    """

    name: str
    place: str
    folder: str
    split: Any
    captions: tuple[str, ...]
    empty: int
    key: str


def _load_folder(subset: Subset, problems: list[str]) -> list[Photograph]:
    """The photographs of one folder; what was left out is added to `problems`."""
    folder = subset.folder
    own = [f for f in (folder / "captions.json", *sorted(folder.glob("dataset*.json"))) if f.is_file()]
    coco = sorted(folder.glob("annotations/captions_*.json"))
    files, ignored = (own[:1], [*own[1:], *coco]) if own else (coco, [])
    if not files:
        raise GliedError(
            f"Expected {folder}/captions.json or {folder}/annotations/captions_*.json, found neither; "
            "point --data at a data set in Karpathy's or COCO's layout."
        )
    left_out: list[str] = []
    listed: dict[Path, Listed] = {}
    total = 0
    for each in (each for file in files for each in _list(file, left_out)):
        total += 1
        try:
            path = _find(folder, each)
        except ValueError as error:
            left_out.append(f"{shown(each.name)}: left out, {error}")
            continue
        if path is None:
            left_out.append(f"{shown(each.place)}: left out, no such file in {folder / 'images'}")
        elif path in listed:
            left_out.append(f"{shown(each.place)}: listed twice, only the first was kept")
        else:
            listed[path] = each
    photographs = _admit(listed, subset, left_out)
    if not photographs:
        raise GliedError(
            f"Expected photographs with captions in {', '.join(map(str, files))}, found none usable of {total}: "
            f"{left_out[0] if left_out else 'the file lists no image'}"
        )
    problems += [*left_out, *(f"{file.relative_to(folder)}: not read, {files[0].name} was" for file in ignored)]
    return photographs


def _admit(listed: dict[Path, Listed], subset: Subset, problems: list[str]) -> list[Photograph]:
    """The photographs that can be used; a sentence about each of the others is added to `problems`."""
    bearers: dict[str, int] = defaultdict(int)
    for each in listed.values():
        bearers[each.name] += 1
    photographs = []
    for path, each in listed.items():
        place = _place(path, subset.folder)
        called = shown(each.name if bearers[each.name] == 1 else place)
        if each.empty:
            problems.append(f"{called}: {each.empty} empty caption(s) were left out")
        if each.split not in SPLITS:
            problems.append(f"{called}: left out, its split {shown(each.split)} is none of {', '.join(SPLITS)}")
        elif not each.captions:
            problems.append(f"{called}: left out, it has no caption")
        else:
            id = each.name if bearers[each.name] == 1 else place
            photographs.append(Photograph(as_text(id), path, each.split, each.captions, subset.name, place, each.key))
    return photographs


def _place(path: Path, folder: Path) -> str:
    """A photograph's path in the data set."""
    images = folder / "images"
    return path.relative_to(images if path.is_relative_to(images) else folder).as_posix()


def _list(file: Path, problems: list[str]) -> list[Listed]:
    """The photographs that a file in Karpathy's or COCO's layout lists, and sentences about what it lists wrongly."""
    what, advice = "captions in Karpathy's or COCO's JSON layout", "check the file"
    content, lost = read_json(file, what, advice)
    problems += lost
    try:
        images = list_of(content, "images")
        if "annotations" in content:
            return _list_coco(file, images, list_of(content, "annotations"), problems)
    except ValueError as error:
        raise refuse(what, file, reason(error), advice) from error
    listed = []
    for image in images:
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str) or not image["filename"]:
            problems.append(f"an image without a file name was left out: {shown(image)}")
            continue
        folder = image.get("filepath")
        folder = folder if isinstance(folder, str) else ""
        sentences = image.get("sentences")
        raw = [_text(s) for s in sentences if isinstance(s, dict | str)] if isinstance(sentences, list) else []
        listed.append(_say(image["filename"], folder, image.get("split"), raw, str(image.get("sha256", ""))))
    return listed


def _say(name: str, folder: str, split: Any, raw: Sequence[str], key: str = "") -> Listed:
    captions = tuple(caption for caption in raw if tokenize(caption))
    return Listed(name, f"{folder}/{name}" if folder else name, folder, split, captions, len(raw) - len(captions), key)


def _list_coco(file: Path, images: list[Any], annotations: list[Any], problems: list[str]) -> list[Listed]:
    """COCO's layout: the images of a split, and captions with the ids of these."""
    split = next((s for s in ("test", "restval", "val", "train") if s in file.stem), "train")
    known: dict[str, dict] = {}
    for image in images:
        try:
            id = as_id(image["id"])
            if not isinstance(image["file_name"], str) or not image["file_name"]:
                raise ValueError("its file_name is none")
            if id in known:
                raise ValueError(f"the id {shown(id)} has another image")
            known[id] = image
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{file.name}: an image was left out, {reason(error)}: {shown(image)}")
    meaning = Images(known, {image["file_name"]: id for id, image in known.items()})
    captions: dict[str, list[str]] = {id: [] for id in known}
    meant: dict[str, str | None] = {}
    strangers: dict[str, None] = {}
    for annotation in annotations:
        try:
            id = as_id(annotation["image_id"])
            caption = annotation["caption"]
            if not isinstance(caption, str):
                raise ValueError("its caption is no text")
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{file.name}: an annotation was left out, {reason(error)}: {shown(annotation)}")
            continue
        if id not in meant:
            meant[id] = meaning.find(id)
        own = meant[id]
        if own is None:
            strangers[id] = None
        else:
            captions[own].append(caption)
    problems += tell_strangers(f"image id(s) of annotations in {file.name} are of no image there", [*strangers], known)
    folder = file.stem.removeprefix("captions_")  # COCO's train2014/, val2014/
    return [_say(i["file_name"], folder, i.get("split", split), captions[id]) for id, i in known.items()]


def _text(sentence: dict | str) -> str:
    """The caption of one of Karpathy's sentences; empty where it has none."""
    if isinstance(sentence, str):
        return sentence
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    words = [t for t in tokens if isinstance(t, str)] if isinstance(tokens, list) else []
    return raw if isinstance(raw, str) and raw else " ".join(words)


def _find(folder: Path, listed: Listed) -> Path | None:
    """The file of a photograph, whichever Unicode form its name has on disk; in a pack, where the file would be.

    Raises:
        ValueError: its name leads out of the data set.
    """
    for name in dict.fromkeys((listed.name, same_name(listed.name), unicodedata.normalize("NFD", listed.name))):
        relative = PurePosixPath(listed.folder, name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError("its name leads out of the data set")
        for path in (folder / "images" / relative, folder / "images" / name, folder / relative):
            if _is_file(path) or listed.key:
                return path
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for this system, or that it cannot have
        return False


def report(problems: Sequence[str], most: int = 10) -> None:
    """Prints what is wrong with data or was left out: the number of things and the first `most` of them."""
    if problems:
        say(f"{len(problems)} thing(s) to know about the data:")
    for problem in problems[:most]:
        say(f"  {problem}")
    if len(problems) > most:
        say(f"  ... and {len(problems) - most} more")
