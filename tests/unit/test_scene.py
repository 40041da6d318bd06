"""Regions, attributes and scenes are checked once, frozen, and keep their own copies."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace

import jaxtyping
import numpy as np
import pytest
import tiny

from glied.batch import attribute_ids, pad, stack
from glied.errors import GliedError
from glied.scene import Attributes, Edit, Regions, Scene
from glied.vocabulary import UNK


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def features(n: int) -> np.ndarray:
    return np.ones((n, 3), np.float32)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes in signatures are checked in tests alone; the values must refuse a wrong shape by themselves."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boxes": boxes(), "features": features(0)}, "at least one region"),
        ({"features": features(1)}, "one feature per box"),
        ({"features": np.array([[1, 2, np.nan], [1, 2, 3]], np.float32)}, "finite"),
        ({"boxes": boxes([0, 0, 1, 1], [0, 0, np.inf, 1])}, "finite"),
        ({"boxes": boxes([0, 0, 1, 1], [1, 0, 1, 1])}, "x1 < x2"),
        ({"boxes": boxes([0, 0, 1, 1], [0, 2, 1, 1])}, "y1 < y2"),
        ({"labels": ("dog",)}, "2 labels"),
        ({"scores": np.ones(3, np.float32)}, "2 labels"),
    ],
)
def test_wrong_regions_name_the_source(changes: dict, said: str) -> None:
    good = {"boxes": boxes([0, 0, 1, 1], [1, 1, 3, 2]), "features": features(2), "size": (9, 9), "source": "tiny-7"}
    assert len(Regions(**good).boxes) == 2
    with pytest.raises(GliedError, match=said) as error:
        Regions(**good | changes)
    assert "tiny-7" in str(error.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("words", "scores", "rows", "said"),
    [
        ((), 0, 0, "at least one"),
        (("a", "a"), 2, 2, "no word twice"),
        (("a", "b"), 1, 2, "2 scores"),
        (("a", "b"), 2, 3, "2 scores"),
    ],
)
def test_wrong_attributes_are_refused(words: tuple[str, ...], scores: int, rows: int, said: str) -> None:
    with pytest.raises(GliedError, match=said):
        Attributes(words, np.zeros(scores, np.float32), np.zeros((rows, 3), np.float32))


def test_a_scene_is_frozen_and_keeps_its_own_copy() -> None:
    mine = boxes([0, 0, 1, 1])
    regions = Regions(mine, features(1), (9, 9), "tiny-1")
    mine[:] = 5
    np.testing.assert_array_equal(regions.boxes, [[0, 0, 1, 1]])
    scene = Scene(regions, tiny.scene(1, 2).attributes)
    for array in (regions.boxes, regions.features, regions.scores, scene.attributes.scores, scene.attributes.by_region):
        assert array.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(FrozenInstanceError):
        scene.regions = regions
    with pytest.raises(FrozenInstanceError):
        regions.source = "other"


def test_double_precision_features_are_stored_as_single() -> None:
    regions = replace(tiny.regions(2), features=np.full((2, 3), 1 / 3))
    assert regions.features.dtype == np.float32


def test_padding_says_what_is_real() -> None:
    rows, mask = pad([np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)])
    assert rows.tolist() == [[[1] * 3, [1] * 3], [[2] * 3, [0] * 3]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert pad([np.ones(2), np.ones(2)])[1] is None


def test_stacked_scenes_hold_what_each_scene_holds() -> None:
    scenes = [tiny.scene(5, 4, 1), tiny.scene(2, 6, 2)]
    inputs = stack(scenes, tiny.vocabulary())
    for i, scene in enumerate(scenes):
        n, m = len(scene.regions.boxes), len(scene.attributes.words)
        np.testing.assert_array_equal(inputs.features[i, inputs.region_mask[i]], scene.regions.features)
        assert inputs.attributes[i, inputs.attribute_mask[i]].tolist() == tiny.vocabulary().encode(
            scene.attributes.words
        )
        assert inputs.region_mask[i].tolist() == [True] * n + [False] * (5 - n)
        assert inputs.attribute_mask[i].tolist() == [True] * m + [False] * (6 - m)


def test_an_attribute_without_a_word_is_left_out() -> None:
    vocabulary = tiny.vocabulary(("dog", "cat"))
    assert attribute_ids(("cat", "zeppelin", "dog"), vocabulary).tolist() == [5, 4]
    assert attribute_ids(("zeppelin",), vocabulary).tolist() == [UNK]


def test_an_edit_takes_away_and_adds() -> None:
    scene = tiny.scene()
    gone, words = Edit((0,), scene.attributes.words[1:2], ("zebra",)), scene.attributes.words
    found = gone.apply(scene)
    np.testing.assert_array_equal(found.regions.boxes, scene.regions.boxes[1:])
    assert found.attributes.words == ("zebra", words[0], *words[2:])
    np.testing.assert_array_equal(found.attributes.scores[1:], scene.attributes.scores[[0, *range(2, len(words))]])
    np.testing.assert_array_equal(found.attributes.by_region[1], scene.attributes.by_region[0, 1:])
    assert not found.attributes.by_region[0].any()
    same = Edit().apply(scene)
    assert same.attributes.words == words
    np.testing.assert_array_equal(same.regions.features, scene.regions.features)


@pytest.mark.parametrize(
    "edit",
    [
        Edit(regions=(99,)),
        Edit(regions=(-1,)),
        Edit(attributes=("zebra",)),
        Edit(added=("zebra", "zebra")),
        Edit(added=tiny.scene().attributes.words[:1]),
        Edit(regions=tuple(range(len(tiny.scene().regions.boxes)))),
        Edit(attributes=tiny.scene().attributes.words),
    ],
)
def test_an_edit_that_cannot_be_is_one_sentence(edit: Edit) -> None:
    with pytest.raises(GliedError, match="Expected"):
        edit.apply(tiny.scene())
