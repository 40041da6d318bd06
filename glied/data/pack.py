"""A pack: data sets without their photographs, as the training of captioners reads them on another machine.

It is a folder of small files: the captions of each data set, the regions of its photographs in parts of a limited size,
the attribute detector, the attributes that it found, and a list of all files with their checksums.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from glied.errors import GliedError
from glied.files import replacing
from glied.records import DAMAGE, read_json, reason, refuse, shown
from glied.scene import Regions

MANIFEST = "pack.json"
FORMAT = "glied-pack-1"
WIDEST = 1_000_000  # numbers of a feature


class Packed:
    """The region source of a pack, which has only the regions that were packed.

    Args:
        folder: of the pack, which is also the folder of the cache.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.mirrored = folder, bool(manifest["mirrored"])
        self.name, self.feature_dim = str(manifest["source"]), int(manifest["feature_dim"])

    def find_regions(self, image: Image.Image) -> Regions:
        """Never finds any: it is asked only for a photograph that the pack lacks."""
        raise GliedError(f"Expected the regions of a photograph in {self.folder}, found none; pack again.")


def write_manifest(folder: Path, about: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Completes a pack: lists its `files` with what is `about` them, and deletes other files of an earlier pack."""
    kept = set(files)
    for stray in {*folder.glob("*/*.h5"), *folder.glob("*/captions.json"), *folder.glob("*.crossfit.json")} - kept:
        stray.unlink()
    checksums = {file.relative_to(folder).as_posix(): _checksum(file) for file in sorted(kept)}
    with replacing(folder / MANIFEST) as aside:
        aside.write_text(json.dumps({"format": FORMAT, **about, "files": checksums}, indent=1))


def is_pack(folder: Path) -> bool:
    """Whether a folder is a pack."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a pack says of itself.

    Raises:
        GliedError: the list itself is damaged.
    """
    path, what, advice = folder / MANIFEST, "the names and checksums of a pack's files", "copy it again"
    manifest, problems = read_json(path, what, advice)
    try:
        if problems:
            raise ValueError(problems[0])
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {shown(manifest['format'])}, not {FORMAT}")
        if not 0 < Packed(folder, manifest).feature_dim < WIDEST:
            raise ValueError(f"its features have {shown(manifest['feature_dim'])} numbers")
        for weight in manifest["sets"].values():
            if weight is not None and not 0 < float(weight) < math.inf:
                raise ValueError(f"a weight is {shown(weight)}")
        manifest["files"].items()
        return manifest
    except DAMAGE as error:
        raise refuse(what, path, reason(error), advice) from error


def open_pack(folder: Path) -> Packed:
    """The regions of the pack in `folder`, when all its files are whole.

    Raises:
        GliedError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    files = {folder / name: checksum for name, checksum in manifest["files"].items()}
    with ThreadPoolExecutor() as pool:
        found = dict(zip(files, pool.map(_checksum, files), strict=True))
    if wrong := [file for file, checksum in files.items() if found[file] != checksum]:
        state = "missing" if not found[wrong[0]] else "damaged"
        more = f", and {len(wrong) - 1} more are" if len(wrong) > 1 else ""
        raise GliedError(
            f"Expected all {len(files)} files of the pack {folder} as they were written, {shown(wrong[0].name)} is "
            f"{state}{more}; copy it again."
        )
    return Packed(folder, manifest)


def _checksum(file: Path) -> str:
    """Its SHA-256; "" where there is no such file."""
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return ""
    except OSError as error:
        raise refuse("the bytes of a pack", file, reason(error), "copy it again") from error
