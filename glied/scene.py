"""What goes into a captioner: regions and attributes of one photograph, frozen and checked once, here."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float32

from glied.errors import GliedError

BF16 = "+bf16"  # ends the name of a region source that computes partly in bfloat16


def same_source(a: str, b: str) -> bool:
    """Whether a captioner trained on the regions of one source accepts those of the other: the sources are the same but
    for bfloat16 (docs/speed.md says what that costs)."""
    return a.removesuffix(BF16) == b.removesuffix(BF16)


def frozen(array: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """A read-only copy of `array`."""
    copy: np.ndarray = np.array(array, dtype=dtype)
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, eq=False)
class Regions:
    """N regions of a photograph.

    Attributes:
        boxes: [N, 4] x1 y1 x2 y2 in pixels of the photograph.
        features: [N, R] what the captioner sees of each region.
        size: (width, height) of the photograph in pixels.
        source: name and version of the region source, e.g. `grid-1/efficientnet-lite2`.
        labels: one per region, or empty where the source has none.
        scores: [N] confidence of each label in 0..1, or empty.
    """

    boxes: Float32[np.ndarray, "N 4"]
    features: Float[np.ndarray, "N R"]
    size: tuple[int, int]
    source: str
    labels: tuple[str, ...] = ()
    scores: Float32[np.ndarray, " S"] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if n == 0 or self.features.shape[0] != n:
            raise GliedError(
                f"Expected at least one region and one feature per box, got {n} boxes and features of "
                f"shape {self.features.shape}; check the region source {self.source}."
            )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.features).all()):
            raise GliedError(
                f"Expected finite boxes and features, got NaN or infinity; check the source {self.source}."
            )
        if (self.boxes[:, 2:] <= self.boxes[:, :2]).any():
            raise GliedError(f"Expected boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2; check the source {self.source}.")
        if len(self.labels) not in (0, n) or len(self.scores) not in (0, n):
            raise GliedError(
                f"Expected {n} labels and scores or none, got {len(self.labels)} and {len(self.scores)}; "
                f"check the source {self.source}."
            )
        object.__setattr__(self, "boxes", frozen(self.boxes))
        object.__setattr__(self, "features", frozen(self.features))
        object.__setattr__(self, "scores", frozen(self.scores))

    def check_source(self, source: str, reader: str = "checkpoint", or_else: str = "another checkpoint") -> None:
        """Raises GliedError unless these are regions of `source`, on which the `reader` was trained."""
        if not same_source(self.source, source):
            raise GliedError(
                f"Expected regions of {source}, which this {reader} was trained on, got {self.source}; use that source "
                f"or {or_else}."
            )

    def scaled(self, size: tuple[int, int]) -> "Regions":
        """The same regions in pixels of the photograph scaled to `size` (width, height)."""
        scale = np.array(size * 2, np.float32) / np.array(self.size * 2, np.float32)
        return replace(self, boxes=self.boxes * scale, size=size)


@dataclass(frozen=True, eq=False)
class Attributes:
    """M attribute words of a photograph, most probable first.

    Attributes:
        words: M distinct words.
        scores: [M] probability that the word describes the photograph (noisy-OR).
        by_region: [M, N] probability of each word in each region.
    """

    words: tuple[str, ...]
    scores: Float32[np.ndarray, " M"]
    by_region: Float32[np.ndarray, "M N"]

    def __post_init__(self) -> None:
        m = len(self.words)
        if m == 0 or len(set(self.words)) != m:
            raise GliedError(
                f"Expected at least one attribute word and no word twice, got {m} words; check the attribute detector."
            )
        if self.scores.shape != (m,) or self.by_region.shape[0] != m:
            raise GliedError(
                f"Expected {m} scores and rows by region, got {self.scores.shape} and "
                f"{self.by_region.shape}; check the attribute detector."
            )
        object.__setattr__(self, "scores", frozen(self.scores))
        object.__setattr__(self, "by_region", frozen(self.by_region))


@dataclass(frozen=True, eq=False)
class Scene:
    """A photograph as the captioner sees it."""

    regions: Regions
    attributes: Attributes

    def __post_init__(self) -> None:
        if self.attributes.by_region.shape[1] != len(self.regions.boxes):
            raise GliedError(
                f"Expected attributes over the scene's {len(self.regions.boxes)} regions, got them over "
                f"{self.attributes.by_region.shape[1]}; find the attributes in these regions."
            )


@dataclass(frozen=True)
class Edit:
    """What to change in a scene before it is captioned.

    Attributes:
        regions: positions of the regions to leave out. `attributes`: attribute words to leave out.
        added: attribute words to put in, with a score of 1 and seen in no region.
    """

    regions: tuple[int, ...] = ()
    attributes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def apply(self, scene: Scene) -> Scene:
        """The changed scene; the regions and attributes that stay keep their order, added attributes come first.

        Raises:
            GliedError: a region or attribute to leave out is not there, an attribute to add is there already, or no
                region or no attribute would be left.
        """
        N, words = len(scene.regions.boxes), scene.attributes.words
        strange = [f"region {i + 1}" for i in self.regions if not 0 <= i < N]
        strange += [f"attribute {word}" for word in self.attributes if word not in words]
        if strange:
            raise GliedError(f"Expected regions and attributes of the photograph, {strange[0]} is none; choose others.")
        if twice := [word for word in self.added if word in words or self.added.count(word) > 1]:
            raise GliedError(f"Expected new attributes, {twice[0]} is there already; add another.")
        keep = [i for i in range(N) if i not in self.regions]
        stay = [m for m, word in enumerate(words) if word not in self.attributes]
        if not keep or not (stay or self.added):
            raise GliedError("Expected at least one region and one attribute to be left; put some back.")
        old, found = scene.regions, scene.attributes
        regions = replace(
            old,
            boxes=old.boxes[keep],
            features=old.features[keep],
            labels=tuple(old.labels[i] for i in keep) if old.labels else (),
            scores=old.scores[keep] if len(old.scores) else old.scores,
        )
        new = len(self.added)
        attributes = Attributes(
            (*self.added, *(words[m] for m in stay)),
            np.concatenate([np.ones(new, np.float32), found.scores[stay]]),
            np.concatenate([np.zeros((new, len(keep)), np.float32), found.by_region[stay][:, keep]]),
        )
        return Scene(regions, attributes)


AS_IT_IS = Edit()
