"""Whatever a stranger sends becomes an upright RGB photograph or a sentence."""

import io
import struct
import subprocess
import sys
import tomllib
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from app.photographs.photograph import own_photograph
from app.photographs.uploads import MAX_BYTES, MAX_PIXELS, open_upload
from app.widgets.shared import UNPACKED
from glied.errors import GliedError
from glied.images import SCANS, SIDE
from glied.traces import HEADS, MOST


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes: its size, and pixels that never come."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)))
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


PHOTOGRAPH = Image.linear_gradient("L").convert("RGB").resize((64, 48))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_photographs_are_taken(format: str):
    assert open_upload(encoded(PHOTOGRAPH, format)).size == (64, 48)


def test_a_phone_photograph_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert open_upload(encoded(PHOTOGRAPH, "JPEG", exif=exif)).size == (48, 64)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colours_become_rgb(mode: str):
    assert open_upload(encoded(PHOTOGRAPH.convert(mode), "JPEG")).mode == "RGB"


def test_what_is_transparent_becomes_white():
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert open_upload(encoded(clear, "PNG")).getpixel((5, 5)) == (255, 255, 255)


def test_large_photographs_are_scaled_down():
    assert open_upload(encoded(Image.new("RGB", (3000, 1500)), "JPEG")).size == (SIDE, 667)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "another kind"),
        (b"xx", "another kind"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "another kind"),
        (encoded(PHOTOGRAPH, "GIF"), "another kind"),
        (encoded(PHOTOGRAPH, "TIFF"), "another kind"),
        (encoded(PHOTOGRAPH, "JPEG")[:400], "damaged"),
        (encoded(PHOTOGRAPH, "PNG")[:60], "damaged"),
        (b"\xff\xd8\xff" + bytes(100), "damaged"),
        (png_that_claims(9000, 9000), "megapixels"),
        (encoded(PHOTOGRAPH.resize((8, 8)), "PNG"), "16 x 16"),
        (b"\xff\xd8\xff" + bytes(MAX_BYTES), "25 MB"),
    ],
    ids=[
        "nothing",
        "text",
        "svg",
        "gif",
        "tiff",
        "half a jpeg",
        "half a png",
        "zeros",
        "81 MP",
        "8 x 8",
        "too many bytes",
    ],
)
def test_anything_else_gets_a_sentence(data: bytes, said: str):
    with pytest.raises(GliedError, match=said):
        open_upload(data)


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]):
    with pytest.raises(GliedError):
        open_upload(png_that_claims(*size))


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    """Each scan costs time with all pixels, and needs but a few bytes: 8 MB of them would decode for hours."""
    data = encoded(Image.new("RGB", (640, 480), "grey"), "JPEG", progressive=True)
    at = data.rfind(b"\xff\xda")
    scans = data.count(b"\xff\xda")
    allowed = data[:at] + data[at:-2] * (SCANS - scans + 1) + b"\xff\xd9"
    assert open_upload(allowed).size == (640, 480)
    embedded = data[:2] + b"\xff\xe1" + (2 + 200).to_bytes(2) + b"\xff\xda" * 100 + data[2:] + b"\xff\xda" * 100
    assert open_upload(embedded).size == (640, 480)  # none of these is a scan
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it was decoded"))
    for count in (1, 100_000):
        with pytest.raises(GliedError, match="64 scans"):
            open_upload(allowed[:-2] + data[at:-2] * count + b"\xff\xd9")


def test_the_page_about_security_states_the_limits(root: Path):
    text = (root / "docs" / "security.md").read_text()
    streamlit = tomllib.loads((root / "app" / ".streamlit" / "config.toml").read_text())["server"]
    assert streamlit["maxUploadSize"] * 2**20 == MAX_BYTES
    stated = (
        f"| a file | {MAX_BYTES // 2**20} MB |",
        f"| a message from the browser | {streamlit['maxMessageSize']} MB |",
        f"{MAX_PIXELS // 10**6} million pixels",
        f"{SCANS} scans",
        f"{UNPACKED // 2**20} MB unpacked",
        f"{MOST['regions']:,} regions, {MOST['attributes']:,} attributes, {MOST['words']} words, {HEADS} heads",
    )
    assert not [words for words in stated if words not in text]


def test_the_app_is_closed_by_default(root: Path):
    streamlit = tomllib.loads((root / "app" / ".streamlit" / "config.toml").read_text())["server"]
    assert (streamlit["address"], streamlit["enableCORS"], streamlit["enableXsrfProtection"]) == (
        "127.0.0.1",
        True,
        True,
    )
    made = subprocess.run(["make", "-n", "app"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "--host 127.0.0.1" in made
    made = subprocess.run(["make", "-n", "app", "HOST=::"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "--host ::" in made


def test_an_upload_is_known_by_its_bytes_alone():
    data = encoded(PHOTOGRAPH, "PNG")
    first, second = own_photograph(data), own_photograph(data)
    assert first == second
    assert first.title == "Your photograph"


def test_a_large_file_is_held_once():
    """What Streamlit holds is read in place: its bytes are never copied, and nothing of them is kept."""
    noise = np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=98)
    assert 10 * 2**20 < len(data) < MAX_BYTES
    own_photograph(encoded(PHOTOGRAPH, "JPEG"))  # what is loaded once for all
    before = sys.getrefcount(data)
    tracemalloc.start()
    try:
        taken = own_photograph(io.BytesIO(data).getvalue())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(data) / 2
    assert sys.getrefcount(data) == before
    assert len(taken.jpeg) < len(data) / 10


def test_a_slender_picture_is_refused():
    with pytest.raises(GliedError, match=r"6 times as long as wide.*700 x 100"):
        open_upload(encoded(Image.new("RGB", (700, 100)), "PNG"))
    assert open_upload(encoded(Image.new("RGB", (600, 100)), "PNG")).size == (600, 100)
