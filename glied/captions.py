"""The values of decoding: options in, Caption and BeamHistory out. No torch."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from glied.errors import GliedError, within

REQUIRED = 10  # words that must come, at most: each widens the search by a beam


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        method: `beam`, `greedy` (beam 1), or `sample`.
        beam: hypotheses kept at each step.
        length_penalty: alpha; a finished caption is ranked by log p / ((5 + |y|) / 6) ** alpha, EOS counted;
            0 ranks by log p.
        min_length: words before EOS may come.
        max_length: words after which EOS must come; None for the model's own.
        no_repeat_ngram: no n-gram of this length comes twice; 0 allows all.
        n_best: captions returned per photograph; with `sample`, samples drawn.
        temperature: of sampling; a value below 1 favours probable words.
        top_k: sample among the k most probable words; 0 for all.
        top_p: nucleus sampling (Holtzman et al. 2020), among the fewest words that hold this probability; 1 for all.
        seed: of sampling; the same seed draws the same captions.
        groups: diverse beam search (Vijayakumar et al. 2018): the beam in so many groups, each of which avoids the
            words that earlier groups took at the same step.
        diversity: how far log p is lowered, to choose, for each hypothesis of an earlier group with the same word.
        require: words that must come, in any order (Hokamp and Liu 2017), with beam search.
        forbid: words that must not come.
    """

    method: Literal["beam", "greedy", "sample"] = "beam"
    beam: int = 3
    length_penalty: float = 1.0
    min_length: int = 0
    max_length: int | None = None
    no_repeat_ngram: int = 3
    n_best: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    groups: int = 1
    diversity: float = 0.5
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limits = {
            "beam": (1, 100),
            "n_best": (1, 100),
            "min_length": (0, 100),
            "no_repeat_ngram": (0, 20),
            "temperature": (0.01, 100),
            "top_k": (0, 10**6),
            "top_p": (0.001, 1),
            "length_penalty": (-5, 5),
            "seed": (0, 2**31 - 1),
            "groups": (1, 100),
            "diversity": (0, 100),
        }
        within(self, **limits)
        if self.max_length is not None and not max(self.min_length, 1) <= self.max_length <= 100:
            raise GliedError(
                f"max_length must be between min_length ({self.min_length}) and 100, got "
                f"{self.max_length}; change one of them."
            )
        beam = 1 if self.method == "greedy" else self.beam
        if self.method != "sample" and self.n_best > beam:
            raise GliedError(f"n_best ({self.n_best}) cannot exceed the beam ({beam}); widen the beam, or sample.")
        if self.method == "sample" and (self.groups > 1 or self.require):
            raise GliedError("groups and require are parts of beam search, got method sample; take the method beam.")
        if self.method != "sample" and beam % self.groups:
            raise GliedError(f"The beam ({beam}) must be a multiple of groups ({self.groups}); change one of them.")
        if len(set(self.require)) < len(self.require) or len(self.require) > REQUIRED:
            raise GliedError(
                f"require takes at most {REQUIRED} words, each once, got {' '.join(self.require)}; take fewer."
            )
        if both := [word for word in self.require if word in self.forbid]:
            raise GliedError(f"The word {both[0]} is both required and forbidden; take it out of one list.")


@dataclass(frozen=True, eq=False)
class BeamHistory:
    """Beam search step by step: S steps of C candidates each. Candidates are in the order of their groups, then of the
    number of required words that have come, then of their rank by log p and diversity. After sampling, the candidates
    are the words that were drawn (`kept` or `finished`) and the likeliest others that could have been drawn.

    Attributes:
        parents: [S, C] slot (from 0) of the hypothesis that was extended; slots are those of `kept` candidates of
            the step before, in their order; before the first step each group has one.
        words: words[s][c] is the word that was added.
        scores: [S, C] log-probability of the whole hypothesis; -inf for one that cannot be.
        status: [S, C] `kept`, `finished` or `dropped`.
        length_penalty: alpha, by which finished captions are ranked.
        groups: of diverse beam search; each has as many candidates of a step, the first group's come first.
        require: words that must come.
    """

    parents: Int[np.ndarray, "S C"]
    words: tuple[tuple[str, ...], ...]
    scores: Float[np.ndarray, "S C"]
    status: tuple[tuple[str, ...], ...]
    length_penalty: float
    groups: int = 1
    require: tuple[str, ...] = ()

    def extended(self) -> list[tuple[str, ...]]:
        """The hypotheses that were extended, each once, in the order of their steps; first the empty one."""
        found: list[tuple[str, ...]] = [()]
        for s, status in enumerate(self.status[:-1]):
            found += [tuple(self.prefix(s, c)) for c, each in enumerate(status) if each == "kept"]
        return list(dict.fromkeys(found))

    def group(self, step: int, candidate: int) -> int:
        """The group of a candidate, from 0."""
        return candidate * self.groups // len(self.words[step])

    def prefix(self, step: int, candidate: int) -> list[str]:
        """The words of a candidate, from the first."""
        words = [self.words[step][candidate]]
        slot = int(self.parents[step, candidate])
        for s in range(step - 1, -1, -1):
            c = [i for i, status in enumerate(self.status[s]) if status == "kept"][slot]
            words.append(self.words[s][c])
            slot = int(self.parents[s, c])
        return words[::-1]


@dataclass(frozen=True)
class Caption:
    """A finished caption.

    Attributes:
        words: without EOS.
        log_probability: of the words and EOS under the model.
        score: what it was ranked by.
        group: of diverse beam search, from 0.
    """

    words: tuple[str, ...]
    log_probability: float
    score: float
    group: int = 0

    @property
    def text(self) -> str:
        """The words as a line."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Decoded:
    """The captions of one photograph, best first, and the history of the search where it was asked for. Of diverse
    groups, the best of each group come first, then the second of each."""

    captions: tuple[Caption, ...]
    history: BeamHistory | None = field(default=None, compare=False)


def rank(log_probability: float, length: int, alpha: float) -> float:
    """Length-normalised score (Wu et al. 2016); `length` counts EOS."""
    return log_probability / ((5 + length) / 6) ** alpha  # Choice (9)
