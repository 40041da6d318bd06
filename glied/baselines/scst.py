"""The captioners of self-critical sequence training: FC and Att2in (Rennie et al., CVPR 2017, Sec. 2).

Their training is glied/training/self_critical.py; `greedy` is their baseline. Rennie et al. average four Att2in for
their best results: glied/baselines/ensemble.py.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glied.baselines.systems import Attending, Recurrent, ShowAndTell, State
from glied.config import ModelConfig
from glied.model import Linear, Memory, linear


class Maxout(Recurrent):
    """An LSTM whose cell takes in the larger of two candidates."""

    cell = partial(nn.RNNCellBase, bias=True, num_chunks=5)  # weights and biases as in nn.LSTMCell, one candidate more

    def turn(
        self, layer: int, given: Float[Tensor, "B C i"], state: State, seen: Tensor | None = None
    ) -> tuple[Float[Tensor, "B C d"], tuple]:
        """One turn; `seen` [B C 2d] goes to the candidates alone."""
        cell, (h, c) = self.cells[layer], state[layer]
        gates = linear(given.flatten(0, 1), cell.weight_ih, cell.bias_ih) + linear(h, cell.weight_hh, cell.bias_hh)
        i, f, o, *z = gates.to(c.dtype).chunk(5, -1)
        if seen is not None:
            z = [each + more for each, more in zip(z, seen.flatten(0, 1).to(c.dtype).chunk(2, -1), strict=True)]
        c = i.sigmoid() * torch.maximum(*z) + f.sigmoid() * c  # Rennie et al., Sec. 2: phi is a maxout of 2 units
        h = o.sigmoid() * c.tanh()  # Rennie et al., Sec. 2
        return h.view(*given.shape[:2], -1), (h, c)


class Fc(Maxout, ShowAndTell):
    """The FC model: the photograph, as one vector, is the LSTM's first word."""

    title = "SCST FC"


class Att2in(Maxout, Attending):
    """Att2in: the regions that the last state attends to go to the cell's candidates, and to no gate."""

    title = "SCST Att2in"
    inputs = (1,)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.candidates = Linear(config.d, 2 * config.d)

    def step(self, word: Tensor, mean: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """The hidden vector selects the word."""
        I_t, weights = self.attend(state[0][0].view_as(word), memory)
        h, new = self.turn(0, word, state, self.candidates(I_t))  # Rennie et al., Sec. 2: W_zI I_t
        return h, weights, [new]
