"""The captioners of Table 2: the same decoding as ours, every weight used, attention where they have it."""

from dataclasses import replace
from functools import partial
from typing import get_args

import colours
import pytest
import tiny
import torch

from glied.baselines.build import build
from glied.baselines.systems import SYSTEMS as CLASSES
from glied.captions import DecodeOptions
from glied.config import PRESETS, preset
from glied.decode import beam_search, draw
from glied.evaluation import evaluate
from glied.evaluation.metrics import score
from glied.experiments import ablation
from glied.experiments.ablation import PAPER, SYSTEMS, compare_systems, systems_table
from glied.model import explicit, fused
from glied.training.cross_entropy import TrainOptions
from glied.training.material import Places

WORDS = torch.tensor([[[1, 5, 7, 6], [1, 9, 4, 8]]])


def model(name: str):
    return tiny.model(replace(tiny.SMALL, architecture=name, vocabulary_size=16)).double()


@pytest.mark.parametrize("name", CLASSES)
def test_step_by_step_equals_one_pass(name: str) -> None:
    captioner = model(name)
    memory = captioner.encode(tiny.batch([tiny.scene(), tiny.scene()]))
    words = WORDS.expand(2, -1, -1)
    whole, cache = captioner(words, memory).c_tilde, None
    for t in range(words.shape[-1]):
        step = captioner(words[..., t : t + 1], memory, cache, fused)
        cache = step.cache
        torch.testing.assert_close(step.c_tilde[:, :, 0], whole[:, :, t], rtol=0, atol=1e-12)


def test_a_turn_is_an_lstms() -> None:
    captioner = model("updown")
    given, state = torch.randn(2, 3, 3 * 16).double(), [tuple(torch.randn(2, 6, 16).double())]
    h, new = captioner.turn(0, given, state)
    expected = captioner.cells[0](given.flatten(0, 1), state[0])
    torch.testing.assert_close(new, expected, rtol=0, atol=1e-12)
    assert torch.equal(h.flatten(0, 1), new[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert captioner.turn(0, given, state)[1][1].dtype == torch.float64


@pytest.mark.parametrize("name", CLASSES)
def test_every_parameter_matters(name: str) -> None:
    captioner = build(replace(tiny.SMALL, architecture=name, vocabulary_size=16))
    inputs = tiny.batch([tiny.scene()])
    memory = captioner.encode(inputs._replace(features=inputs.features.float()))
    captioner.logits(captioner(WORDS, memory).c_tilde).square().sum().backward()
    for parameter, weight in captioner.named_parameters():
        if "key.bias" not in parameter and not parameter.endswith("attention.score.bias"):  # the same for every score
            assert weight.grad is not None, parameter
            assert weight.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", CLASSES)
def test_a_hidden_region_does_not_matter_and_attention_sums_to_one(name: str) -> None:
    captioner = model(name)
    inputs = tiny.batch([tiny.scene()])
    shown = torch.ones(inputs.features.shape[:2], dtype=torch.bool)
    shown[:, -1] = False
    changed = inputs.features.clone()
    changed[:, -1] = 9
    outputs = [
        captioner(WORDS, captioner.encode(inputs._replace(features=features, region_mask=shown)), None, explicit)
        for features in (inputs.features, changed)
    ]
    assert torch.equal(outputs[0].c_tilde, outputs[1].c_tilde)
    for rows in outputs[0].weights.values():
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    seen = {function: rows for function, rows in outputs[0].weights.items() if function.startswith("v")}
    assert all((rows[..., -1] == 0).all() for rows in seen.values())
    assert len(seen) == {"lstm": 0, "softatt": 1, "updown": 1, "ct": 3}[name]


@pytest.mark.parametrize("name", CLASSES)
def test_beams_carry_their_own_state(name: str) -> None:
    """The log-probability that the search reports is that of its caption in one pass."""
    captioner = model(name)
    memory = captioner.encode(tiny.batch([tiny.scene()]))
    vocabulary = tiny.vocabulary()
    options = DecodeOptions(beam=4, n_best=4, no_repeat_ngram=0, max_length=5)
    for caption in beam_search(captioner, memory, vocabulary, options)[0].captions:
        ids = vocabulary.encode(caption.words)
        output = captioner(torch.tensor([[[1, *ids]]]), memory)
        log_p = captioner.logits(output.c_tilde).log_softmax(-1)[0, 0]
        found = log_p.gather(-1, torch.tensor([*ids, 2])[:, None]).sum()
        assert found.item() == pytest.approx(caption.log_probability, abs=1e-5)
    assert draw(captioner, memory, replace(options, method="sample"))[0].shape[:2] == (1, 4)


def test_parameters_at_the_papers_vocabulary() -> None:
    """The paper says 11.5M, 12.1M, 50.1M and 27.5M; ours are 512 wide throughout, its Up-Down is 1,000."""
    counts = {name: sum(p.numel() for p in build(preset(name, 9567, 2048)).parameters()) / 1e6 for name in CLASSES}
    assert counts == pytest.approx({"lstm": 8.06, "softatt": 10.95, "updown": 13.83, "ct": 28.03}, abs=0.01)
    assert set(PAPER) <= set(SYSTEMS) <= set(PRESETS)
    architectures = {
        name for literal in get_args(__import__("glied.config").config.Architecture) for name in get_args(literal)
    }
    assert {config.architecture for config in PRESETS.values()} == architectures


def test_table_2(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ablation, evaluate):
        monkeypatch.setattr(module, "open_source", lambda name: colours.Colours())
    monkeypatch.setattr(evaluate, "score", partial(score, names=("Bleu_4", "CIDEr"), ptb=False))  # Java takes seconds
    options = TrainOptions(epochs=1, images=8, warmup=2, rate=1e-3, min_count=1)
    result = compare_systems(places, ["updown", "glied", "lstm", "softatt", "ct"], options)
    assert [row["variant"] for row in result["rows"]] == ["updown", "glied", "lstm", "softatt", "ct"]
    assert all(row["images_per_s"] > 0 for row in result["rows"])
    lines = systems_table(result).splitlines()
    assert lines[2].startswith("| Up-Down (Anderson et al. 2018) | ")
    assert lines[2].endswith("| 50.1 | 24.9 | 14.8 | 113.2 |")
    assert {line.count("|") for line in lines} == {11}
