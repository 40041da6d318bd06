"""CIDEr-D on ids against pycocoevalcap's scorer on words."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider

from glied.training.reward import CiderD, count

WORDS = ["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "red", "man", "ball", "beach"]
CAPTION = st.lists(st.integers(0, len(WORDS) - 1), max_size=12)


def published(references: list[list[list[int]]], captions: list[list[int]]) -> np.ndarray:
    """pycocoevalcap's CIDEr of each image, over words that ids stand for."""
    text = lambda ids: " ".join(WORDS[i] for i in ids)  # noqa: E731
    gts = {str(i): [text(ids) for ids in image] for i, image in enumerate(references)}
    res = {str(i): [text(ids)] for i, ids in enumerate(captions)}
    return np.array(Cider().compute_score(gts, res)[1])


@given(st.lists(st.tuples(st.lists(CAPTION, min_size=1, max_size=5), CAPTION), min_size=2, max_size=6))
def test_it_agrees_with_pycocoevalcap(images: list) -> None:
    images = [*images, ([[0, 2]], [0])]  # theirs stops where no reference has a word
    references, captions = [r for r, _ in images], [c for _, c in images]
    cider = CiderD(references)
    found = [cider.score(i, [ids]).item() for i, ids in enumerate(captions)]
    np.testing.assert_allclose(found, published(references, captions), rtol=0, atol=1e-9)


@pytest.mark.parametrize("caption", [[], [0], [2, 2, 2, 2, 2, 2, 2], [0, 2, 4, 6, 7], [0, 2, 4, 6, 7] * 4])
def test_empty_repeated_and_long_captions(caption: list[int]) -> None:
    references = [[[0, 2, 4, 6, 7], [1, 2, 4]], [[0, 3, 5], []], [[9, 4, 6, 11], [0, 9]]]
    found = CiderD(references).score(0, [caption, [1, 4], caption])
    theirs = [published(references, [ids, [0, 3], [9]])[0] for ids in (caption, [1, 4], caption)]
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-9)


def test_document_frequencies_are_images_not_captions() -> None:
    cider = CiderD([[[1], [1], [1, 1]], [[2]]])
    assert cider.idf[(1,)] == pytest.approx(math.log(2))
    assert cider.largest == pytest.approx(math.log(2))


def test_n_grams_of_a_caption_are_counted() -> None:
    assert count([]) == {}
    once = {(1, 2, 1), (2, 1, 2), (2, 1), (1, 2, 1, 2)}
    assert count([1, 2, 1, 2]) == {(1,): 2, (2,): 2, (1, 2): 2} | dict.fromkeys(once, 1)


def test_forgotten_references_are_prepared_again() -> None:
    references = [[[0, 2, 4, 6]], [[0, 3, 5, 7]], [[1, 9, 4]]]
    small, large = CiderD(references, prepared=1), CiderD(references)
    for i in (0, 1, 0, 2, 0):
        assert small.score(i, [[0, 2, 4, 5]]) == large.score(i, [[0, 2, 4, 5]])
    assert small.prepare.cache_info().currsize == 1


def test_without_its_end_a_caption_scores_less() -> None:
    """With EOS a word, stopping in "with a" loses what a whole sentence gains."""
    eos = 11
    references = [[[0, 2, 4, 6, 7, eos]] * 3, [[0, 3, 5, 6, 8, eos]] * 3, [[1, 9, 4, eos]] * 3]
    cider = CiderD(references)
    short, whole = cider.score(0, [[0, 2, 4, 6, eos], [0, 2, 4, 6, 7, eos]])
    assert short < whole
