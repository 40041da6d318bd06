"""Command line: python -m glied COMMAND: caption, trace, evaluate, info, extract, convert, train, curves ..."""

import os
import sys

from glied.cli import caption, evaluate, experiments, prepare, train
from glied.cli.options import app, bench_app, train_app
from glied.errors import GliedError

COMMANDS = (prepare, train, caption, evaluate, experiments)  # importing them registers their commands

app.command(
    train_app,
    name="train",
    help="Train captioners (base, glied, text, rl) and detectors.",
)
app.command(bench_app, name="bench", help="Measure speed beside what this machine can do.")


def main() -> None:
    """Runs the command; an error that a person can act on is one sentence and exit status 2."""
    try:
        app.cli(prog="python -m glied", description=__doc__)
    except GliedError as error:
        print(f"glied: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # no permission, no space
        place = error.filename or "a file"
        print(f"glied: Expected to read or write {place}, but {error.strerror}; check the path.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("glied: stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
