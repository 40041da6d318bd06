"""Files and bytes from strangers -> RGB photographs, checked before they are decoded."""

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from glied.errors import GliedError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
MIN_SIDE = 16


def open_image(
    source: Path | bytes, name: str = "", max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Image.Image:
    """The photograph in a file or in bytes: first frame, upright by its EXIF tag, RGB over white.

    Its `info`, and that of its copies, says which it is: `name`, and `sha256` of the bytes.

    Args:
        at_least: for a thumbnail: a large JPEG may be decoded smaller, but no side below this many pixels.

    Raises:
        GliedError: no image, a format not in FORMATS, damaged, smaller than MIN_SIDE or larger than max_pixels.
    """
    name = name or (source.name if isinstance(source, Path) else "the file")
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise GliedError(
                f"Expected an image at {source}, could not open it ({error.strerror}); check the path."
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
                    f"Expected at most {max_pixels / 1e6:.0f} megapixels, {name} has "
                    f"{width} x {height}; scale it down first."
                )
            if min(width, height) < MIN_SIDE:
                raise GliedError(
                    f"Expected an image of at least {MIN_SIDE} x {MIN_SIDE} pixels, {name} has "
                    f"{width} x {height}; choose a larger one."
                )
            if at_least:
                image.draft("RGB", (at_least, at_least))  # a JPEG is decoded at half, a quarter ... of its size
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I;16", "I;16B", "I", "F"):  # deep greyscale: Pillow would clip, not scale
                deep = np.asarray(image, np.float64)
                image = Image.fromarray((255 * (deep - deep.min()) / (np.ptp(deep) or 1)).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("RGB")
            image.info = {"name": name, "sha256": hashlib.sha256(data).hexdigest()}
            return image
    except GliedError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, far above ours
        raise GliedError(
            f"Expected at most {max_pixels / 1e6:.0f} megapixels, {name} has far more; scale it down first."
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise GliedError(
            f"Expected a readable {', '.join(FORMATS[:3])} or similar image, {name} is damaged or of "
            "another kind; export it again as JPEG or PNG."
        ) from error
