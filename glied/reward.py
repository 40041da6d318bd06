"""CIDEr-D on word ids: the reward of self-critical training (Vedantam et al. 2015; Rennie et al. 2017)."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from glied.errors import GliedError

N = 4  # n-grams of 1 .. N words
SIGMA = 6.0  # deviation of the penalty on the difference in length
BITS = 16  # of a word in an n-gram


def grams(ids: Sequence[int]) -> list[dict[int, int]]:
    """How often each n-gram comes, for n = 1 .. N; an n-gram is one number, its words side by side."""
    found = []
    packed = list(ids)
    for n in range(1, N + 1):
        once = dict.fromkeys(packed, 1)
        found.append(once if len(once) == len(packed) else Counter(packed))
        packed = [gram << BITS | word for gram, word in zip(packed, ids[n:], strict=False)]
    return found


@lru_cache
def penalty(difference: int) -> float:
    """For a caption whose length differs from the reference's."""
    return math.exp(-(difference**2) / (2 * SIGMA**2))


class CiderD:
    """Scores captions against the references of training images.

    Document frequencies are the images in whose references an n-gram comes. Captions are ids of words, with EOS as
    their last in training: without it captions learn to end in "with a".

    Args:
        references: the reference captions of each image.
        prepared: how many images' references are kept ready.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]], prepared: int = 10_000) -> None:
        if max((word for captions in references for ids in captions for word in ids), default=0) >= 1 << BITS:
            raise GliedError(f"Expected a vocabulary of at most {1 << BITS} words, got more; raise --min-count.")
        self.references = references
        counts: list[Counter[int]] = [Counter() for _ in range(N)]
        for captions in references:
            for count, *found in zip(counts, *map(grams, captions), strict=True):
                count.update(set().union(*found))
        images = math.log(len(references))
        self.idf = [{gram: images - math.log(count) for gram, count in counted.items()} for counted in counts]
        self.largest = images  # of an n-gram that no reference has
        self.prepare = lru_cache(prepared)(self._prepare)

    def _prepare(self, image: int) -> list[tuple[dict[int, list[tuple[int, float]]], list[float]]]:
        """For each n: n-gram -> (reference, weight) wherever it comes; and the norm of each reference's weights."""
        prepared = []
        for counted, idf in zip(zip(*map(grams, self.references[image]), strict=True), self.idf, strict=True):
            where: dict[int, list[tuple[int, float]]] = {}
            squares = [0.0] * len(counted)
            for r, counts in enumerate(counted):
                for gram, count in counts.items():
                    weight = count * idf[gram]
                    squares[r] += weight * weight
                    where.setdefault(gram, []).append((r, weight))
            prepared.append((where, [math.sqrt(square) for square in squares]))
        return prepared

    def score(self, image: int, ids: Sequence[int]) -> float:
        """CIDEr-D of a caption of `image`, times 10 as is usual."""
        references, largest = self.references[image], self.largest
        cosines = [0.0] * len(references)
        for counted, idf, (where, norms) in zip(grams(ids), self.idf, self.prepare(image), strict=True):
            square, products = 0.0, [0.0] * len(references)
            for gram, count in counted.items():
                weight = count * idf.get(gram, largest)
                square += weight * weight
                if gram in where:
                    for r, other in where[gram]:
                        products[r] += (weight if weight < other else other) * other
            norm = math.sqrt(square)
            for r, product in enumerate(products):
                if product:
                    cosines[r] += product / (norm * norms[r])
        bigrams = max(0, len(ids) - 1)
        lengths = [bigrams - max(0, len(other) - 1) for other in references]
        total = sum(cosine * penalty(length) for cosine, length in zip(cosines, lengths, strict=True))
        return 10 * total / N / len(references)
