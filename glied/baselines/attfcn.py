"""ATT-FCN (You et al., CVPR 2016): the photograph seen once, then attributes at the LSTM's input and at its output.

It attends to attributes alone. E is the table of word embeddings, which attributes and the classifier share, as in
Base and GLIED; y are embedded input words. Scores are divided by the root of d, a factor that U and V could absorb.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glied.baselines.systems import ShowAndTell
from glied.config import ModelConfig
from glied.functions import AttentionFunction
from glied.model import Attend, Inputs, Keys, Linear, Memory, Output, explicit, recorder


class Bilinear(nn.Module):
    """Attention of one head by a bilinear score; the values are its inputs, unprojected."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.key = nn.Linear(d, d, bias=False)

    def keys(self, x: Float[Tensor, "B M d"], mask: Tensor | None) -> Keys:
        """The keys U x or V x, and the values x."""
        return Keys(self.key(x)[:, None], x[:, None], None if mask is None else mask[:, None, None, :])

    def forward(self, x: Float[Tensor, "B C L d"], keys: Keys, attend: Attend) -> tuple[Tensor, Tensor | None]:
        """Mean of the values [B, C, L, d] for each query, and its weights [B, C, 1, L, M]."""
        B, C, L, d = x.shape
        mean, weights = attend(x.reshape(B, 1, C * L, d), keys.key, keys.value, keys.mask, 0.0)
        return mean.view(B, C, L, d), None if weights is None else weights.view(B, C, 1, L, -1)


class AttFcn(ShowAndTell):
    """You et al. 2016: the input word calls up attributes, and so does the LSTM's output."""

    title = "ATT-FCN"
    functions = (
        AttentionFunction("input", None, "attributes", "pivot"),
        AttentionFunction("output", None, "attributes", "local"),
    )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.d
        self.H = nn.ModuleDict({f.name: Bilinear(d) for f in self.functions})  # type: ignore[assignment]
        self.w_x, self.w_Y = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.W_x, self.W_Y = Linear(d, d), Linear(d, d)

    # fmt: off
    def encode(self, inputs: Inputs) -> Memory:
        """The mean region, which the LSTM reads first (Eq. (1)), and the attributes as keys of both attentions."""
        memory, A, mask = super().encode(inputs), self.embed(inputs.attributes), inputs.attribute_mask
        keys = {"input": self.H["input"].keys(A, mask),                         # You et al., Eq. (6)  U
                "output": self.H["output"].keys(torch.tanh(A), mask)}           # You et al., Eq. (8)  V
        return memory._replace(attributes=A, keys=memory.keys | keys)

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None, attend: Attend = explicit
    ) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it."""
        H, weights = recorder(self.H, attend)
        y = self.embed(words)
        t_tilde = y + self.w_x * H("input", y, memory.keys["input"])            # alpha
        output = self.roll(self.W_x(t_tilde), memory, cache)                    # You et al., Eq. (7), (2)
        h = output.c_tilde
        c = self.W_Y(h + self.w_Y * H("output", h, memory.keys["output"]))      # You et al., Eq. (9)  beta
        return output._replace(x=y, t_tilde=t_tilde, c_tilde=c, weights=weights)
