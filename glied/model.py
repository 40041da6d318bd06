"""Base and GLIED, one equation per line (Liu et al., IJCAI 2019; the numbers are those of glied/equations.py).

Letters, here and everywhere: B images, N regions, M attributes, C captions (or beams) of one image,
L positions, T keys of the context attention, R feature width, d model width, k heads, V vocabulary.
F are region features, I projected regions, A attribute embeddings, E the table of word embeddings.
All captions of an image share its memory: they are query positions against the same keys.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from glied.config import ModelConfig
from glied.functions import BASE, GLIED, Functions


class Inputs(NamedTuple):
    """A batch of photographs. A mask is True where the entry is real; None where all of them are. One photograph
    (B = 1) may have many masks: it is then encoded under each, sharing what no mask changes."""

    features: Float[Tensor, "B N R"]
    region_mask: Bool[Tensor, "B N"] | None
    attributes: Int[Tensor, "B M"]
    attribute_mask: Bool[Tensor, "B M"] | None
    boxes: Float[Tensor, "B N 4"] | None = None  # x1 y1 x2 y2 in diagonals of the photograph


class Keys(NamedTuple):
    """Keys and values of one attention function, and which of them may be attended to (None: all)."""

    key: Tensor  # [B k N d_k], or [B C k T d_k] for the context attention
    value: Tensor
    mask: Tensor | None = None


class Memory(NamedTuple):
    """What a photograph contributes, computed once and shared by all its captions and beams."""

    regions: Float[Tensor, "B N d"]
    attributes: Float[Tensor, "B M d"]
    groupings: Float[Tensor, "B N d"] | None
    keys: dict[str, Keys]
    weights: dict[str, Tensor | None]


class Output(NamedTuple):
    """One pass of the decoder: what selects each word, every step before it, and what comes next.

    `weights` maps the name of an attention function to [B, C, k, L, keys] (None where fused);
    `cache` holds the context attention's keys, the only state that follows a beam.
    """

    x: Float[Tensor, "B C L d"]
    t_tilde: Float[Tensor, "B C L d"] | None
    x_tilde: Float[Tensor, "B C L d"]
    c_g: Float[Tensor, "B C L d"] | None
    c_tilde: Float[Tensor, "B C L d"]
    weights: dict[str, Tensor | None]
    cache: Keys


Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], tuple[Tensor, Tensor | None]]


def explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention and its weights, as they are before dropout."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    return functional.dropout(weights, dropout) @ v, weights  # Eq. (1)


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, None]:
    """The same value by PyTorch's fused kernel, without the weights: for decoding."""
    return functional.scaled_dot_product_attention(q, k, v, mask, dropout), None


def linear(
    x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]
) -> Float[Tensor, "... o"]:
    """x Wᵀ + b. For the few rows of one photograph's beams, W xᵀ is two to four times faster on a CPU."""
    if x.shape[:-1].numel() > 8:
        return functional.linear(x, weight, bias)
    return torch.addmm(bias[:, None], weight, x.flatten(0, -2).T).T.reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return linear(x, self.weight, self.bias)


class Attention(nn.Module):
    """Multi-head attention H(Q, K, V), with the feed-forward network of the `paper` presets after it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, inner = config.d, config.heads * config.d_head
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.query, self.key, self.value = Linear(d, inner), Linear(d, inner), Linear(d, inner)
        self.output = Linear(inner, d)
        self.ffn = nn.Sequential(Linear(d, config.ffn), nn.ReLU(), Linear(config.ffn, d)) if config.ffn else None
        self.G = Shortcut(config) if config.ffn else None

    def keys(self, x: Float[Tensor, "... N d"], mask: Tensor | None = None) -> Keys:
        """Keys and values of `x`, head by head; `mask` [B, N] is made to fit the scores."""
        split = (*x.shape[:-1], self.heads, -1)
        k, v = self.key(x).view(split).transpose(-3, -2), self.value(x).view(split).transpose(-3, -2)
        return Keys(k, v, None if mask is None else mask[:, None, None, :])

    def forward(self, x: Float[Tensor, "B C L d"], keys: Keys, attend: Attend) -> tuple[Tensor, Tensor | None]:
        """Value [B, C, L, d] and weights [B, C, k, L, N]."""
        B, C, L, _ = x.shape
        shared = keys.key.dim() == 4  # the photograph's keys: captions become query positions
        q = self.query(x).view(*((B, C * L) if shared else (B, C, L)), self.heads, -1).transpose(-3, -2)
        A, weights = attend(q, keys.key, keys.value, keys.mask, self.dropout if self.training else 0.0)
        h = self.output(A.transpose(-3, -2).reshape(-1, C, L, self.output.in_features))  # Eq. (2)
        if self.ffn is not None and self.G is not None:
            h = self.G(self.ffn(h), h)  # Choice (1)
        if weights is not None and shared:
            weights = weights.view(-1, self.heads, C, L, weights.shape[-1]).transpose(1, 2)
        return h, weights


class Shortcut(nn.Module):
    """G(h; x): "shortcut connection, dropout, layer normalization"; the shortcut is the query."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(h))  # Eq. (3)


def sinusoids(start: int, length: int, d: int, device: torch.device) -> Float[Tensor, "L d"]:
    """Sinusoidal positional code of positions start .. start + length - 1 (Vaswani et al. 2017)."""
    position = torch.arange(start, start + length, device=device)[:, None]
    rate = torch.exp(torch.arange(0, d, 2, device=device) * (-math.log(10000.0) / d))
    return torch.stack([(position * rate).sin(), (position * rate).cos()], -1).flatten(1)[:, :d]


class Captioner(nn.Module):
    """What Base and GLIED share: embeddings, projection, context attention, classifier."""

    functions: Functions = ()  # what it attends with, in the order of their use
    multi_head = True  # whether they are those of H
    shortcuts: tuple[str, ...] = ()
    H: dict[str, Attention]  # the attention functions by name
    G: dict[str, Shortcut]  # the shortcuts by name

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocabulary_size, config.d))
        self.project = Linear(config.feature_dim, config.d)
        activations: dict[str, Callable[[], nn.Module]] = {
            "relu": nn.ReLU,
            "none": nn.Identity,
            "norm": partial(nn.LayerNorm, config.d),
        }
        self.activate = activations[config.project]()
        names = [f.name for f in self.functions if self.multi_head]
        self.H = nn.ModuleDict({n: Attention(config) for n in names})  # type: ignore[assignment]
        self.G = nn.ModuleDict({n: Shortcut(config) for n in self.shortcuts})  # type: ignore[assignment]
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        if config.share_local_output:
            self.H["al"].output = self.H["vl"].output  # Choice (1)
        nn.init.normal_(self.embedding, std=config.d**-0.5)  # Choice (2)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @property
    def title(self) -> str:
        """What people call it."""
        return self.config.architecture

    def regions(self, F: Float[Tensor, "B N R"]) -> Float[Tensor, "B N d"]:
        """I, the projected regions."""
        I = self.project(functional.dropout(F, self.config.feature_dropout, self.training))
        return self.activate(I)  # Eq. (4) Choice (3)

    def embed(self, words: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Embedded words, without position: attributes, and input words before their positional code."""
        return math.sqrt(self.config.d) * functional.embedding(words, self.embedding)  # Eq. (5) Choice (4)

    def place(self, x: Float[Tensor, "B C L d"], start: int) -> Float[Tensor, "B C L d"]:
        """`x` with its positional code."""
        return x + sinusoids(start, x.shape[-2], self.config.d, x.device).to(x.dtype)  # Eq. (6) Choice (5)

    def context(self, t: Float[Tensor, "B C L d"], cache: Keys | None, function: str = "x") -> Keys:
        """Keys of the words so far: those in the cache, then those of `t`; a word sees itself and earlier words."""
        new = self.H[function].keys(t)
        if cache is not None:
            new = Keys(torch.cat([cache.key, new.key], -2), torch.cat([cache.value, new.value], -2))
        L, T = t.shape[-2], new.key.shape[-2]
        mask = torch.ones(L, T, dtype=torch.bool, device=t.device).tril(T - L) if L > 1 else None
        return new._replace(mask=mask)  # Choice (6)

    def logits(self, c_tilde: Float[Tensor, "... d"]) -> Float[Tensor, "... V"]:
        """Scores of every word."""
        c = functional.dropout(c_tilde, self.config.output_dropout, self.training)
        return linear(c, self.embedding, self.bias)  # Eq. (14)

    def auxiliary_loss(self, memory: Memory, tokens: Int[Tensor, "B C T"]) -> Tensor | float:
        """What the captioner adds to the cross-entropy of captions (BOS, words, EOS, PAD), summed over them."""
        return 0.0

    def encode(self, inputs: Inputs) -> Memory:
        raise TypeError("Captioner is abstract: build Base or GLIED.")

    def forward(self, words: Tensor, memory: Memory, cache: Keys | None = None, attend: Attend = explicit) -> Output:
        raise TypeError("Captioner is abstract: build Base or GLIED.")


def recorder(H: Any, attend: Attend) -> tuple[Callable[[str, Tensor, Keys], Tensor], dict]:
    """A function H(name, query, keys) -> value, and the dictionary in which it leaves the weights by name."""
    weights: dict[str, Tensor | None] = {}

    def attention(name: str, query: Tensor, keys: Keys) -> Tensor:
        value, weights[name] = H[name](query, keys, attend)
        return value

    return attention, weights


# fmt: off
class Base(Captioner):
    """Attends to regions and attributes, and no more."""

    title = "Base"
    functions = BASE
    shortcuts = ("x", "local")

    def encode(self, inputs: Inputs) -> Memory:
        """Regions and attributes as keys."""
        I, A = self.regions(inputs.features), self.embed(inputs.attributes)
        keys = {"v": self.H["v"].keys(I, inputs.region_mask), "a": self.H["a"].keys(A, inputs.attribute_mask)}
        return Memory(I, A, None, keys, {})

    def forward(self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None,
                attend: Attend = explicit) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it."""
        H, weights = recorder(self.H, attend)
        I, A = memory.keys["v"], memory.keys["a"]
        x = self.place(self.embed(words), 0 if cache is None else cache.key.shape[-2])
        X = self.context(x, cache)
        x_tilde = self.G["x"](H("x", x, X), x)                                                   # Eq. (7)  context attention
        c_tilde = self.G["local"](H("v", x_tilde, I) + H("a", x_tilde, A), x_tilde)              # Eq. (8)  local aspect vector, Choice (7)
        return Output(x, None, x_tilde, None, c_tilde, weights, X)


class Glied(Captioner):
    """Distils globally (groups of regions, collocations of attributes), then locally (the exact word)."""

    title = "GLIED"
    functions = GLIED
    shortcuts = ("vd", "ad", "x", "global", "local")

    def encode(self, inputs: Inputs) -> Memory:
        """Regions, their groupings, and attributes as keys."""
        H, weights = recorder(self.H, explicit)
        I, A = self.regions(inputs.features), self.embed(inputs.attributes)
        m_I, m_A = inputs.region_mask, inputs.attribute_mask
        I_keys, I_query = self.H["vd"].keys(I, m_I), I[:, None]
        I_tilde = self.G["vd"](H("vd", I_query, I_keys), I_query)[:, 0]                          # Eq. (9)  global visual distilling
        keys = {"ad": self.H["ad"].keys(A, m_A), "v": self.H["v"].keys(I_tilde, m_I),
                "vl": self.H["vl"].keys(I, m_I), "al": self.H["al"].keys(A, m_A)}
        return Memory(I, A, I_tilde, keys, weights)

    def forward(self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None,
                attend: Attend = explicit) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it."""
        H, weights = recorder(self.H, attend)
        A_d, I_tilde, I, A = (memory.keys[name] for name in ("ad", "v", "vl", "al"))
        start = 0 if cache is None else cache.key.shape[-2]
        early = self.config.position == "input"
        x = self.place(self.embed(words), start) if early else self.embed(words)
        t_tilde = self.G["ad"](H("ad", x, A_d), x)                                               # Eq. (10) global attribute distilling
        t_tilde = t_tilde if early else self.place(t_tilde, start)
        T_tilde = self.context(t_tilde, cache)
        x_tilde = self.G["x"](H("x", t_tilde, T_tilde), t_tilde)                                 # Eq. (11) context attention
        c_g     = self.G["global"](H("v", x_tilde, I_tilde), x_tilde)                            # Eq. (12) global aspect vector
        c_tilde = self.G["local"](H("vl", c_g, I) + H("al", c_g, A), c_g)                        # Eq. (13) local cross-modal distilling
        return Output(x, t_tilde, x_tilde, c_g, c_tilde, weights, T_tilde)
# fmt: on
