"""The one engine: both captioners behind one worker, so that photographs wait their turn. torch stops here."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
import torch

from app.gallery import Photograph
from glied.attributes import find_scene
from glied.checkpoint import load_attribute_detector, load_pair
from glied.data import open_cached
from glied.decode import Decoded, DecodeOptions, caption
from glied.errors import GliedError
from glied.scene import Scene
from glied.trace import Trace, trace

PAIRS = {"after RL": ("glied-rl", "base-rl"), "before RL": ("glied", "base")}  # self-critical training
FILES = ("glied.safetensors", "base.safetensors", "attributes.safetensors")
OPTIONS = DecodeOptions(beam=3, n_best=3)
KEPT = 64  # results in memory, the oldest forgotten first: about 0.2 MB each
WAITING = 12  # photographs in the queue


@dataclass(frozen=True, eq=False)
class Reading:
    """What one captioner says of a photograph, the runners-up and beam behind it, and every attention."""

    decoded: Decoded
    trace: Trace


class Engine:
    """Loads the checkpoints of a folder; answers from memory where it can, else in turn."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise GliedError(
                f"Expected {', '.join(FILES)} in the folder {folder.name}/, {', '.join(missing)} missing; "
                "fetch the repository's checkpoints, or train them with `python -m glied train`."
            )
        detector = folder / "attributes.safetensors"
        self.pairs = {
            title: pair
            for title, pair in PAIRS.items()
            if all((folder / f"{name}.safetensors").is_file() for name in pair)
        }
        names = [name for pair in self.pairs.values() for name in pair]
        self.models = {name: load_pair(folder / f"{name}.safetensors", detector)[0] for name in names}
        self.detector, self.detector_card = load_attribute_detector(detector)
        cache = Path(os.environ.get("GLIED_CACHE") or Path(__file__).parents[1] / "cache")
        self.source = open_cached(self.models["glied"].source, cache)
        self.worker = ThreadPoolExecutor(1, "engine")
        self.results: OrderedDict[tuple, Future] = OrderedDict()
        self.lock = threading.Lock()
        self.latest: tuple[str, Scene] | None = None
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))

    @property
    def titles(self) -> dict[str, str]:
        """What each captioner is called, the best first."""
        names = [(name, i, title) for title, pair in self.pairs.items() for i, name in enumerate(pair)]
        best = next(iter(self.pairs))
        return {name: ("GLIED", "Base")[i] + ("" if title == best else f" {title}") for name, i, title in names}

    def read(self, photograph: Photograph, model: str) -> Reading:
        """Regions, attributes, caption and trace of a photograph; from memory the second time."""
        return self._ask((photograph.key, self.models[model].digest, OPTIONS), lambda: self._read(photograph, model))

    def _ask(self, key: tuple, job: Callable[[], Any]) -> Any:
        with self.lock:
            if key not in self.results or (self.results[key].done() and self.results[key].exception()):
                if sum(not future.done() for future in self.results.values()) >= WAITING:
                    raise GliedError(
                        f"Expected fewer than {WAITING} photographs in the queue, it is full; "
                        "try again in a few seconds."
                    )
                self.results[key] = self.worker.submit(job)
                if len(self.results) > KEPT:
                    self.results.popitem(last=False)
            self.results.move_to_end(key)
            future = self.results[key]
        return future.result()

    def _read(self, photograph: Photograph, model: str) -> Reading:
        scene = self._scene(photograph)
        decoded = caption(self.models[model], [scene], OPTIONS)[0]
        return Reading(decoded, trace(self.models[model], scene, decoded.captions[0].words, removals=True))

    def _scene(self, photograph: Photograph) -> Scene:
        """The worker's own: computed by the first captioner that reads the photograph, found by the second."""
        if self.latest is None or self.latest[0] != photograph.key:
            self.latest = (photograph.key, find_scene(photograph.image, self.source, self.detector))
        return self.latest[1]


@st.cache_resource(show_spinner="Waking the captioners …", max_entries=1)
def _engine(folder: Path) -> Engine:
    return Engine(folder)


def engine() -> Engine:
    """The engine of this process; loads it the first time."""
    return _engine(Path(os.environ.get("GLIED_CHECKPOINTS") or Path(__file__).parents[1] / "checkpoints"))


def warn_if_unlike(trace: Trace) -> None:
    """Says so when the detector is less sure of the photograph than of 99 in 100 of its validation set."""
    least = engine().detector_card.get("val_top_score@1%", 0)
    best = float(trace.attribute_scores.max())
    if best < least:
        st.info(
            f"This photograph is unlike those the captioners have learned from: its surest attribute has a probability "
            f"of {best:.2f}, where 99 in 100 of their validation photographs reach {least:.2f}. Expect a guess.",
            icon=":material/explore_off:",
        )


def traced(photograph: Photograph, model: str) -> Reading:
    """What `model` says of the photograph and why."""
    with st.spinner("Looking at the photograph …", show_time=True):
        return engine().read(photograph, model)
