"""Files that appear under their final name whole or not at all, and the place of those that ship."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glied.errors import GliedError

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"


def find_detector(captioner: Path) -> Path:
    """The attribute detector of a captioner's file: attributes.safetensors beside it, else the shipped one."""
    beside = captioner.parent / "attributes.safetensors"
    return beside if beside.is_file() else SHIPPED / "attributes.safetensors"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a path beside `path` to write to; on success it is synced to disk and renamed to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with open(aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raises GliedError if no file can be written to `path`: before the work, not after it."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with replacing(path.with_name(f"{path.name}.try")) as aside:
            aside.touch()
        path.with_name(f"{path.name}.try").unlink()
    except OSError as error:
        raise GliedError(
            f"Expected to write {path}, but cannot ({error.strerror}); name a file in a folder you may write to."
        ) from error
