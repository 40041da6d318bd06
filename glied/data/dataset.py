"""Data sets in Karpathy's or COCO's layout: photographs, their captions and their splits."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glied.errors import GliedError
from glied.files import as_text
from glied.terminal import say
from glied.vocabulary import tokenize

CAPTIONS = 5  # captions of a photograph in training: those in one step, and those that name its attributes
SPLITS = ("train", "restval", "val", "test")


@dataclass(frozen=True)
class Photograph:
    """One photograph of the data set called `dataset` with its human captions, raw and tokenized."""

    id: str
    path: Path
    split: str
    captions: tuple[str, ...]
    dataset: str = ""

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The captions as words."""
        return [[sys.intern(word) for word in tokenize(caption)] for caption in self.captions]  # few, of many captions


class Part(NamedTuple):
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
    parts: tuple[Part, ...] = ()

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
    annotations/captions_*.json. A file is JSON, {"FOLDER": WEIGHT, ...}, its folders relative to it. Whatever cannot be
    used is left out and reported, never fatal half-way.
    """
    parts = [part for path in ([data] if isinstance(data, Path) else data) for part in _parts(Path(path))]
    if not parts:
        raise GliedError("Expected a data set, got none; name its folder with --data.")
    if len({part.weight is None for part in parts}) > 1:
        raise GliedError("Expected weights for all data sets or for none; list every folder in the JSON file.")
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise GliedError(f"Expected data sets of different names, got {' and '.join(names)}; rename a folder.")
    photographs: dict[str, Photograph] = {}
    problems: list[str] = []
    for part in parts:
        for photograph in _load_folder(part, problems):
            if photograph.id in photographs:
                problems.append(
                    f"{photograph.id}: in {photographs[photograph.id].dataset} too, left out of {part.name}"
                )
            else:
                photographs[photograph.id] = photograph
    return Dataset(" + ".join(names), tuple(photographs.values()), tuple(problems), tuple(parts))


def _parts(path: Path) -> list[Part]:
    if not path.is_file():
        return [Part(as_text(path.resolve().name), path)]
    try:
        weights = {path.parent / folder: float(weight) for folder, weight in json.loads(path.read_bytes()).items()}
        if not weights or min(weights.values()) <= 0 or not np.isfinite(list(weights.values())).all():
            raise ValueError("a weight is not above 0")
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise GliedError(
            f'Expected folders and their weights, {{"FOLDER": WEIGHT, ...}}, in {path}, could not read them ({error}); '
            "correct the file, or give the folders themselves."
        ) from error
    return [Part(as_text(folder.resolve().name), folder, weight) for folder, weight in weights.items()]


def _load_folder(part: Part, problems: list[str]) -> list[Photograph]:
    """The photographs of one folder; what was left out is added to `problems`."""
    folder = part.folder
    files = [f for f in (folder / "captions.json", *sorted(folder.glob("dataset*.json"))) if f.is_file()][:1]
    files = files or sorted(folder.glob("annotations/captions_*.json"))
    if not files:
        raise GliedError(
            f"Expected {folder}/captions.json or {folder}/annotations/captions_*.json, found neither; "
            "point --data at a data set in Karpathy's or COCO's layout."
        )
    left_out: list[str] = []
    photographs: dict[str, Photograph] = {}
    for file in files:
        for record in _records(file):
            _admit(record, part, photographs, left_out)
    if not photographs:
        raise GliedError(
            f"Expected photographs with captions in {folder}, found none usable of {len(left_out)}: "
            f"{left_out[0] if left_out else 'the file lists no image'}"
        )
    problems += left_out
    return list(photographs.values())


def _records(file: Path) -> list[dict]:
    """Karpathy's records {filename, split, sentences} from a file in either layout."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        images = content["images"]
        if "annotations" in content:
            split = next((s for s in ("test", "restval", "val", "train") if s in file.stem), "train")
            sentences: dict = {}
            for a in content["annotations"]:
                sentences.setdefault(a["image_id"], []).append({"raw": a["caption"]})
            images = [
                {
                    "filename": i["file_name"],
                    "filepath": file.stem.removeprefix("captions_"),  # COCO's train2014/, val2014/
                    "imgid": i["id"],
                    "split": i.get("split", split),
                    "sentences": sentences.get(i["id"], []),
                }
                for i in images
            ]
        return [dict(image) for image in images]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise GliedError(
            f"Expected captions in Karpathy's or COCO's JSON layout in {file}, found damaged JSON or another layout; "
            "check the file."
        ) from error


def _admit(record: dict, part: Part, photographs: dict[str, Photograph], problems: list[str]) -> None:
    """Adds the photograph of `record`, or a sentence about why not."""
    id, folder = record.get("filename"), part.folder
    if not isinstance(id, str) or not id:
        problems.append(f"an image without a file name was left out: {str(record)[:80]}")
        return
    relative = Path(str(record.get("filepath", "")), id)
    if relative.is_absolute() or ".." in relative.parts:
        problems.append(f"{id}: left out, its name leads out of the data set")
        return
    candidates = [folder / "images" / relative, folder / "images" / id, folder / relative]
    path = next((p for p in candidates if _is_file(p)), None)
    sentences = record.get("sentences")
    raw = [_text(s) for s in sentences if isinstance(s, dict)] if isinstance(sentences, list) else []
    captions = tuple(c for c in raw if tokenize(c))
    if len(captions) < len(raw):
        problems.append(f"{id}: {len(raw) - len(captions)} empty caption(s) were left out")
    if id in photographs:
        problems.append(f"{id}: listed twice, only the first was kept")
    elif record.get("split") not in SPLITS:
        problems.append(f"{id}: left out, its split {record.get('split')!r} is none of {', '.join(SPLITS)}")
    elif path is None:
        problems.append(f"{id}: left out, no such file in {folder / 'images'}")
    elif not captions:
        problems.append(f"{id}: left out, it has no caption")
    else:
        photographs[id] = Photograph(as_text(id), path, record["split"], captions, part.name)


def _text(sentence: dict) -> str:
    """The caption of one of Karpathy's sentences; empty where it has none."""
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    words = [t for t in tokens if isinstance(t, str)] if isinstance(tokens, list) else []
    return raw if isinstance(raw, str) and raw else " ".join(words)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for this system
        return False


def report(problems: Sequence[str], shown: int = 10) -> None:
    """Prints what was left out: how many things, the first of them, how many more."""
    if problems:
        say(f"{len(problems)} thing(s) in the data were left out:")
    for problem in problems[:shown]:
        say(f"  {problem}")
    if len(problems) > shown:
        say(f"  ... and {len(problems) - shown} more")
