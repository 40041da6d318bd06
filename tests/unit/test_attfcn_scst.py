"""ATT-FCN, SCST's FC and Att2in, and ensembles, against plain loops written from their papers."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from reference import Array, affine, embed, project, sigmoid, softmax

from glied.attributes import AttributeDetector
from glied.baselines.ensemble import Ensemble
from glied.batch import stack
from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint, load, load_ensemble, save_attribute_detector
from glied.decode import beam_search, caption, draw
from glied.errors import GliedError
from glied.evaluation import evaluate as evaluation
from glied.evaluation.metrics import score
from glied.model import Captioner
from glied.replay import find_states, log_p_when_even, take_away, trace
from glied.traces import Trace
from glied.vocabulary import BOS, EOS

CAPTION = [BOS, 5, 9, 4, 7]
WORDS = ["a", "red", "dog"]


def weights_of(model: Captioner) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def gates(x: Array, h: Array, p: dict[str, Array], number: int) -> list[Array]:
    """W x + U h + b of an LSTM, cut into its parts."""
    given = affine(x[None], (p["cells.0.weight_ih"], p["cells.0.bias_ih"]))[0]
    past = affine(h[None], (p["cells.0.weight_hh"], p["cells.0.bias_hh"]))[0]
    d = len(h)
    return [np.array([given[k * d + j] + past[k * d + j] for j in range(d)]) for k in range(number)]


def squash(row: Array) -> Array:
    return np.array([sigmoid(value) for value in row])


def lstm(x: Array, h: Array, c: Array, p: dict[str, Array]) -> tuple[Array, Array]:
    i, f, g, o = gates(x, h, p, 4)
    c = squash(f) * c + squash(i) * np.tanh(g)
    return squash(o) * np.tanh(c), c


def maxout(x: Array, h: Array, c: Array, p: dict[str, Array], seen: Array | None = None) -> tuple[Array, Array]:
    """Rennie et al.: c = i * max of two + f * c; what is seen enters the two alone."""
    i, f, o, one, two = gates(x, h, p, 5)
    d = len(h)
    if seen is not None:
        one, two = one + seen[:d], two + seen[d:]
    c = np.array([sigmoid(i[j]) * max(one[j], two[j]) + sigmoid(f[j]) * c[j] for j in range(d)])
    return squash(o) * np.tanh(c), c


def attended(scores: list[float], values: Array) -> tuple[Array, Array]:
    shares = softmax(np.array(scores))
    return sum(share * value for share, value in zip(shares, values, strict=True)), shares


def bilinear(query: Array, matrix: Array, values: Array) -> tuple[Array, Array]:
    """You et al., Eq. (6) and (8), over the root of d."""
    d = len(query)
    scores = [
        sum(query[a] * matrix[a, b] * value[b] for a in range(d) for b in range(d)) / math.sqrt(d) for value in values
    ]
    return attended(scores, values)


def loops(model: Captioner, F: Array, attributes: list[int]) -> Iterator[tuple[Array, dict[str, Array]]]:
    """What selects each word of CAPTION, and the attention behind it."""
    p, kind = weights_of(model), model.config.architecture
    E = p["embedding"]
    I = project(F, (p["project.weight"], p["project.bias"]))
    A, words = embed(attributes, E), embed(CAPTION, E)
    h = c = np.zeros(E.shape[1])
    if kind != "att2in":
        h, c = (lstm if kind == "attfcn" else maxout)(sum(I) / len(I), h, c, p)  # the photograph comes first
    for y in words:
        if kind == "attfcn":
            called, alpha = bilinear(y, p["H.input.key.weight"], A)
            x = affine((y + p["w_x"] * called)[None], (p["W_x.weight"], p["W_x.bias"]))[0]  # Eq. (7)
            h, c = lstm(x, h, c, p)
            read, beta = bilinear(h, p["H.output.key.weight"], np.tanh(A))
            spoken = affine((h + p["w_Y"] * read)[None], (p["W_Y.weight"], p["W_Y.bias"]))[0]  # Eq. (9)
            yield spoken, {"input": alpha, "output": beta}
        elif kind == "scst-fc":
            h, c = maxout(y, h, c, p)
            yield h, {}
        else:
            part = {n: (p[f"attention.{n}.weight"], p[f"attention.{n}.bias"]) for n in ("query", "key", "score")}
            q, keys = affine(h[None], part["query"])[0], affine(I, part["key"])
            scores = [float(affine(np.tanh(q + key)[None], part["score"])[0, 0]) for key in keys]
            I_t, shares = attended(scores, I)
            h, c = maxout(y, h, c, p, affine(I_t[None], (p["candidates.weight"], p["candidates.bias"]))[0])
            yield h, {"v": shares}


@pytest.mark.parametrize("name", ["attfcn", "scst-fc", "att2in"])
def test_a_captioner_is_its_papers_equations(name: str) -> None:
    model = tiny.model(replace(tiny.SMALL, architecture=name, vocabulary_size=16)).double()
    inputs = tiny.batch([tiny.scene(n=4, m=3)])
    output = model(torch.tensor([[CAPTION]]), model.encode(inputs))
    assert set(output.weights) == {function.name for function in model.functions}
    expected = list(loops(model, inputs.features[0].numpy(), inputs.attributes[0].tolist()))
    assert len(expected) == len(CAPTION)
    for t, (spoken, attention) in enumerate(expected):
        np.testing.assert_allclose(output.c_tilde[0, 0, t].detach().numpy(), spoken, atol=1e-10)
        for function, shares in attention.items():
            np.testing.assert_allclose(output.weights[function][0, 0, 0, t].detach().numpy(), shares, atol=1e-10)


def test_attfcn_attends_to_attributes_that_are_not_hidden() -> None:
    model = tiny.model(replace(tiny.SMALL, architecture="attfcn", vocabulary_size=16)).double()
    inputs = tiny.batch([tiny.scene(m=4)])
    shown = torch.tensor([[True, True, False, True]])
    other = inputs.attributes.clone()
    other[0, 2] = 15
    outputs = [
        model(torch.tensor([[CAPTION]]), model.encode(inputs._replace(attributes=each, attribute_mask=shown)))
        for each in (inputs.attributes, other)
    ]
    assert torch.equal(outputs[0].c_tilde, outputs[1].c_tilde)
    for rows in outputs[0].weights.values():
        assert rows.shape == (1, 1, 1, len(CAPTION), 4)
        assert (rows[..., 2] == 0).all()
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))


def test_attfcn_is_traced_without_a_look_at_regions(tmp_path: Path) -> None:
    """Both attentions, and the falls of regions (it saw their mean) and attributes, each as one removed by hand."""
    made, scene = tiny.checkpoint("attfcn"), tiny.scene(4, 3)
    found = trace(made, scene, WORDS, falls=True)
    assert {name: w.shape for name, w in found.attention.items()} == {"input": (1, 4, 3), "output": (1, 4, 3)}
    batch, ids = stack([scene], made.vocabulary), [BOS, *made.vocabulary.encode(WORDS), EOS]

    def log_p(**masks: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            output = made.model(torch.tensor([[ids[:-1]]]), made.model.encode(batch._replace(**masks)))
            rows = made.model.logits(output.c_tilde).log_softmax(-1)[0, 0]
        return rows.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()

    for count, mask, falls in (
        (4, "region_mask", found.region_falls),
        (3, "attribute_mask", found.attribute_falls),
    ):
        for gone in range(count):
            left = torch.ones(1, count, dtype=torch.bool)
            left[0, gone] = False
            np.testing.assert_allclose(falls[:, gone], log_p() - log_p(**{mask: left}), atol=1e-5)
        assert np.abs(falls).max() > 1e-3
    found.save(tmp_path / "a.npz")
    assert Trace.load(tmp_path / "a.npz") == found
    taken = take_away(made, scene, WORDS, 2, "attributes")
    assert taken.most_first[0] == pytest.approx(found.log_probabilities[2], abs=1e-5)
    even = log_p_when_even(made, scene, WORDS, ["runs", "sits"])
    assert (np.abs(even[1:] - even[0]).max(1) > 1e-4).all()
    assert find_states(made, scene, WORDS)["pivots"].shape == (4, 16)


def members() -> list[Checkpoint]:
    return [tiny.checkpoint(name, seed=i, d=16 + 2 * i) for i, name in enumerate(("glied", "att2in", "ct"))]


def test_an_ensemble_says_the_mean_of_its_members_probabilities() -> None:
    each = members()
    ensemble = Ensemble([made.model for made in each]).double()
    inputs = tiny.batch([tiny.scene(), tiny.scene(seed=1)])
    words = torch.tensor([[CAPTION]]).expand(2, 1, -1)
    mean = sum(m.logits(m(words, m.encode(inputs)).c_tilde).softmax(-1) for m in ensemble.members) / 3
    memory = ensemble.encode(inputs)
    logits = ensemble.logits(ensemble(words, memory).c_tilde)
    torch.testing.assert_close(logits.exp(), mean.float(), rtol=1e-5, atol=1e-7)
    cache = None
    for t in range(len(CAPTION)):
        step = ensemble(words[..., t : t + 1], memory, cache)
        cache = step.cache
        torch.testing.assert_close(ensemble.logits(step.c_tilde)[:, :, 0], logits[:, :, t], rtol=0, atol=1e-5)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a captioner that belongs to one attribute detector."""
    detector = AttributeDetector(tiny.WORDS[:6], tiny.WIDTH, tiny.SOURCE)
    save_attribute_detector(tmp_path / "attributes.safetensors", detector, {})

    def save(name: str, words: tuple[str, ...] = tiny.WORDS, seed: int = 0) -> Path:
        path = tmp_path / f"{name}-{seed}.safetensors"
        tiny.checkpoint(name, words, seed).save(path)
        return path

    return save


def test_an_ensemble_is_opened_decoded_and_not_traced(saved: Callable[..., Path], tmp_path: Path) -> None:
    detector, one, two = tmp_path / "attributes.safetensors", saved("att2in"), saved("att2in", seed=1)
    both, _ = load_ensemble([one, two], detector)
    scene = tiny.scene()
    for options in (DecodeOptions(), DecodeOptions(method="greedy"), DecodeOptions(method="sample", n_best=2)):
        assert caption(both, [scene], options)[0].captions[0].words
    alone, _ = load_ensemble([one], detector)
    assert alone.digest == load(one).digest != both.digest
    twice, _ = load_ensemble([one, one], detector)
    assert caption(twice, [scene])[0].captions[0].words == caption(alone, [scene])[0].captions[0].words
    with pytest.raises(GliedError, match="got an ensemble of 2 SCST Att2in"):
        trace(both, scene, WORDS)
    with pytest.raises(GliedError, match=r"glied-0\.safetensors has other words"):
        load_ensemble([one, saved("glied", tiny.WORDS[:8])], detector)


def test_beams_of_an_ensemble_keep_their_members_states() -> None:
    ensemble = Ensemble([made.model for made in members()]).double()
    memory, vocabulary = ensemble.encode(tiny.batch([tiny.scene()])), tiny.vocabulary()
    options = DecodeOptions(beam=4, n_best=4, no_repeat_ngram=0, max_length=5)
    for found in beam_search(ensemble, memory, vocabulary, options)[0].captions:
        ids = vocabulary.encode(found.words)
        rows = ensemble.logits(ensemble(torch.tensor([[[BOS, *ids]]]), memory).c_tilde)[0, 0]
        log_p = rows.gather(-1, torch.tensor([*ids, EOS])[:, None]).sum()
        assert log_p.item() == pytest.approx(found.log_probability, abs=1e-4)
    assert draw(ensemble, memory, replace(options, method="sample"))[0].shape[:2] == (1, 4)


def test_an_ensemble_is_evaluated_by_a_command(folder, tmp_path, monkeypatch, capsys) -> None:
    """The conftest's GLIED twice says what it says alone."""
    monkeypatch.setattr(evaluation, "score", partial(score, names=("CIDEr",), ptb=False))  # Java takes seconds
    file = folder / "glied.safetensors"
    arguments = ("--data", folder / "data", "--split", "val", "--cache", folder / "cache", "--checkpoint", file)
    reports = []
    for more in ((), ("--ensemble", file)):
        out = tmp_path / f"{len(more)}.json"
        assert tiny.run(monkeypatch, "evaluate", *arguments, *more, "--json", out) == 0
        reports.append(json.loads(out.read_text()))
    alone, both = reports
    assert both["images"] == alone["images"]
    assert (alone["title"], both["title"]) == ("GLIED, cross-entropy", "ensemble of 2 GLIED, cross-entropy")
    assert both["checkpoint"] != alone["checkpoint"]
    assert (
        tiny.run(monkeypatch, "trace", folder / "data" / "images" / "0.jpg", *arguments[6:], *more, "--out", out) == 2
    )
    assert "got an ensemble of 2 GLIED" in capsys.readouterr().err
