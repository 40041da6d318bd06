"""Options that several commands share, and the applications that the commands register with.

A command imports what it runs when it runs: `--help` loads no torch.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg
from tyro.extras import SubcommandApp

from glied.files import SHIPPED, find_detector, replacing, to_json
from glied.terminal import say, show

GLIED = SHIPPED / "glied-rl.safetensors"

app = SubcommandApp()
train_app = SubcommandApp()
bench_app = SubcommandApp()

DATA = "data set: a folder with images/ and captions.json, or annotations/captions_*.json (Karpathy's or COCO's layout)"
Data = Annotated[Path, arg(help=DATA)]
Sets = Annotated[
    UseAppendAction[tuple[Path, ...]],
    arg(help=f'{DATA}; may be given several times, or name a JSON file {{"FOLDER": WEIGHT, ...}}'),
]
Source = Annotated[str, arg(help="region source: detector, detector@10-100, grid, detectron2, stored/NAME@WIDTH")]
SplitName = Annotated[str, arg(help="split of the data set: train, restval, val or test")]
ReportOut = Annotated[Path, arg(name="json", help="where the result goes, as JSON")]
Cache = Annotated[Path, arg(help="folder of cached regions; what is there is never computed again")]

Attributes = Annotated[
    Path | None, arg(help="attribute detector; default: the pack's where --data is one, else the shipped one")
]
Crossfit = Annotated[
    Path | None,
    arg(
        help="attributes of the training photographs from detectors that did not see them; default "
        "attributes.crossfit.json beside the detector, as `train attributes` writes it"
    ),
]


def find_crossfit(detector: Path, given: Path | None) -> Path | None:
    """The file of cross-fitted attributes; None where there is none, which is printed."""
    beside = detector.with_suffix(".crossfit.json")
    if given is None and not beside.is_file():
        say(f"no {beside.name}: training on the detector's own attributes, which are better than on new photographs")
        return None
    return given or beside


@dataclass(frozen=True)
class Models:
    """Which captioner, on which attributes and regions."""

    checkpoint: Annotated[Path, arg(help="checkpoint of a captioner (.safetensors)")] = GLIED
    ensemble: Annotated[
        tuple[Path, ...], arg(help="more checkpoints of the same vocabulary: probabilities are averaged over all")
    ] = ()
    attributes: Annotated[
        Path | None, arg(help="attribute detector; default: the one beside the checkpoint, else the shipped one")
    ] = None
    cache: Cache = Path("cache")

    @property
    def captioners(self) -> tuple[Path, ...]:
        """The files of the captioner, or of all members of the ensemble."""
        return (self.checkpoint, *self.ensemble)

    @property
    def detector(self) -> Path:
        """The file of the attribute detector, with the default filled in."""
        return self.attributes or find_detector(self.checkpoint)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Writes a result as JSON, whole or not at all. Commands print it only afterwards."""
    with replacing(path) as aside:
        aside.write_text(to_json(value, indent) + "\n", encoding="utf-8")


def say_json(value: Any, indent: int | None = None) -> None:
    """Prints a result that is nowhere else as JSON, in characters that the terminal has."""
    lines = to_json(value, indent, ascii=False).split("\n")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if any(show(line, encoding) != line for line in lines):  # JSON has escapes of its own
        lines = to_json(value, indent).split("\n")
    for line in lines:
        say(line, needed=True)


def say_table(text: str, needed: bool = False) -> None:
    """Prints the lines of a table."""
    for line in text.split("\n"):
        say(line, needed=needed)
