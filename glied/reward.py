"""CIDEr-D on word ids: the reward of self-critical training (Vedantam et al. 2015; Rennie et al. 2017)."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from glied.errors import GliedError

N = 4  # n-grams of 1 .. N words
SIGMA = 6.0  # deviation of the penalty on the difference in length
BITS = 16  # of a word in an n-gram
Found = tuple[float, list[tuple[int, float]]]  # the idf of an n-gram, and (reference, its weight there)


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

    def _prepare(self, image: int) -> tuple[list[tuple[dict[int, Found], list[float]]], list[int]]:
        """For each n: where an n-gram of the references comes, and the norm of each reference's weights. And how many
        bigrams each reference has."""
        prepared = []
        references = self.references[image]
        for counted, idf in zip(zip(*map(grams, references), strict=True), self.idf, strict=True):
            where: dict[int, Found] = {}
            squares = [0.0] * len(references)
            for r, counts in enumerate(counted):
                for gram, count in counts.items():
                    weight = count * idf[gram]
                    squares[r] += weight * weight
                    where.setdefault(gram, (idf[gram], []))[1].append((r, weight))
            prepared.append((where, [math.sqrt(square) for square in squares]))
        return prepared, [max(0, len(ids) - 1) for ids in references]

    def score(self, image: int, ids: Sequence[int]) -> float:
        """CIDEr-D of a caption of `image`, times 10 as is usual."""
        prepared, bigrams = self.prepare(image)
        largest = self.largest
        cosines = [0.0] * len(bigrams)
        for counted, idf, (where, norms) in zip(grams(ids), self.idf, prepared, strict=True):
            square, products = 0.0, [0.0] * len(bigrams)
            for gram, count in counted.items():
                known = where.get(gram)
                if known:
                    weight = count * known[0]
                    for r, other in known[1]:
                        products[r] += (weight if weight < other else other) * other
                else:
                    weight = count * idf.get(gram, largest)
                square += weight * weight
            norm = math.sqrt(square)
            for r, product in enumerate(products):
                if product:
                    cosines[r] += product / (norm * norms[r])
        length = max(0, len(ids) - 1)
        total = sum(cosine * penalty(length - other) for cosine, other in zip(cosines, bigrams, strict=True))
        return 10 * total / N / len(bigrams)
