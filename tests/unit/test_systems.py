"""The captioners of Tables 1 and 2: the same decoding as ours, every weight used, attention where they have it."""

from dataclasses import replace
from itertools import product
from typing import get_args

import colours
import pytest
import tiny
import torch

from glied.baselines.build import BASELINES, build
from glied.batch import stack
from glied.captions import DecodeOptions
from glied.checkpoint import load
from glied.config import PRESETS, preset
from glied.decode import beam_search, draw
from glied.experiments.rows import PAPER, SYSTEMS
from glied.model import explicit, fused
from glied.training import cross_entropy, material, self_critical
from glied.training.options import Places, ReinforceOptions, TrainOptions
from glied.training.reward import CiderD

WORDS = torch.tensor([[[1, 5, 7, 6], [1, 9, 4, 8]]])


def model(name: str):
    return tiny.model(replace(tiny.SMALL, architecture=name, vocabulary_size=16)).double()


@pytest.mark.parametrize("name", BASELINES)
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


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_matters(name: str) -> None:
    captioner = build(replace(tiny.SMALL, architecture=name, vocabulary_size=16))
    inputs = tiny.batch([tiny.scene()])
    memory = captioner.encode(inputs._replace(features=inputs.features.float()))
    loss = captioner.logits(captioner(WORDS, memory).c_tilde).square().sum() + captioner.auxiliary_loss(memory, WORDS)
    loss.backward()
    for parameter, weight in captioner.named_parameters():
        if "key.bias" not in parameter and not parameter.endswith("score.bias"):  # the same for every score
            assert weight.grad is not None, parameter
            assert weight.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", BASELINES)
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
    torch.testing.assert_close(outputs[0].c_tilde, outputs[1].c_tilde, rtol=0, atol=1e-12)
    for rows in outputs[0].weights.values():
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    seen = [f.name for f in captioner.functions if f.over == "regions" and f.role in ("global", "local")]
    assert all((outputs[0].weights[function][..., -1] == 0).all() for function in seen)
    assert len(seen) == {"lstm": 0, "scst-fc": 0, "attfcn": 0, "ct": 3}.get(name, 1)


@pytest.mark.parametrize("name", BASELINES)
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


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("name", BASELINES)
def test_a_wide_beam_equals_brute_force(name: str, alpha: float) -> None:
    """All 156 captions of at most three of five words, each in one pass."""
    captioner, vocabulary = model(name), tiny.vocabulary()
    memory = captioner.encode(tiny.batch([tiny.scene()]))
    chosen = [*range(4, 9), 2]
    with torch.no_grad():
        captioner.bias += torch.full_like(captioner.bias, -1e4).index_fill(0, torch.tensor(chosen), 0)
    scored = []
    for n in range(4):
        rows = torch.tensor([[1, *ids] for ids in product(chosen[:-1], repeat=n)])[None]
        log_p = captioner.logits(captioner(rows, memory).c_tilde).log_softmax(-1)
        target = torch.cat([rows[..., 1:], torch.full_like(rows[..., :1], 2)], -1)
        totals = log_p.gather(-1, target[..., None]).sum((-1, -2))[0].tolist()
        scored += [
            (total / ((5 + n + 1) / 6) ** alpha, row[1:]) for total, row in zip(totals, rows[0].tolist(), strict=True)
        ]
    scored.sort(key=lambda each: -each[0])
    options = DecodeOptions(no_repeat_ngram=0, length_penalty=alpha, max_length=3)
    for field in ("beam", "n_best"):  # 100 are the most that options allow
        object.__setattr__(options, field, len(scored))
    found = beam_search(captioner, memory, vocabulary, options)[0].captions
    assert [vocabulary.encode(c.words) for c in found] == [ids for _, ids in scored]
    assert [c.score for c in found] == pytest.approx([score for score, _ in scored], abs=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_it_learns_by_cross_entropy_and_from_its_own_samples(name: str) -> None:
    """A step of each training: the loss falls, and every gradient is a number."""
    checkpoint = tiny.checkpoint(name, feature_dropout=0.0, output_dropout=0.0, attention_dropout=0.0, dropout=0.0)
    learner, inputs = checkpoint.model, stack([tiny.scene(seed=i) for i in range(3)], checkpoint.vocabulary)
    tokens = WORDS.expand(3, -1, -1)
    losses = []
    optimizer = torch.optim.SGD(learner.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss = cross_entropy.step_loss(learner, inputs, tokens, 18, TrainOptions(precision="fp32"))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    cider = CiderD([[[5, 7, 6, 2]], [[9, 4, 8, 2]], [[5, 4, 2]]])
    for baseline in ("greedy", "leave-one-out"):
        optimizer.zero_grad()
        options = ReinforceOptions(baseline=baseline, precision="fp32")
        loss, figures = self_critical.step_loss(learner, inputs, [0, 1, 2], cider, checkpoint.vocabulary, 15, options)
        loss.backward()
        assert figures["length"] > 0
        gradients = [parameter.grad for parameter in learner.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_parameters_at_the_papers_vocabulary() -> None:
    """The paper says 11.5M, 12.1M, 50.1M and 27.5M of LSTM, SoftAtt, Up-Down and CT; ours are 512 wide throughout, its
    Up-Down is 1,000. The papers of the others print none."""
    counts = {name: sum(p.numel() for p in build(preset(name, 9567, 2048)).parameters()) / 1e6 for name in BASELINES}
    assert counts == pytest.approx(
        {"lstm": 8.06, "softatt": 10.95, "attfcn": 9.11, "scst-fc": 8.58, "att2in": 9.63, "updown": 13.83, "ct": 28.03}
        | {"rfnet": 24.05, "gcn-lstm": 14.62},
        abs=0.01,
    )
    assert set(PAPER) <= set(SYSTEMS) == {*BASELINES, "base", "glied"} <= set(PRESETS)
    architectures = {
        name for literal in get_args(__import__("glied.config").config.Architecture) for name in get_args(literal)
    }
    assert {config.architecture for config in PRESETS.values()} == architectures


@pytest.mark.parametrize("name", ["updown", "base"])
def test_each_has_its_training_command(name: str, places: Places, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "open_source", lambda name: colours.Colours())
    places = ("--data", places.data, "--cache", places.cache, "--attributes", places.detector)
    options = ("--run", tmp_path / name, "--epochs", 1, "--images", 8, "--min-count", 1)
    assert tiny.run(monkeypatch, "train", name, *places, *options) == 0
    checkpoint = load(tmp_path / name / "best.safetensors")
    assert checkpoint.model.config.architecture == name
    assert checkpoint.provenance["command"] == f"train {name}"
