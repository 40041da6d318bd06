"""GLIED Studio's core: photographs in, captions and traces out. No user interface, no plots."""

import os
from typing import Any

# Read when torch is imported. Idle threads that spin stall a shared machine; threads that sleep at once pay a wake-up
# in every small operation (one photograph took 68 instead of 35 ms). These spin for a moment, then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

CAPTIONING = ("load", "open_image", "find_scene", "caption", "find_captions", "trace", "read")
TRACING = ("Adapter", "AttentionFunction", "grid_boxes")  # for captioners that are not ours
SHOWN = ("show", "show_beam", "show_collocations")  # in notebooks


def __getattr__(name: str) -> Any:
    """A name of glied/api.py or analysis/notebook.py; the module is imported at the first use."""
    if name in (*CAPTIONING, *TRACING):
        from glied import api

        return getattr(api, name)
    if name in SHOWN:
        from glied.files import open_studio

        open_studio()
        from analysis import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'glied' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *CAPTIONING, *TRACING, *SHOWN})
