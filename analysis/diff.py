"""Two captions -> which of their words correspond."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Alignment:
    """Two lists of words side by side.

    Attributes:
        left: for each word on the left, the position of its partner on the right, or -1.
        right: the same from the right.
        left_differs, right_differs: whether the word is no part of a common run.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_differs: tuple[bool, ...]
    right_differs: tuple[bool, ...]


def align(left: Sequence[str], right: Sequence[str]) -> Alignment:
    """Pairs the words of common runs, and replaced words one by one from the left."""
    pairs: list[tuple[int, int]] = []
    same: list[tuple[int, int]] = []
    for kind, i, i_end, j, j_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        run = list(zip(range(i, i_end), range(j, j_end), strict=False))
        pairs += run
        same += run if kind == "equal" else []
    to_right, to_left = dict(pairs), {j: i for i, j in pairs}
    return Alignment(
        tuple(to_right.get(i, -1) for i in range(len(left))),
        tuple(to_left.get(j, -1) for j in range(len(right))),
        tuple(i not in dict(same) for i in range(len(left))),
        tuple(j not in {j for _, j in same} for j in range(len(right))),
    )
