"""The board: a photograph, its regions and the words about it; what follows the pointer never leaves the browser."""

import json
from collections.abc import Callable
from functools import lru_cache

from analysis.components import PHOTO, board_functions, board_payload
from app.components.parts import beginning, component
from app.engine.reports import reported_key_shares
from app.photographs.photograph import Photograph
from app.state import CHOICE, Choice, Key, Sent
from glied.traces import Trace

_board = component(*PHOTO, "matrix", "board")


def board(trace: Trace, photograph: Photograph, key: Key[Sent], on_choice: Callable[[], None]) -> None:
    """Draws the board of a trace; `on_choice` is called after every choice of a word, head or region, which
    `app.state.choose` takes over."""
    choice = CHOICE.get()
    own = choice if choice.trace == trace.digest else Choice()
    title, shares = reported_key_shares(trace.checkpoint)
    reported = {name: round(shares[f.name], 2) for name, f in board_functions(trace).items() if f and f.name in shares}
    shown = {
        "digest": trace.digest,
        "trace": packed(trace),
        "photo": photograph.url,
        "alt": photograph.alt,
        "start": beginning(own.step) | {"region": own.region},
        "reported": reported | {"over": title},
    }
    _board(key=key.name, data=shown, on_choice_change=on_choice)


@lru_cache(maxsize=16)
def packed(trace: Trace) -> str:
    """The payload as JSON: cached, so not written again at every click; the browser parses it once, when it draws."""
    return json.dumps(board_payload(trace))
