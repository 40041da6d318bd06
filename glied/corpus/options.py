"""What is captioned and how, and what workers report. No torch: the process that spreads the work needs none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from glied.captions import DecodeOptions
from glied.corpus.photographs import Part
from glied.errors import within

PHASES = ("reading", "regions", "captions", "writing")
CPU = "cpu"  # beside the phases: seconds of cores, which other work on the machine does not lengthen
Traces = Literal["none", "attention", "falls"]


@dataclass(frozen=True)
class Corpus:
    """Photographs to caption, in parts.

    Attributes:
        place: a folder of photographs, a Parquet file, or a folder of such. `column`: of Parquet.
        part: photographs in a part; a kill costs each worker at most one part.
    """

    place: Path
    column: str = "path"
    part: int = 100

    def __post_init__(self) -> None:
        within(self, part=(1, 1_000_000))


class PartResult(NamedTuple):
    """What a worker reports of a part: the number of its photographs, of those that could not be read, and the seconds
    that each of PHASES took, with those of CPU time."""

    photographs: int
    failed: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Captioning:
    """What every worker does with a part of a corpus: captions it, into a file of `out`.

    Attributes:
        checkpoint, attributes: files of the captioner and of its attribute detector.
        cache: folder of converted features, for captioners that were trained on such.
        traces: what is kept of the traces: nothing, all attention, or also the falls of all words.
    """

    checkpoint: Path
    attributes: Path
    cache: Path
    out: Path
    decoding: DecodeOptions = field(default_factory=DecodeOptions)
    traces: Traces = "none"

    def open(self) -> Callable[[Part], PartResult]:
        """Loads the captioner."""
        from glied.corpus.captions import open_writer

        return open_writer(self)
