"""Even attention, and regions and attributes taken away one after another: against plain loops."""

import numpy as np
import pytest
import tiny
import torch

from glied.batch import stack
from glied.errors import GliedError
from glied.functions import GLIED
from glied.model import Attention
from glied.replay import evened, log_p_when_even, take_away, trace
from glied.scene import Edit
from glied.vocabulary import BOS

WORDS = ["a", "red", "dog"]
CANDIDATES = ["runs", "sits", "<eos>"]


def averaged(self: Attention, x, keys, attend):
    """`Attention.forward` in loops: every query gets the plain mean of the values that it may attend to."""
    B, C, L, _ = x.shape
    value = torch.zeros(B, C, L, self.heads, keys.value.shape[-1])
    for b in range(B):
        for c in range(C):
            for t in range(L):
                for head in range(self.heads):
                    seen = keys.value[b, head] if keys.value.dim() == 4 else keys.value[b, c, head]
                    may = seen if keys.mask is None or keys.key.dim() == 4 else seen[keys.mask[t]]
                    value[b, c, t, head] = sum(may) / len(may)
    return self.output(value.flatten(-2)), None


@pytest.mark.parametrize("architecture", ["base", "glied", "base+aa", "glied-al", "ct"])
def test_an_even_function_gives_the_mean_of_its_values(architecture: str, monkeypatch: pytest.MonkeyPatch):
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    found = log_p_when_even(checkpoint, scene, WORDS, CANDIDATES)
    assert found.shape == (1 + len(model.functions), len(CANDIDATES))
    for row, function in enumerate(model.functions, 1):
        with monkeypatch.context() as patch:
            part = model.H[function.name]
            patch.setattr(part, "forward", averaged.__get__(part))
            with torch.inference_mode():
                inputs = torch.tensor([[[BOS, *vocabulary.encode(WORDS)]]])
                c_tilde = model(inputs, model.encode(stack([scene], vocabulary))).c_tilde[0, :, -1]
                log_p = model.logits(c_tilde).log_softmax(-1)[0, vocabulary.encode(CANDIDATES)]
        np.testing.assert_allclose(found[row], log_p.numpy(), atol=1e-5)
        assert np.abs(found[row] - found[0]).max() > 1e-4  # it did something


@pytest.mark.parametrize("architecture", ["base", "glied", "softatt", "updown", "ct"])
def test_one_function_is_even_and_the_captioner_itself_stays_as_it_was(architecture: str):
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = trace(checkpoint, scene, WORDS)
    batch, inputs = stack([scene], vocabulary), torch.tensor([[[BOS, *vocabulary.encode(WORDS)]]])
    for function in model.functions:
        twin = evened(model, function.name)
        memory = twin.encode(batch)
        weights = (memory.weights | twin(inputs, memory).weights)[function.name]
        assert weights is not None
        count = (weights > 0).sum(-1, keepdim=True)
        torch.testing.assert_close(weights, torch.where(weights > 0, 1 / count, 0.0), rtol=1e-6, atol=0)
        if function.over == "words":
            assert count[0, 0, 0, :, 0].tolist() == [1, 2, 3, 4]  # it still sees no later word
        shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}
        assert len(shared) == len(list(model.parameters())) - 2  # all but the weight and bias of its keys
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert trace(checkpoint, scene, WORDS).digest == own.digest


def test_row_0_is_the_captioner_as_it_is():
    checkpoint, scene = tiny.checkpoint(), tiny.scene()
    found = log_p_when_even(checkpoint, scene, WORDS, CANDIDATES)
    for column, word in enumerate(CANDIDATES[:2]):
        replayed = trace(checkpoint, scene, [*WORDS, word]).log_probabilities[3]
        assert found[0, column] == pytest.approx(replayed, abs=1e-6)
    first = log_p_when_even(checkpoint, scene, [], CANDIDATES)
    context = 1 + [f.name for f in GLIED].index("x")
    np.testing.assert_array_equal(first[context], first[0])  # over one word attention is even anyway


@pytest.mark.parametrize("architecture", ["base", "glied", "base+aa", "updown"])
@pytest.mark.parametrize("over", ["regions", "attributes"])
@pytest.mark.parametrize("step", [1, 3])
def test_taken_away_one_after_another_as_by_hand(architecture: str, over: str, step: int):
    checkpoint, scene = tiny.checkpoint(architecture), tiny.scene()
    if architecture == "updown" and over == "attributes":
        with pytest.raises(GliedError, match="whose words come from attributes"):
            take_away(checkpoint, scene, WORDS, step, "attributes")
        return
    found = take_away(checkpoint, scene, WORDS, step, over)  # type: ignore[arg-type]
    own = trace(checkpoint, scene, WORDS)
    name = {"base": "va", "base+aa": "va", "updown": "v-", "glied": ("vl", "al")}[architecture][over == "attributes"]
    attention = own.attention[name].mean(0)[step]
    assert (np.diff(attention[list(found.order)]) <= 0).all()
    for order, curve in ((found.order, found.most_first), (found.order[::-1], found.least_first)):
        assert len(curve) == len(order) == len(attention)
        for k in range(len(order)):
            gone = order[:k]
            edit = Edit(regions=gone) if over == "regions" else Edit(attributes=tuple(own.attributes[m] for m in gone))
            by_hand = trace(checkpoint, edit.apply(scene), WORDS).log_probabilities[step]
            assert curve[k] == pytest.approx(by_hand, abs=1e-5)
    assert found.most_first[0] == pytest.approx(found.least_first[0], abs=1e-6)
