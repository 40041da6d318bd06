"""CIDEr-D on word ids: the reward of self-critical training (Vedantam et al. 2015; Rennie et al. 2017)."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

N = 4  # n-grams of 1 .. N words
SIGMA = 6.0  # deviation of the penalty on the difference in length
Gram = tuple[int, ...]


def grams(ids: Sequence[int]) -> Counter[Gram]:
    """How often each n-gram comes."""
    return Counter(tuple(ids[i : i + n]) for n in range(1, N + 1) for i in range(len(ids) - n + 1))


class CiderD:
    """Scores captions against the references of training images.

    Document frequencies are the images in whose references an n-gram comes. Captions are ids of words, with EOS as
    their last in training: without it captions learn to end in "with a".

    Args:
        references: the reference captions of each image.
        prepared: how many images' references are kept ready.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]], prepared: int = 10_000) -> None:
        self.references = references
        counts = Counter(gram for captions in references for gram in {g for c in captions for g in grams(c)})
        images = math.log(len(references))
        self.rarity = {gram: images - math.log(count) for gram, count in counts.items()}
        self.unseen = images  # of an n-gram that no reference has
        self.prepare = lru_cache(prepared)(self._prepare)

    def _weigh(self, ids: Sequence[int]) -> tuple[dict[Gram, float], list[float]]:
        """Counts of n-grams times their rarity, and the norm of that vector for each n."""
        weights = {gram: count * self.rarity.get(gram, self.unseen) for gram, count in grams(ids).items()}
        squares = [0.0] * N
        for gram, weight in weights.items():
            squares[len(gram) - 1] += weight * weight
        return weights, [math.sqrt(s) for s in squares]

    def _prepare(self, image: int) -> tuple[dict[Gram, list[tuple[int, float, float]]], list[int]]:
        """n-gram -> (reference, weight, weight over that reference's norm) wherever it comes; numbers of bigrams."""
        where: dict[Gram, list[tuple[int, float, float]]] = {}
        for r, ids in enumerate(self.references[image]):
            weights, norms = self._weigh(ids)
            for gram, weight in weights.items():
                if weight:
                    where.setdefault(gram, []).append((r, weight, weight / norms[len(gram) - 1]))
        return where, [max(0, len(ids) - 1) for ids in self.references[image]]

    def score(self, image: int, ids: Sequence[int]) -> float:
        """CIDEr-D of a caption of `image`, times 10 as is usual."""
        where, bigrams = self.prepare(image)
        weights, norms = self._weigh(ids)
        similarity = [0.0] * len(bigrams)
        for gram, weight in weights.items():
            found = where.get(gram)
            if found and weight:
                norm = norms[len(gram) - 1]
                for r, other, normed in found:
                    similarity[r] += (weight if weight < other else other) * normed / norm
        length = max(0, len(ids) - 1)
        total = sum(
            s * math.exp(-((length - b) ** 2) / (2 * SIGMA**2)) for s, b in zip(similarity, bigrams, strict=True)
        )
        return 10 * total / N / len(bigrams)
