"""The equations of glied/equations.py once more, in NumPy loops; written from the paper, not from the code.

Matrices are as PyTorch stores them: an affine map is (weight [out, in], bias [out]). Vectors are rows.
H(Q, K, V, mask) and G(h, x) are passed as functions where an equation uses them.
"""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Affine = tuple[Array, Array]
H = Callable[[Array, Array, Array, Array | None], Array]
G = Callable[[Array, Array], Array]


def affine(x: Array, map: Affine) -> Array:
    weight, bias = map
    y = np.zeros((len(x), len(weight)))
    for row in range(len(x)):
        for out in range(len(weight)):
            y[row, out] = sum(weight[out, i] * x[row, i] for i in range(len(x[row]))) + bias[out]
    return y


def softmax(row: Array) -> Array:
    powers = [math.exp(v - max(row)) for v in row]
    return np.array([p / sum(powers) for p in powers])


def sigmoid(s: float) -> float:
    return 1 / (1 + math.exp(-s))


def head(
    Q: Array, K: Array, V: Array, W_Q: Affine, W_K: Affine, W_V: Affine, mask: Array | None = None
) -> tuple[Array, Array]:
    """Eq. (1): one head and its weights; mask[i, j] says whether query i may look at key j."""
    q, k, v = affine(Q, W_Q), affine(K, W_K), affine(V, W_V)
    d_k = q.shape[1]
    value, weights = np.zeros((len(q), v.shape[1])), np.zeros((len(q), len(k)))
    for i in range(len(q)):
        seen = [j for j in range(len(k)) if mask is None or mask[i, j]]
        shares = softmax(np.array([float(q[i] @ k[j]) / math.sqrt(d_k) for j in seen]))
        for j, share in zip(seen, shares, strict=True):
            weights[i, j] = share
            value[i] += share * v[j]
    return value, weights


def multi_head(heads: list[Array], W_k: Affine) -> Array:
    """Eq. (2): the heads side by side, then one matrix."""
    together = np.array([[number for A in heads for number in A[row]] for row in range(len(heads[0]))])
    return affine(together, W_k)


def shortcut(h: Array, x: Array, gain: Array, shift: Array) -> Array:
    """Eq. (3) as it is in evaluation: no dropout."""
    result = np.zeros_like(x)
    for row in range(len(x)):
        total = [x[row, i] + h[row, i] for i in range(x.shape[1])]
        mean = sum(total) / len(total)
        variance = sum((t - mean) ** 2 for t in total) / len(total)
        for i, t in enumerate(total):
            result[row, i] = gain[i] * (t - mean) / math.sqrt(variance + 1e-5) + shift[i]
    return result


def project(F: Array, W_I: Affine) -> Array:
    """Eq. (4)."""
    return np.array([[max(0.0, value) for value in row] for row in affine(F, W_I)])


def embed(words: list[int], E: Array) -> Array:
    """Eq. (5), for attributes and for input words."""
    return np.array([[math.sqrt(E.shape[1]) * number for number in E[word]] for word in words])


def place(x: Array) -> Array:
    """Eq. (6): PE(t) of Vaswani et al. 2017, sine in even columns and cosine in odd ones."""
    d = x.shape[1]
    placed = x.copy()
    for t in range(len(x)):
        for i in range(d):
            angle = t / 10000 ** ((i - i % 2) / d)
            placed[t, i] += math.cos(angle) if i % 2 else math.sin(angle)
    return placed


def causal(L: int) -> Array:
    """A word sees itself and the words before it."""
    return np.array([[j <= t for j in range(L)] for t in range(L)])


def base_context(x: Array, H_x: H, G_x: G) -> Array:
    """Eq. (7)."""
    return G_x(H_x(x, x, x, causal(len(x))), x)


def base_local(x_tilde: Array, I: Array, A: Array, H_v: H, H_a: H, G_local: G) -> Array:
    """Eq. (8)."""
    return G_local(H_v(x_tilde, I, I, None) + H_a(x_tilde, A, A, None), x_tilde)


def visual_distilling(I: Array, H_vd: H, G_vd: G) -> Array:
    """Eq. (9)."""
    return G_vd(H_vd(I, I, I, None), I)


def attribute_distilling(x: Array, A: Array, H_ad: H, G_ad: G) -> Array:
    """Eq. (10): the pivot is the input word."""
    return G_ad(H_ad(x, A, A, None), x)


def context(t_tilde: Array, H_x: H, G_x: G) -> Array:
    """Eq. (11)."""
    return G_x(H_x(t_tilde, t_tilde, t_tilde, causal(len(t_tilde))), t_tilde)


def global_aspect(x_tilde: Array, I_tilde: Array, H_v: H, G_global: G) -> Array:
    """Eq. (12)."""
    return G_global(H_v(x_tilde, I_tilde, I_tilde, None), x_tilde)


def local_distilling(c_g: Array, I: Array, A: Array, H_vl: H, H_al: H, G_local: G) -> Array:
    """Eq. (13): the raw regions and attributes, not what was distilled."""
    return G_local(H_vl(c_g, I, I, None) + H_al(c_g, A, A, None), c_g)


def select(c_tilde: Array, E: Array, bias: Array) -> Array:
    """Eq. (14): the classifier is the table of embeddings, plus a bias."""
    return np.array([softmax(row) for row in affine(c_tilde, (E, bias))])


def region_probability(s: Array) -> Array:
    """Eq. (15)."""
    return np.array([[sigmoid(score) for score in row] for row in s])


def evidence(s: Array) -> Array:
    """Eq. (16), by its right-hand side: minus the log of the product over regions; s is [N, W]."""
    S = np.zeros(s.shape[1])
    for w in range(s.shape[1]):
        product = 1.0
        for j in range(len(s)):
            product *= 1 - sigmoid(s[j, w])
        S[w] = -math.log(product)
    return S


def word_probability(s: Array) -> Array:
    """Eq. (17), by its right-hand side."""
    P = np.zeros(s.shape[1])
    for w in range(s.shape[1]):
        product = 1.0
        for j in range(len(s)):
            product *= 1 - sigmoid(s[j, w])
        P[w] = 1 - product
    return P


def noisy_or_loss(S: Array, y: Array) -> float:
    """Eq. (18): mean over photographs and words."""
    terms = [
        (1 - y[i, w]) * S[i, w] - y[i, w] * math.log(1 - math.exp(-S[i, w]))
        for i in range(S.shape[0])
        for w in range(S.shape[1])
    ]
    return sum(terms) / len(terms)


def cross_entropy(logits: Array, targets: list[int], smoothing: float) -> float:
    """Eq. (19): epsilon of the target is spread evenly over all V words."""
    loss = 0.0
    for t, target in enumerate(targets):
        log_p = [math.log(p) for p in softmax(logits[t])]
        loss -= (1 - smoothing) * log_p[target] + smoothing / len(log_p) * sum(log_p)
    return loss / len(targets)


def gains(rewards: list[float]) -> list[float]:
    """Eq. (20): each reward minus the mean of the others."""
    return [r - sum(rewards[:i] + rewards[i + 1 :]) / (len(rewards) - 1) for i, r in enumerate(rewards)]


def policy_loss(gain: list[float], log_p: list[float]) -> float:
    """Eq. (21), from the log-probability of each whole caption."""
    return -sum(g * p for g, p in zip(gain, log_p, strict=True)) / len(gain)


REFERENCE: dict[int, Callable] = {
    1: head,
    2: multi_head,
    3: shortcut,
    4: project,
    5: embed,
    6: place,
    7: base_context,
    8: base_local,
    9: visual_distilling,
    10: attribute_distilling,
    11: context,
    12: global_aspect,
    13: local_distilling,
    14: select,
    15: region_probability,
    16: evidence,
    17: word_probability,
    18: noisy_or_loss,
    19: cross_entropy,
    20: gains,
    21: policy_loss,
}
