"""Noisy-OR in its log form, the prior in its bias, and the attributes of a photograph."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from glied.attributes import AttributeDetector, evidence, find_scene, noisy_or_loss, probability
from glied.errors import GliedError
from glied.scene import Regions
from glied.vocabulary import FUNCTION_WORDS

NAMES = ("a", "dog", "on", "grass", "the", "red", "ball", "man")


def detector(words: tuple[str, ...] = NAMES, hidden: int = 0, spread: float = 1.0) -> AttributeDetector:
    """A detector that tells regions apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AttributeDetector(words, tiny.WIDTH, tiny.SOURCE, hidden).eval()
        with torch.no_grad():
            made.score.weight.normal_(std=spread)
            made.score.bias.fill_(-1)
    return made


@given(st.lists(st.lists(st.floats(-8, 4), min_size=3, max_size=3), min_size=1, max_size=6))
def test_log_form_equals_product_form(scores: list[list[float]]) -> None:
    s = torch.tensor([scores], dtype=torch.float64)
    product = (1 - torch.sigmoid(s)).prod(1)
    torch.testing.assert_close(evidence(s, None), -product.log())
    torch.testing.assert_close(probability(evidence(s, None)), 1 - product, rtol=1e-9, atol=1e-12)


@given(st.lists(st.tuples(st.floats(-6, 3), st.floats(-6, 3), st.booleans()), min_size=1, max_size=8))
def test_loss_is_binary_cross_entropy_of_the_product_form(rows: list[tuple[float, float, bool]]) -> None:
    s = torch.tensor([[[a for a, _, _ in rows], [b for _, b, _ in rows]]], dtype=torch.float64)
    y = torch.tensor([[float(t) for _, _, t in rows]], dtype=torch.float64)
    product = 1 - (1 - torch.sigmoid(s)).prod(1)
    ours = noisy_or_loss(evidence(s, None), y)
    torch.testing.assert_close(ours, functional.binary_cross_entropy(product, y), rtol=1e-6, atol=1e-8)


def test_loss_and_gradient_stay_finite_at_the_ends() -> None:
    s = torch.tensor([[[-200.0, 200.0, 0.0], [-200.0, 100.0, 0.0]]], requires_grad=True)
    for y in (torch.zeros(1, 3), torch.ones(1, 3)):
        loss = noisy_or_loss(evidence(s, None), y)
        loss.backward()
        assert loss.isfinite()
        assert s.grad.isfinite().all()


def test_masked_regions_show_nothing() -> None:
    s = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 5, [True, False, True, False, False]])
    masked = evidence(s, mask)
    torch.testing.assert_close(masked[0], evidence(s[:1], None)[0])
    torch.testing.assert_close(masked[1], evidence(s[1:, [0, 2]], None)[0])
    assert not torch.allclose(masked[1], evidence(s[1:], None)[0])


@pytest.mark.parametrize(("regions", "hidden"), [(36, 0), (36, 8), (100, 0), (10, 8)])
def test_bias_encodes_the_prior(regions: int, hidden: int) -> None:
    torch.manual_seed(0)
    made = AttributeDetector(tuple(f"w{i}" for i in range(50)), 64, tiny.SOURCE, hidden, regions).eval()
    P = probability(evidence(made(torch.randn(8, regions, 64)), None))
    assert P.mean().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("hidden", [0, 8])
def test_attributes_come_most_probable_first_without_function_words(hidden: int) -> None:
    made, regions = detector(hidden=hidden), tiny.regions(6)
    found = made.find_attributes(regions)
    assert set(found.words) == set(NAMES) - FUNCTION_WORDS
    assert (np.diff(found.scores) <= 0).all()
    assert found.by_region.shape == (len(found.words), 6)
    np.testing.assert_allclose(found.scores, 1 - np.prod(1 - found.by_region, 1), atol=1e-5)
    made.without = frozenset()
    everything = made.find_attributes(regions)
    assert set(everything.words) == set(NAMES)
    assert [w for w in everything.words if w not in FUNCTION_WORDS] == list(found.words)


def test_count_of_attributes_is_respected() -> None:
    made, regions = detector(tuple(f"w{i}" for i in range(80))), tiny.regions(6)
    assert len(made.find_attributes(regions).words) == 49
    three = made.find_attributes(regions, 3)
    assert three.words == made.find_attributes(regions).words[:3]


def test_attributes_are_where_the_detector_saw_them() -> None:
    """A word whose score looks at one feature alone is seen in the region that has it."""
    made = detector(("dog", "cat"), spread=0.0)
    with torch.no_grad():
        made.score.weight[0, 3], made.score.bias[:] = 5, -6
    features = np.zeros((4, tiny.WIDTH), np.float32)
    features[2, 3] = 10
    regions = Regions(tiny.regions(4).boxes, features, (100, 90), tiny.SOURCE)
    found = made.find_attributes(regions)
    assert found.words == ("dog", "cat")
    assert found.by_region[0].argmax() == 2
    assert found.by_region[0, 2] > 0.9 > 0.1 > found.by_region[0, [0, 1, 3]].max()


def test_order_of_regions_does_not_matter() -> None:
    made, regions = detector(), tiny.regions(6)
    order = [3, 1, 5, 0, 2, 4]
    shuffled = replace(regions, boxes=regions.boxes[order], features=regions.features[order])
    a, b = made.find_attributes(regions), made.find_attributes(shuffled)
    assert a.words == b.words
    np.testing.assert_allclose(a.by_region[:, order], b.by_region, atol=1e-6)


def test_regions_of_another_source_are_refused() -> None:
    with pytest.raises(GliedError, match=r"tiny-1.*other-2"):
        detector().find_attributes(tiny.regions(source="other-2"))


def test_find_scene_joins_both() -> None:
    class Source:
        name, feature_dim = tiny.SOURCE, tiny.WIDTH

        def find_regions(self, image):
            return tiny.regions(7)

    from PIL import Image

    scene = find_scene(Image.new("RGB", (20, 20)), Source(), detector())
    assert scene.regions.boxes.shape == (7, 4)
    assert scene.attributes.words == detector().find_attributes(tiny.regions(7)).words
