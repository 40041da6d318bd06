"""The changes that a person makes on the page What if: a history with undo, and their form in the page's address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.attention import region_names, spoken
from app.texts import plain
from glied.scene import AS_IT_IS, Edit
from glied.traces import Trace
from glied.vocabulary import Vocabulary, tokenize

STEPS = 50  # remembered, the oldest forgotten first
ADDED = 50  # attributes that may be added
WORDS = 40  # of a caption to replay; the longest that a captioner says has 20


@dataclass(frozen=True)
class Change:
    """A scene as a person changed it, and the words to replay there; None for the captioner's own."""

    edit: Edit = AS_IT_IS
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class History:
    """The changes tried on one photograph, and which of them is in view.

    Attributes:
        photograph: its key. `steps`: STEPS at most. `at`: position in `steps`.
    """

    photograph: str
    steps: tuple[Change, ...] = (Change(),)
    at: int = 0

    @property
    def now(self) -> Change:
        """The change in view."""
        return self.steps[self.at]

    def then(self, change: Change) -> "History":
        """The change as the next step; steps that were undone are forgotten."""
        if change == self.now:
            return self
        steps = (*self.steps[: self.at + 1], change)[-STEPS:]
        return replace(self, steps=steps, at=len(steps) - 1)

    def to(self, step: int) -> "History":
        """The same history with another step in view, the nearest one to `step`."""
        return replace(self, at=min(max(step, 0), len(self.steps) - 1))


def sensible(change: Change, trace: Trace, vocabulary: Vocabulary) -> tuple[Change, list[str]]:
    """The part of a change that this photograph and captioner allow, in a fixed order, and a sentence on the rest.

    Args:
        trace: of the photograph as it is, by the captioner.
    """
    edit, N = change.edit, len(trace.boxes)
    problems = [f"There is no region {i + 1}; the photograph has {N}." for i in edit.regions if i >= N]
    problems += [f"“{w}” is no attribute of this photograph." for w in edit.attributes if w not in trace.attributes]
    if len(edit.added) > ADDED:
        problems.append(
            f"Expected at most {ADDED} added attributes, got {len(edit.added)}; the first {ADDED} are kept."
        )
    wrong = {word: why_not(word, edit.added[:m], trace, vocabulary) for m, word in enumerate(edit.added[:ADDED])}
    problems += [why for why in wrong.values() if why]
    kept = Edit(
        tuple(sorted({i for i in edit.regions if i < N})),
        tuple(word for word in trace.attributes if word in edit.attributes),
        tuple(word for word, why in wrong.items() if not why),
    )
    words = change.words
    if words is not None and (why := why_not_said(words)):
        words, problems = None, [*problems, why]
    return Change(kept, words), problems


def why_not(word: str, added: tuple[str, ...], trace: Trace, vocabulary: Vocabulary) -> str | None:
    """Why a word cannot become an attribute; None if it can."""
    if tokenize(word) != [word]:
        return f"Expected one word, got “{word[:40]}”; add words one by one."
    if word not in vocabulary:
        return f"The captioner has no word “{word[:40]}”; add one that it could say."
    if word in trace.attributes or word in added:
        return f"“{word}” is among the attributes already; add another."
    return None


def why_not_said(words: tuple[str, ...]) -> str | None:
    """Why words cannot be replayed as a caption; None if they can."""
    if not words:
        return "Expected a caption, got no word; write one, or undo to return to the captioner’s own."
    if len(words) > WORDS:
        return f"Expected a caption of at most {WORDS} words, got {len(words)}; shorten it."
    return None


def change_of(address: Mapping[str, str]) -> tuple[Change, list[str]]:
    """The change that an address names, and a sentence on each part of it that cannot be."""
    problems, regions = [], []
    for text in _listed(address, "out"):
        if re.fullmatch("[1-9][0-9]{0,2}", text):
            regions.append(int(text) - 1)
        else:
            problems.append(f"The address asked for a region “{text[:20]}”, which is not a number.")
    words = tuple(tokenize(address["say"][:2000])) if address.get("say") else None
    added = dict.fromkeys(word.lower() for word in _listed(address, "add"))
    return Change(Edit(tuple(regions), tuple(_listed(address, "without")), tuple(added)), words), problems


def _listed(address: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in address.get(name, "")[:2000].split(",") if part.strip()]


def address_of(change: Change) -> dict[str, str]:
    """The parameters of the address for a change (out, without, add, say), without empty ones."""
    parts = {
        "out": ",".join(str(i + 1) for i in change.edit.regions),
        "without": ",".join(change.edit.attributes),
        "add": ",".join(change.edit.added),
        "say": " ".join(change.words or ()),
    }
    return {name: text for name, text in parts.items() if text}


def in_words(change: Change, before: Change, trace: Trace) -> str:
    """The step from one change to the next, as Markdown."""
    old, new, names = before.edit, change.edit, region_names(trace)
    region = {i: f"region {i + 1} ({plain(names[i])})" for i in {*old.regions, *new.regions}}
    out = [i for i in new.regions if i not in old.regions]
    parts = [f"without {region[i]}" for i in out] if len(out) < 5 else [f"without {len(out)} regions"]
    parts += [f"{region[i]} back" for i in old.regions if i not in new.regions]
    parts += [f"without “{plain(spoken(word))}”" for word in new.attributes if word not in old.attributes]
    parts += [f"“{plain(spoken(word))}” back" for word in old.attributes if word not in new.attributes]
    parts += [f"with “{plain(word)}”" for word in new.added if word not in old.added]
    parts += [f"“{plain(word)}” out again" for word in old.added if word not in new.added]
    if change.words != before.words:
        parts.append(f"caption “{plain(' '.join(change.words))}”" if change.words else "the captioner’s own words")
    return ", ".join(parts) or "as it is"
