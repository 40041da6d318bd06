"""What commands print; no other module prints.

Any text can be printed on any terminal, each in one line, and work goes on when the reader goes away.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Any


def show(text: object, encoding: str = "utf-8") -> str:
    """The text in one line that a terminal or a page can show.

    What is not printable (line breaks, controls, marks that turn the direction of writing, bytes of a file name that
    are no UTF-8) or not in the encoding is escaped as Bash's $'...' reads it.
    """
    return "".join(c if c.isprintable() and _has(encoding, c) else _escape(c) for c in str(text))


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(character: str) -> str:
    code = ord(character)
    if character in "\n\r\t":
        return repr(character)[1:-1]
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file name that is no UTF-8
        code -= 0xDC00
        return f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(*columns: object, needed: bool = False) -> None:
    """Writes a line to standard output, its columns separated by tabs, and sends it off.

    Args:
        needed: whether the line is a result that is nowhere else.

    Raises:
        OSError: the line is `needed` and cannot be written.
    """
    _write(sys.stdout, columns, needed)


def complain(sentence: object) -> None:
    """Writes a line to standard error."""
    _write(sys.stderr, (f"glied: {sentence}",), False)


def _write(stream: Any, columns: tuple[object, ...], needed: bool) -> None:
    try:
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write("\t".join(show(column, encoding) for column in columns) + "\n")
        stream.flush()
    except OSError as error:
        silence(stream)
        if needed:
            raise OSError(error.errno, error.strerror, "standard output") from error
        if stream is sys.stdout and error.errno not in (errno.EPIPE, errno.EBADF):
            complain(f"standard output cannot be written ({error.strerror}); the rest of the text is lost.")


def silence(stream: Any) -> None:
    """Discards whatever is written to the stream from now on: its reader is gone or its disk is full."""
    if stream is not None:
        with suppress(OSError, ValueError):  # no stream of the system's
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Bars:
    """Standard error for progress bars: work goes on when nobody looks."""

    def __init__(self) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, name: str, *arguments: str) -> None:
        try:
            if sys.stderr is not None:
                getattr(sys.stderr, name)(*arguments)
        except OSError:
            silence(sys.stderr)

    def fileno(self) -> int:
        return sys.stderr.fileno()


def end_bars() -> None:
    """Ends the line of every bar that an error has left open."""
    if tqdm := sys.modules.get("tqdm"):
        for bar in list(getattr(tqdm.tqdm, "_instances", ())):
            bar.close()


def track(items: Any = None, desc: str = "", **options: Any) -> Any:
    """A bar on standard error that shows how far work is; `options` are those of tqdm."""
    from tqdm import tqdm

    return tqdm(items, desc=show(desc), file=_Bars(), **options)
