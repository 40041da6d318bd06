"""The one engine: all captioners behind one worker, so that questions wait their turn. torch stops here."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.photographs.photograph import Photograph
from glied.attributes import find_scene
from glied.captions import Caption, Decoded, DecodeOptions
from glied.checkpoint import Card, Checkpoint, check_pair, load, load_attribute_detector, read_card
from glied.data.features import open_cached
from glied.decode import caption
from glied.errors import GliedError
from glied.functions import Over
from glied.replay import find_states, log_p_when_even, look_ahead, take_away, trace
from glied.scene import AS_IT_IS, Attributes, Edit, Scene
from glied.states import States
from glied.traces import Deletion, Outlook, Trace

PAIRS = (
    ("glied-rl", "base-rl"),
    ("glied", "base"),
)  # what pages show at first: after self-critical training, or before
FIRST = ("GLIED", "Base")
DETECTORS = ("attributes.safetensors", "detector.safetensors")
BEAM = 3
KEPT = 256  # answers in memory, the oldest forgotten first: about 0.2 MB each
SCENES = 64  # photographs whose regions are in memory: about 0.5 MB each
LOADED = 8  # captioners whose weights are in memory: about 30 MB each
WAITING = 12  # questions in the queue


def beam_of(beam: int) -> DecodeOptions:
    """Beam search that keeps `beam` hypotheses, and as many captions."""
    return DecodeOptions(beam=beam, n_best=beam)


USUAL = beam_of(BEAM)


@dataclass(frozen=True)
class Question:
    """What a captioner is asked of a photograph: to caption it, or to replay words.

    Attributes:
        decoding: how to find the caption. `prefix`: words that it must begin with.
        words: a caption to replay instead. `edit`: regions and attributes to remove or add first.
        falls: whether to measure falls, which is most of the work.
    """

    decoding: DecodeOptions = USUAL
    prefix: tuple[str, ...] = ()
    words: tuple[str, ...] | None = None
    edit: Edit = AS_IT_IS
    falls: bool = True


@dataclass(frozen=True, eq=False)
class Answer:
    """What one captioner says of a photograph when asked a question: every attention behind its caption or the words
    that it replayed; the search behind a caption; the attention before each word that it has weighed."""

    question: Question
    trace: Trace
    decoded: Decoded | None
    outlook: Outlook | None


class Engine:
    """Knows the checkpoints of a folder; answers from memory where it can, else in turn.

    Attributes:
        models: file without its ending -> what it says of its captioner, in the order of `titles`.
        refused: a sentence for each checkpoint of the folder that cannot be used.
        pairs: GLIED and its Base, those that pages show at first before others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        detector = folder / "attributes.safetensors"
        captioners = sorted(
            file
            for file in folder.glob("*.safetensors")
            if file.name not in DETECTORS and not file.name.endswith(".states.safetensors")
        )
        if not (captioners and detector.is_file()):
            missing = "no captioner is" if detector.is_file() else "attributes.safetensors is not"
            raise GliedError(
                "Expected attributes.safetensors and captioners such as glied.safetensors and base.safetensors in the "
                f"folder {folder.name}/, {missing} there; fetch the repository's checkpoints, or train them with "
                "`python -m glied train`."
            )
        self.detector, self.detector_card = load_attribute_detector(detector)
        found, self.refused = self._read_cards(captioners, detector)
        if not found:
            raise GliedError(" ".join(self.refused))
        self.titles = entitle(found)
        self.models = {name: found[name] for name in self.titles}
        self.pairs = [pair for pair in PAIRS if set(pair) <= found.keys()]
        cache = Path(os.environ.get("GLIED_CACHE") or "cache")
        self.source = open_cached(self.detector.source, cache)
        self.worker = ThreadPoolExecutor(1, "engine")
        self.results: OrderedDict[tuple, Future] = OrderedDict()
        self.lock = threading.Lock()
        self.scenes: OrderedDict[str, Scene] = OrderedDict()  # the worker's own
        self.loaded: OrderedDict[str, Checkpoint] = OrderedDict()  # likewise
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))

    def _read_cards(self, captioners: Sequence[Path], detector: Path) -> tuple[dict[str, Card], list[str]]:
        found, refused = {}, []
        for file in captioners:
            try:
                card = read_card(file)
                check_pair(card, file, self.detector, self.detector_card["digest"], detector)
            except GliedError as error:
                why = str(error).replace(f"{self.folder}{os.sep}", "")  # everybody may read it
                refused.append(f"{file.name} is left out: {why[0].lower()}{why[1:]}")
            else:
                found[file.name.removesuffix(".safetensors")] = card
        return found, refused

    @property
    def pair(self) -> tuple[str, str]:
        """GLIED and Base, after self-critical training where such are there; without them the first two captioners, or
        the only one twice."""
        names = [*self.models]
        return self.pairs[0] if self.pairs else (names[0], names[min(1, len(names) - 1)])

    def load(self, model: str) -> Checkpoint:
        """A captioner with its weights; LOADED of them stay in memory.

        Raises:
            GliedError: its weights are damaged, or its file was changed since the app began.
        """
        if model not in self.loaded:
            checkpoint = load(self.folder / f"{model}.safetensors")
            if checkpoint.digest != self.models[model].digest:
                raise GliedError(f"The file {model}.safetensors has changed since the app began; start the app again.")
            self.loaded[model] = checkpoint
            if len(self.loaded) > LOADED:
                self.loaded.popitem(last=False)
        self.loaded.move_to_end(model)
        return self.loaded[model]

    def name_of(self, checkpoint: str) -> str | None:
        """The name of the captioner with this digest; None if it does not run here."""
        return next((name for name, model in self.models.items() if model.digest == checkpoint), None)

    def read(self, photograph: Photograph, model: str, question: Question = Question(), most: int = WAITING) -> Answer:
        """The answer of a captioner about a photograph; from memory the second time.

        Raises:
            GliedError: `most` questions are in the queue already.
        """
        key = (photograph.key, self.models[model].digest, question)
        return self._ask(key, lambda: self._read(photograph, model, question), most)

    def even(
        self, photograph: Photograph, model: str, words: tuple[str, ...], candidates: tuple[str, ...]
    ) -> np.ndarray:
        """`glied.replay.log_p_when_even` of a photograph."""
        key = (photograph.key, self.models[model].digest, "even", words, candidates)
        return self._ask(
            key, lambda: log_p_when_even(self.load(model), self._scene(photograph), words, candidates), WAITING
        )

    def deletion(self, photograph: Photograph, model: str, words: tuple[str, ...], step: int, over: Over) -> Deletion:
        """`glied.replay.take_away` of a photograph."""
        key = (photograph.key, self.models[model].digest, "deletion", words, step, over)
        return self._ask(key, lambda: take_away(self.load(model), self._scene(photograph), words, step, over), WAITING)

    def states(self, photograph: Photograph, model: str, words: tuple[str, ...], edit: Edit = AS_IT_IS) -> States:
        """The states of a captioner as it reads these words for a photograph; from memory the second time."""
        key = (photograph.key, self.models[model].digest, "states", words, edit)
        return self._ask(
            key, lambda: find_states(self.load(model), edit.apply(self._scene(photograph)), words), WAITING
        )

    def skim(self, photograph: Photograph, models: Sequence[str]) -> tuple[list[Caption], Attributes]:
        """The caption of each captioner and the attributes. Not cached, so it evicts nothing in view."""
        return self.worker.submit(self._skim, photograph, models).result()

    def _skim(self, photograph: Photograph, models: Sequence[str]) -> tuple[list[Caption], Attributes]:
        scene = self.scenes.get(photograph.key) or find_scene(photograph.image, self.source, self.detector)
        decoded = [caption(self.load(name), [scene], DecodeOptions(beam=BEAM))[0] for name in models]
        return [found.captions[0] for found in decoded], scene.attributes

    def _ask(self, key: tuple, job: Callable[[], Any], most: int) -> Any:
        with self.lock:
            if key not in self.results or (self.results[key].done() and self.results[key].exception()):
                if sum(not future.done() for future in self.results.values()) >= most:
                    raise GliedError(f"The queue is full ({most} questions); try again in a few seconds.")
                self.results[key] = self.worker.submit(job)
                if len(self.results) > KEPT:
                    self.results.popitem(last=False)
            self.results.move_to_end(key)
            future = self.results[key]
        return future.result()

    def _read(self, photograph: Photograph, model: str, question: Question) -> Answer:
        checkpoint, scene = self.load(model), question.edit.apply(self._scene(photograph))
        if question.words is not None:
            return Answer(question, trace(checkpoint, scene, question.words, falls=question.falls), None, None)
        (decoded,) = caption(checkpoint, [scene], question.decoding, history=True, prefix=question.prefix)
        assert decoded.history is not None
        return Answer(
            question,
            trace(checkpoint, scene, decoded.captions[0].words, falls=question.falls),
            decoded,
            look_ahead(checkpoint, scene, decoded.history.extended()),
        )

    def _scene(self, photograph: Photograph) -> Scene:
        if photograph.key not in self.scenes:
            self.scenes[photograph.key] = find_scene(photograph.image, self.source, self.detector)
            if len(self.scenes) > SCENES:
                self.scenes.popitem(last=False)
        self.scenes.move_to_end(photograph.key)
        return self.scenes[photograph.key]


def entitle(cards: Mapping[str, Card]) -> dict[str, str]:
    """The title of each captioner, in the order of pages: GLIED, Base, then the others by name; of one kind, the one
    after self-critical training (NAME-rl) first. A file with an unusual name has that name in its title."""
    titles, places = {}, {}
    for name, card in cards.items():
        architecture, kind = card.config.architecture, card.title
        usual = name.removesuffix("-rl") == architecture
        before = name == architecture and f"{name}-rl" in cards
        titles[name] = f"{kind} before RL" if before else kind if usual else f"{kind}: {name}"
        first = FIRST.index(kind) if kind in FIRST else len(FIRST)
        places[name] = first, kind.lower(), not usual, before, name
    return {name: titles[name] for name in sorted(titles, key=places.__getitem__)}
