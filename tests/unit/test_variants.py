"""The ablation's captioners: with all their parts they are Base and GLIED; each differs in what it is named for."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from glied.baselines.build import build
from glied.baselines.variants import VARIANTS, Parts, Variant
from glied.captions import DecodeOptions
from glied.config import PRESETS
from glied.decode import beam_search
from glied.evaluation.metrics import interval, score
from glied.experiments import trainings
from glied.experiments.ablation import ablate, table
from glied.experiments.rows import ROWS
from glied.model import Base, Glied
from glied.training.cross_entropy import TrainOptions
from glied.training.material import Places

WHOLE = {
    "base": Parts(Base.functions, Base.shortcuts),
    "glied": Parts(Glied.functions, Glied.shortcuts),
}
WORDS = torch.tensor([[[1, 5, 7, 6], [1, 9, 4, 8]]])


@pytest.mark.parametrize("name", WHOLE)
def test_with_all_parts_a_variant_is_the_captioner(name: str) -> None:
    config = replace(tiny.SMALL, architecture=name, vocabulary_size=16)
    plain = tiny.model(config).double()
    variant = Variant(config, WHOLE[name]).double().eval()
    variant.load_state_dict(plain.state_dict())
    inputs = tiny.batch([tiny.scene()])
    expected, found = (model(WORDS, model.encode(inputs)) for model in (plain, variant))
    assert torch.equal(found.c_tilde, expected.c_tilde)
    assert found.weights.keys() == expected.weights.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_step_by_step_equals_one_pass(name: str) -> None:
    model = tiny.model(replace(tiny.SMALL, architecture=name, vocabulary_size=16)).double()
    memory = model.encode(tiny.batch([tiny.scene()]))
    whole, cache = model(WORDS, memory).c_tilde, None
    for t in range(WORDS.shape[-1]):
        step = model(WORDS[..., t : t + 1], memory, cache)
        cache = step.cache
        torch.testing.assert_close(step.c_tilde[:, :, 0], whole[:, :, t], rtol=0, atol=1e-12)
    assert beam_search(model, memory, tiny.vocabulary(), DecodeOptions())[0].captions


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_matters_and_no_part_is_missing(name: str) -> None:
    model = build(replace(tiny.SMALL, architecture=name, vocabulary_size=16))
    loss = model.logits(model(WORDS, model.encode(tiny_inputs())).c_tilde).square().sum()
    loss.backward()
    for parameter, weight in model.named_parameters():
        if "key.bias" not in parameter:  # adds the same to every score of a row
            assert weight.grad is not None
            assert weight.grad.abs().sum() > 0, parameter
    assert list(model.H) == [function.name for function in VARIANTS[name].functions]


def tiny_inputs():
    inputs = tiny.batch([tiny.scene()])
    return inputs._replace(features=inputs.features.float())


def test_every_row_is_a_preset_and_every_variant_a_row() -> None:
    assert set(ROWS) <= PRESETS.keys()
    assert set(VARIANTS) <= ROWS.keys()


def test_the_interval_holds_the_mean_and_narrows_with_more_photographs() -> None:
    random = np.random.default_rng(1)
    few, many = random.normal(0.5, 0.4, 50), random.normal(0.5, 0.4, 5000)
    widths = []
    for scores in (few, many):
        low, high = interval(scores)
        assert low < scores.mean() < high
        assert high - low == pytest.approx(2 * 1.96 * scores.std() / np.sqrt(len(scores)), rel=0.1)
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_the_table_of_an_ablation_is_resumed_and_complete(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "score", lambda *a: score(*a, ptb=False))  # Java takes seconds
    options = TrainOptions(epochs=1, images=8, warmup=2, rate=1e-3, min_count=1)
    first = ablate(places, ["base+ad", "glied-al"], [0, 1], options)
    assert [(row["captioner"], row["seeds"]) for row in first["rows"]] == [("base+ad", [0, 1]), ("glied-al", [0, 1])]
    monkeypatch.setattr(trainings, "score", lambda *_: pytest.fail("measured twice"))
    assert ablate(places, ["base+ad", "glied-al"], [0, 1], options) == first
    lines = table(first).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| Base + attribute distilling, query x |")
