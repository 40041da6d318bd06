"""Data sets in Karpathy's or COCO's layout, the feature cache, and batches."""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from glied.errors import GliedError
from glied.files import replacing
from glied.images import open_image
from glied.model import Inputs
from glied.regions import RegionSource, open_source
from glied.regions.stored import Stored
from glied.scene import Regions, Scene
from glied.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, tokenize

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
        return [Part(path.resolve().name, path)]
    try:
        weights = {path.parent / folder: float(weight) for folder, weight in json.loads(path.read_bytes()).items()}
        if not weights or min(weights.values()) <= 0 or not np.isfinite(list(weights.values())).all():
            raise ValueError("a weight is not above 0")
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise GliedError(
            f'Expected folders and their weights, {{"FOLDER": WEIGHT, ...}}, in {path}, could not read them ({error}); '
            "correct the file, or give the folders themselves."
        ) from error
    return [Part(folder.resolve().name, folder, weight) for folder, weight in weights.items()]


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
            split = next((s for s in SPLITS[::-1] if s in file.stem), "train")
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
        photographs[id] = Photograph(id, path, record["split"], captions, part.name)


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
        print(f"{len(problems)} thing(s) in the data were left out:", *problems[:shown], sep="\n  ")
    if len(problems) > shown:
        print(f"  ... and {len(problems) - shown} more")


class FeatureCache:
    """Regions of photographs in HDF5, by the SHA-256 of the photograph's bytes; a region source itself.

    A folder of shards, each written aside and renamed when whole: whenever a run is killed, what the folder
    holds is complete, and the next run goes on from there. Boxes are in pixels of the whole photograph, although the
    source may see a smaller one (see `open_image`).
    """

    SHARD = 64

    def __init__(self, folder: Path, source: RegionSource) -> None:
        self.folder, self.source = Path(folder) / source.name.replace("/", "-"), source
        self.name, self.feature_dim = source.name, source.feature_dim
        self.index: dict[str, tuple[Path, int]] = {}
        for shard in sorted(self.folder.glob("*.h5")):
            self._add(shard)

    def _add(self, shard: Path) -> None:
        try:
            with h5py.File(shard) as file:
                self.index |= {key.decode(): (shard, i) for i, key in enumerate(file["keys"][:])}
        except (OSError, KeyError) as error:
            raise GliedError(
                f"Expected a shard of cached regions in {shard}, it is damaged ({error}); "
                "delete that file and run extract again."
            ) from error

    def extract(self, paths: Sequence[Path], progress: bool = True) -> tuple[dict[Path, str], list[str]]:
        """Finds the regions of every photograph not yet cached.

        Returns:
            the key of each photograph that could be read, and one sentence for each that could not.
        """
        keys: dict[Path, str] = {}
        problems: list[str] = []
        pending: dict[str, Regions] = {}
        missing: list[Path] = []
        for path in dict.fromkeys(paths):
            try:
                keys[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                problems.append(f"{path.name}: {error.strerror}")
                continue
            if keys[path] not in self.index:
                missing.append(path)
        bar = tqdm(missing, desc=f"regions ({self.source.name})", unit="image", disable=not progress or not missing)
        for path in bar:
            if keys[path] in self.index or keys[path] in pending:
                continue
            try:
                image = open_image(path)
                pending[keys[path]] = self.source.find_regions(image).scaled(image.info["size"])
            except GliedError as error:
                problems.append(str(error))
                del keys[path]
            if len(pending) == self.SHARD:
                self._write(pending)
                pending = {}
        if pending:
            self._write(pending)
        return keys, problems

    def _write(self, pending: dict[str, Regions]) -> None:
        name = hashlib.sha256("".join(pending).encode()).hexdigest()[:16]
        counts = [len(r.boxes) for r in pending.values()]
        with replacing(self.folder / f"{name}.h5") as aside, h5py.File(aside, "w") as file:
            file.attrs["source"] = self.source.name
            file["keys"] = np.array(list(pending), "S64")
            file["starts"] = np.cumsum([0, *counts])
            file["sizes"] = np.array([r.size for r in pending.values()], np.int64)
            file["boxes"] = np.concatenate([r.boxes for r in pending.values()])
            file["features"] = np.concatenate([r.features for r in pending.values()]).astype(np.float16)
            file["scores"] = np.concatenate(
                [r.scores if len(r.scores) else np.ones(n) for r, n in zip(pending.values(), counts, strict=True)]
            )
            labels = [label for r, n in zip(pending.values(), counts, strict=True) for label in r.labels or [""] * n]
            file.create_dataset("labels", data=labels, dtype=h5py.string_dtype())
        self._add(self.folder / f"{name}.h5")

    def read(self, keys: Iterable[str]) -> Iterator[Regions]:
        """Regions of photographs in the cache, in the order of `keys`."""
        opened: dict[Path, h5py.File] = {}
        try:
            for key in keys:
                shard, i = self.index[key]
                if shard not in opened and len(opened) == 100:  # stay far below the limit on open files
                    opened.pop(next(iter(opened))).close()
                file = opened.get(shard) or opened.setdefault(shard, h5py.File(shard))
                rows = slice(*file["starts"][i : i + 2])
                labels = tuple(label.decode() for label in file["labels"][rows])
                labelled = any(labels)
                yield Regions(
                    file["boxes"][rows],
                    file["features"][rows].astype(np.float32),
                    (int(file["sizes"][i][0]), int(file["sizes"][i][1])),
                    str(file.attrs["source"]),
                    labels if labelled else (),
                    file["scores"][rows].astype(np.float32) if labelled else np.zeros(0, np.float32),
                )
        finally:
            for file in opened.values():
                file.close()

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of a photograph that `open_image` opened, also of a scaled copy: the cached, else the source's."""
        key = image.info.get("sha256")
        if key not in self.index:
            return self.source.find_regions(image)
        (regions,) = self.read([key])
        return regions.scaled(image.size)


def open_cached(name: str, cache: Path) -> RegionSource:
    """The region source called `name`, which answers from the cache where that is all it has."""
    source = open_source(name)
    return FeatureCache(cache, source) if isinstance(source, Stored) else source


def pad(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Arrays of different length stacked over zeros (PAD, among ids), and a mask that is True where an entry is
    real (None: everywhere)."""
    longest = max(len(row) for row in rows)
    stacked = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    mask = np.zeros((len(rows), longest), bool)
    for i, row in enumerate(rows):
        stacked[i, : len(row)], mask[i, : len(row)] = row, True
    return torch.from_numpy(stacked), None if mask.all() else torch.from_numpy(mask)


def attribute_ids(words: Sequence[str], vocabulary: Vocabulary) -> np.ndarray:
    """Ids of attribute words; a word that captions do not have is left out, and UNK stands where none remains."""
    known = [vocabulary.ids[w] for w in words if w in vocabulary]
    return np.array(known or [UNK])


def stack(scenes: Sequence[Scene], vocabulary: Vocabulary) -> Inputs:
    """Scenes as one batch, padded and masked."""
    features, region_mask = pad([s.regions.features for s in scenes])
    attributes, attribute_mask = pad([attribute_ids(s.attributes.words, vocabulary) for s in scenes])
    return Inputs(features, region_mask, attributes, attribute_mask)


def encode_captions(
    texts: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, longest: int, count: int = CAPTIONS
) -> Int[Tensor, "I C T"]:
    """BOS, words, EOS and PAD of the first `count` captions; a caption cut at `longest` words has no EOS."""
    tokens = torch.full((len(texts), count, longest + 2), PAD)
    tokens[:, :, 0] = BOS
    for i, captions in enumerate(texts):
        for c, words in enumerate(captions[:count]):
            ids = [*vocabulary.encode(words), EOS][: longest + (len(words) <= longest)]
            tokens[i, c, 1 : 1 + len(ids)] = torch.tensor(ids)
    return tokens


class Split(NamedTuple):
    """Photographs of a split with their regions in memory (float16); with mirrored ones, those follow, in the same
    order: `features` and `mask` have 2 I rows."""

    photographs: list[Photograph]
    features: Float[Tensor, "rows N R"]
    mask: Tensor | None

    @property
    def mirrored(self) -> bool:
        """Whether the mirrored photographs' regions are there too."""
        return len(self.features) > len(self.photographs)


def draw_epoch(
    photographs: Sequence[Photograph], parts: Sequence[Part], generator: torch.Generator
) -> Int[Tensor, " I"]:
    """An epoch: as many photographs as there are, in random order, the data sets in proportion to their weights.

    A set that is due more photographs than it has gives them again, in another order.
    """
    rows: dict[str, list[int]] = {}
    for i, photograph in enumerate(photographs):
        rows.setdefault(photograph.dataset, []).append(i)
    given = {part.name: part.weight for part in parts}
    weights = np.array([given.get(name) or len(own) ** 0.5 for name, own in rows.items()])
    ends = np.rint(weights.cumsum() / weights.sum() * len(photographs)).astype(int)
    due = np.diff(ends, prepend=0)
    drawn = []
    for own, count in zip(rows.values(), due.tolist(), strict=True):
        passes = [torch.randperm(len(own), generator=generator) for _ in range(max(1, math.ceil(count / len(own))))]
        drawn.append(torch.tensor(own)[torch.cat(passes)[:count]])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)] if len(rows) > 1 else order


def read_split(dataset: Dataset, cache: FeatureCache, *names: str, mirrored: FeatureCache | None = None) -> Split:
    """A split with its regions, found first where the cache lacks them; unreadable photographs are reported."""
    photographs = dataset.split(*names)
    caches = [cache] if mirrored is None else [cache, mirrored]
    for each in caches:
        keys, problems = each.extract([p.path for p in photographs])
        report(problems)
        photographs = [p for p in photographs if p.path in keys]
    if not photographs:
        raise GliedError(f"Expected readable photographs in split {' or '.join(names)}, none of them is; see above.")
    chosen = [keys[p.path] for p in photographs]
    regions = chain.from_iterable(each.read(chosen) for each in caches)
    total = len(chosen) * len(caches)
    bar = tqdm(regions, desc=f"reading {names[0]}", total=total, unit="image", leave=False)
    features, mask = pad([r.features.astype(np.float16) for r in bar])
    return Split(photographs, features, mask)
