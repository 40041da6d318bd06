"""The captions of every photograph of the gallery, found in the background."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.engine.ask import engine, least_sure
from app.engine.engine import Engine
from app.engine.reports import comparable
from app.photographs.gallery import Entry, entries, folder, read_entry
from glied.captions import Caption
from glied.errors import GliedError

KEPT = 4  # pairs of captioners whose captions are kept, the oldest forgotten first
SURE = 0.1  # attributes less probable than this are forgotten


@dataclass(frozen=True)
class Record:
    """What is known of a photograph.

    Attributes:
        first, second: the captions of the two captioners that were asked.
        attributes: word -> its probability, the most probable first, of the others none below SURE.
    """

    first: Caption
    second: Caption
    attributes: Mapping[str, float]

    @property
    def differs(self) -> bool:
        """Whether the two use different words."""
        return self.first.words != self.second.words

    @property
    def unlike(self) -> bool:
        """Whether the photograph is unlike those that the captioners have learned from, as `warn_if_unlike` has it."""
        return max(self.attributes.values(), default=0.0) < least_sure()

    @property
    def confidence(self) -> float:
        """Mean log-probability of the words of the first captioner's caption, the end included."""
        return self.first.log_probability / (len(self.first.words) + 1)


class Catalogue:
    """Asks two captioners about one photograph after another, so that a person's question waits for at most one.

    Attributes:
        pair: the two captioners. `records`: what was found; of a photograph that could not be read, the reason.
        wanted: the photographs in view, which come first.
    """

    def __init__(self, engine: Engine, gallery: Sequence[Entry], pair: tuple[str, str]) -> None:
        self.engine, self.gallery, self.pair = engine, gallery, pair
        self.records: dict[Entry, Record | str] = {}
        self.wanted: Sequence[Entry] = ()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read_all, name="catalogue", daemon=True)

    def start(self) -> None:
        """Begins; the thread ends by itself when all is known."""
        self.thread.start()

    def stop(self) -> None:
        """Ends after the photograph in hand."""
        self.stopped.set()

    @property
    def complete(self) -> bool:
        """Whether every photograph was looked at."""
        return len(self.records) == len(self.gallery)

    def _read_all(self) -> None:
        while not (self.complete or self.stopped.is_set()):
            entry = next(entry for entry in (*self.wanted, *self.gallery) if entry not in self.records)
            try:
                self.records[entry] = self._read(entry)
            except GliedError as error:
                self.records[entry] = str(error)
            except Exception as error:  # no file may stop the others
                self.records[entry] = f"It could not be read ({type(error).__name__})."

    def _read(self, entry: Entry) -> Record:
        (first, second), found = self.engine.skim(read_entry(entry), self.pair)
        scores = dict(zip(found.words, found.scores.tolist(), strict=True))
        least = min(SURE, max(scores.values()))
        return Record(first, second, {word: score for word, score in scores.items() if score >= least})


@st.cache_resource(show_spinner=False, max_entries=KEPT, on_release=Catalogue.stop)
def _catalogue(_engine: Engine, pair: tuple[str, str], digests: tuple[str, ...], folder: str | None) -> Catalogue:
    started = Catalogue(_engine, entries(folder)[0], pair)
    started.start()
    return started


def catalogue(pair: tuple[str, str]) -> Catalogue:
    """The catalogue of two captioners in this process; the first call starts it."""
    return _catalogue(engine(), pair, tuple(engine().models[name].digest for name in pair), folder())


def gains(pair: tuple[str, str]) -> dict[str, float]:
    """Photograph -> CIDEr of the first's caption minus that of the second's, times 100, where both have a report of
    it."""
    return {
        id: 100 * (first[id]["CIDEr"] - second[id]["CIDEr"])
        for first, second in comparable(*pair)
        for id in first
        if "CIDEr" in first[id] and "CIDEr" in second[id]
    }


def terms(text: str) -> list[str]:
    """The words of a text as they are searched."""
    return re.findall(r"[^\W_]+", text.casefold())


def matches(query: str, entry: Entry, record: Record | None) -> bool:
    """Whether each word of the query begins a word of the title, of a caption or of an attribute."""
    texts = [entry.title, record.first.text, record.second.text, *record.attributes] if record else [entry.title]
    words = terms(" ".join(texts))
    return all(any(word.startswith(term) for word in words) for term in terms(query))
