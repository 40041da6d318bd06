"""An ensemble: several captioners of one vocabulary, whose probabilities are averaged at every step."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glied.model import Attend, Captioner, Inputs, Memory, Output, explicit


class Ensemble(Captioner):
    """Decodes, and gives the probability of captions. It is not traced, because each member attends in its own way."""

    def __init__(self, members: Sequence[Captioner]) -> None:
        nn.Module.__init__(self)
        self.members: Sequence[Captioner] = nn.ModuleList(members)  # type: ignore[assignment]
        self.config = replace(members[0].config, max_length=min(m.config.max_length for m in members))

    @property
    def title(self) -> str:
        """The members, each kind once."""
        kinds = " and ".join(dict.fromkeys(member.title for member in self.members))
        return f"ensemble of {len(self.members)} {kinds}"

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        """The first member's."""
        return self.members[0].bias

    def encode(self, inputs: Inputs) -> Memory:
        """The first member's memory, with all members' memories, by number, in the place of keys."""
        members: dict[str, Any] = {str(i): member.encode(inputs) for i, member in enumerate(self.members)}
        return members["0"]._replace(keys=members, weights={})

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Any = None, attend: Attend = explicit
    ) -> Output:
        """What selects each word in every member, side by side; the cache is a tuple of theirs."""
        caches = cache or [None] * len(self.members)
        each: Any = zip(self.members, memory.keys.values(), caches, strict=True)
        outputs = [member(words, own, known, attend) for member, own, known in each]
        c_tilde = torch.cat([output.c_tilde for output in outputs], -1)
        carried: Any = tuple(output.cache for output in outputs)
        return outputs[0]._replace(c_tilde=c_tilde, weights={}, cache=carried)

    def logits(self, c_tilde: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """The logarithm of the members' mean probability of every word."""
        parts = c_tilde.split([member.config.d for member in self.members], -1)
        each = [member.logits(c).float().log_softmax(-1) for member, c in zip(self.members, parts, strict=True)]
        return torch.stack(each).logsumexp(0) - math.log(len(each))
