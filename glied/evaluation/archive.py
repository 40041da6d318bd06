"""checkpoint, split -> Archive: the states of a captioner over whole data sets."""

import numpy as np

from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint
from glied.decode import caption
from glied.evaluation.evaluate import BATCH, Scenes
from glied.evaluation.grounding import check_groundable
from glied.functions import feeding
from glied.replay import find_states, trace
from glied.scene import Scene
from glied.states import Archive, Kind, Photographed, reduce
from glied.terminal import track

REGIONS = 6  # regions of a photograph that are kept: those that the words of its caption attend to most


def gather_states(checkpoint: Checkpoint, scenes: Scenes, options: DecodeOptions) -> Archive:
    """The states of a captioner over a split, with its own captions; of regions only the REGIONS most attended."""
    check_groundable(checkpoint)
    states: dict[Kind, list[np.ndarray]] = {}
    rows: dict[Kind, list[tuple[int, int]]] = {}
    boxes: list[np.ndarray] = []
    labels: list[str] = []
    photographs: list[Photographed] = []
    bar = track(total=len(scenes.photographs), desc=f"states of {scenes.split}", unit="image")
    for i in range(0, len(scenes.photographs), BATCH):
        chosen = scenes.photographs[i : i + BATCH]
        read = list(scenes.read(chosen))
        for photograph, scene, decoded in zip(chosen, read, caption(checkpoint, read, options), strict=True):
            words = decoded.captions[0].words
            for kind, found in find_states(checkpoint, scene, words).items():
                places = most_attended(checkpoint, scene, words) if kind == "regions" else np.arange(len(found))
                states.setdefault(kind, []).append(found[places])
                rows.setdefault(kind, []).extend((len(photographs), place) for place in places.tolist())
                if kind == "regions":
                    boxes.append(scene.regions.boxes[places] / np.tile(scene.regions.size, 2))
                    labels += [scene.regions.labels[place] if scene.regions.labels else "" for place in places]
            photographs.append(Photographed(photograph.id, photograph.dataset, words))
        bar.update(len(chosen))
    bar.close()
    return Archive(
        checkpoint.digest,
        scenes.split,
        tuple(photographs),
        {kind: reduce(np.concatenate(found), *zip(*rows[kind], strict=True)) for kind, found in states.items()},
        np.concatenate(boxes).clip(0, 1) if boxes else np.zeros((0, 4), np.float32),
        tuple(labels),
    )


def most_attended(checkpoint: Checkpoint, scene: Scene, words: tuple[str, ...]) -> np.ndarray:
    """The regions that the words of a caption attend to most, the mean of words and heads, most first."""
    traced = trace(checkpoint, scene, words)
    function = feeding(traced.functions, "regions")
    assert function  # checked before
    return traced.attention[function.name].mean((0, 1)).argsort(kind="stable")[::-1][:REGIONS]
