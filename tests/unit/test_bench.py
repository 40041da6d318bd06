"""The yardstick of the benchmark is right: it finds the same captions' scores as ours."""

from dataclasses import replace

import pytest
import torch
from tiny import SMALL

from glied.baselines.build import build
from glied.captions import DecodeOptions
from glied.decode import beam_search
from glied.experiments import bench
from glied.model import Inputs
from glied.vocabulary import BOS, SPECIAL, Vocabulary

V, STEPS = 30, 6


@torch.inference_mode()
def test_cached_beam_search_finds_what_the_plain_version_finds(monkeypatch):
    monkeypatch.setattr(bench, "V", V)
    monkeypatch.setattr(bench, "STEPS", STEPS)
    torch.manual_seed(0)
    model = build(replace(SMALL, vocabulary_size=V)).double().eval()
    vocabulary = Vocabulary(SPECIAL + tuple(f"w{i}" for i in range(V - len(SPECIAL))))
    inputs = Inputs(torch.randn(4, 5, SMALL.feature_dim).double(), None, torch.randint(4, V, (4, 3)), None)
    options = DecodeOptions(beam=3, n_best=3, min_length=STEPS, max_length=STEPS, no_repeat_ngram=0, length_penalty=0.0)
    memory = model.encode(inputs)
    ours = beam_search(model, memory, vocabulary, options)
    words = torch.tensor([[vocabulary.encode(c.words) for c in decoded.captions] for decoded in ours])
    full = model(torch.cat([torch.full((4, 3, 1), BOS), words[..., :-1]], -1), memory)  # one pass, no cache
    log_p = model.logits(full.c_tilde).log_softmax(-1).gather(-1, words[..., None])[..., 0].sum(-1)
    plain = bench.plain_beam_search(model, inputs, 3)
    assert torch.allclose(log_p.sort(-1, descending=True).values, plain, atol=1e-9)


def test_operations_grow_with_beam_and_batch():
    assert bench.operations(1, 3) > bench.operations(1, 1)
    assert bench.operations(50, 3) == pytest.approx(50 * bench.operations(1, 3))


def test_rewards_agree_and_steps_are_timed(monkeypatch):
    monkeypatch.setattr(bench, "seconds", lambda work, least=1.0: (work(), 0.5)[1])
    found = bench.reward(images=20)
    assert found["captions"] == 100
    assert found["max_difference"] < 1e-9
    assert "speedup " in bench.reward_table(found)
    monkeypatch.setattr(bench, "STEP", {"images": 2, "captions": 2, "regions": 4, "d": 64})
    monkeypatch.setattr(bench, "VARIED", {"captions": (3,)})
    result = bench.train(images=30)
    expected = [(model, captions) for model in ("base", "glied") for captions in (2, 3)]
    assert [(row["model"], row["captions"]) for row in result["rows"]] == expected
    assert len(bench.train_table(result).splitlines()) == 6
