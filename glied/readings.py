"""What `glied.read` returns: a photograph, what a captioner says of it, and all that it looked at. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from glied.captions import Decoded, DecodeOptions
from glied.traces import Outlook, Trace


@dataclass(frozen=True, eq=False)
class Reading:
    """What one captioner says of a photograph, and why; `glied.show` draws it.

    Attributes:
        photograph: as the captioner saw it.
        trace: every attention behind the caption, and how far each word falls without each region and attribute.
        prefix: words that the caption was made to begin with.
        decoding: how the caption was found. `decoded`: the captions, best first, with the history of the search.
            `outlook`: the attention before each word that the search weighed. Both are None if given words were read.
        read_on: reads the photograph again, with a caption that begins with these words.
    """

    photograph: Image.Image
    trace: Trace
    prefix: tuple[str, ...]
    decoding: DecodeOptions
    decoded: Decoded | None
    outlook: Outlook | None
    read_on: Callable[[tuple[str, ...]], "Reading"]

    def __repr__(self) -> str:
        return f"Reading({self.trace.captioner}: {self.trace.text!r})"
