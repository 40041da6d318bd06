"""Files and bytes from strangers -> RGB photographs, checked before they are decoded."""

import hashlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from glied.errors import GliedError
from glied.records import reason, shown

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
SIDE = 1333  # pixels; more than any region source looks at
MIN_SIDE = 16
SCANS = 64  # of a progressive JPEG, which has about ten; each costs time with all pixels, however few its bytes
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")


def open_image(
    source: Path | bytes, name: str = "", max_pixels: int = MAX_PIXELS, side: int | None = SIDE
) -> Image.Image:
    """The photograph in a file or in bytes: first frame, upright by its EXIF tag, RGB over white.

    A large photograph is scaled down here, so that all that read it see the same pixels. The `info` of the image and of
    its copies has its `name` (the path of a file), the `sha256` of the bytes, and `size`, the width and height before
    scaling.

    Args:
        side: no side will be longer, in pixels; None for the whole photograph.

    Raises:
        GliedError: no image, a format not in FORMATS, damaged, smaller than MIN_SIDE or larger than max_pixels.
    """
    name = name or (str(source) if isinstance(source, Path) else "the file")
    told = shown(name, 300)
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except IsADirectoryError as error:
            raise GliedError(f"Expected an image, {told} is a folder; name its files.") from error
        except (OSError, ValueError) as error:
            raise GliedError(
                f"Expected an image at {told}, could not open it ({reason(error)}); check the path."
            ) from error
    else:
        data = source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning comes later than our check
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise GliedError(
                    f"Expected at most {max_pixels / 1e6:.0f} megapixels, {told} has "
                    f"{width} x {height}; scale it down first."
                )
            if min(width, height) < MIN_SIDE:
                raise GliedError(
                    f"Expected an image of at least {MIN_SIDE} x {MIN_SIDE} pixels, {told} has "
                    f"{width} x {height}; choose a larger one."
                )
            if image.format in ("JPEG", "MPO") and _count_scans(data) > SCANS:
                raise GliedError(f"Expected at most {SCANS} scans in a JPEG file, {name} has more; save it again.")
            if side:
                image.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at half, a quarter ... of its size
            image.load()
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I;16", "I;16B", "I", "F"):  # deep greyscale: Pillow would clip, not scale
                deep = np.asarray(image, np.float64)
                image = Image.fromarray((255 * (deep - deep.min()) / (np.ptp(deep) or 1)).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("RGB")
            if side:
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
            size = (height, width) if turned else (width, height)
            image.info = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": size}
            return image
    except GliedError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, far above ours
        raise GliedError(
            f"Expected at most {max_pixels / 1e6:.0f} megapixels, {told} has far more; scale it down first."
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise GliedError(
            f"Expected a readable {', '.join(FORMATS[:3])} or similar image, {told} is damaged or of "
            "another kind; export it again as JPEG or PNG."
        ) from error


def _count_scans(jpeg: bytes) -> int:
    """Scans of a JPEG file's first picture, up to one more than SCANS."""
    scans, at = 0, 2
    while scans <= SCANS and (found := MARKER.search(jpeg, at)) and found[1] != b"\xd9":  # D9 ends the picture
        scans += found[1] == b"\xda"
        at = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return scans
