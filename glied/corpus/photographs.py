"""A corpus: a folder of photographs, or Parquet files with a column of them, divided into parts of a few hundred.

It is listed in one order, and no list of all photographs is ever made. A part holds the names of its photographs, and
reads the files when it is iterated.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise, repeat
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from glied.errors import GliedError
from glied.files import as_text
from glied.records import DAMAGE, IMAGE, reason, refuse, shown

PARQUET = ".parquet"
Entry = tuple[str, Path | bytes | GliedError]  # the name of a photograph, and its file, its bytes, or why there is none


@dataclass(frozen=True)
class Files:
    """Photographs in files, named by their paths in the folder."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Entry]:
        for name in self.names:
            path = self.folder / name
            if path.is_fifo():  # reading one waits, perhaps for ever
                yield as_text(name), GliedError(f"Expected an image, {shown(str(path), 300)} is a pipe; leave it out.")
            else:
                yield as_text(name), path


@dataclass(frozen=True)
class Rows:
    """Photographs in rows `start` to `stop` of a Parquet file: paths (from the file's folder on), bytes, or the two as
    Hugging Face's data sets have them (a struct of `bytes` and `path`).

    Bytes are named by that path, or by a column `path`, or else FILE#ROW.
    """

    file: Path
    column: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Entry]:
        with _open(self.file) as opened:
            counts = (opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups))
            for group, (low, high) in enumerate(pairwise(accumulate(counts, initial=0))):
                row, stop = max(low, self.start), min(high, self.stop)
                if row >= stop:
                    continue
                try:
                    for held, named in islice(self._read(opened, group), row - low, stop - low):
                        yield self._entry(row, held, named)
                        row += 1
                except (*DAMAGE, pa.ArrowException) as error:
                    problem = refuse("photographs in Parquet", self.file, reason(error), "write it again")
                    yield from ((f"{self.file.name}#{lost}", problem) for lost in range(row, stop))

    def _read(self, opened: pq.ParquetFile, group: int) -> Iterator[tuple[Any, Any]]:
        """The cells of a group of rows, and those of the column `path`, a few at a time."""
        known = {self.column, "path"} & set(opened.schema_arrow.names)
        for batch in opened.iter_batches(16, [group], sorted(known)):
            names = batch.column("path") if "path" in known else repeat(None)
            for held, named in zip(batch.column(self.column), names, strict=False):
                yield held.as_py(), named and named.as_py()

    def _entry(self, row: int, held: Any, named: Any) -> Entry:
        if isinstance(held, dict):
            named, held = held.get("path") or named, held.get("bytes") or held.get("path")
        if isinstance(held, str) and held:
            return as_text(held), self.file.parent / held
        name = as_text(named) if isinstance(named, str) and named else f"{self.file.name}#{row}"
        if not held:
            why = f"Expected a photograph in row {row} of {shown(str(self.file), 300)}, it is empty; leave it out."
            return name, GliedError(why)
        return name, held


@dataclass(frozen=True)
class Part:
    """Photographs of a corpus that follow one another.

    Attributes:
        number: of the part in the corpus, from 0.
        digest: of their names; it differs whenever the corpus has other photographs at this place.
    """

    number: int
    digest: str
    photographs: Files | Rows

    @property
    def file(self) -> str:
        """The name of the file that holds what is found in it."""
        return f"part-{self.number:08d}-{self.digest}{PARQUET}"


def divide(corpus: Path, column: str, size: int) -> Iterator[Part]:
    """The parts of a corpus, of `size` photographs each, the last of a folder or file of fewer.

    Args:
        corpus: a folder of photographs at any depth, a Parquet file, or a folder of such.
        column: of Parquet: with the paths or the bytes of photographs.

    Raises:
        GliedError: it cannot be read.
    """
    parquet = corpus.is_file() or next(corpus.glob(f"*{PARQUET}"), None) is not None
    groups: Iterator[tuple[str, Files | Rows]]
    groups = _divide_parquet(corpus, column, size) if parquet else _divide_folder(corpus, size)
    for number, (digest, photographs) in enumerate(groups):
        yield Part(number, digest, photographs)


def _divide_folder(folder: Path, size: int) -> Iterator[tuple[str, Files | Rows]]:
    names = _walk(folder)
    while part := tuple(islice(names, size)):
        yield _digest(*part), Files(folder, part)


def _walk(folder: Path) -> Iterator[str]:
    """The photographs in a folder and its folders, by their paths in it, in one order."""

    def fail(error: OSError) -> NoReturn:
        raise refuse("photographs", Path(error.filename or folder), reason(error), "check the path") from error

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(place).relative_to(folder)
        for name in sorted(files):
            if IMAGE.search(name) and not name.startswith("."):
                yield (inside / name).as_posix()


def _divide_parquet(corpus: Path, column: str, size: int) -> Iterator[tuple[str, Files | Rows]]:
    for file in sorted(corpus.glob(f"*{PARQUET}")) if corpus.is_dir() else [corpus]:
        with _open(file) as opened:
            names, count = opened.schema_arrow.names, opened.metadata.num_rows
            kind = opened.schema_arrow.field(column).type if column in names else None
        texts = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
        if kind not in texts and not (kind is not None and pa.types.is_struct(kind)):
            found = "none of that name" if kind is None else shown(str(kind))
            raise GliedError(
                f"Expected a column {shown(column)} of paths or bytes in {shown(str(file), 300)}, got {found} among "
                f"{shown(', '.join(names))}; name another with --column."
            )
        for start in range(0, count, size):
            stop = min(start + size, count)
            yield _digest(file.name, file.stat().st_size, column, start, stop), Rows(file, column, start, stop)


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, buffer_size=2**20)
    except (*DAMAGE, pa.ArrowException) as error:
        raise refuse("photographs in Parquet", file, reason(error), "write it again, or name a folder") from error


def _digest(*names: object) -> str:
    return hashlib.sha256("\0".join(map(str, names)).encode(errors="surrogateescape")).hexdigest()[:12]
