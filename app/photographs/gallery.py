"""The photographs to choose from: those shipped here, and a folder of one's own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from app.photographs.photograph import Photograph, as_jpeg, data_url, make_photograph
from glied.data.dataset import Photograph as Captioned
from glied.data.dataset import load_dataset
from glied.errors import GliedError
from glied.files import as_text
from glied.images import MAX_PIXELS, MIN_SIDE, open_image
from glied.terminal import show

FOLDER = "GLIED_IMAGES"
MOST = 1000
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Entry:
    """A photograph of the gallery, not opened yet."""

    id: str
    title: str
    alt: str
    credit: str
    path: Path


# file beside this one, title, what it shows, credit. All ship here. Photographs that the captioners describe well come
# first, those unlike their training photographs last. More in app/photographs/CREDITS.md
INSIDE = (
    ("grace_hopper.jpg", "Grace Hopper", "A naval officer in uniform, arms crossed",
     "U.S. Navy, public domain; Matplotlib"),
    ("camera.png", "Photographer", "A man with a camera on a tripod, on a lawn",
     "Lav Varshney, CC0; scikit-image"),
    ("kitten.jpg", "Kitten", "A kitten on its back with a ball of wool, on a pink cloth",
     "Loliloli, public domain; GCompris"),
    ("giraffes.jpg", "Giraffes", "Two giraffes stand side by side in front of trees",
     "Mike and Lara Wolfe, public domain; GCompris"),
    ("motorcycle_left.png", "Motorcycle", "A motorcycle in a garage",
     "D. Scharstein et al., Middlebury stereo data 2014; scikit-image"),
    ("kitchen.jpg", "Kitchen", "A kitchen with a stove, a dishwasher, a sink and brown cupboards",
     "MIT, CC BY-SA 3.0; Scratch"),
    ("chelsea.png", "Chelsea the cat", "A tabby cat's face", "Stéfan van der Walt, CC0; scikit-image"),
    ("coffee.png", "Coffee", "A cup of espresso with a spoon on a wooden table",
     "Rachel Michetti, CC0; scikit-image"),
    ("horses.jpg", "Horses", "Three horses and two foals in a meadow, one foal lying down",
     "Seth Zeigler, public domain; GCompris"),
    ("spaniels.jpg", "Spaniels", "Two brown spaniels look out of a window of a wooden house",
     "Aitzol Berasategi, CC BY 4.0, cropped; Lomiri wallpapers"),
    ("bridge.jpg", "Bridge", "A lit suspension bridge over a river at night, a boat below it",
     "Derek Jensen, public domain; Palapeli"),
    ("china.jpg", "Summer Palace", "A Chinese temple among trees by the water",
     "danielbuechele, CC BY 2.0; scikit-learn"),
    ("musicians.jpg", "Mariachi",
     "Musicians in black suits with red bows play trumpets and guitars, one smiles",
     "Elidealista, public domain; GCompris"),
    ("astronaut.png", "Eileen Collins", "An astronaut in an orange suit, smiling, a flag behind her",
     "NASA, public domain; scikit-image"),
    ("baseball.jpg", "Ballpark", "An empty baseball field, its stands full of people",
     "MIT, CC BY-SA 3.0; Scratch"),
    ("rocket.jpg", "Rocket", "A rocket on its launch pad at dusk",
     "SpaceX, public domain; scikit-image"),
    ("flower.jpg", "Dahlia", "A flower in bloom, close up",
     "vultilion, CC BY 2.0; scikit-learn"),
)  # fmt: skip


@lru_cache(maxsize=4)
def entries(folder: str | None = None) -> tuple[tuple[Entry, ...], int]:
    """The gallery, the first MOST photographs of a folder before ours, and how many of its files were left out.

    Of a data set, those that nobody trains on come first.
    """
    inside = tuple(
        Entry(name.split(".")[0], title, alt, credit, Path(__file__).with_name(name))
        for name, title, alt, credit in INSIDE
    )
    if not folder:
        return inside, 0
    home = Path(folder).expanduser()
    if not home.is_dir():
        raise GliedError(f"Expected a folder of photographs at {home}, there is none; correct IMAGES.")
    home = home / "images" if (home / "images").is_dir() else home
    known = {p.id: p.split in ("train", "restval") for p in _photographs(folder)}
    found = (f for f in home.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
    named = sorted(found, key=lambda file: (known.get(as_text(file.name), False), file))
    folders = sorted(f.name for f in home.iterdir() if f.is_dir())
    if folders and not named:
        raise GliedError(
            f"Expected photographs in {home}, found none, but {len(folders)} folder(s) such as {folders[0]}; "
            "name one of these with IMAGES."
        )
    good = [f for f in named[:MOST] if _readable(f)]
    own = tuple(Entry(as_text(f.name), show(f.stem), f"Photograph {show(f.stem)}", "", f) for f in good)
    return own + inside, len(named) - len(good)


def _readable(path: Path) -> bool:
    """Whether the head of the file is that of an image we take; its pixels are not read."""
    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
            return min(image.size) >= MIN_SIDE and image.width * image.height <= MAX_PIXELS
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read_entry(entry: Entry) -> Photograph:
    """Reads and decodes a photograph of the gallery."""
    return make_photograph(open_image(entry.path, entry.path.name), entry.id, entry.title, entry.alt, entry.credit)


open_entry = lru_cache(maxsize=16)(read_entry)  # the photographs that people look at


@lru_cache(maxsize=MOST)
def thumbnail(entry: Entry, side: int = 128) -> str:
    """A data URL, `side` pixels a side at most."""
    return data_url(as_jpeg(open_image(entry.path, entry.path.name, side=side)))


@lru_cache(maxsize=4)
def human_captions(folder: str | None) -> dict[str, tuple[str, ...]]:
    """File name -> what people wrote, where the folder or its parent is a data set."""
    return {p.id: p.captions for p in _photographs(folder)}


def _photographs(folder: str | None) -> Sequence[Captioned]:
    home = Path(folder or "").expanduser()
    for data in [home, home.parent] if folder else []:
        try:
            return load_dataset(data).photographs
        except GliedError:  # no data set, or another kind of captions.json
            continue
    return ()


def folder() -> str | None:
    """The folder of photographs that this app was started with."""
    return os.environ.get(FOLDER) or None
