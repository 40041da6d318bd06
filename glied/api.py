"""What Python users call: `import glied` offers all of it, and loads torch when the first of it is called.

captioner = glied.load("glied-rl")
scene = glied.find_scene(glied.open_image("photo.jpg"), captioner)
caption = glied.caption(scene, captioner)
glied.trace(scene, captioner, caption.words).save("photo.npz")

`Adapter`, `AttentionFunction` and `grid_boxes` make traces of captioners that are not ours: see docs/trace.md.
In a notebook, `glied.show(glied.read("photo.jpg"))` does all of it and draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from glied import attributes as noisy_or
from glied import decode, images, replay
from glied.adapter import Adapter, grid_boxes
from glied.attributes import AttributeDetector
from glied.captions import Caption, DecodeOptions
from glied.checkpoint import Checkpoint, load_pair
from glied.data.features import open_cached
from glied.errors import GliedError
from glied.files import SHIPPED, find_detector
from glied.functions import AttentionFunction
from glied.readings import Reading
from glied.regions import RegionSource
from glied.scene import Scene
from glied.traces import Trace

__all__ = [
    "Adapter",
    "AttentionFunction",
    "Captioner",
    "caption",
    "find_scene",
    "grid_boxes",
    "load",
    "open_image",
    "trace",
]


@dataclass(frozen=True, eq=False)
class Captioner:
    """A trained captioner with the attribute detector and the region source that it was trained on."""

    checkpoint: Checkpoint
    detector: AttributeDetector
    source: RegionSource


def load(name: str | Path = "glied-rl", attributes: Path | None = None, cache: Path = Path("cache")) -> Captioner:
    """A captioner ready for photographs.

    Args:
        name: base, glied, base-rl or glied-rl, which ship with the project, or a checkpoint's file.
        attributes: file of its attribute detector; default: see `glied.files.find_detector`.
        cache: folder of converted features, for captioners that were trained on such.

    Raises:
        GliedError: no such file, a damaged one, or the wrong attribute detector.
    """
    shipped = SHIPPED / f"{name}.safetensors"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(report.stem for report in SHIPPED.glob("*.json")))  # captioners have one each
        raise GliedError(f"Expected a shipped checkpoint ({known}) or a file, got {name}; check the name.")
    checkpoint, detector = load_pair(path, attributes or find_detector(path))
    return Captioner(checkpoint, detector, open_cached(checkpoint.source, cache))


def open_image(path: str | Path) -> Image.Image:
    """The photograph in a file: upright, RGB, at most 1,333 pixels a side. Raises GliedError if it cannot be read."""
    return images.open_image(Path(path))


def find_scene(image: Image.Image, captioner: Captioner) -> Scene:
    """The regions (N boxes and features) and the attributes (M words) that a captioner sees of a photograph."""
    return noisy_or.find_scene(image, captioner.source, captioner.detector)


def caption(scene: Scene, captioner: Captioner, **options: Any) -> Caption:
    """The best caption of a scene by beam search; `options` are those of `glied.captions.DecodeOptions`."""
    return find_captions(scene, captioner, **options)[0]


def find_captions(scene: Scene, captioner: Captioner, **options: Any) -> tuple[Caption, ...]:
    """The `n_best` captions of a scene, best first; with `groups`, the best of each group, then the second of each."""
    [decoded] = decode.caption(captioner.checkpoint, [scene], DecodeOptions(**options))
    return decoded.captions


def trace(scene: Scene, captioner: Captioner, words: Sequence[str], falls: bool = True) -> Trace:
    """Every attention behind a caption of L words, and, with `falls`, how far each word falls without each region and
    attribute (see `glied.traces.Trace`)."""
    return replay.trace(captioner.checkpoint, scene, words, falls=falls)


def read(
    photograph: str | Path | Image.Image,
    captioner: Captioner | str = "glied-rl",
    words: Sequence[str] | None = None,
    prefix: Sequence[str] = (),
    **options: Any,
) -> Reading:
    """All of the above at once: a photograph, its caption, every attention and fall, and how beam search came to it.

    Args:
        photograph: a file, or what `open_image` returned.
        captioner: what `load` returned, or a name for it.
        words: a caption to read instead of the captioner's own. `prefix`: words that its own must begin with.
        options: those of `glied.captions.DecodeOptions`.

    Raises:
        GliedError: no such photograph or captioner, or no caption can begin with `prefix`.
    """
    image = photograph if isinstance(photograph, Image.Image) else open_image(photograph)
    captioner = captioner if isinstance(captioner, Captioner) else _loaded(captioner)
    return _read(image, find_scene(image, captioner), captioner, words, tuple(prefix), DecodeOptions(**options))


_loaded = lru_cache(maxsize=2)(load)  # named ones stay in memory: a notebook reads many photographs


def _read(
    image: Image.Image,
    scene: Scene,
    captioner: Captioner,
    words: Sequence[str] | None,
    prefix: tuple[str, ...],
    options: DecodeOptions,
) -> Reading:
    def read_on(prefix: tuple[str, ...]) -> Reading:
        return _read(image, scene, captioner, None, prefix, options)

    if words is not None:
        return Reading(image, trace(scene, captioner, words), (), options, None, None, read_on)
    (decoded,) = decode.caption(captioner.checkpoint, [scene], options, history=True, prefix=prefix)
    assert decoded.history
    outlook = replay.look_ahead(captioner.checkpoint, scene, decoded.history.extended())
    found = trace(scene, captioner, decoded.captions[0].words)
    return Reading(image, found, prefix, options, decoded, outlook, read_on)
