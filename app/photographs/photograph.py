"""A photograph that has been opened."""

import base64
import io
from dataclasses import dataclass, field

from PIL import Image

from app.photographs.uploads import open_upload
from glied.traces import Trace

SIDE = 900  # pixels of the photograph that is shown


@dataclass(frozen=True)
class Photograph:
    """A photograph that has been opened; two are the same if their files' bytes are.

    Attributes:
        key: SHA-256 of the file. `id`: what the address of the page calls it.
        alt: what it shows, for those who cannot see it.
        image: what captioners see. `jpeg`: the file that a page shows, SIDE pixels at most.
    """

    key: str
    id: str = field(compare=False)
    title: str = field(compare=False)
    alt: str = field(compare=False)
    credit: str = field(compare=False)
    image: Image.Image = field(compare=False, repr=False)
    jpeg: bytes = field(compare=False, repr=False)

    @property
    def url(self) -> str:
        """The JPEG as a page holds it."""
        return data_url(self.jpeg)


@dataclass(frozen=True)
class Shared:
    """A trace that came as a file, the photograph that it is of, and what the file was called."""

    trace: Trace
    photograph: Photograph
    name: str


def make_photograph(image: Image.Image, id: str, title: str, alt: str, credit: str = "") -> Photograph:
    """The photograph that `open_image` has opened, with the file that a page shows."""
    copy = image.copy()
    copy.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Photograph(image.info["sha256"], id, title, alt, credit, image, as_jpeg(copy))


def own_photograph(data: bytes, alt: str = "The photograph you uploaded") -> Photograph:
    """A person's upload or camera picture; its file name is never used."""
    return make_photograph(open_upload(data), "yours", "Your photograph", alt)


def as_jpeg(image: Image.Image) -> bytes:
    """The photograph as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def as_png_url(image: Image.Image) -> str:
    """A small picture without loss, as an address that needs no server."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return data_url(buffer.getvalue(), "png")


def data_url(data: bytes, kind: str = "jpeg") -> str:
    """A file of a picture as an address that needs no server."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
