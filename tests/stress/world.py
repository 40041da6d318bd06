"""A small world of photographs, captions, boxes and features, and every long command in it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import colours
import h5py
import numpy as np
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

from stress.forks import Task, run

WIDTH = 8  # of the stored features
TIMES = ("second", "minute", "ms_per_image")


def make_world(folder: Path) -> dict[str, Task]:
    """The commands, by name; what they read is made first."""
    data, stored, boxes = colours.write(folder / "data"), folder / "stored", folder / "boxes"
    write_features(data, stored)
    painted = [("train" if i < 6 else "val", (96, 72), [((8, 8, 60, 60), ("a red box",))]) for i in range(9)]
    tiny.boxed(boxes, *painted)  # type: ignore[arg-type]
    texts = {
        str(i): [f"the sun is {colour}", f"a {colour} sun in the wall"] for i, colour in enumerate(colours.COLOURS)
    }
    (folder / "texts.json").write_text(json.dumps(texts))
    (folder / "one.json").write_text(json.dumps({id: captions[0] for id, captions in texts.items()}))
    photographs = " ".join(str(path) for path in sorted((data / "images").iterdir())[:4])
    model = f"--checkpoint {folder}/glied.safetensors --attributes {folder}/attributes.safetensors"
    steps = "--epochs 2 --save-minutes 0 --precision fp32 --run run --out out.safetensors"
    scenes = f"--data {data} --cache {folder}/cache --attributes {folder}/attributes.safetensors --images 8 {steps}"
    small = "--heads 2 --d-head 8 --min-count 1 --no-mirror"
    commands = {
        "extract": (f"extract --data {data} --cache cache", "cache/*/*.h5"),
        "convert": (f"convert {stored} --data {data} --name tiny --cache cache", "cache/*/*.h5"),
        "train attributes": (
            f"train attributes --data {data} --cache {folder}/cache --source stored/tiny@{WIDTH} --images 8 {steps} "
            "--words 9 --hidden 8 --folds 2",
            "out.*",
        ),
        "train base": (f"train base {scenes} {small}", "out.*"),
        "train glied": (f"train glied {scenes} {small}", "out.*"),
        "train text": (f"train text glied --captions {folder}/texts.json {scenes} --min-count 1 --no-mirror", "out.*"),
        "train rl": (f"train rl {folder}/glied.safetensors {scenes} --samples 2 --no-mirror", "out.*"),
        "train detector": (f"train detector --data {boxes} {steps} --images 2 --frozen 1 --least 1", "out.*"),
        "evaluate": (f"evaluate --data {data} --cache {folder}/cache --split val --json out.json {model}", "out.*"),
        "states": (f"states --data {data} --cache {folder}/cache --split val --out out.safetensors {model}", "out.*"),
        "recall": (f"recall --data {boxes} --split val --json out.json", "out.*"),
        "pack": (
            f"pack --data {data} --cache {folder}/cache --attributes {folder}/attributes.safetensors --out pack",
            "pack/**/*",
        ),
        "bench pair": (
            f"bench pair --data {data} --cache {folder}/cache --attributes {folder}/attributes.safetensors --run run "
            "--seeds 0 --xe.epochs 1 --xe.images 8 --xe.min-count 1 --rl.epochs 1 --rl.images 8 --rl.samples 2 "
            "--json out.json",
            "out.*",
        ),
        "caption": (f"caption {photographs} --json --cache {folder}/cache {model}", "out.*", "out.jsonl"),
        "trace": (f"trace {photographs.split()[0]} --out out.npz", "out.*"),
        "score": (f"score --references {folder}/texts.json --captions {folder}/one.json --json out.json", "out.*"),
    }
    tasks = {name: Task(tuple(command.split()), *rest) for name, (command, *rest) in commands.items()}
    prepare(folder, tasks)
    return tasks


def prepare(folder: Path, tasks: Mapping[str, Task]) -> None:
    """The cache, attribute detector and captioner that later commands start from."""
    for name, made in (("convert", "cache"), ("train attributes", "attributes"), ("train glied", "glied")):
        work = folder / f"made-{made}"
        work.mkdir()
        ended = run(tasks[name], work)
        assert ended.status == 0, f"{name}: {ended.errors}"
        if made == "cache":
            shutil.move(work / "cache", folder / "cache")
        for suffix in (".safetensors", ".crossfit.json"):
            if (work / f"out{suffix}").is_file():
                shutil.move(work / f"out{suffix}", folder / f"{made}{suffix}")


def write_features(data: Path, folder: Path) -> None:
    """An .npz of features and boxes for every photograph."""
    folder.mkdir()
    for path in sorted((data / "images").iterdir()):
        colour = np.asarray(Image.open(path), np.float32).mean((0, 1)) / 255
        features = np.tile(np.r_[colour, 1 - colour, 1, 0].astype(np.float32), (4, 1))
        corners = np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]], np.float32)
        np.savez(folder / f"{path.stem}.npz", features=features, bbox=corners)


def results(folder: Path, task: Task) -> dict[str, object]:
    """What a task left, in a form that two runs share bit for bit: tensors, numbers and texts without times."""
    found: dict[str, object] = {}
    for path in filter(Path.is_file, sorted(folder.glob(task.results))):
        name = "" if path.suffix == ".h5" else path.name  # photographs may lie in other shards
        found |= {name + key: value for key, value in content(path).items()}
    return found


def content(path: Path) -> dict[str, object]:
    """What a file holds. Raises whatever reading a damaged file raises."""
    if path.suffix == ".safetensors":
        return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            starts, keys = file["starts"][:], file["keys"][:]
            return {
                f"{key.decode()} {name}": file[name][slice(*starts[i : i + 2])].tobytes()
                for i, key in enumerate(keys)
                for name in ("boxes", "features", "scores")
            }
    if path.suffix == ".json":
        return {"": without_times(json.loads(path.read_text()))}
    if path.suffix == ".jsonl":
        return {"": [without_times(json.loads(line)) for line in path.read_text().splitlines()]}
    if path.suffix in (".pt", ".png", ".csv", ".txt"):
        return {"": len(torch.load(path, weights_only=True)) if path.suffix == ".pt" else ""}
    return {"": path.read_text() if path.suffix == ".md" else path.read_bytes()}


def without_times(value: object) -> object:
    """A JSON value without its times."""
    if isinstance(value, dict):
        kept = (key for key in value if not any(word in key for word in TIMES) and key != "command")
        return {key: without_times(value[key]) for key in kept}
    return [without_times(each) for each in value] if isinstance(value, list) else value
