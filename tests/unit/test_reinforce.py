"""Self-critical training: what it samples, what it takes the gradient of, and that it earns reward."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import tiny
import torch

from glied.batch import stack
from glied.captions import DecodeOptions
from glied.checkpoint import load
from glied.decode import beam_search, draw
from glied.errors import GliedError
from glied.training import self_critical as rl
from glied.training.cross_entropy import TrainOptions, train_captioner
from glied.training.material import Places
from glied.training.self_critical import ReinforceOptions, ended, reinforce, sampled_log_probability
from glied.vocabulary import BOS, EOS, SPECIAL

SAMPLING = DecodeOptions(method="sample", n_best=6, no_repeat_ngram=0)


@pytest.fixture
def xe(places: Places) -> Path:
    """A captioner after a little cross-entropy."""
    train_captioner("base", places, TrainOptions(epochs=6, images=4, warmup=4, rate=2e-3, min_count=1, patience=6))
    return places.best


@pytest.mark.parametrize("name", ["base", "glied"])
def test_one_teacher_forced_pass_gives_the_probability_of_what_was_sampled(name: str) -> None:
    checkpoint = tiny.checkpoint(name)
    model = checkpoint.model.double()
    memory = model.encode(tiny.batch([tiny.scene(seed=i) for i in range(3)]))
    tokens, scores = draw(model, memory, SAMPLING)
    assert tokens.shape[:2] == (3, 6)
    assert (tokens[..., 0] == BOS).all()
    found = sampled_log_probability(model, memory, tokens, bf16=False)
    whole = (tokens[..., : model.config.max_length + 1] == EOS).any(-1)  # not cut at the longest length
    assert whole.any()
    # `draw` keeps the model's own log p; the gradient's is among the words that may be sampled
    assert (found[whole] > scores[whole]).all()
    for b, c in whole.nonzero().tolist():
        ids = tokens[b, c]
        last = int((ids == EOS).nonzero()[0])
        logits = model.logits(model(ids[None, None, :last], memory_of(memory, b)).c_tilde[0, 0])
        logits[:, list(rl.NEVER)] = -torch.inf
        expected = logits.log_softmax(-1).gather(-1, ids[1 : last + 1, None]).sum()
        torch.testing.assert_close(found[b, c], expected.float(), rtol=0, atol=1e-4)


def memory_of(memory, b):
    """The memory of one photograph of a batch."""
    pick = lambda t: None if t is None else t[b : b + 1]  # noqa: E731
    keys = {name: type(k)(*(pick(t) for t in k)) for name, k in memory.keys.items()}
    return type(memory)(pick(memory.regions), pick(memory.attributes), pick(memory.groupings), keys, {})


def test_a_forced_end_is_no_choice() -> None:
    checkpoint = tiny.checkpoint("glied")
    model, longest = checkpoint.model, checkpoint.model.config.max_length
    memory = model.encode(tiny.batch([tiny.scene()])._replace(features=tiny.batch([tiny.scene()]).features.float()))
    words = torch.full((1, 1, longest + 2), 5)
    words[..., 0], words[..., -1] = BOS, EOS
    found = sampled_log_probability(model, memory, words, bf16=False)
    without = sampled_log_probability(model, memory, words[..., :-1], bf16=False)
    torch.testing.assert_close(found, without)


def test_samples_end_once() -> None:
    tokens = torch.tensor([[[BOS, 5, 6, EOS, EOS], [BOS, 5, 5, 5, EOS], [BOS, EOS, EOS, EOS, EOS]]])
    assert ended(tokens) == [[5, 6, EOS], [5, 5, 5, EOS], [EOS]]


def test_the_gradient_raises_what_earned_more_than_the_others() -> None:
    log_p = torch.zeros(1, 3, requires_grad=True)
    rl.policy_loss(rl.advantage(torch.tensor([[1.0, 0.2, 0.3]])), log_p, 3).backward()
    assert log_p.grad is not None
    assert log_p.grad[0, 0] < 0 < log_p.grad[0, 1]
    assert log_p.grad.sum() == pytest.approx(0, abs=1e-6)


class Told(rl.CiderD):
    """Rewards known beforehand, by the words' ids and EOS."""

    def __init__(self, rewards: dict[tuple[int, ...], float]) -> None:
        self.rewards = rewards

    def score(self, image: int, captions: Sequence[Sequence[int]]) -> list[float]:
        return [self.rewards[tuple(ids)] for ids in captions]


@pytest.mark.parametrize("name", ["base", "glied"])
@pytest.mark.parametrize("baseline", ["leave-one-out", "greedy"])
def test_the_gradient_is_that_of_the_expected_reward(name: str, baseline: str) -> None:
    """The mean over 10,000 samples against all 13 captions of at most two of three words, each with its probability."""
    still = dict.fromkeys(("dropout", "attention_dropout", "feature_dropout", "output_dropout"), 0.0)
    checkpoint = tiny.checkpoint(name, tiny.WORDS[:3], max_length=2, **still)
    model, scene = checkpoint.model, tiny.scene(m=3, words=tiny.WORDS[:3])
    inputs = stack([scene] * 20, checkpoint.vocabulary)
    every = [(*ids, EOS) for n in range(3) for ids in product(range(len(SPECIAL), len(SPECIAL) + 3), repeat=n)]
    rewards = dict(zip(every, torch.rand(13, generator=torch.Generator().manual_seed(0)).tolist(), strict=True))

    memory, total, expected = model.encode(stack([scene], checkpoint.vocabulary)), 0.0, torch.zeros(())
    for ids, reward in rewards.items():
        logits = model.logits(model(torch.tensor([[[BOS, *ids[:-1]]]]), memory).c_tilde[0, 0])
        logits[:, list(rl.NEVER)] = -torch.inf
        log_p = logits.log_softmax(-1)[range(len(ids)), ids]
        p = log_p[:2].sum().exp()  # after two words the end is no choice
        total, expected = total + p.item(), expected + p * reward
    assert total == pytest.approx(1, abs=1e-5)
    exact = torch.autograd.grad(-expected, list(model.parameters()), allow_unused=True)

    torch.manual_seed(0)
    options, rounds = ReinforceOptions(samples=100, baseline=baseline, precision="fp32"), 5
    for _ in range(rounds):
        loss, _ = rl.step_loss(model, inputs, [0] * 20, Told(rewards), checkpoint.vocabulary, 2000, options)
        (loss / rounds).backward()
    pairs = [(p.grad.flatten(), g.flatten()) for p, g in zip(model.parameters(), exact, strict=True) if g is not None]
    sampled, exact = (torch.cat(column) for column in zip(*pairs, strict=True))
    assert torch.cosine_similarity(sampled, exact, dim=0) > 0.98
    assert sampled.norm() == pytest.approx(exact.norm().item(), rel=0.1)


@pytest.mark.parametrize("baseline", ["leave-one-out", "greedy"])
def test_it_earns_reward_and_records_where_it_began(xe: Path, places: Places, tmp_path: Path, baseline: str) -> None:
    there = replace(places, run=tmp_path / "rl")
    options = ReinforceOptions(
        epochs=12, images=8, rate=2e-4, warmup=2, baseline=baseline, patience=12, save_minutes=0.0
    )
    checkpoint = reinforce(xe, there, options)
    rows = list(csv.DictReader((there.run / "log.csv").read_text().splitlines()))
    earned = [sum(float(row["reward"]) for row in part) / 4 for part in (rows[:4], rows[-4:])]
    assert earned[1] > 1.2 * earned[0]
    assert float(rows[-1]["length"]) > 1
    assert checkpoint.provenance["initial"]["command"] == "train base"
    assert checkpoint.provenance["command"] == "train rl"


def test_a_stopped_and_resumed_run_is_bit_identical(
    xe: Path, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = (replace(places, run=tmp_path / name) for name in ("whole", "stopped"))
    options = ReinforceOptions(epochs=3, images=4, warmup=2, save_minutes=0.0)
    reinforce(xe, whole, options)
    policy_loss, calls = rl.policy_loss, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) in (2, 6):
            raise KeyboardInterrupt
        return policy_loss(*arguments)

    monkeypatch.setattr(rl, "policy_loss", stops)
    for _ in range(2):
        torch.manual_seed(99)
        with pytest.raises(KeyboardInterrupt):
            reinforce(xe, stopped, options)
    reinforce(xe, stopped, options)
    states = [torch.load(p.run / "state.pt", weights_only=True) for p in (whole, stopped)]
    assert states[0]["log"] == states[1]["log"]
    assert all(torch.equal(w, states[1]["model"][name]) for name, w in states[0]["model"].items())


def test_nothing_but_rewards_moves_it(
    xe: Path, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rl.CiderD, "score", lambda _, image, captions: [0.7] * len(captions)
    )  # every sample as good as the others
    there = replace(places, run=tmp_path / "rl")
    reinforce(xe, there, ReinforceOptions(epochs=1, images=4, warmup=1, precision="fp32"))
    before, after = (dict(load(path).model.named_parameters()) for path in (xe, there.best))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_sample_has_no_others() -> None:
    with pytest.raises(GliedError, match="at least 2"):
        ReinforceOptions(samples=1)
    assert ReinforceOptions(samples=1, baseline="greedy").samples == 1


def test_sampling_and_greedy_decoding_share_the_memory() -> None:
    checkpoint = tiny.checkpoint("glied")
    inputs = tiny.batch([tiny.scene()])._replace(features=tiny.batch([tiny.scene()]).features.float())
    memory = checkpoint.model.encode(inputs)
    cold = replace(SAMPLING, temperature=0.01, n_best=1)
    tokens, _ = draw(checkpoint.model, memory, cold)
    greedy = beam_search(checkpoint.model, memory, checkpoint.vocabulary, rl.GREEDY)[0].captions[0]
    assert checkpoint.vocabulary.decode(tokens[0, 0].tolist()) == list(greedy.words)


def test_samples_are_those_of_multinomial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of drawing that spares a GPU torch's checks takes the same numbers, and gives the same words."""
    checkpoint = tiny.checkpoint("glied")
    inputs = tiny.batch([tiny.scene(seed=i) for i in range(3)])
    memory = checkpoint.model.encode(inputs._replace(features=inputs.features.float()))
    torch.manual_seed(5)
    tokens, _ = draw(checkpoint.model, memory, SAMPLING)
    after = torch.rand(1)

    def multinomial(ratio: torch.Tensor, dim: int) -> torch.Tensor:
        """Draws again from the numbers that `draw` compares, whose first part it has kept."""
        probability = kept.pop()
        return torch.multinomial(probability.flatten(0, 1), 1).view(probability.shape[:2])

    kept: list[torch.Tensor] = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda t, dim: kept.append(softmax(t, dim)) or kept[-1])
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda t, generator=None: t.fill_(1))
    monkeypatch.setattr(torch.Tensor, "argmax", multinomial)
    torch.manual_seed(5)
    again, _ = draw(checkpoint.model, memory, SAMPLING)
    assert torch.equal(again, tokens)
    assert torch.equal(torch.rand(1), after)


def test_nothing_is_made_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU at hand: what forgets its device lands on "meta" and meets the model on the CPU."""
    checkpoint = tiny.checkpoint("glied")
    inputs = tiny.batch([tiny.scene()])._replace(features=tiny.batch([tiny.scene()]).features.float())
    cider = rl.CiderD([[[5, 6, EOS]], [[7, EOS]]])
    options = ReinforceOptions(baseline="greedy", precision="fp32")
    with torch.device("meta"):
        loss, figures = rl.step_loss(checkpoint.model, inputs, [0], cider, checkpoint.vocabulary, 5, options)
        with torch.inference_mode():
            memory = checkpoint.model.encode(inputs)
            beam_search(checkpoint.model, memory, checkpoint.vocabulary, DecodeOptions(), True)
    assert loss.device.type == "cpu"
    assert figures["length"] > 0
