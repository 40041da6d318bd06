"""The model against PyTorch's own attention, the published counts, and the invariants of glied.md section 4."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from glied.baselines.build import build
from glied.config import PRESETS, ModelConfig, preset
from glied.errors import GliedError
from glied.model import Attention, Captioner, Inputs, Keys, Memory, Output, explicit, fused, linear

COUNTS = {
    "base": 9_110_879,
    "glied": 12_265_823,
    "glied-context": 12_265_823,
    "base-narrow": 7_535_711,
    "glied-narrow": 9_115_487,
    "base-wide": 12_261_215,
    "glied-wide": 18_566_495,
    "base-paper": 12_264_287,
    "glied-paper": 18_309_983,
}
VARIANTS = {
    "base": replace(tiny.SMALL, architecture="base", vocabulary_size=16),
    "base-ffn": replace(tiny.SMALL, architecture="base", vocabulary_size=16, ffn=10),
    "glied": replace(tiny.SMALL, vocabulary_size=16),
    "glied-context": replace(tiny.SMALL, vocabulary_size=16, position="context"),
    "glied-paper": replace(tiny.SMALL, vocabulary_size=16, ffn=10, share_local_output=True),
}
SCENES = [tiny.scene(5, 4, 1), tiny.scene(3, 6, 2), tiny.scene(1, 1, 3)]
WORDS = torch.tensor([[[1, 5, 9, 4, 7, 5], [1, 8, 8, 4, 15, 2]]] * len(SCENES))
EXACT = {"rtol": 0, "atol": 1e-11}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Captioner:
    return tiny.model(VARIANTS[request.param]).double()


def logits(model: Captioner, inputs: Inputs, words: Tensor = WORDS, attend=explicit) -> Tensor:
    with torch.inference_mode():
        return model.logits(model(words, model.encode(inputs), None, attend).c_tilde)


def both(model: Captioner, inputs: Inputs) -> tuple[Memory, Output]:
    with torch.inference_mode():
        memory = model.encode(inputs)
        return memory, model(WORDS, memory)


@pytest.mark.parametrize("attend", [explicit, fused])
def test_attention_equals_pytorch(attend) -> None:
    config = ModelConfig(d=24, heads=3, d_head=8)
    ours = Attention(config).double().eval()
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True).double().eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in (ours.query, ours.key, ours.value)]))
        theirs.in_proj_bias.normal_()
        for module, bias in zip((ours.query, ours.key, ours.value), theirs.in_proj_bias.chunk(3), strict=True):
            module.bias.copy_(bias)
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    x, y = torch.randn(2, 4, 24).double(), torch.randn(2, 5, 24).double()
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    value, weights = ours(x[:, None], ours.keys(y, mask), attend)
    expected, shares = theirs(x, y, y, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(value[:, 0], expected, **EXACT)
    if attend is explicit:
        torch.testing.assert_close(weights[:, 0], shares, **EXACT)
    else:
        assert weights is None


def test_fused_equals_explicit(model: Captioner) -> None:
    inputs = tiny.batch(SCENES)
    torch.testing.assert_close(logits(model, inputs, attend=fused), logits(model, inputs), **EXACT)


def test_weights_are_those_before_dropout() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 6, 4) for _ in range(3))
    value, weights = explicit(q, k, v, None, 0.5)
    assert torch.equal(weights, explicit(q, k, v, None, 0.0)[1])
    assert not torch.allclose(value, weights @ v)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = build(preset(name, 9567, 2048))
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


def test_presets_and_configurations_are_checked() -> None:
    assert preset("glied", 100, 12) == replace(PRESETS["glied"], vocabulary_size=100, feature_dim=12)
    with pytest.raises(GliedError, match="glied-paper"):
        preset("gleid", 100, 12)
    with pytest.raises(GliedError, match="heads"):
        ModelConfig(heads=0)
    with pytest.raises(GliedError, match="share_local_output"):
        ModelConfig(architecture="base", share_local_output=True)


def test_initial_weights_follow_the_specification() -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(vocabulary_size=2000, feature_dim=64, d=64, heads=4, d_head=16))
    assert model.embedding.std().item() == pytest.approx(64**-0.5, rel=0.02)
    bound = (6 / (64 + 64)) ** 0.5
    weight = model.H["x"].query.weight
    assert 0.95 * bound < weight.abs().max().item() <= bound
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_step_by_step_equals_full_pass(model: Captioner) -> None:
    inputs = tiny.batch(SCENES)
    full = logits(model, inputs)
    with torch.inference_mode():
        memory = model.encode(inputs)
        for sizes in ([1] * 6, [2, 1, 3]):
            cache: Keys | None = None
            steps = []
            for part in WORDS.split(sizes, -1):
                output = model(part, memory, cache, fused)
                steps.append(model.logits(output.c_tilde))
                cache = output.cache
            torch.testing.assert_close(torch.cat(steps, 2), full, **EXACT)


def test_masked_regions_and_attributes_change_nothing(model: Captioner) -> None:
    inputs = tiny.batch(SCENES[:1])
    more = Inputs(
        torch.cat([inputs.features, 9 * torch.randn(1, 3, tiny.WIDTH).double()], 1),
        torch.tensor([[True] * 5 + [False] * 3]),
        torch.cat([inputs.attributes, torch.tensor([[3, 7]])], 1),
        torch.tensor([[True] * 4 + [False] * 2]),
    )
    torch.testing.assert_close(logits(model, more, WORDS[:1]), logits(model, inputs, WORDS[:1]), **EXACT)


def test_unmasked_regions_and_attributes_matter(model: Captioner) -> None:
    inputs = tiny.batch(SCENES[:1])
    whole = logits(model, inputs, WORDS[:1])
    fewer = inputs._replace(features=inputs.features[:, 1:])
    assert (logits(model, fewer, WORDS[:1]) - whole).abs().max() > 1e-3
    fewer = inputs._replace(attributes=inputs.attributes[:, 1:])
    assert (logits(model, fewer, WORDS[:1]) - whole).abs().max() > 1e-3


def test_regions_and_attributes_are_sets(model: Captioner) -> None:
    inputs = tiny.batch(SCENES[:1])
    shuffled = Inputs(inputs.features[:, [3, 0, 4, 2, 1]], None, inputs.attributes[:, [2, 3, 1, 0]], None)
    torch.testing.assert_close(logits(model, shuffled, WORDS[:1]), logits(model, inputs, WORDS[:1]), **EXACT)


def test_word_changes_nothing_before_it(model: Captioner) -> None:
    inputs = tiny.batch(SCENES[:1])
    words = WORDS[:1, :1]
    whole = logits(model, inputs, words)
    for j in range(words.shape[-1]):
        changed = words.clone()
        changed[..., j] = 11
        other = logits(model, inputs, changed)
        assert torch.equal(other[:, :, :j], whole[:, :, :j])
        assert ((other - whole).abs().amax(-1)[:, :, j:] > 1e-6).all()


def test_captions_share_memory(model: Captioner) -> None:
    together = logits(model, tiny.batch(SCENES))
    for b, scene in enumerate(SCENES):
        for c in range(2):
            alone = logits(model, tiny.batch([scene]), WORDS[b : b + 1, c : c + 1])
            torch.testing.assert_close(alone[0, 0], together[b, c], **EXACT)


def test_attention_rows_sum_to_one_over_valid_keys(model: Captioner) -> None:
    inputs = tiny.batch(SCENES)
    memory, output = both(model, inputs)
    assert (memory.weights | output.weights).keys() == {function.name for function in model.functions}
    for name, weights in (memory.weights | output.weights).items():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]).double(), **EXACT)
        if name == "x":
            assert torch.equal(weights, weights.tril())
        else:
            mask = inputs.attribute_mask if name in ("a", "ad", "al") else inputs.region_mask
            hidden = weights * ~mask[:, None, None, None, :]
            assert weights.shape[-1] == mask.shape[-1]
            assert (hidden == 0).all()
            assert (weights.gt(0) == mask[:, None, None, None, :]).all()


def test_gradient_reaches_every_parameter(model: Captioner) -> None:
    model.train()
    torch.manual_seed(0)
    output = model(WORDS, model.encode(tiny.batch(SCENES)))
    loss = torch.nn.functional.cross_entropy(model.logits(output.c_tilde).flatten(0, 2), WORDS.flatten())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # adds the same to every key's score, and softmax takes it away
            assert parameter.grad.abs().max() > 1e-9, name


def test_paper_preset_shares_one_output_matrix() -> None:
    model = tiny.model(VARIANTS["glied-paper"])
    assert model.H["al"].output is model.H["vl"].output
    other = tiny.model(VARIANTS["glied"])
    assert other.H["al"].output is not other.H["vl"].output


def test_double_precision_stays_double(model: Captioner) -> None:
    assert logits(model, tiny.batch(SCENES)).dtype == torch.float64


@pytest.mark.parametrize("shape", [(1,), (2, 3), (1, 8), (3, 3), (2, 5, 4)])
def test_linear_is_that_of_torch_for_few_rows_and_many(shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.randn(*shape, 6).double(), torch.randn(5, 6).double(), torch.randn(5).double()
    torch.testing.assert_close(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias), **EXACT)


def test_scene_without_padding_has_no_mask() -> None:
    alone = tiny.batch(SCENES[:1])
    assert alone.region_mask is None
    assert alone.attribute_mask is None
    padded = tiny.batch(SCENES)
    np.testing.assert_array_equal(padded.region_mask.sum(1), [5, 3, 1])
    np.testing.assert_array_equal(padded.attribute_mask.sum(1), [4, 6, 1])
