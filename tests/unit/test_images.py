"""Files from strangers: what is readable comes out upright, RGB and over white; the rest gets a sentence."""

import io
import struct
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glied.errors import GliedError
from glied.images import MAX_PIXELS, SIDE, open_image


def photograph(width: int = 48, height: int = 32) -> Image.Image:
    """Red on the left, blue on the right, lighter towards the bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    pixels[..., 1] = np.linspace(0, 80, height, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_out_as_they_are(format: str, tmp_path: Path) -> None:
    data = encoded(photograph(), format, **({"lossless": True} if format == "WEBP" else {}))
    path = tmp_path / "a"
    path.write_bytes(data)
    for image in (open_image(data), open_image(path)):
        assert image.mode == "RGB"
        np.testing.assert_array_equal(image, photograph())


def test_jpeg_is_close() -> None:
    image = open_image(encoded(photograph(), "JPEG", quality=95))
    assert np.abs(np.asarray(image, int) - np.asarray(photograph(), int)).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    turned = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_270),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_90),
    }[orientation](photograph())
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(photograph(), "PNG", exif=exif))
    np.testing.assert_array_equal(image, turned)


def test_cmyk_becomes_rgb() -> None:
    image = open_image(encoded(photograph().convert("CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB"
    red, blue = np.asarray(image)[5, 5], np.asarray(image)[5, -5]
    assert red[0] > 150 > 80 > red[2]
    assert blue[2] > 150 > 80 > blue[0]


def test_transparency_lies_over_white() -> None:
    rgba = photograph().convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:16] = 0
    alpha[16:24] = 128
    rgba.putalpha(Image.fromarray(alpha))
    image = np.asarray(open_image(encoded(rgba)), int)
    original = np.asarray(photograph(), int)
    assert (image[:16] == 255).all()
    assert np.abs(image[16:24] - (original[16:24] * 128 + 255 * 127) / 255).max() <= 1
    np.testing.assert_array_equal(image[24:], original[24:])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_palette_lies_over_white(format: str) -> None:
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0])
    palette.paste(0, (0, 0, 10, 20))
    image = np.asarray(open_image(encoded(palette, format, transparency=0)))
    assert (image[:, :10] == 255).all()
    assert (image[:, 10:] == (250, 0, 0)).all()


def test_grey_with_transparency() -> None:
    image = np.asarray(open_image(encoded(Image.new("LA", (20, 20), (100, 0)))))
    assert (image == 255).all()
    assert (np.asarray(open_image(encoded(Image.new("L", (20, 20), 77)))) == 77).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_deep_grey_keeps_its_gradations(format: str) -> None:
    ramp = np.linspace(1000, 60000, 32 * 48).reshape(32, 48).astype(np.uint16)
    image = np.asarray(open_image(encoded(Image.fromarray(ramp), format)))
    assert image.shape == (32, 48, 3)
    assert (image[..., 0] == image[..., 2]).all()
    expected = (ramp.astype(float) - 1000) * 255 / 59000
    assert np.abs(image[..., 0] - expected).max() <= 1
    flat = np.asarray(open_image(encoded(Image.fromarray(np.full((20, 20), 30000, np.uint16)), format)))
    assert (flat == flat[0, 0]).all()


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "WEBP", "PNG"):
        extra = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **extra)
        assert (np.asarray(open_image(data)) == (255, 0, 0)).all(), format


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_truncated_file_is_one_sentence(format: str) -> None:
    data = encoded(photograph(200, 150), format)
    for kept in (0, 1, 10, len(data) // 2):
        with pytest.raises(GliedError, match=r"Expected .*portrait\.x"):
            open_image(data[:kept], "portrait.x")


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", ""]))
def test_garbage_never_escapes_as_another_error(garbage: bytes, format: str) -> None:
    """Whatever bytes follow a good beginning: an image or a GliedError."""
    start = encoded(photograph(), format)[:60] if format else b""
    with suppress(GliedError):
        assert open_image(start + garbage).mode == "RGB"


def test_text_and_svg_are_refused() -> None:
    for data in (b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4"):
        with pytest.raises(GliedError, match="the file is damaged or of another kind"):
            open_image(data)


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_tiny_image_is_refused_with_its_size(size: tuple[int, int]) -> None:
    with pytest.raises(GliedError, match=f"{size[0]} x {size[1]}"):
        open_image(encoded(Image.new("RGB", size)))
    assert open_image(encoded(Image.new("RGB", (16, 16)))).size == (16, 16)


@pytest.mark.parametrize("size", [(10_000, 6_000), (12_000, 12_000), (30_000, 30_000), (2_000_000, 2_000_000)])
def test_giant_image_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(GliedError, match=f"at most 50 megapixels, giant.png has (far more|{size[0]} x {size[1]})"):
        open_image(png_header(*size), "giant.png")
    assert size[0] * size[1] > MAX_PIXELS


def test_limit_on_pixels_can_be_set() -> None:
    data = encoded(photograph(100, 100))
    assert open_image(data, max_pixels=10_000).size == (100, 100)
    with pytest.raises(GliedError, match="100 x 100"):
        open_image(data, max_pixels=9_999)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_photographs_are_scaled_down_and_say_how_large_they_are(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(2000, 1000), format, exif=exif)
    turn = slice(None, None, -1 if orientation == 6 else 1)
    for side, expected in ((SIDE, (1333, 666)), (100, (100, 50)), (None, (2000, 1000)), (3000, (2000, 1000))):
        image = open_image(data, "large", side=side)
        assert image.size == pytest.approx(expected[turn], abs=1)
        assert image.info == {"name": "large", "sha256": sha256(data).hexdigest(), "size": (2000, 1000)[turn]}
        assert image.copy().info == image.info


def test_missing_file_and_folder_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GliedError, match=r"nowhere\.jpg.*No such file"):
        open_image(tmp_path / "nowhere.jpg")
    with pytest.raises(GliedError, match="is a folder; name its files"):
        open_image(tmp_path)
