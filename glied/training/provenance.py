"""Where a model comes from: what its card records."""

import subprocess
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from glied.data.dataset import Dataset


def provenance(dataset: Dataset, command: str, options: Any) -> dict[str, Any]:
    """What a model card needs to know of a run: data, command, commit, options, versions."""
    try:
        git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                             cwd=Path(__file__).parent, check=True).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        git = "unknown"
    counts = Counter(p.split for p in dataset.photographs)
    return {
        "data": dataset.name,
        "splits": dict(counts),
        "weights": {subset.name: subset.weight for subset in dataset.subsets if subset.weight is not None},
        "command": command,
        "commit": git,
        "options": asdict(options),
        "torch": torch.__version__,
    }
