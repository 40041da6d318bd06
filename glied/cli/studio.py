"""The command that opens the app."""

import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from glied.cli.options import app
from glied.errors import GliedError
from glied.files import STUDIO


@app.command(name="app")
def open_app(
    port: Annotated[int, arg(help="port that the app answers on")] = 8501,
    host: Annotated[str, arg(help="address that it answers on; 0.0.0.0 lets in everyone who reaches this machine")] = (
        "127.0.0.1"
    ),
    images: Annotated[Path | None, arg(help="your photographs for the gallery; a data set brings captions")] = None,
    checkpoints: Annotated[Path | None, arg(help="folder of checkpoints; default: the shipped ones")] = None,
) -> None:
    """Open GLIED Studio in the browser. It runs until Ctrl-C."""
    for folder, option, name in ((images, "images", "GLIED_IMAGES"), (checkpoints, "checkpoints", "GLIED_CHECKPOINTS")):
        if folder is None:
            continue
        if not folder.expanduser().is_dir():
            raise GliedError(f"Expected a folder at {folder}, there is none; correct --{option}.")
        os.environ[name] = str(folder.expanduser().resolve())
    _check_free(host, port)
    script = str(STUDIO / "app" / "main.py")
    sys.argv = ["streamlit", "run", script, f"--server.port={port}", f"--server.address={host}"]
    runpy.run_module("streamlit", run_name="__main__", alter_sys=True)


def _check_free(host: str, port: int) -> None:
    """Raises GliedError if nothing can listen there: Streamlit would take the next port that is free."""
    if not 1 <= port <= 65535:
        raise GliedError(f"Expected a port between 1 and 65535, got {port}; correct --port.")
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        why = str(error.strerror).split(" (while")[0]  # Python adds the address
        raise GliedError(
            f"Expected port {port} of {host} to be free for the app, but cannot open it ({why}); "
            "name another with --port, or another address with --host."
        ) from error
