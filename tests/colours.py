"""A data set of plain coloured photographs whose captions name the colour, a region source that sees it, and a script.

    colours.py DATA DETECTOR CACHE RUN OPTIONS

trains GLIED on it in a process of its own, which can be killed or be one of several. OPTIONS is JSON; "still" switches
every dropout off, and "pause" seconds pass before each step. Whoever looks at a photograph writes its rank into the
file that COLOURS_DIARY names.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from glied import config
from glied.scene import Regions
from glied.training import attributes, cross_entropy, material
from glied.training.cross_entropy import TrainOptions
from glied.training.material import Places

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}


class Colours:
    """A region source that sees nothing but the mean colour of four corners."""

    name = "colours-1"
    feature_dim = 12

    def find_regions(self, image: Image.Image) -> Regions:
        if diary := os.environ.get("COLOURS_DIARY"):
            with open(diary, "a") as file:
                print(os.environ.get("RANK"), file=file)
        small = np.asarray(image.resize((2, 2)), np.float32).reshape(4, 3) / 255
        features = np.concatenate([small, 1 - small, small**2, np.ones((4, 3), np.float32)], 1)
        w, h = image.size
        boxes = np.array([[x * w / 2, y * h / 2, (x + 1) * w / 2, (y + 1) * h / 2] for y in (0, 1) for x in (0, 1)])
        return Regions(boxes.astype(np.float32), features, image.size, self.name)


def write(folder: Path, prefix: str = "") -> Path:
    """16 photographs to train on and 8 for val, their names beginning with `prefix`."""
    (folder / "images").mkdir(parents=True)
    records = []
    random = np.random.default_rng(0)
    for i in range(24):
        name, colour = list(COLOURS.items())[i % 4]
        pixels = np.clip(np.array(colour) + random.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{prefix}{i}.png")
        captions = [f"A {name} wall.", f"The wall is {name}.", f"A {name} {name} wall in the sun."]
        sentences = [{"raw": c} for c in captions]
        records.append({"filename": f"{prefix}{i}.png", "split": "val" if i >= 16 else "train", "sentences": sentences})
    (folder / "captions.json").write_text(json.dumps({"images": records}))
    return folder


if __name__ == "__main__":
    data, detector, cache, run = map(Path, sys.argv[1:5])
    options = json.loads(sys.argv[5])
    for module in (material, attributes):
        module.open_source = lambda name: Colours()  # type: ignore[attr-defined]
    if options.pop("still", False):
        none = {"attention_dropout": 0.0, "feature_dropout": 0.0, "output_dropout": 0.0}
        config.PRESETS["glied"] = replace(config.PRESETS["glied"], **none)  # type: ignore[arg-type]
    pause, step_loss = options.pop("pause", 0.0), cross_entropy.step_loss

    def slow(*arguments):
        time.sleep(pause)
        return step_loss(*arguments)

    cross_entropy.step_loss = slow
    print("ready", flush=True)
    cross_entropy.train_captioner("glied", Places(data, cache, detector, None, run), TrainOptions(**options))
