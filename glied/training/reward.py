"""CIDEr-D on word ids: the reward of self-critical training (Vedantam et al. 2015; Rennie et al. 2017)."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from glied.errors import GliedError

N = 4  # n-grams of 1 .. N words
SIGMA = 6.0  # deviation of the penalty on the difference in length
BITS = 15  # of a word in an n-gram
LARGEST = 1 << BITS * np.arange(1, N)  # above any n-gram of 1 .. N - 1 words


class Grams(NamedTuple):
    """The n-grams of some captions: caption after caption, shortest first.

    Attributes:
        gram: its words side by side in one number, each plus one. times: that the caption has it.
        row: N * caption + n - 1. bigrams: of each caption.
    """

    gram: Int[np.ndarray, " G"]
    times: Int[np.ndarray, " G"]
    row: Int[np.ndarray, " G"]
    bigrams: Int[np.ndarray, " C"]


class Prepared(NamedTuple):
    """The references of an image: their different n-grams in order (0 is none, and first), the idf of each, its weight
    in each reference, the norms of the references' weights, and how many bigrams they have."""

    gram: Int[np.ndarray, " K"]
    idf: Float[np.ndarray, " K"]
    weight: Float[np.ndarray, "K refs"]
    norm: Float[np.ndarray, "N refs"]
    bigrams: Int[np.ndarray, " refs"]


def grams(captions: Sequence[Sequence[int]]) -> Grams:
    """Counts the n-grams of captions, ids of words."""
    lengths = np.array([len(ids) for ids in captions])
    words = np.zeros((len(captions), max(lengths.max(), N)), np.int64)
    words[np.arange(words.shape[1]) < lengths[:, None]] = [word + 1 for ids in captions for word in ids]
    if words.max() >= 1 << BITS:
        raise GliedError(f"Expected a vocabulary of at most {(1 << BITS) - 1} words, got more; raise --min-count.")
    packed = [np.zeros_like(words[:, :1]), words]  # a 0 parts each caption from the one before
    for n in range(1, N):
        packed.append((packed[-1][:, :-1] << BITS | words[:, n:]) * (words[:, n:] > 0))
    every = np.sort(np.concatenate(packed, 1), 1)
    flat = every.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    times = np.append(starts[1:], flat.size) - starts
    real = flat[starts] > 0
    gram = flat[starts[real]]
    caption = starts[real] // every.shape[1]
    longer = np.searchsorted(LARGEST, gram, "right")
    return Grams(gram, times[real], N * caption + longer, np.maximum(lengths - 1, 0))


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
        found = np.concatenate([np.unique(grams(captions).gram) for captions in references])
        gram, images = np.unique(found, return_counts=True)
        self.largest = math.log(len(references))  # of an n-gram that no reference has
        self.idf = dict(zip(gram.tolist(), (self.largest - np.log(images)).tolist(), strict=True))
        self.prepare = lru_cache(prepared)(self._prepare)

    def _prepare(self, image: int) -> Prepared:
        references = self.references[image]
        found = grams(references)
        gram, position = np.unique(found.gram, return_inverse=True)
        idf = np.array([0.0, *map(self.idf.__getitem__, gram.tolist())])
        weight = np.zeros((len(idf), len(references)))
        weight[position + 1, found.row // N] = found.times * idf[position + 1]
        square = np.bincount(found.row, (found.times * idf[position + 1]) ** 2, N * len(references))
        norm = np.sqrt(square).reshape(-1, N).T.copy()
        return Prepared(np.append(0, gram), idf, weight, norm, found.bigrams)

    def score(self, image: int, captions: Sequence[Sequence[int]]) -> Float[np.ndarray, " C"]:
        """CIDEr-D of captions of `image`, times 10 as is usual."""
        own = self.prepare(image)
        found = grams(captions)
        position = own.gram.searchsorted(found.gram, "right") - 1
        idf = own.idf[position]
        new = own.gram[position] != found.gram
        idf[new] = [self.idf.get(gram, self.largest) for gram in found.gram[new].tolist()]
        position[new] = 0
        weight = found.times * idf
        norm = np.sqrt(np.bincount(found.row, weight**2, N * len(captions)))
        other = own.weight[position]
        product = np.zeros((len(norm), other.shape[1]))
        np.add.at(product, found.row, np.minimum(weight[:, None], other) * other)
        both = norm.reshape(-1, N, 1) * own.norm
        both[both == 0] = 1  # their product is 0, too
        cosine = product.reshape(both.shape) / both
        penalty = np.exp((found.bigrams[:, None] - own.bigrams) ** 2 / (-2 * SIGMA**2))
        return 10 / N / other.shape[1] * np.einsum("cnr,cr->c", cosine, penalty)
