"""The attention functions that a captioner declares: what measures, tables and pages know of it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """The last function over such keys in one of the roles, which is the nearest to the word; None without any."""
    return next((f for f in reversed(functions) if f.over == over and f.role in roles), None)


def feeding(functions: Sequence[AttentionFunction], over: Over) -> AttentionFunction | None:
    """The function over such keys from which the word is chosen at last."""
    return find(functions, over, "global", "local")
