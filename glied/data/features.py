"""The cache of regions in HDF5, by photograph; itself a region source."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from glied.errors import GliedError
from glied.files import replacing
from glied.images import open_image
from glied.records import reason, shown
from glied.regions import RegionSource, open_source
from glied.regions.stored import Stored
from glied.scene import Regions
from glied.terminal import track


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

    def extract(
        self,
        paths: Sequence[Path],
        progress: bool = True,
        check: Callable[[Path, Regions], None] | None = None,
    ) -> tuple[dict[Path, str], list[str]]:
        """Finds the regions of every photograph not yet cached.

        Args:
            check: is asked about every photograph that is cached and its regions there, before any are found.

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
                problems.append(f"{shown(str(path))}: {reason(error)}")
                continue
            if keys[path] not in self.index:
                missing.append(path)
        if check is not None:
            cached = [path for path in keys if keys[path] in self.index]
            for path, regions in zip(cached, self.read(keys[path] for path in cached), strict=True):
                check(path, regions)
        bar = track(missing, desc=f"regions ({self.source.name})", unit="image", disable=not progress or not missing)
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
        # in memory first: HDF5 would not say why it cannot write, and would try again when it closes
        with h5py.File(name, "w", driver="core", backing_store=False) as file:
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
            file.flush()
            with replacing(self.folder / f"{name}.h5") as aside:
                aside.write_bytes(file.id.get_file_image())
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
