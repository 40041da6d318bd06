"""RFNet and GCN-LSTM against plain loops, and what every captioner must do: decode, lose regions, train."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from reference import affine, sigmoid, softmax

from glied.baselines.build import build
from glied.baselines.gcn_lstm import LABELS, GraphConvolution, spatial_relations
from glied.baselines.rfnet import FIRST, SECOND
from glied.batch import stack
from glied.captions import DecodeOptions, rank
from glied.checkpoint import Checkpoint, load
from glied.config import ModelConfig, preset
from glied.decode import caption
from glied.errors import GliedError
from glied.evaluation import grounding
from glied.model import Captioner, fused
from glied.regions import find_views
from glied.replay import evened, trace
from glied.scene import Edit, Regions, Scene
from glied.training.cross_entropy import TrainOptions, step_loss, train_captioner
from glied.training.material import Places, prepare
from glied.training.material import batch as training_batch
from glied.training.reward import CiderD
from glied.training.self_critical import ReinforceOptions, reinforce
from glied.training.self_critical import step_loss as rl_loss

NAMES = ("rfnet", "gcn-lstm")
VIEWS = (5, 3, 4)
WORDS = torch.tensor([[[1, 5, 7, 6], [1, 9, 4, 8]]])


def views(name: str) -> dict:
    return {"views": VIEWS} if name == "rfnet" else {}


def model(name: str) -> Captioner:
    return tiny.model(replace(tiny.SMALL, architecture=name, vocabulary_size=16, **views(name))).double()


def read(linear: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    weight = linear.weight.detach().numpy()
    return weight, np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().numpy()


def lstm(gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d = len(c)
    cell = np.array([sigmoid(gates[d + n]) * c[n] + sigmoid(gates[n]) * math.tanh(gates[2 * d + n]) for n in range(d)])
    return np.array([sigmoid(gates[3 * d + n]) * math.tanh(cell[n]) for n in range(d)]), cell


def additive(module: torch.nn.Module, h: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q, k = affine(h[None], read(module.query))[0], affine(keys, read(module.key))
    weights = softmax(np.array([affine(np.tanh(q + row)[None], read(module.score))[0, 0] for row in k]))
    return sum(w * row for w, row in zip(weights, keys, strict=True)), weights


def cell(module: torch.nn.LSTMCell, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    given = affine(x[None], (module.weight_ih.detach().numpy(), module.bias_ih.detach().numpy()))[0]
    own = affine(h[None], (module.weight_hh.detach().numpy(), module.bias_hh.detach().numpy()))[0]
    return lstm(given + own, c)


def test_the_eleven_relations_by_hand() -> None:
    boxes = {
        "large": (0.0, 0.0, 0.4, 0.4),
        "small, in it": (0.1, 0.1, 0.2, 0.2),
        "almost the large one": (0.02, 0.0, 0.42, 0.4),
        "far away": (0.9, 0.0, 1.0, 0.1),
    }
    found = spatial_relations(torch.tensor([list(boxes.values())]))[0].tolist()
    assert found[0][1] == 1, "includes it"
    assert found[1][0] == 2, "is covered by it"
    assert found[0][2] == found[2][0] == 3, "they overlap"
    assert found[1][3] == found[3][1] == 0, "too far from each other"
    assert [found[i][i] for i in range(4)] == [0] * 4
    point = torch.tensor([0.5, 0.5, 0.5, 0.5]) + torch.tensor([-0.01, -0.01, 0.01, 0.01])
    for degrees, label in (
        (1, 4),
        (45, 4),
        (46, 5),
        (90, 5),
        (135, 6),
        (180, 7),
        (200, 8),
        (270, 9),
        (359, 11),
        (0, 11),
    ):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))  # y points down
        there = point + 0.2 * torch.tensor([x, y, x, y]) * (1 - 1e-6)
        angles = spatial_relations(torch.stack([point, there]).double().round(decimals=7)[None])
        assert int(angles[0, 0, 1]) == label, degrees


def test_relations_are_those_of_loops() -> None:
    boxes = np.random.default_rng(0).uniform(0, 0.6, (2, 12, 4))
    boxes[..., 2:] = boxes[..., :2] + np.random.default_rng(1).uniform(0.05, 0.3, (2, 12, 2))
    boxes[:, 1] = boxes[:, 0] + [0.01, 0.01, -0.01, -0.01]
    boxes[:, 3] = boxes[:, 2] + 0.01
    found = spatial_relations(torch.from_numpy(boxes)).numpy()
    for b, i, j in itertools.product(range(2), range(12), range(12)):
        (ax, ay, aX, aY), (bx, by, bX, bY) = boxes[b, i], boxes[b, j]
        common = max(0, min(aX, bX) - max(ax, bx)) * max(0, min(aY, bY) - max(ay, by))
        iou = common / ((aX - ax) * (aY - ay) + (bX - bx) * (bY - by) - common)
        x, y = (bx + bX - ax - aX) / 2, (by + bY - ay - aY) / 2
        if i == j:
            label = 0
        elif ax <= bx and ay <= by and aX >= bX and aY >= bY:
            label = 1
        elif bx <= ax and by <= ay and bX >= aX and bY >= aY:
            label = 2
        elif iou >= 0.5:
            label = 3
        elif math.hypot(x, y) < 0.5:
            label = math.ceil(math.degrees(math.atan2(y, x)) % 360 / 45) + 3
        else:
            label = 0
        assert found[b, i, j] == label, (b, i, j)
    assert len(np.unique(found)) == 1 + LABELS, "all of them came"


def test_the_convolution_over_any_graph_is_that_of_loops() -> None:
    """Yao et al., Eq. (3) and (4), with labels that a relation classifier could have given, one direction alone."""
    torch.manual_seed(0)
    layer = GraphConvolution(6, 4).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    v, relations = torch.randn(1, 5, 6).double(), torch.randint(0, 5, (1, 5, 5)).triu(1)
    mask = torch.tensor([[True, True, False, True, True]])
    W = [layer.W.weight[6 * k : 6 * k + 6].detach().numpy() for k in range(3)]
    gate, label = layer.gate.weight.detach().numpy(), layer.label.detach().numpy()
    gate_label, r = layer.gate_label.detach().numpy(), relations[0].numpy()
    for shown in (None, mask):
        found = layer(v, relations, shown)[0]
        for i in range(5):
            x = v[0].numpy()
            total = sigmoid(gate[2] @ x[i] + gate_label[0]) * (W[2] @ x[i] + label[0])
            for j in range(5):
                if shown is not None and not shown[0, j]:
                    continue
                if r[i, j]:  # the edge from i to j
                    total = total + sigmoid(gate[0] @ x[j] + gate_label[r[i, j]]) * (W[0] @ x[j] + label[r[i, j]])
                if r[j, i]:  # the edge from j to i
                    total = total + sigmoid(gate[1] @ x[j] + gate_label[r[j, i]]) * (W[1] @ x[j] + label[r[j, i]])
            np.testing.assert_allclose(found[i].detach().numpy(), np.maximum(total, 0), atol=1e-12)


def test_gcn_lstm_is_that_of_loops() -> None:
    """Eq. (5) to (7) over the regions of the convolution."""
    captioner, scene = model("gcn-lstm"), tiny.scene()
    inputs = tiny.batch([scene])
    memory = captioner.encode(inputs)
    I = np.maximum(affine(inputs.features[0].numpy(), read(captioner.project)), 0)
    relations = spatial_relations(torch.from_numpy(scene.regions.boxes / math.hypot(*scene.regions.size))[None])
    v = captioner.graph(torch.from_numpy(I)[None], relations, None)[0].detach().numpy()
    np.testing.assert_allclose(memory.regions[0].detach().numpy(), v, atol=1e-6)
    output = captioner(WORDS, memory)
    for row in range(2):
        states = [(np.zeros(16), np.zeros(16))] * 2
        for t, word in enumerate(WORDS[0, row].tolist()):
            x = 4 * captioner.embedding[word].detach().numpy()
            h1, c1 = cell(captioner.cells[0], np.concatenate([states[1][0], v.mean(0), x]), *states[0])
            seen, weights = additive(captioner.attention, h1, v)
            states = [(h1, c1), cell(captioner.cells[1], np.concatenate([seen, h1]), *states[1])]
            np.testing.assert_allclose(output.c_tilde[0, row, t].detach().numpy(), states[1][0], atol=1e-6)
            np.testing.assert_allclose(output.weights["v"][0, row, 0, t].detach().numpy(), weights, atol=1e-6)


def test_rfnet_is_that_of_loops() -> None:
    captioner, M = model("rfnet"), len(VIEWS)
    inputs = tiny.batch([tiny.scene()])
    weight, bias = read(captioner.project)
    edges = np.cumsum([0, *VIEWS])
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    I = [np.maximum(affine(inputs.features[0].numpy()[:, p], (weight[:, p], bias)), 0) for p in parts]
    h = [affine(I[m].mean(0)[None], read(captioner.begin[m]))[0] for m in range(M)]
    c, thoughts, seen = list(h), [[] for _ in range(M)], [[] for _ in range(M)]
    for t in range(FIRST):
        H, before = np.concatenate(h), list(h)
        for m in range(M):
            z, weights = additive(captioner.attention["first"][t * M + m], before[m], I[m])
            gates = affine(np.concatenate([H, z])[None], read(captioner.first[t * M + m]))[0]
            h[m], c[m] = lstm(gates, c[m])
            thoughts[m].append(h[m])
            seen[m].append(weights)
    state, cells = sum(h) / M, sum(c) / M
    C, paths = [], []
    for t in range(SECOND):
        found = [additive(captioner.attention["second"][t * M + m], state, np.array(thoughts[m])) for m in range(M)]
        given = np.concatenate([state, *(z for z, _ in found)])
        state, cells = lstm(affine(given[None], read(captioner.second[t]))[0], cells)
        C.append(state)
        paths.append([weights @ np.array(seen[m]) for m, (_, weights) in enumerate(found)])
    memory = captioner.encode(inputs)
    output = captioner(WORDS, memory)
    for row in range(2):
        now = (state, cells)
        for t, word in enumerate(WORDS[0, row].tolist()):
            z, weights = additive(captioner.attention["word"], now[0], np.array(C))
            now = cell(captioner.cells[0], np.concatenate([4 * captioner.embedding[word].detach().numpy(), z]), *now)
            np.testing.assert_allclose(output.c_tilde[0, row, t].detach().numpy(), now[0], atol=1e-9)
            for m in range(M):
                looked = sum(w * np.array(path[m]) for w, path in zip(weights, paths, strict=True))
                np.testing.assert_allclose(output.weights["v"][0, row, m, t].detach().numpy(), looked, atol=1e-9)

    tokens = torch.tensor([[[1, 5, 7, 5, 2, 0], [1, 3, 15, 2, 0, 0]]])
    loss = 0.0
    for judge, vectors in zip(captioner.judge, [C, *thoughts], strict=True):
        s = affine(np.array(vectors), read(judge)).max(0)
        for said in ({5 - 4, 7 - 4}, {15 - 4}):  # <unk> is no word
            pairs = itertools.product(said, set(range(12)) - said)
            loss += sum(max(0.0, 1 - (s[j] - s[i])) for j, i in pairs) / 12 / (M + 1)
    assert captioner.auxiliary_loss(memory, tokens).item() == pytest.approx(loss, rel=1e-6)


def test_the_discriminative_loss_is_part_of_cross_entropy_and_of_no_other_captioner() -> None:
    made, tokens = tiny.checkpoint("rfnet", views=VIEWS), torch.tensor([[[1, 5, 7, 6, 2]]])
    still = dict.fromkeys(("dropout", "attention_dropout", "feature_dropout", "output_dropout"), 0.0)
    captioner = build(replace(made.model.config, **still))
    inputs = stack([tiny.scene()], made.vocabulary)
    loss = step_loss(captioner, inputs, tokens, 8, TrainOptions(precision="fp32", smoothing=0.0))
    log_p = captioner.logits(captioner(tokens[..., :-1], captioner.encode(inputs)).c_tilde).log_softmax(-1)
    words = -log_p[0, 0].gather(-1, tokens[0, 0, 1:, None]).sum()
    extra = captioner.auxiliary_loss(captioner.encode(inputs), tokens)
    assert extra > 0
    torch.testing.assert_close(loss, (words + extra) / 8)
    assert model("gcn-lstm").auxiliary_loss(captioner.encode(inputs), tokens) == 0


@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_equals_one_pass(name: str) -> None:
    captioner = model(name)
    memory = captioner.encode(tiny.batch([tiny.scene(), tiny.scene(seed=1)]))
    words = WORDS.expand(2, -1, -1)
    whole, cache = captioner(words, memory).c_tilde, None
    for t in range(words.shape[-1]):
        step = captioner(words[..., t : t + 1], memory, cache, fused)
        cache = step.cache
        torch.testing.assert_close(step.c_tilde[:, :, 0], whole[:, :, t], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_matters(name: str) -> None:
    captioner = model(name)
    memory = captioner.encode(tiny.batch([tiny.scene(9, seed=2)]))
    loss = captioner.logits(captioner(WORDS, memory).c_tilde).square().sum() + captioner.auxiliary_loss(memory, WORDS)
    loss.backward()
    for parameter, weight in captioner.named_parameters():
        if "key.bias" not in parameter and not parameter.endswith("score.bias"):  # the same for every score
            assert weight.grad is not None, parameter
            assert weight.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_region_does_not_matter_and_attention_sums_to_one(name: str) -> None:
    captioner = model(name)
    inputs = tiny.batch([tiny.scene()])
    shown = torch.ones(inputs.features.shape[:2], dtype=torch.bool)
    shown[:, -1] = False
    changed, moved = inputs.features.clone(), inputs.boxes.clone()
    changed[:, -1], moved[:, -1] = 9, torch.tensor([0.0, 0.0, 0.1, 0.1])
    hidden = inputs._replace(region_mask=shown)
    outputs = [
        captioner(WORDS, captioner.encode(each)) for each in (hidden, hidden._replace(features=changed, boxes=moved))
    ]
    torch.testing.assert_close(outputs[0].c_tilde, outputs[1].c_tilde, rtol=0, atol=1e-12)
    rows = outputs[0].weights["v"]
    assert rows.shape == (1, 2, 3 if name == "rfnet" else 1, 4, 5)
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    assert (rows[..., -1] == 0).all()
    fewer = captioner(WORDS, captioner.encode(tiny.batch([Edit(regions=(4,)).apply(tiny.scene())])))
    torch.testing.assert_close(outputs[0].c_tilde, fewer.c_tilde, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_removals_are_those_of_a_scene_without_the_region(name: str) -> None:
    made, scene, words = tiny.checkpoint(name, **views(name)), tiny.scene(), ("a", "dog", "runs")
    whole = trace(made, scene, words, falls=True)
    for i in range(5):
        fewer = trace(made, Edit(regions=(i,)).apply(scene), words)
        expected = whole.log_probabilities - fewer.log_probabilities
        np.testing.assert_allclose(whole.region_falls[:, i], expected, atol=2e-5)
    assert np.abs(whole.region_falls).max() > 1e-3
    rows = torch.from_numpy(whole.attention["v"].mean(0))
    ids, random = [1, *made.vocabulary.encode(words), 2], torch.Generator().manual_seed(0)
    batch = stack([scene], made.vocabulary)
    falls = grounding.fall(made, batch, ids, [1, 2], rows, "region_mask", random)
    best = rows.argmax(-1)
    assert falls[0, :, 0] == pytest.approx([whole.region_falls[t, best[t]] for t in (1, 2)], abs=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_wide_beam_equals_brute_force(name: str) -> None:
    few = ("a", "dog", "cat", "runs")
    made, scene = tiny.checkpoint(name, few, seed=1, **views(name)), tiny.scene(4, 3, words=few)
    every = [words for n in range(4) for words in itertools.product(few, repeat=n)]
    found = caption(made, [scene], DecodeOptions(beam=100, n_best=100, no_repeat_ngram=0, max_length=3))[0].captions
    expected = []
    for words in every:
        log_p = float(trace(made, scene, words).log_probabilities.sum())
        expected.append((rank(log_p, len(words) + 1, 1.0), words))
    expected.sort(key=lambda e: -e[0])
    assert len(every) == 85
    assert [c.words for c in found] == [words for _, words in expected]
    np.testing.assert_allclose([c.score for c in found], [score for score, _ in expected], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_even_attention_is_even(name: str) -> None:
    made, scene = tiny.checkpoint(name, **views(name)), tiny.scene()
    twin = evened(made.model, "v")
    rows = twin(WORDS, twin.encode(stack([scene], made.vocabulary))).weights["v"]
    torch.testing.assert_close(rows, torch.full_like(rows, 1 / 5))


def test_they_train_by_both_losses(places: Places, tmp_path: Path) -> None:
    options = TrainOptions(epochs=6, images=4, warmup=4, rate=2e-2, min_count=1, patience=6)
    material = prepare(places, mirror=True, vocabulary=1)
    quarters = torch.tensor([[x, y, x + 1, y + 1] for y in (0, 1) for x in (0, 1)]) * 8 / math.hypot(16, 16)
    rows = torch.tensor([3, 3 + len(material.train.photographs)])  # as it is, and mirrored
    inputs = training_batch(material.train, material.attributes[[3, 3]], rows)
    torch.testing.assert_close(inputs.boxes, quarters.expand(2, -1, -1))
    for name in NAMES:
        there = replace(places, run=tmp_path / name)
        trained = train_captioner(name, there, options, material=material, d=32)
        log = [float(line.split(",")[2]) for line in (there.run / "log.csv").read_text().splitlines()[1:]]
        assert log[-1] < 0.8 * log[0], log
        assert trained.model.config.views == ((12,) if name == "rfnet" else ())
        once = ReinforceOptions(epochs=1, images=8, warmup=1)
        rl = reinforce(there.best, replace(places, run=tmp_path / f"rl-{name}"), once, material)
        before, after = load(there.best).model.state_dict(), rl.model.state_dict()
        moved = {parameter for parameter in before if not torch.equal(before[parameter], after[parameter])}
        assert moved
        assert not [parameter for parameter in moved if parameter.startswith("judge")], "rewards know of no words"


@pytest.mark.parametrize("name", NAMES)
def test_both_losses_in_bfloat16(name: str) -> None:
    """Matrix products alone are rounded: states and weights stay float32."""
    still = dict.fromkeys(("dropout", "attention_dropout", "feature_dropout", "output_dropout"), 0.0)
    made = tiny.checkpoint(name, **views(name), **still)
    inputs, tokens = stack([tiny.scene(), tiny.scene(seed=1)], made.vocabulary), torch.tensor([[[1, 5, 7, 6, 2]]] * 2)
    losses = [step_loss(made.model, inputs, tokens, 8, TrainOptions(precision=each)) for each in ("fp32", "bf16")]
    assert losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    losses[1].backward()
    rewards = CiderD([[[5, 7, 6, 2]], [[5, 9, 2]]])
    options = ReinforceOptions(precision="bf16", samples=3)
    rl_loss(made.model, inputs, [0, 1], rewards, made.vocabulary, 6, options)[0].backward()


def test_boxes_are_in_diagonals_whatever_the_size_of_the_photograph() -> None:
    scene = tiny.scene()
    larger = Scene(scene.regions.scaled((300, 270)), scene.attributes)
    boxes = [stack([each], tiny.vocabulary()).boxes for each in (scene, larger)]
    torch.testing.assert_close(boxes[0], boxes[1])
    assert boxes[0].max() <= 1
    few = Scene(Regions(*(a[:2] for a in (scene.regions.boxes, scene.regions.features)), (100, 90), "tiny-1"),
                replace(scene.attributes, by_region=scene.attributes.by_region[:, :2]))  # fmt: skip
    assert (stack([scene, few], tiny.vocabulary()).boxes[1, 2:] == 0).all()


def test_views_of_sources() -> None:
    assert find_views("detector-2/0123abcd@36", 3072) == (1280, 512, 1280)
    assert find_views("detector", 3072) == (1280, 512, 1280)
    assert find_views("grid-1/efficientnet-lite2", 1280) == (1280,)
    assert find_views("detectron2/abc@36", 2048) == (2048,)


def test_a_configuration_keeps_its_views_and_others_stay_as_they_were(tmp_path) -> None:
    made = tiny.checkpoint("rfnet", views=VIEWS)
    made.save(tmp_path / "rfnet.safetensors")
    assert load(tmp_path / "rfnet.safetensors").model.config == made.model.config
    assert "views" not in tiny.checkpoint("gcn-lstm").model.config.stored()
    assert ModelConfig(feature_dim=12, views=[5, 7]).views == (5, 7)
    with pytest.raises(GliedError, match=r"12 numbers of a feature, got \(5, 3\)"):
        ModelConfig(feature_dim=12, views=(5, 3))


def test_parameters_at_the_papers_vocabulary() -> None:
    """Neither paper prints its own: these are those of the paper's words and features, 512 wide throughout."""
    counts = {name: build(preset(name, 9567, 2048)) for name in NAMES}
    counts["rfnet, three views"] = build(preset("rfnet", 9567, 3072, views=(1280, 512, 1280)))
    found = {name: sum(p.numel() for p in each.parameters()) / 1e6 for name, each in counts.items()}
    assert found == pytest.approx({"rfnet": 24.05, "gcn-lstm": 14.62, "rfnet, three views": 58.65}, abs=0.01)


def test_checkpoint_names_are_what_people_call_them() -> None:
    made: list[Checkpoint] = [tiny.checkpoint(name) for name in NAMES]
    assert [each.model.title for each in made] == ["RFNet", "GCN-LSTM"]
