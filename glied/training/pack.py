"""Packs what the training of captioners needs of data sets, so that it can run on a machine without photographs."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from glied.checkpoint import load_attribute_detector
from glied.data.dataset import Data, Photograph, load_dataset, report
from glied.data.features import GZIP, FeatureCache, encode, write_shard
from glied.data.pack import MANIFEST, write_manifest
from glied.data.split import find_keys, read_split
from glied.errors import GliedError
from glied.files import replacing, to_json
from glied.regions import Mirrored, open_source
from glied.scene import Regions
from glied.training.material import find_words, read_crossfit

Bits = Literal[8, 16]


def write_pack(
    data: Data,
    cache: Path,
    detector: Path,
    crossfit: Path | None,
    folder: Path,
    bits: Bits = 8,
    part: int = 60_000_000,
    mirrored: bool = False,
) -> list[Path]:
    """Packs the photographs of train, restval and val; can be stopped, and goes on with the parts that are not there.

    Args:
        data, cache, detector, crossfit: as the training of captioners reads them (see `Places`).
        bits: of each number of a region's feature: 16 keeps what the cache has.
        part: the size of a file in bytes, at most.
        mirrored: with the regions of the mirrored photographs.

    Returns:
        the files.

    Raises:
        GliedError: the data cannot be used, or a file is larger than `part`.
    """
    dataset = load_dataset(data)
    report(dataset.problems)
    attributes, _ = load_attribute_detector(detector)
    source = open_source(attributes.source)
    caches = [FeatureCache(cache, each) for each in ((source, Mirrored(source)) if mirrored else (source,))]
    keys = find_keys(dataset, caches, "train", "restval", "val")
    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier pack; the new one is written last
    files = [folder / "attributes.safetensors"]
    with replacing(files[0]) as aside:
        aside.write_bytes(detector.read_bytes())
    for name in (p.name for p in dataset.subsets):
        records = [_record(p, key) for p, key in keys.items() if p.dataset == name]
        files.append(_write_json(folder / name / "captions.json", {"images": records}))
    if crossfit is not None:
        known, problems = read_crossfit(crossfit, [p for p in keys if p.split != "val"])
        report(problems)
        found = {p.id: known[p.id] for p in keys if p.split != "val" and p.id in known}
        val = read_split(dataset, caches[0], "val")
        found |= dict(zip((p.id for p in val.photographs), find_words(attributes, val, {}), strict=True))
        files.append(_write_json(folder / "attributes.crossfit.json", found))
    for each in caches:
        target = FeatureCache.folder_of(folder, each.name)
        files += [write_shard(target, found, bits) for found in _divide(list(keys.values()), each, bits, part)]
    if too_large := [file for file in files if file.stat().st_size > part]:
        size = max(file.stat().st_size for file in too_large) / 1e6
        raise GliedError(
            f"Expected files of at most {part / 1e6:g} MB, {too_large[0].name} cannot be divided; give --part "
            f"{size + 0.1:.1f}."
        )
    sets = {p.name: p.weight for p in dataset.subsets}
    about = {"source": source.name, "feature_dim": source.feature_dim, "mirrored": mirrored, "bits": bits, "sets": sets}
    write_manifest(folder, about, files)
    return files


def _divide(keys: Sequence[str], cache: FeatureCache, bits: Bits, part: int) -> Iterator[dict[str, Regions]]:
    """The regions in the order of `keys`, as many at a time as fit in a part."""
    found: dict[str, Regions] = {}
    size = room = 0.95 * part - 20_000  # leaves room for the overhead of a file
    for key, regions in zip(keys, cache.read(keys), strict=True):
        features = zlib.compress(encode(regions.features, bits).tobytes(), GZIP)
        needed = len(features) + 128 * len(regions.boxes) + 1000  # boxes, labels, scores
        if found and needed > size:
            yield found
            found, size = {}, room
        found[key] = regions
        size -= needed
    yield found


def _record(photograph: Photograph, key: str) -> dict[str, object]:
    """What Karpathy's layout has of a photograph, and the SHA-256 of its file."""
    folder, _, name = (photograph.place or photograph.id).rpartition("/")
    sentences = [{"raw": caption} for caption in photograph.captions]
    return {"filepath": folder, "filename": name, "split": photograph.split, "sentences": sentences, "sha256": key}


def _write_json(path: Path, value: object) -> Path:
    with replacing(path) as aside:
        aside.write_text(to_json(value))
    return path
