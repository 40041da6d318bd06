"""Bytes from a stranger -> a photograph, checked before it is decoded."""

from PIL import Image

from glied.errors import GliedError
from glied.images import open_image

MAX_BYTES = 25 * 2**20
MAX_PIXELS = 24_000_000
SLENDER = 6  # long side over short side
TYPES = ("jpg", "jpeg", "png", "webp")


def open_upload(data: bytes, slender: float = SLENDER) -> Image.Image:
    """An upright RGB photograph, at most `slender` times as long as wide, as `open_image` scales it.

    Raises:
        GliedError: more than MAX_BYTES or MAX_PIXELS, no JPEG, PNG or WebP, damaged, too small or too slender.
    """
    if len(data) > MAX_BYTES:
        raise GliedError(
            f"Expected at most {MAX_BYTES / 2**20:.0f} MB, your file has {len(data) / 2**20:.1f}; save it smaller."
        )
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not (webp or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))):
        raise GliedError("Expected a JPEG, PNG or WebP photograph, your file is of another kind; export it as JPEG.")
    image = open_image(data, "your file", MAX_PIXELS)
    width, height = image.info["size"]
    if max(width, height) > slender * min(width, height):
        raise GliedError(
            f"Expected a photograph at most {slender} times as long as wide, your file has {width} x {height}; crop it."
        )
    return image
