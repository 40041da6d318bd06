"""How to decode: the method, its numbers, the words that must or must not come; the address names what is unusual."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.engine.engine import BEAM, beam_of
from app.state import FORBID, REQUIRE
from app.widgets.pick import pick_one
from glied.captions import DecodeOptions
from glied.vocabulary import tokenize

METHODS = ("Beam search", "Diverse groups", "Sampling")
BEAMS = (1, 2, 3, 5)
GROUPS = (2, 3, 4)
WIDTHS = (1, 2, 3)
SAMPLES = (3, 6, 10)
SEEDS = 10_000
BOUND: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


@dataclass(frozen=True)
class Way:
    """How a person wants captions to be found.

    Attributes:
        decoding: the method and its numbers. `require`, `forbid`: words that must and must not come, as they were
            typed; the captioner may not know them.
    """

    decoding: DecodeOptions
    require: tuple[str, ...]
    forbid: tuple[str, ...]


def pick_way() -> Way:
    """What is chosen under *How to decode*."""
    with st.popover("How to decode", icon=":material/tune:", key="way", width="content"):
        method = pick_one("Method", METHODS, "how", **BOUND)
        if method == "Sampling":
            decoding = _sampling()
        elif method == "Diverse groups":
            decoding = _groups()
        else:
            decoding = beam_of(_one_of("Hypotheses kept", BEAMS, "beam", BEAM, "At each step; 1 is greedy decoding"))
        require = () if method == "Sampling" else _words("Words that must come", REQUIRE.name)
        return Way(decoding, require, _words("Words that must not come", FORBID.name))


def _groups() -> DecodeOptions:
    groups = _one_of("Groups", GROUPS, "groups", 3)
    beam = groups * _one_of("Hypotheses kept in each", WIDTHS, "each", 2)
    diversity = st.slider(
        "Diversity",
        0.0,
        3.0,
        0.5,
        0.1,
        key="diversity",
        help="How far a word’s log p is lowered, to choose, for each hypothesis of an earlier group that took it at "
        "the same step; with 0 all groups find the same captions",
        **BOUND,
    )
    return DecodeOptions(beam=beam, n_best=beam, groups=groups, diversity=diversity)


def _sampling() -> DecodeOptions:
    samples = _one_of("Samples", SAMPLES, "samples", 6)
    top_p = st.slider(
        "Nucleus",
        0.05,
        1.0,
        0.9,
        0.05,
        key="nucleus",
        help="Each word is drawn among the fewest that hold this share of the probability; 1 draws among all",
        **BOUND,
    )
    seed = st.number_input("Seed", 0, SEEDS, 0, key="seed", help="The same seed draws the same captions", **BOUND)
    return DecodeOptions(method="sample", n_best=samples, top_p=top_p, seed=seed)


def _one_of(label: str, options: Iterable[int], key: str, usual: int, help: str | None = None) -> int:
    return pick_one(label, options, key, usual=usual, format_func=str, help=help, **BOUND)


def _words(label: str, key: str) -> tuple[str, ...]:
    """The words that are typed there, each once."""
    typed = st.text_input(label, key=key, max_chars=200, placeholder="dog ball", **BOUND)
    return tuple(dict.fromkeys(tokenize(typed[:200])))  # whatever the address says
