"""Three texts under one number: LaTeX, the line of code, NumPy loops. They name the same things and agree."""

import io
import re
import tokenize
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import tiny
import torch
from reference import REFERENCE

from glied import attributes as noisy_or
from glied.equations import EQUATIONS, code_lines
from glied.model import Attention, Captioner, Keys, explicit
from glied.training import self_critical as reinforce

CONFIGS = {
    "base": replace(tiny.SMALL, architecture="base", vocabulary_size=16),
    "base-ffn": replace(tiny.SMALL, architecture="base", vocabulary_size=16, ffn=10),
    "glied": replace(tiny.SMALL, vocabulary_size=16),
    "glied-context": replace(tiny.SMALL, vocabulary_size=16, position="context"),
    "glied-wide": replace(tiny.SMALL, vocabulary_size=16, d_head=11),
    "glied-paper": replace(tiny.SMALL, vocabulary_size=16, ffn=10, share_local_output=True),
    "glied-norm": replace(tiny.SMALL, vocabulary_size=16, project="norm"),
    "glied-odd": replace(tiny.SMALL, vocabulary_size=16, d=15, project="none"),
}
CAPTION = [1, 5, 9, 4, 7, 5]
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def choices(root: Path) -> set[int]:
    """Numbers of the choices that the comments of glied/**/*.py name."""
    found = set()
    for file in sorted((root / "glied").rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            if token.type == tokenize.COMMENT:
                found |= {int(n) for n in re.findall(r"Choice \((\d+)\)", token.string)}
    return found


def affine(linear: torch.nn.Linear) -> reference.Affine:
    return linear.weight.detach().numpy(), linear.bias.detach().numpy()


def reference_g(module: torch.nn.Module) -> reference.G:
    gain, shift = module.norm.weight.detach().numpy(), module.norm.bias.detach().numpy()
    return lambda h, x: reference.shortcut(h, x, gain, shift)


def reference_heads(
    module: Attention, Q: np.ndarray, K: np.ndarray, V: np.ndarray, mask: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """The values of the heads, and their weights [k, queries, keys]."""
    d_k = module.query.out_features // module.heads
    values, weights = [], []
    for i in range(module.heads):
        rows = slice(i * d_k, (i + 1) * d_k)
        maps = [(w[rows], b[rows]) for w, b in map(affine, (module.query, module.key, module.value))]
        value, weight = reference.head(Q, K, V, *maps, mask)
        values.append(value)
        weights.append(weight)
    return values, np.array(weights)


def reference_h(module: Attention) -> reference.H:
    """H of the paper, with the feed-forward network of Choice (1) where the configuration has one."""

    def attention(Q: np.ndarray, K: np.ndarray, V: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        h = reference.multi_head(reference_heads(module, Q, K, V, mask)[0], affine(module.output))
        if module.ffn is None:
            return h
        inner = np.maximum(reference.affine(h, affine(module.ffn[0])), 0)
        return reference_g(module.G)(reference.affine(inner, affine(module.ffn[2])), h)

    return attention


def captioner_pairs(model: Captioner) -> Pairs:
    """Equations (4) to (14) from the photograph to the words: by loops, and by glied/model.py."""
    scene = tiny.scene(n=4, m=3)
    inputs = tiny.batch([scene])
    memory = model.encode(inputs)
    output = model(torch.tensor([[CAPTION]]), memory)
    E, F = model.embedding.detach().numpy(), inputs.features[0].numpy()
    HR, GR = {n: reference_h(h) for n, h in model.H.items()}, {n: reference_g(g) for n, g in model.G.items()}
    I = reference.affine(F, affine(model.project))
    I = REFERENCE[4](F, affine(model.project)) if model.config.project == "relu" else I
    if model.config.project == "norm":
        gain, shift = (p.detach().numpy() for p in model.activate.parameters())
        I = reference.shortcut(np.zeros_like(I), I, gain, shift)
    A = REFERENCE[5](inputs.attributes[0].tolist(), E)
    words = REFERENCE[5](CAPTION, E)
    early = model.config.position == "input"
    x = REFERENCE[6](words) if early else words
    pairs = {
        "4": (I, memory.regions[0]),
        "5": (A, memory.attributes[0]),
        "6": (REFERENCE[6](words), model.place(model.embed(torch.tensor([[CAPTION]])), 0)[0, 0]),
        "x": (x, output.x[0, 0]),
    }
    if model.config.architecture == "base":
        x_tilde = REFERENCE[7](x, HR["x"], GR["x"])
        c_tilde = REFERENCE[8](x_tilde, I, A, HR["v"], HR["a"], GR["local"])
        pairs |= {"7": (x_tilde, output.x_tilde[0, 0]), "8": (c_tilde, output.c_tilde[0, 0])}
        queries = {"x": (x, x), "v": (x_tilde, I), "a": (x_tilde, A)}
    else:
        I_tilde = REFERENCE[9](I, HR["vd"], GR["vd"])
        t_alone = REFERENCE[10](x, A, HR["ad"], GR["ad"])
        t_tilde = t_alone if early else REFERENCE[6](t_alone)
        x_tilde = REFERENCE[11](t_tilde, HR["x"], GR["x"])
        c_g = REFERENCE[12](x_tilde, I_tilde, HR["v"], GR["global"])
        c_tilde = REFERENCE[13](c_g, I, A, HR["vl"], HR["al"], GR["local"])
        pairs |= {
            "9": (I_tilde, memory.groupings[0]),
            "10": (t_tilde, output.t_tilde[0, 0]),
            "11": (x_tilde, output.x_tilde[0, 0]),
            "12": (c_g, output.c_g[0, 0]),
            "13": (c_tilde, output.c_tilde[0, 0]),
        }
        queries = {
            "vd": (I, I),
            "ad": (x, A),
            "x": (t_tilde, t_tilde),
            "v": (x_tilde, I_tilde),
            "vl": (c_g, I),
            "al": (c_g, A),
        }
    weights = memory.weights | output.weights
    assert weights.keys() == queries.keys()
    for name, (Q, K) in queries.items():
        mask = reference.causal(len(Q)) if name == "x" else None
        pairs[f"weights {name}"] = (reference_heads(model.H[name], Q, K, K, mask)[1], weights[name][0, 0])
    pairs["14"] = (
        REFERENCE[14](c_tilde, E, model.bias.detach().numpy()),
        model.logits(output.c_tilde)[0, 0].softmax(-1),
    )
    return pairs


def block_pairs(model: Captioner) -> Pairs:
    """Equations (1) to (3), each alone, with a mask."""
    random = torch.Generator().manual_seed(3)
    x, y = (torch.randn(n, model.config.d, generator=random, dtype=torch.float64) for n in (3, 5))
    H, G = model.H["x"], model.G["x"]
    seen = torch.tensor([True, False, True, True, False])
    mask = seen.expand(3, 5).numpy()
    keys = H.keys(y[None], seen[None])
    split = (1, 3, H.heads, -1)
    value, weights = explicit(H.query(x).view(split).transpose(1, 2), keys.key, keys.value, keys.mask, 0.0)
    A, w = reference_heads(H, x.numpy(), y.numpy(), y.numpy(), mask)
    whole, _ = H(x[None, None], Keys(keys.key, keys.value, keys.mask), explicit)
    h = torch.randn(3, model.config.d, generator=random, dtype=torch.float64)
    pairs = {
        "1": (np.array(A), value[0]),
        "weights": (w, weights[0]),
        "3": (reference_g(G)(h.numpy(), x.numpy()), G(h, x)),
        "H": (reference_h(H)(x.numpy(), y.numpy(), y.numpy(), mask), whole[0, 0]),
    }
    if H.ffn is None:  # with a feed-forward network, H is more than Eq. (2): see the pair "H"
        pairs["2"] = (REFERENCE[2](A, affine(H.output)), whole[0, 0])
    return pairs


def attribute_pairs() -> Pairs:
    """Equations (15) to (18)."""
    random = torch.Generator().manual_seed(4)
    s = 2 * torch.randn(2, 5, 6, generator=random, dtype=torch.float64)
    y = (torch.rand(2, 6, generator=random) < 0.4).double()
    S = noisy_or.evidence(s, None)
    found = np.array([REFERENCE[16](image.numpy()) for image in s])
    detector = noisy_or.AttributeDetector(tuple("uvwxyz"), tiny.WIDTH, tiny.SOURCE, without=frozenset()).eval()
    with torch.no_grad():
        detector.score.weight.normal_(generator=random)
        detector.score.bias.zero_()
        regions = tiny.regions()
        scores = detector(torch.from_numpy(regions.features.copy())[None])[0].numpy()
    shown = detector.find_attributes(regions, 6)
    order = [detector.words.index(word) for word in shown.words]
    return {
        "15": (REFERENCE[15](scores)[:, order].T, torch.from_numpy(shown.by_region.copy())),
        "16": (found, S),
        "17": (np.array([REFERENCE[17](image.numpy()) for image in s]), noisy_or.probability(S)),
        "18": (np.array(REFERENCE[18](found, y.numpy())), noisy_or.noisy_or_loss(S, y)),
    }


def loss_pairs() -> Pairs:
    """Equation (19), with and without smoothing."""
    from glied.training.cross_entropy import cross_entropy

    logits = 3 * torch.randn(4, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    targets = torch.tensor([0, 3, 6, 3])
    return {
        name: (np.array(REFERENCE[19](logits.numpy(), targets.tolist(), e)), cross_entropy(logits, targets, e, 4))
        for name, e in (("19", 0.1), ("without smoothing", 0.0))
    }


def reward_pairs() -> Pairs:
    """Equations (20) and (21)."""
    random = torch.Generator().manual_seed(6)
    reward, log_p = (torch.randn(3, 4, generator=random, dtype=torch.float64) for _ in range(2))
    gain = np.array([REFERENCE[20](row.tolist()) for row in reward])
    loops = np.array(REFERENCE[21](gain.flatten().tolist(), log_p.flatten().tolist()))
    return {
        "20": (gain, reinforce.advantage(reward)),
        "21": (loops, reinforce.policy_loss(torch.from_numpy(gain), log_p, 12)),
    }


def assert_agree(pairs: Pairs) -> None:
    for name, (loops, code) in pairs.items():
        found = code.detach().numpy()
        assert loops.shape == found.shape, name
        np.testing.assert_allclose(found, loops, rtol=0, atol=1e-5, err_msg=name)


def test_equation_numbers_agree() -> None:
    in_code = {number: len(lines) for number, lines in code_lines().items()}
    assert in_code == dict.fromkeys(EQUATIONS, 1), "each number stands at the end of exactly one line of code"
    assert EQUATIONS.keys() == REFERENCE.keys()
    assert list(EQUATIONS) == list(range(1, len(EQUATIONS) + 1))


def test_every_equation_is_compared() -> None:
    compared = attribute_pairs().keys() | loss_pairs().keys() | reward_pairs().keys()
    for config in CONFIGS.values():
        model = tiny.model(config).double()
        compared |= captioner_pairs(model).keys() | block_pairs(model).keys()
    assert {int(name) for name in compared if name.isdigit()} == EQUATIONS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_captioner_equals_loops(name: str) -> None:
    model = tiny.model(CONFIGS[name]).double()
    assert_agree(captioner_pairs(model))
    assert_agree(block_pairs(model))


def test_attribute_equations_equal_loops() -> None:
    assert_agree(attribute_pairs())


def test_losses_equal_loops() -> None:
    assert_agree(loss_pairs())
    assert_agree(reward_pairs())


def section(root: Path, heading: str) -> str:
    """A section of docs/equations.md, without its heading."""
    text = (root / "docs" / "equations.md").read_text()
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f'docs/equations.md has no heading "{heading}"'
    return found[1]


def test_the_document_lists_every_choice(root: Path) -> None:
    table = section(root, "Where the paper is silent")
    rows = [int(k) for k in re.findall(r"^\| *(\d+) *\|", table, re.MULTILINE)]
    assert len(rows) == len(set(rows))
    assert set(rows) == choices(root)


def test_the_document_says_where_every_equation_is_computed(root: Path) -> None:
    listed = []
    for row in re.findall(r"^\| *(\d.*)\|$", section(root, "Where each equation is computed"), re.MULTILINE):
        numbers, _, where = row.split("|")
        first, _, last = numbers.strip().partition("-")
        file, *inside = re.findall(r"`([^`]+)`", where)
        for number in range(int(first), int(last or first) + 1):
            listed.append(number)
            [line] = code_lines()[number]
            assert line.file == file
            assert not inside or {line.inside, line.inside.split(".")[0]} & set(inside), line
    assert listed == list(EQUATIONS)
