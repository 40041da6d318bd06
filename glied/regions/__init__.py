"""Image -> Regions: one interface, one module per source."""

import re
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

from PIL import Image, ImageOps

from glied.errors import GliedError
from glied.scene import Regions

Engine = Literal["fastest", "torch", "openvino"]


@runtime_checkable
class RegionSource(Protocol):
    """Finds regions in a photograph. A captioner works only with the source it was trained on.

    Attributes:
        name: name and version; changes whenever the same photograph would give other features.
        feature_dim: R, the width of a region's feature.
    """

    name: str
    feature_dim: int

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of an RGB photograph."""
        ...


def open_source(name: str = "detector", engine: Engine = "fastest") -> RegionSource:
    """The region source called `name`: `detector`, `grid` ..., or the full name that a checkpoint recorded.

    Args:
        engine: what computes the detector's networks (see `glied.regions.engine`). OpenVINO takes a second to start,
            which about ten photographs pay back.
    """
    from glied.regions.grid import Grid

    if name in ("grid", Grid.name):
        return Grid()
    if re.match(r"detector([-@]|$)", name):
        from glied.regions.detector import open_detector

        return open_detector(name, engine)
    if name.startswith("stored/"):
        from glied.regions.stored import Stored

        return Stored(name)
    if name.startswith("detectron2"):
        from glied.regions.bottom_up import open_bottom_up

        return open_bottom_up(name)
    raise GliedError(
        f"Expected a region source among detector, detector@10-100, grid ({Grid.name}), detectron2 and "
        f"stored/NAME@WIDTH, got {name!r}; "
        "use a checkpoint or cache made with one of these."
    )


def find_views(source: str, feature_dim: int) -> tuple[int, ...]:
    """Widths of the views of a region that a source's features join: three for our detector (see `Detector`), one, the
    whole feature, for any other source."""
    if not re.match(r"detector([-@]|$)", source):
        return (feature_dim,)
    from glied.regions.detector import CHANNELS

    return CHANNELS[2], feature_dim - 2 * CHANNELS[2], CHANNELS[2]


class Mirrored:
    """Another source's regions of the mirrored photograph: for training, twice the photographs."""

    def __init__(self, source: RegionSource) -> None:
        self.source, self.name, self.feature_dim = source, f"{source.name}-mirrored", source.feature_dim

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of the mirrored photograph, boxes in its pixels."""
        return replace(self.source.find_regions(ImageOps.mirror(image)), source=self.name)
