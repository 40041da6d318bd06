"""Options that several commands share, and the applications that the commands register with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg
from tyro.extras import SubcommandApp

from glied.api import SHIPPED, find_detector
from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint, load_pair
from glied.files import replacing

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
Cache = Annotated[Path, arg(help="folder of cached regions; what is there is never computed again")]


@dataclass(frozen=True)
class Models:
    """Which captioner, on which attributes and regions."""

    checkpoint: Annotated[Path, arg(help="checkpoint of a captioner (.safetensors)")] = GLIED
    attributes: Annotated[
        Path | None, arg(help="attribute detector; default: attributes.safetensors beside the checkpoint, else ours")
    ] = None
    cache: Cache = Path("cache")

    def load(self) -> tuple[Checkpoint, AttributeDetector]:
        """The captioner and its detector."""
        return load_pair(self.checkpoint, self.attributes or find_detector(self.checkpoint))


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Writes a result as JSON, whole or not at all, and says where."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=indent) + "\n")
    print(f"wrote {path}")


def to_json(value: Any) -> str:
    """A result as JSON to read."""
    return json.dumps(value, indent=1, ensure_ascii=False)
