"""The attention functions that a captioner declares: what measures, tables and pages know of it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Over = Literal["regions", "attributes", "words"]
Role = Literal["grouping", "pivot", "context", "global", "local"]


@dataclass(frozen=True)
class AttentionFunction:
    """One attention function.

    Attributes:
        name: of its weights in a Trace.
        equation: its number in the captioner's paper; None where there is none.
        over: what its keys are.
        role: `grouping`: every key gathers from all keys, before any word. `pivot`: the input word gathers.
            `context`: the input word reads the words so far. `global`, `local`: they feed the word produced, `local`
            last.
    """

    name: str
    equation: int | None
    over: Over
    role: Role

    @property
    def title(self) -> str:
        """What a table calls it."""
        return f"{self.over}, {self.role} ({self.name})"


Functions = tuple[AttentionFunction, ...]
# They stand here, not in model.py, because traces of version 0.1.0 name their captioner only.
BASE: Functions = (
    AttentionFunction("x", 7, "words", "context"),
    AttentionFunction("v", 8, "regions", "local"),
    AttentionFunction("a", 8, "attributes", "local"),
)
GLIED: Functions = (
    AttentionFunction("vd", 9, "regions", "grouping"),
    AttentionFunction("ad", 10, "attributes", "pivot"),
    AttentionFunction("x", 11, "words", "context"),
    AttentionFunction("v", 12, "regions", "global"),
    AttentionFunction("vl", 13, "regions", "local"),
    AttentionFunction("al", 13, "attributes", "local"),
)


def find(functions: Sequence[AttentionFunction], over: Over, *roles: Role) -> AttentionFunction | None:
    """The last function over such keys in one of the roles: the one nearest to the word. None without any."""
    return next((f for f in reversed(functions) if f.over == over and f.role in roles), None)


def feeding(functions: Sequence[AttentionFunction], over: Over) -> AttentionFunction | None:
    """The last function over such keys that feeds the word; None without any."""
    return find(functions, over, "global", "local")


def lacking(functions: Sequence[AttentionFunction]) -> list[str]:
    """The parts that views show and this captioner lacks; only "attention" if it has no attention function."""
    if not functions:
        return ["attention"]
    parts = {
        "attention to regions": feeding(functions, "regions"),
        "attention to attributes": feeding(functions, "attributes"),
        "region groups": find(functions, "regions", "grouping"),
        "collocations": find(functions, "attributes", "pivot"),
    }
    return [name for name, function in parts.items() if not function]


def key_share(weights: Float[np.ndarray, "k Q K"]) -> float:
    """How far attention depends on the key alone: the share of the variance of log attention, centred by query, that
    the means of the keys explain; mean over heads. 1: every query attends alike. NaN where attention is even."""
    logs = np.log(np.maximum(weights.astype(np.float64), np.finfo(np.float32).tiny))
    logs -= logs.mean(2, keepdims=True)
    variance = (logs * logs).mean((1, 2))
    varied = variance > 1e-9
    if not varied.any():
        return float("nan")
    explained = (logs.mean(1) ** 2).mean(1)
    return float((explained[varied] / variance[varied]).mean())
