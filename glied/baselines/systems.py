"""The captioners of the paper's Table 2, with the same regions, words, decoding and training; bases of other modules.

They read regions alone; words are embedded by the classifier's own table, as in Base and GLIED. Letters as in model.py.
A recurrent captioner's cache is its state: hidden vectors as keys and cells as values, [B, C, layers, 1, d].
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glied.config import ModelConfig
from glied.functions import AttentionFunction, Over, Role
from glied.model import Attend, Captioner, Inputs, Keys, Linear, Memory, Output, Shortcut, explicit, linear, recorder

LAYERS = 3  # of CT's encoder and of its decoder: 28.0M parameters at the paper's vocabulary, which says 27.5M
INNER = 2048  # width of CT's feed-forward networks
REGIONS = AttentionFunction("v", None, "regions", "local")
State = list[tuple[Tensor, Tensor]]  # hidden vector and cell of each LSTM, [B C, d]


class Additive(nn.Module):
    """Additive attention (Bahdanau et al. 2015), one head."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.query, self.key, self.score = Linear(d, d), Linear(d, d), Linear(d, 1)

    def forward(
        self, h: Float[Tensor, "B C d"], I: Float[Tensor, "B N d"], key: Float[Tensor, "B N d"], mask: Tensor | None
    ) -> tuple[Float[Tensor, "B C d"], Float[Tensor, "B C N"]]:
        """Mean of the regions `I` for the query `h`, and its weights."""
        scores = self.score(torch.tanh(self.query(h)[:, :, None] + key[:, None]))[..., 0]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        weights = scores.softmax(-1)
        return weights @ I, weights


def pass_gates(gates: Float[Tensor, "*n gates"], c: Float[Tensor, "*n d"]) -> tuple[Tensor, Tensor]:
    """An LSTM's hidden vector and cell, from its 4 d gates before activation (input, forget, cell, output) and the
    cell before."""
    i, f, g, o = gates.to(c.dtype).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def mean_region(I: Float[Tensor, "B N d"], mask: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B 1 d"]:
    """The mean of the regions that are there."""
    if mask is None:
        return I.mean(1, keepdim=True)
    return ((I * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))[:, None]


class Recurrent(Captioner):
    """What the LSTM captioners share: a state that goes from word to word."""

    multi_head = False
    inputs: tuple[int, ...] = ()  # width of each LSTM's input, in units of d
    cell: Callable[[int, int], nn.RNNCellBase] = nn.LSTMCell
    cells: list[nn.RNNCellBase]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.d
        self.cells = nn.ModuleList(self.cell(width * d, d) for width in self.inputs)  # type: ignore[assignment]

    def encode(self, inputs: Inputs) -> Memory:
        """Regions, and their mean."""
        mask = inputs.region_mask
        I = self.relate(self.regions(inputs.features), inputs)
        I = I if mask is None else I.expand(len(mask), -1, -1)  # one photograph under many masks
        mean = mean_region(I, mask)
        keys = {"mean": Keys(mean, mean)}
        return Memory(I, I[:, :0], None, keys, {})

    def relate(self, I: Float[Tensor, "_ N d"], inputs: Inputs) -> Float[Tensor, "B N d"]:
        """The regions in their relations to each other; here as they are."""
        return I

    def start(self, mean: Float[Tensor, "B C d"]) -> State:
        """The state before the first word: zeros."""
        zeros = self.bias.new_zeros(mean.shape[0] * mean.shape[1], mean.shape[2])
        return [(zeros, zeros) for _ in self.inputs]

    def step(
        self, word: Float[Tensor, "B C d"], mean: Float[Tensor, "B C d"], memory: Memory, state: State
    ) -> tuple[Float[Tensor, "B C d"], Float[Tensor, "B C N"] | None, State]:
        """What selects the next word, its attention, and the next state."""
        raise TypeError("Recurrent is abstract.")

    def turn(self, layer: int, given: Float[Tensor, "B C i"], state: State) -> tuple[Float[Tensor, "B C d"], tuple]:
        """One turn of an LSTM: its output and its new state, which stays float32 over all words, while the matrix
        products may be in bfloat16 (nn.LSTMCell's would all be float32)."""
        cell, (h, c) = self.cells[layer], state[layer]
        gates = linear(given.flatten(0, 1), cell.weight_ih, cell.bias_ih) + linear(h, cell.weight_hh, cell.bias_hh)
        h, c = pass_gates(gates, c)
        return h.view(*given.shape[:2], -1), (h, c)

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None, attend: Attend = explicit
    ) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it."""
        return self.roll(self.embed(words), memory, cache)

    def roll(self, x: Float[Tensor, "B C L d"], memory: Memory, cache: Keys | None) -> Output:
        """The steps over embedded words, one after another."""
        B, C, L, _ = x.shape
        mean = memory.keys["mean"].key.expand(B, C, -1)
        if cache is None:
            state = self.start(mean)
        else:
            flat = [t[..., 0, :].flatten(0, 1).unbind(1) for t in (cache.key, cache.value)]
            state = list(zip(*flat, strict=True))
        steps = []
        for t in range(L):
            c, weights, state = self.step(x[:, :, t], mean, memory, state)
            steps.append((c, weights))
        hidden, cell = (torch.stack(each, 1).view(B, C, len(state), 1, -1) for each in zip(*state, strict=True))
        c_tilde = torch.stack([c for c, _ in steps], 2)
        rows = [weights for _, weights in steps if weights is not None]
        attention: dict[str, Tensor | None] = {"v": torch.stack(rows, 2)[:, :, None]} if rows else {}
        return Output(x, None, c_tilde, None, c_tilde, attention, Keys(hidden, cell))


class ShowAndTell(Recurrent):
    """Vinyals et al. 2015: an LSTM that sees the photograph once, before the first word."""

    title = "LSTM"
    inputs = (1,)

    def start(self, mean: Float[Tensor, "B C d"]) -> State:
        """The state after the photograph."""
        return [self.turn(0, mean, super().start(mean))[1]]

    def step(self, word: Tensor, mean: Tensor, memory: Memory, state: State) -> tuple[Tensor, None, State]:
        """The hidden vector selects the word."""
        h, new = self.turn(0, word, state)
        return h, None, [new]


class Attending(Recurrent):
    """What those LSTM captioners share that attend to the regions themselves."""

    functions = (REGIONS,)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.attention = Additive(config.d)

    def encode(self, inputs: Inputs) -> Memory:
        """Regions, their part of the additive score, and their mean."""
        memory = super().encode(inputs)
        own = Keys(self.attention.key(memory.regions), memory.regions, inputs.region_mask)
        return memory._replace(keys=memory.keys | {"v": own})

    def attend(
        self, h: Float[Tensor, "B C d"], memory: Memory
    ) -> tuple[Float[Tensor, "B C d"], Float[Tensor, "B C N"]]:
        """Mean of the regions for the query `h`, and its weights."""
        keys = memory.keys["v"]
        return self.attention(h, keys.value, keys.key, keys.mask)


class ShowAttendAndTell(Attending):
    """Xu et al. 2015, soft attention: each word from the regions that the state before it attends to."""

    title = "SoftAtt"
    inputs = (2,)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.d
        self.first = nn.ModuleList([Linear(d, d), Linear(d, d)])  # hidden vector and cell from the mean region
        self.gate, self.read = Linear(d, d), Linear(2 * d, d)

    def start(self, mean: Float[Tensor, "B C d"]) -> State:
        """Made of the mean region."""
        h, c = (torch.tanh(layer(mean)).flatten(0, 1).to(self.bias.dtype) for layer in self.first)
        return [(h, c)]

    def step(self, word: Tensor, mean: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """Deep output: state, context and the last word together."""
        h = state[0][0].view_as(word)
        z, weights = self.attend(h, memory)
        z = self.gate(h).sigmoid() * z
        h, new = self.turn(0, torch.cat([word, z], -1), state)
        return torch.tanh(self.read(torch.cat([h, z], -1)) + word), weights, [new]


class UpDown(Attending):
    """Anderson et al. 2018: one LSTM attends, another speaks."""

    title = "Up-Down"
    inputs = (3, 2)

    def step(self, word: Tensor, mean: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """The second LSTM's hidden vector selects the word."""
        h1, one = self.turn(0, torch.cat([state[1][0].view_as(word), mean, word], -1), state)
        v, weights = self.attend(h1, memory)
        h2, two = self.turn(1, torch.cat([v, h1], -1), state)
        return h2, weights, [one, two]


class FeedForward(nn.Module):
    """Two layers with the shortcut around them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(Linear(config.d, INNER), nn.ReLU(), Linear(INNER, config.d))
        self.G = Shortcut(config)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """G of the two layers."""
        return self.G(self.layers(x), x)


LAYER: tuple[tuple[str, Over, Role], ...] = (
    ("self", "regions", "grouping"),
    ("x", "words", "context"),
    ("v", "regions", "local"),
)


class Transformer(Captioner):
    """CT, the Transformer captioner of Sharma et al. 2018: an encoder over regions and a decoder over words."""

    title = "CT"
    functions = tuple(
        AttentionFunction(f"{name}{i}", None, over, role) for i in range(LAYERS) for name, over, role in LAYER
    )
    shortcuts = tuple(f.name for f in functions)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.F = nn.ModuleList(FeedForward(config) for _ in range(2 * LAYERS))

    def encode(self, inputs: Inputs) -> Memory:
        """Regions after the encoder, as keys of every layer of the decoder."""
        H, weights = recorder(self.H, explicit)
        mask = inputs.region_mask
        I = self.regions(inputs.features)[:, None]
        for i in range(LAYERS):
            I = self.G[f"self{i}"](H(f"self{i}", I, self.H[f"self{i}"].keys(I[:, 0], mask)), I)
            I = self.F[i](I)
        I = I[:, 0]
        return Memory(I, I[:, :0], None, {f"v{i}": self.H[f"v{i}"].keys(I, mask) for i in range(LAYERS)}, weights)

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None, attend: Attend = explicit
    ) -> Output:
        """`words` are input words (BOS first); with a cache (all layers' heads), the words after those in it."""
        H, weights = recorder(self.H, attend)
        x = h = self.place(self.embed(words), 0 if cache is None else cache.key.shape[-2])
        k = self.config.heads
        made = []
        for i in range(LAYERS):
            known = cache and Keys(cache.key[:, :, i * k : (i + 1) * k], cache.value[:, :, i * k : (i + 1) * k])
            made.append(self.context(h, known, f"x{i}"))
            h = self.G[f"x{i}"](H(f"x{i}", h, made[-1]), h)
            h = self.G[f"v{i}"](H(f"v{i}", h, memory.keys[f"v{i}"]), h)
            h = self.F[LAYERS + i](h)
        all_heads = Keys(torch.cat([keys.key for keys in made], 2), torch.cat([keys.value for keys in made], 2))
        return Output(x, None, h, None, h, weights, all_heads)
