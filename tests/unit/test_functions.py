"""What attention functions say of themselves, against values worked by hand."""

import math

import numpy as np
import pytest

from glied.functions import key_share


def test_key_share() -> None:
    key = np.broadcast_to([0.6, 0.3, 0.1], (1, 4, 3))
    assert key_share(key) == pytest.approx(1), "whatever the query"
    own = (np.eye(3) * 0.7 + 0.1)[None]
    assert key_share(own[:, [2, 0, 1]]) == pytest.approx(0), "every query its own key"
    assert key_share(np.concatenate([own, key[:, :3]])) == pytest.approx(0.5), "the mean over heads"
    assert math.isnan(key_share(np.full((2, 3, 4), 0.25)))
    # log attention 0 -2 and 0 0: by query +1 -1 and 0 0, by key 0.5 -0.5
    mixed = np.exp([[[0.0, -2.0], [0.0, 0.0]]])
    assert key_share(mixed / mixed.sum(-1, keepdims=True)) == pytest.approx(0.25 / 0.5)
    assert key_share(np.array([[[1.0, 0.0], [1.0, 0.0]]])) == pytest.approx(1), "also where attention is 0"
