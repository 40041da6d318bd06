"""Files that appear under their final name whole or not at all, JSON that every program reads, and what ships."""

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glied.errors import GliedError
from glied.terminal import show

_PACKAGE = Path(__file__).resolve().parent
# The folder of app/, analysis/, checkpoints/ and docs/: the repository, also of an editable install; in an installed
# wheel they are inside the package, so that nothing generic lies beside it (pyproject.toml).
STUDIO = _PACKAGE / "studio" if (_PACKAGE / "studio").is_dir() else _PACKAGE.parent
SHIPPED = STUDIO / "checkpoints"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def find_detector(captioner: Path) -> Path:
    """The attribute detector of a captioner's file: attributes.safetensors beside it, else the shipped one."""
    beside = captioner.parent / "attributes.safetensors"
    return beside if beside.is_file() else SHIPPED / "attributes.safetensors"


def open_studio() -> None:
    """Makes `analysis` and `app` importable wherever this package is installed, before others of these names."""
    if sys.path[:1] != [str(STUDIO)]:
        sys.path.insert(0, str(STUDIO))


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a path beside `path` to write to; on success it is synced to disk and renamed to `path`.

    What `path` held before stays until then. A link is followed; a device or a pipe is written to itself.

    Raises:
        GliedError: it cannot be written.
    """
    try:
        with _aside(Path(path)) as aside:
            yield aside
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of what the system said
        said = error if isinstance(error, OSError) else error.__context__
        if not isinstance(said, OSError):
            raise
        raise _refuse(path, said) from error


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with open(aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(aside, path)
    finally:
        with suppress(OSError):  # the disk itself may be gone
            aside.unlink(missing_ok=True)


def _refuse(path: Path | str, error: OSError) -> GliedError:
    reason = os.strerror(error.errno) if error.errno else error.strerror or error
    advice = "name a file in a folder you may write to"
    if error.errno in FULL:
        advice = "make room or name another place; what it held before is kept"
    return GliedError(f"Expected to write {path}, but cannot ({reason}); {advice}.")


def check_target(path: Path) -> None:
    """Raises GliedError if no file can be written to `path`: before the work, not after it."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            open(target, "ab").close()
            return
        tried = target.with_name(f"{target.name}.try")
        with _aside(tried) as aside:
            aside.touch()
        tried.unlink()
    except OSError as error:
        raise _refuse(path, error) from error


def as_text(name: str) -> str:
    """The name as text that every program reads: bytes that are not UTF-8 are escaped as `show` does."""
    return re.sub("[\ud800-\udfff]", lambda found: show(found[0]), name)


def to_json(value: Any, indent: int | None = None, ascii: bool = True) -> str:
    """A value as JSON that every program reads: all names in it are `as_text`."""
    return json.dumps(_texts(value), indent=indent, ensure_ascii=ascii)


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        return {_texts(key): _texts(held) for key, held in value.items()}
    return [_texts(held) for held in value] if isinstance(value, list | tuple) else value
