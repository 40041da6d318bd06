"""Parts of a corpus -> Parquet files: a row for each photograph with what the captioner finds in it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glied.attributes import AttributeDetector
from glied.captions import Decoded
from glied.checkpoint import Checkpoint, load_pair
from glied.corpus.options import CPU, PHASES, Captioning, PartResult
from glied.corpus.photographs import Part
from glied.data.features import open_cached
from glied.decode import caption
from glied.errors import GliedError
from glied.files import replacing
from glied.images import open_image
from glied.regions import RegionSource
from glied.replay import trace
from glied.scene import Scene

BATCH = 50  # photographs that are decoded together
Seen = tuple[dict[str, Any], Scene | None]

_CAPTION = {"caption": pa.string(), "log_probability": pa.float64(), "score": pa.float64()}
_BOX = {name: pa.float32() for name in ("x1", "y1", "x2", "y2")}
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        **_CAPTION,
        "captions": pa.list_(pa.struct(_CAPTION)),
        "attributes": pa.list_(pa.struct({"word": pa.string(), "score": pa.float32()})),
        "regions": pa.list_(pa.struct({**_BOX, "label": pa.string(), "score": pa.float32()})),
        "width": pa.int32(),
        "height": pa.int32(),
        "error": pa.string(),
        "trace": pa.binary(),
    }
)


def open_writer(options: Captioning) -> Callable[[Part], PartResult]:
    """Loads the captioner, for any number of parts."""
    checkpoint, detector = load_pair(options.checkpoint, options.attributes)
    return partial(write_part, options, checkpoint, detector, open_cached(checkpoint.source, options.cache))


def write_part(
    options: Captioning, checkpoint: Checkpoint, detector: AttributeDetector, source: RegionSource, part: Part
) -> PartResult:
    """Captions the photographs of a part, BATCH at a time, into its file, unless that is there already.

    Each worker does two phases in turn: it finds the regions of each photograph, then the captions of the batch. The
    features between the phases are by far the largest data, and never leave the worker.
    """
    target = options.out / part.file
    if target.exists():  # by a worker that was thought dead
        return PartResult(len(part.photographs), 0, {})
    failed, spent, start = 0, dict.fromkeys(PHASES, 0.0), time.process_time()
    try:
        with replacing(target) as aside, pq.ParquetWriter(aside, SCHEMA, compression="zstd") as writer:
            photographs = iter(part.photographs)
            while batch := list(islice(photographs, BATCH)):
                seen = [_read_photograph(name, held, source, detector, spent) for name, held in batch]
                failed += sum(scene is None for _, scene in seen)
                with _timed(spent, "captions"):
                    rows = _caption(seen, checkpoint, options)
                with _timed(spent, "writing"):
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    except GliedError:
        if not target.exists():  # else another run wrote it, and deleted the file that was written aside
            raise
    return PartResult(len(part.photographs), failed, spent | {CPU: time.process_time() - start})


def _read_photograph(
    name: str,
    held: Path | bytes | GliedError,
    source: RegionSource,
    detector: AttributeDetector,
    spent: dict[str, float],
) -> Seen:
    """The row of a photograph without its caption, and its scene; the scene is None where it cannot be read."""
    try:
        if isinstance(held, GliedError):
            raise held
        with _timed(spent, "reading"):
            image = open_image(held, name if isinstance(held, bytes) else "")
        with _timed(spent, "regions"):
            regions = source.find_regions(image)
            attributes = detector.find_attributes(regions)
    except GliedError as error:
        return {"path": name, "error": str(error)}, None
    width, height = image.info["size"]
    x1, y1, x2, y2 = regions.scaled((width, height)).boxes.T.tolist()
    nothing = (None,) * len(x1)
    labels, scores = regions.labels or nothing, regions.scores.tolist() or nothing
    row = {
        "path": name,
        "attributes": _rows(word=attributes.words, score=attributes.scores.tolist()),
        "regions": _rows(x1=x1, y1=y1, x2=x2, y2=y2, label=labels, score=scores),
        "width": width,
        "height": height,
    }
    return row, Scene(regions, attributes)


def _caption(seen: Sequence[Seen], checkpoint: Checkpoint, options: Captioning) -> list[dict[str, Any]]:
    """The rows with the captions of their scenes."""
    scenes = [scene for _, scene in seen if scene is not None]
    decoded = iter(caption(checkpoint, scenes, options.decoding) if scenes else ())
    return [row if scene is None else row | _describe(next(decoded), scene, checkpoint, options) for row, scene in seen]


def _describe(decoded: Decoded, scene: Scene, checkpoint: Checkpoint, options: Captioning) -> dict[str, Any]:
    captions = [{"caption": c.text, "log_probability": c.log_probability, "score": c.score} for c in decoded.captions]
    found = {**captions[0], "captions": captions}
    if options.traces != "none":
        found["trace"] = trace(checkpoint, scene, decoded.captions[0].words, options.traces == "falls").packed()
    return found


def _rows(**columns: Iterable[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@contextmanager
def _timed(spent: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[phase] += time.perf_counter() - start
