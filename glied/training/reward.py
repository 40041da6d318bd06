"""CIDEr-D on word ids: the reward of self-critical training (Vedantam et al. 2015; Rennie et al. 2017)."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

N = 4  # n-grams of 1 .. N words
SIGMA = 6.0  # deviation of the penalty on the difference in length

Gram = tuple[int, ...]  # the ids of its words


class Weighted(NamedTuple):
    """A caption as CIDEr-D compares it.

    Attributes:
        weights: how often each n-gram occurs, times its idf.
        norms: for n = 1 .. N, the Euclidean norm of the weights of its n-grams.
        bigrams: how many there are: the caption's length in the penalty.
    """

    weights: dict[Gram, float]
    norms: list[float]
    bigrams: int


def count(ids: Sequence[int]) -> Counter[Gram]:
    """How often each n-gram of 1 .. N words occurs in a caption."""
    shifted = [ids[i:] for i in range(N)]
    return Counter(chain.from_iterable(zip(*shifted[:n], strict=False) for n in range(1, N + 1)))


def similarity(caption: Weighted, reference: Weighted) -> float:
    """CIDEr-D of a caption against one reference, from 0 to 1."""
    products = [0.0] * N
    for gram in caption.weights.keys() & reference.weights.keys():
        weight = reference.weights[gram]
        products[len(gram) - 1] += min(caption.weights[gram], weight) * weight
    cosines = sum(p / (a * b) for p, a, b in zip(products, caption.norms, reference.norms, strict=True) if p)
    return cosines / N * math.exp(-((caption.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))


class CiderD:
    """Scores captions against the references of training images.

    The document frequency of an n-gram is the number of images in whose references it occurs. Captions are ids of
    words. In training the last one is EOS: without it captions learn to end in "with a".

    Args:
        references: the reference captions of each image.
        prepared: how many images' references are kept ready.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]], prepared: int = 10_000) -> None:
        images = Counter(gram for captions in references for gram in set().union(*map(count, captions)))
        self.largest = math.log(len(references))  # of an n-gram that no reference has
        self.idf = {gram: self.largest - math.log(n) for gram, n in images.items()}
        self.prepare = lru_cache(prepared)(lambda image: [self.weigh(ids) for ids in references[image]])

    def weigh(self, ids: Sequence[int]) -> Weighted:
        """A caption with the weights of its n-grams."""
        weights = {gram: times * self.idf.get(gram, self.largest) for gram, times in count(ids).items()}
        squares = [0.0] * N
        for gram, weight in weights.items():
            squares[len(gram) - 1] += weight * weight
        return Weighted(weights, [math.sqrt(square) for square in squares], max(len(ids) - 1, 0))

    def score(self, image: int, captions: Sequence[Sequence[int]]) -> Float[np.ndarray, " C"]:
        """CIDEr-D of captions of `image`: the mean over its references, times 10 as is usual."""
        references = self.prepare(image)
        found = [sum(similarity(own, each) for each in references) for own in map(self.weigh, captions)]
        return 10 * np.array(found) / len(references)
