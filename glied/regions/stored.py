"""Features that others extracted: Bottom-Up TSV, folders of .npz or .npy, HDF5. Read on demand, never unpickled."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from PIL import Image

from glied.errors import GliedError
from glied.records import DAMAGE, PICKLE, Names, decode, kind_of, match_names, reason, shown
from glied.scene import Regions

# what the usual repositories call the arrays of an image
NAMES = {
    "features": ("features", "feat", "x"),
    "boxes": ("boxes", "bbox"),
    "width": ("image_w", "width"),
    "height": ("image_h", "height"),
}
FOLDERS = {"_att": "_box", "features": "boxes", "feat": "bbox"}  # how folders of features and of their boxes end
ROW = 2**26  # bytes; the row of 100 regions has 1.1 million
ATTRIBUTE = 0.1  # an attribute of lower probability is not named, as in Bottom-Up Attention's own demo
TOLERANCE = 0.02  # of sides and their ratio: small photographs are rounded to whole pixels
SAMPLE = 50  # images whose boxes are looked at before any is converted
NAME = re.compile(r"[\w.+-]+")


class Record(NamedTuple):
    """The regions of one image as they were stored.

    Attributes:
        boxes: [N, 4] x1 y1 x2 y2, in pixels of an image of `size` (None: of the photograph), or as fractions of its
            sides. `features`: [N, D]. `labels`, `scores`: N or none.
    """

    boxes: np.ndarray
    features: np.ndarray
    size: tuple[int, int] | None
    labels: tuple[str, ...] = ()
    scores: np.ndarray = np.zeros(0, np.float32)


Reader = Callable[[], Record]


class Stored:
    """The source of regions that others extracted: only those that `convert` put into the feature cache.

    Args:
        name: `stored/NAME@WIDTH`, as `python -m glied convert` prints it.
    """

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r"stored/([\w.+-]+)@([1-9]\d{0,5})", name)
        if match is None:
            raise GliedError(
                f"Expected stored features called stored/NAME@WIDTH (letters, digits and . + - _), got {name!r}; "
                "use the name that `python -m glied convert` printed."
            )
        self.name, self.label, self.feature_dim = name, match[1], int(match[2])

    def find_regions(self, image: Image.Image) -> Regions:
        """Never finds any: it is asked only for a photograph that the cache lacks."""
        raise GliedError(
            f"Expected the regions of {_called(image)} in the cache of {self.name}, found none; run "
            f"`python -m glied convert STORED --data DIR --name {self.label}` with features of this photograph, or "
            "choose a photograph that has them."
        )


def check_name(name: str) -> None:
    """Raises GliedError if `name` cannot be the name of stored features."""
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise GliedError(
            f"Expected a name of letters, digits and . + - _ for the features, got {shown(name)!r}; choose another "
            "--name."
        )


class StoredFiles(Stored):
    """Files of stored features, as a source of regions for the photographs whose names match their ids.

    Args:
        name: what to call these features. `paths`: files, or folders of them. If an id comes more than once, the last
            row counts, because an extraction that was resumed repeats the row in which it was cut.
        photographs: path of each photograph -> its name in its data set; an id that could mean several photographs
            means none.

    Attributes:
        problems: a sentence for each thing that was left out so far.
    """

    def __init__(self, name: str, paths: Sequence[Path], photographs: Mapping[Path, str] | None = None) -> None:
        check_name(name)
        self.readers: dict[str, Reader] = {}
        unread: list[str] = []
        for path in paths:
            self.readers |= _index(Path(path), unread)
        super().__init__(f"stored/{name}@{self._width(paths, unread)}")
        self._check_layout()
        self.ids = Names(self.readers)
        named = {str(path): own for path, own in (photographs or {}).items()}
        found, self.problems = match_names(named.values(), self.ids)
        self.known = {path: found.get(own) for path, own in named.items()}

    def _width(self, paths: Sequence[Path], unread: Sequence[str]) -> int:
        """Width of the first features that can be read."""
        problem = "; ".join(unread[:3]) or "no row or array of a known layout in it"
        for id in self.readers:
            try:
                return self._read(id).features.shape[1]
            except GliedError as error:
                problem = str(error)
        raise GliedError(
            f"Expected features in {', '.join(shown(str(p)) for p in paths)} (Bottom-Up TSV of 6 or 10 columns, folder "
            f"of .npz or .npy, HDF5), found none: {problem}"
        )

    def _check_layout(self) -> None:
        """Raises GliedError if in more than a third of a sample of images boxes end before they start."""
        ids = list(self.readers)
        seen, turned = 0, 0
        for id in ids[:: -(-len(ids) // SAMPLE)]:
            try:
                boxes = self._read(id).boxes
            except GliedError:
                continue
            seen += 1
            turned += bool((boxes[:, 2:] < boxes[:, :2]).any())
        if 3 * turned > seen:
            raise GliedError(
                f"Expected boxes as x1, y1, x2, y2, in {turned} of {seen} images some end before they start, as x, y, "
                "width, height would; convert the boxes to corners."
            )

    def _read(self, id: str) -> Record:
        """The record stored under `id`, with the checks that do not need the photograph."""
        try:
            record = self.readers[id]()
            boxes, features = record.boxes.astype(np.float32), record.features.astype(np.float32)
            n = len(boxes)
            if n == 0 or boxes.shape != (n, 4) or features.ndim != 2 or len(features) != n:
                raise ValueError(f"boxes of shape {boxes.shape}, features of shape {features.shape}")
            if not (np.isfinite(boxes).all() and np.abs(features).max() < np.finfo(np.float16).max):
                raise ValueError("NaN, infinity or numbers beyond 65,504")  # the cache holds float16
            if record.size and min(record.size) < 1:
                raise ValueError(f"an image of {record.size[0]} x {record.size[1]} pixels")
            return record._replace(boxes=boxes, features=features)
        except GliedError:
            raise
        except Exception as error:  # files of many kinds, damaged in many ways
            why = PICKLE if "pickle" in str(error) else reason(error)
            raise GliedError(
                f"Expected whole features under the id {shown(id)}, they are damaged ({why}); extract them again."
            ) from error

    def find_id(self, name: str) -> str | None:
        """The id under which the photograph of this path or name is stored."""
        return self.known[name] if name in self.known else self.ids.find(name)

    def unclaimed(self, names: Iterable[str]) -> list[str]:
        """Ids that belong to none of the photographs so called."""
        claimed = {self.find_id(name) for name in names}
        return [id for id in self.readers if id not in claimed]

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions stored for a photograph that `open_image` opened, in its own pixels; those without area are dropped.

        Raises:
            GliedError: there are none, they are damaged, or they were extracted from an image of another shape.
        """
        name = _called(image)
        return self._find(name, image.size, image.info.get("size", image.size))  # before `open_image` scaled it down

    def check(self, path: Path, cached: Regions) -> None:
        """Raises GliedError if an earlier conversion cached other regions than those stored here."""
        name = str(path)
        if self.find_id(name) is None:
            return
        kept = len(self.problems)
        try:
            found = self._find(name, cached.size, cached.size)
        except GliedError as error:
            self.problems.append(f"{error}; it keeps its regions from an earlier conversion")
            return
        del self.problems[kept:]  # told when they were converted
        features = found.features.astype(np.float16)
        if not (
            np.array_equal(features, cached.features.astype(np.float16))
            and np.allclose(found.boxes, cached.boxes, atol=0.05)
            and found.labels == cached.labels
        ):
            raise GliedError(
                f"The features of {shown(name)} differ from those that were converted as {self.label} before; choose "
                f"another --name for them, or delete the folder {self.name.replace('/', '-')} in the cache to convert "
                "all anew."
            )

    def _find(self, name: str, side: tuple[int, int], whole: tuple[int, int]) -> Regions:
        """The regions of the photograph called `name` of `whole` pixels, scaled to those of `side`."""
        told = shown(name, 300)
        id = self.find_id(name)
        if id is None:
            raise GliedError(f"{told}: left out, no stored features under {' or '.join(_ids(name))}")
        try:
            record = self._read(id)
        except GliedError as error:
            raise GliedError(f"{told}: left out. {error}") from error
        if record.features.shape[1] != self.feature_dim:
            raise GliedError(
                f"{told}: left out, its features have {record.features.shape[1]} numbers, others {self.feature_dim}"
            )
        if turned := int((record.boxes[:, 2:] < record.boxes[:, :2]).any(1).sum()):
            raise GliedError(
                f"{told}: left out, {turned} of its {len(record.boxes)} boxes end before they start; x1, y1, x2, y2 "
                "are expected, these may be x, y, width, height"
            )
        size = record.size or whole
        unit = (1, 1) if record.boxes.max() <= 1 + TOLERANCE else size  # what the boxes are measured in
        photograph = np.array([*side, *side], np.float32)
        boxes = record.boxes / np.array([*unit, *unit], np.float32)
        ratio = size[0] * whole[1] / (size[1] * whole[0])
        if abs(ratio - 1) > TOLERANCE or boxes.min() < -TOLERANCE or boxes.max() > 1 + TOLERANCE:
            reach = np.ceil(record.boxes[:, 2:].max(0))
            raise GliedError(
                f"{told}: left out, it has {whole[0]} x {whole[1]} pixels, its features are of an image of "
                f"{size[0]} x {size[1]} with boxes up to {reach[0]:.0f}, {reach[1]:.0f} (expected x1, y1, x2, y2)"
            )
        boxes = boxes.clip(0, 1) * photograph
        real = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        if len(real) == 0:
            raise GliedError(f"{told}: left out, none of its {len(boxes)} boxes has an area")
        if len(real) < len(boxes):
            self.problems.append(f"{told}: {len(boxes) - len(real)} of its {len(boxes)} boxes have no area, left out")
        labels = tuple(record.labels[i] for i in real if record.labels)
        scores = record.scores[real] if len(record.scores) else record.scores
        return Regions(boxes[real], record.features[real], side, self.name, labels, scores)


def _ids(name: str) -> tuple[str, str]:
    """What a photograph is usually stored under."""
    return shown(Path(name).name), shown(Path(name).stem)


def _called(image: Image.Image) -> str:
    return str(image.info.get("name", "the photograph"))


def _index(path: Path, unread: list[str]) -> dict[str, Reader]:
    """Image id -> what reads its regions, for all that a file or folder holds. The kinds of files that cannot be read
    are added to `unread`."""
    try:
        if path.is_dir():
            return _index_folder(path, unread)
        if h5py.is_hdf5(path):
            return _index_hdf5(path)
        with path.open("rb") as file:
            head = file.read(300)
        kind = kind_of(head) or ("UTF-16; save it as UTF-8" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else None)
        if kind or b"\0" in head:
            raise GliedError(
                f"Expected stored features (Bottom-Up TSV, HDF5, or a folder of .npz or .npy) at {shown(str(path))}, "
                f"it is {kind or 'binary data of another kind; save them as HDF5 or .npz'}."
            )
        return _index_tsv(path)
    except DAMAGE as error:  # HDF5 has many ways
        raise GliedError(
            f"Expected stored features at {shown(str(path), 300)}, could not read them ({reason(error)}); check the "
            "path."
        ) from error


def _index_folder(folder: Path, unread: list[str]) -> dict[str, Reader]:
    boxes = next(
        (folder.with_name(folder.name.removesuffix(a) + b) for a, b in FOLDERS.items() if folder.name.endswith(a)), None
    )
    found: dict[str, Reader] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".npz", ".npy"):
            found[file.stem] = partial(_read_arrays, file, boxes)
        elif file.is_file() and ".tsv" not in file.suffixes and file.suffix not in (".h5", ".hdf5"):
            with file.open("rb") as opened:
                kind = kind_of(opened.read(300))
            unread += [f"{shown(file.name)} is {kind}"] if kind else []
        elif file.is_file() or file.name.endswith(tuple(FOLDERS)):
            found |= _index(file, unread)
    return found


def _read_arrays(file: Path, folder: Path | None) -> Record:
    """An .npz or .npy file; if it has no boxes, they are those of the same name in `folder`."""
    arrays = _load(file, "features")
    if folder is not None and not arrays.keys() & set(NAMES["boxes"]):
        beside = next((f for f in (folder / f"{file.stem}{s}" for s in (".npy", ".npz")) if f.is_file()), None)
        if beside is None:
            raise GliedError(
                f"Expected boxes of {shown(file.stem)} in {folder.name}, found no boxes; put {folder.name} beside "
                f"{file.parent.name}."
                if not folder.is_dir()
                else f"Expected boxes of {shown(file.stem)} in {folder.name}, found no boxes; extract them again."
            )
        arrays |= _load(beside, "boxes")
    return _record(arrays)


def _load(file: Path, name: str) -> dict[str, Any]:
    """The arrays that we know; a bare one is called `name`."""
    with file.open("rb") as opened:
        content = np.load(opened, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {name: content}
        return {key: content[key] for key in chain(*NAMES.values()) if key in content}  # never a pickled `info`


def _index_hdf5(path: Path) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    with h5py.File(path) as file:
        for key in file:
            if key.endswith("_features"):
                found[key.removesuffix("_features")] = partial(_read_datasets, path, key.removesuffix("features"))
            elif file.get(key, getclass=True) is h5py.Group:
                found[key] = partial(_read_datasets, path, f"{key}/")
    return found


def _read_datasets(path: Path, prefix: str) -> Record:
    """The datasets ID_features, ID_boxes or ID/features, ID/boxes, or what a group has as attributes."""
    with h5py.File(path) as file:
        known = list(chain(*NAMES.values()))
        attributes = file[prefix].attrs if prefix.endswith("/") else {}
        arrays = {key: attributes[key] for key in known if key in attributes}
        return _record(arrays | {key: file[prefix + key][()] for key in known if prefix + key in file})


def _record(arrays: Mapping[str, Any]) -> Record:
    known = {kind: next((arrays[n] for n in names if n in arrays), None) for kind, names in NAMES.items()}
    features, boxes, width, height = known.values()
    if features is None or boxes is None:
        absent = "features" if features is None else "boxes"
        raise ValueError(f"no {absent} called {' or '.join(NAMES[absent])}")
    if features.ndim == 2 and len(features) != len(boxes) == features.shape[1]:
        features = features.T  # as the VQA challenge's repositories store them
    return Record(boxes, features, None if width is None or height is None else (int(width), int(height)))


def _index_tsv(path: Path) -> dict[str, Reader]:
    """Where each row lies; the file, of 20 GB and more, is read through once and not kept."""
    vocabularies = (_vocabulary(path.parent / "objects_vocab.txt"), _vocabulary(path.parent / "attributes_vocab.txt"))
    found: dict[str, Reader] = {}
    offset = 0
    with path.open("rb") as file:
        while row := file.readline(ROW):
            id, tab, _ = row[:256].partition(b"\t")
            if len(row) == ROW:
                raise GliedError(f"Expected rows of a Bottom-Up TSV in {path}, got one beyond 64 MB; check the file.")
            if tab:
                found[id.decode(errors="replace").lstrip("\ufeff")] = partial(
                    _read_row, path, offset, len(row), *vocabularies
                )
            offset += len(row)
    return found


def _vocabulary(file: Path) -> tuple[str, ...]:
    """The first of the synonyms in each line."""
    return (
        tuple(line.split(",")[0].strip() for line in decode(file.read_bytes()).splitlines()) if file.is_file() else ()
    )


def _read_row(path: Path, offset: int, length: int, objects: tuple[str, ...], attributes: tuple[str, ...]) -> Record:
    """A row of the classic six columns, or of ten with objects, attributes and their probabilities."""
    with path.open("rb") as file:
        file.seek(offset)
        columns = file.read(length).rstrip(b"\r\n").split(b"\t")
    if len(columns) not in (6, 10):
        raise ValueError(f"a row of {len(columns)} columns, not 6 or 10")
    sides = columns[1:3] if len(columns) == 6 else columns[2:0:-1]
    width, height, n = map(_number, (*sides, columns[-3]))
    boxes, features = (_decode(column, np.float32) for column in columns[-2:])
    if n < 1 or len(boxes) != 4 * n or len(features) % n:
        raise ValueError(f"{n} boxes announced, {len(boxes)} coordinates and {len(features)} feature numbers found")
    record = Record(boxes.reshape(n, 4), features.reshape(n, -1), (width, height))
    if len(columns) == 6 or not objects:
        return record
    object_ids, scores, attribute_ids, probabilities = (
        _decode(column, dtype) for column, dtype in zip(columns[3:7], (np.int64, np.float32) * 2, strict=True)
    )
    labels = []
    for o, a, p in zip(object_ids.tolist(), attribute_ids.tolist(), probabilities.tolist(), strict=True):
        if not (0 <= o < len(objects) and (not attributes or 0 <= a < len(attributes))):
            raise ValueError(f"object {o} and attribute {a}, the vocabularies have {len(objects)}, {len(attributes)}")
        labels.append(f"{attributes[a]} {objects[o]}" if attributes and p > ATTRIBUTE else objects[o])
    if len(labels) != n or scores.shape != (n,) or not np.isfinite(scores).all():
        raise ValueError(f"{n} boxes announced, {len(labels)} objects and {len(scores)} probabilities found")
    return record._replace(labels=tuple(labels), scores=scores)


def _number(column: bytes) -> int:
    try:
        return int(column)
    except ValueError as error:
        raise ValueError(f"{shown(column)} is no whole number") from error


def _decode(column: bytes, dtype: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column, validate=True), dtype)
