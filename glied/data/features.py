"""The cache of regions in HDF5, by photograph; itself a region source."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import h5py
import numpy as np
from jaxtyping import Float
from PIL import Image

from glied.errors import GliedError
from glied.files import replacing
from glied.images import open_image
from glied.records import DAMAGE, reason, shown
from glied.regions import Engine, Mirrored, RegionSource, open_source
from glied.regions.stored import Stored
from glied.scene import Regions
from glied.terminal import track

GZIP = 4  # its level, in packs


Batch = Sequence[tuple[Path, str]]  # photographs and their keys


class Sharded(NamedTuple):
    """The result of a batch: its shard (None: no photograph could be read), and a sentence for each unreadable one."""

    photographs: int
    shard: Path | None
    lost: dict[Path, str]


class FeatureCache:
    """Regions of photographs in HDF5, by the SHA-256 of the photograph's bytes; a region source itself.

    A folder of shards, each written aside and renamed when whole: whenever a run is killed, what the folder
    holds is complete, and the next run goes on from there. Boxes are in pixels of the whole photograph, although the
    source may see a smaller one (see `open_image`).
    """

    SHARD = 64

    def __init__(self, folder: Path, source: RegionSource) -> None:
        self.folder, self.source = self.folder_of(folder, source.name), source
        self.name, self.feature_dim = source.name, source.feature_dim
        self.index: dict[str, tuple[Path, int]] = {}
        for shard in sorted(self.folder.glob("*.h5")):
            self._add(shard)

    @staticmethod
    def folder_of(cache: Path, source: str) -> Path:
        """Where a cache keeps the regions of a source."""
        return Path(cache) / source.replace("/", "-")

    def _add(self, shard: Path) -> None:
        with _whole(shard), h5py.File(shard) as file:
            self.index |= {key.decode(): (shard, i) for i, key in enumerate(file["keys"][:])}

    def extract(
        self,
        paths: Sequence[Path],
        progress: bool = True,
        check: Callable[[Path, Regions], None] | None = None,
        known: Mapping[Path, str] = MappingProxyType({}),
        share: Callable[[Sequence[Batch]], Iterable[Sharded]] | None = None,
    ) -> tuple[dict[Path, str], list[str]]:
        """Finds the regions of every photograph not yet cached.

        Args:
            check: called with every photograph that is cached and its cached regions, before any regions are found.
            known: keys of photographs whose files are not here.
            share: runs `find_shard` on other workers, if there is more than one batch.

        Returns:
            the key of each photograph that could be read, and one sentence for each that could not.
        """
        keys: dict[Path, str] = {}
        problems: list[str] = []
        missing: list[Path] = []
        for path in dict.fromkeys(paths):
            try:
                keys[path] = known.get(path) or hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                problems.append(f"{shown(str(path))}: {reason(error)}")
                continue
            if keys[path] not in self.index:
                missing.append(path)
        if check is not None:
            cached = [path for path in keys if keys[path] in self.index]
            for path, regions in zip(cached, self.read(keys[path] for path in cached), strict=True):
                check(path, regions)
        once = {keys[path]: path for path in reversed(missing)}
        hidden = not progress or not missing
        with track(total=len(once), desc=f"regions ({self.source.name})", unit="image", disable=hidden) as bar:
            for paths in ([*once.values()][::-1], missing):  # those left over are damaged, under other names
                left = [(path, keys[path]) for path in paths if path in keys and keys[path] not in self.index]
                batches = [left[i : i + self.SHARD] for i in range(0, len(left), self.SHARD)]
                alone = partial(map, partial(find_shard, self.folder, self.source))
                for found in (share if share and len(batches) > 1 else alone)(batches):
                    if found.shard is not None:
                        self._add(found.shard)
                    for path, problem in found.lost.items():
                        problems.append(problem)
                        del keys[path]
                    bar.update(found.photographs)
        return keys, problems

    def read(self, keys: Iterable[str]) -> Iterator[Regions]:
        """Regions of photographs in the cache, in the order of `keys`."""
        opened: dict[Path, tuple[h5py.File, dict[str, np.ndarray]]] = {}
        try:
            for key in keys:
                shard, i = self.index[key]
                with _whole(shard):
                    if shard not in opened:
                        if len(opened) == 100:  # stay far below the limit on open files
                            opened.pop(next(iter(opened)))[0].close()
                        opened[shard] = h5py.File(shard), {}
                        file, small = opened[shard]
                        # all but the features is small, and read at once
                        small |= {name: file[name][:] for name in file if name != "features"}
                    regions = _read_regions(*opened[shard], i)
                yield regions
        finally:
            for file, _ in opened.values():
                file.close()

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of a photograph that `open_image` opened, or of a scaled copy of it: cached, else from the source."""
        key = image.info.get("sha256")
        if key not in self.index:
            return self.source.find_regions(image)
        (regions,) = self.read([key])
        return regions.scaled(image.size)


@contextmanager
def _whole(shard: Path) -> Iterator[None]:
    """Turns whatever reading a damaged shard raises into one sentence about the file."""
    try:
        yield
    except (*DAMAGE, MemoryError, GliedError) as error:
        raise GliedError(
            f"Expected a shard of cached regions in {shown(str(shard), 300)}, it is damaged ({reason(error)}); delete "
            "that file and run extract (or convert) again."
        ) from error


def _read_regions(file: h5py.File, small: Mapping[str, np.ndarray], i: int) -> Regions:
    """The i-th regions of a shard."""
    rows = slice(*small["starts"][i : i + 2])
    features = file["features"][rows].astype(np.float32)
    if "step" in small:
        features = features * small["step"][rows, None] + small["lowest"][rows, None]
    labels = tuple(label.decode() for label in small["labels"][rows])
    labelled = any(labels)
    return Regions(
        small["boxes"][rows],
        features,
        (int(small["sizes"][i][0]), int(small["sizes"][i][1])),
        str(file.attrs["source"]),
        labels if labelled else (),
        small["scores"][rows].astype(np.float32) if labelled else np.zeros(0, np.float32),
    )


def steps(features: Float[np.ndarray, "N R"]) -> Float[np.ndarray, " N"]:
    """The size of a step, if 255 steps lead from the lowest to the highest number of each region."""
    return (features.max(1) - features.min(1)).clip(1e-9) / 255


def encode(features: Float[np.ndarray, "N R"], bits: int | None) -> np.ndarray:
    """Features as they are stored: float16, or with 8 bits their steps above the lowest number of each region."""
    if bits != 8:
        return features.astype(np.float16)
    return np.rint((features - features.min(1)[:, None]) / steps(features)[:, None]).astype(np.uint8)


def write_shard(folder: Path, found: Mapping[str, Regions], bits: Literal[8, 16] | None = None) -> Path:
    """Writes the regions of photographs, by key, as one file in `folder`, which is named after its content: whole or
    not at all, and only once.

    Args:
        bits: compress the features to at most this many bits per number. With 8, every region has its own lowest number
            and step.
    """
    named = "".join(found) + (f" {bits}" if bits else "")
    path = folder / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.h5"
    if path.is_file():
        return path
    counts = [len(r.boxes) for r in found.values()]
    features = np.concatenate([r.features for r in found.values()])
    # in memory first: HDF5 would not say why it cannot write, and would try again when it closes
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["source"] = next(iter(found.values())).source
        file["keys"] = np.array(list(found), "S64")
        file["starts"] = np.cumsum([0, *counts])
        file["sizes"] = np.array([r.size for r in found.values()], np.int64)
        file["boxes"] = np.concatenate([r.boxes for r in found.values()])
        if bits == 8:
            file["lowest"], file["step"] = features.min(1), steps(features)
        packing = {"compression": "gzip", "compression_opts": GZIP, "chunks": (min(counts), features.shape[1])}
        file.create_dataset("features", data=encode(features, bits), **(packing if bits else {}))
        file["scores"] = np.concatenate(
            [r.scores if len(r.scores) else np.ones(n) for r, n in zip(found.values(), counts, strict=True)]
        )
        labels = [label for r, n in zip(found.values(), counts, strict=True) for label in r.labels or [""] * n]
        # of one length: HDF5 may search a damaged heap of texts for ever
        file["labels"] = np.array([label.encode() for label in labels], "S")
        file.flush()
        with replacing(path) as aside:
            aside.write_bytes(file.id.get_file_image())
    return path


def find_shard(folder: Path, source: RegionSource, batch: Batch) -> Sharded:
    """Finds the regions of some photographs, and writes them as a shard."""
    found: dict[str, Regions] = {}
    lost: dict[Path, str] = {}
    for path, key in batch:
        try:
            image = open_image(path)
            found[key] = source.find_regions(image).scaled(image.info["size"])
        except GliedError as error:
            lost[path] = str(error)
    return Sharded(len(batch), write_shard(folder, found) if found else None, lost)


@dataclass(frozen=True)
class Finding:
    """What every worker does with a batch of photographs: `find_shard`, with a source of its own."""

    folder: Path
    source: str
    mirrored: bool = False

    def open(self) -> Callable[[Batch], Sharded]:
        """Loads the source."""
        source = open_source(self.source)
        return partial(find_shard, self.folder, Mirrored(source) if self.mirrored else source)


def open_cached(name: str, cache: Path, engine: Engine = "fastest") -> RegionSource:
    """The region source called `name`, which answers from the cache where that is all it has."""
    source = open_source(name, engine)
    return FeatureCache(cache, source) if isinstance(source, Stored) else source
