"""Caption files in every layout of the field: photograph -> captions."""

import json
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from glied.errors import GliedError


def read_texts(path: Path | str) -> dict[str, list[str]]:
    """Captions by photograph, from {id: [captions]}, {id: caption}, COCO's annotations or results, or Karpathy's
    layout; `coco` names the 616,767 captions of COCO 2014 that come inside pycocoevalcap."""
    if str(path) == "coco":
        with zipfile.ZipFile(str(files("pycocoevalcap.spice") / "spice-1.0.jar")) as jar:
            contents = [jar.read(f"coco/annotations/captions_{split}2014.json") for split in ("train", "val")]
    else:
        try:
            contents = [Path(path).read_bytes()]
        except OSError as error:
            raise GliedError(
                f"Expected captions in {path}, could not read it ({error.strerror}); check the path."
            ) from error
    texts: dict[str, list[str]] = {}
    try:
        for content in map(json.loads, contents):
            for id, caption in _captions(content):
                if not isinstance(caption, str):
                    raise TypeError(f"{caption!r} is no caption")
                texts.setdefault(str(id), []).append(caption)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GliedError(
            f"Expected captions in {path} as {{id: [captions]}} or in COCO's or Karpathy's layout, found another; "
            "convert it."
        ) from error
    return texts


def _captions(content: Any) -> Iterator[tuple[object, object]]:
    """Photograph and caption, one after another."""
    if isinstance(content, list) or "annotations" in content:
        annotations = content if isinstance(content, list) else content["annotations"]
        yield from ((annotation["image_id"], annotation["caption"]) for annotation in annotations)
    elif "images" in content:
        for image in content["images"]:  # COCO's number where there is one, as in its results
            yield from ((image.get("cocoid", image["filename"]), s["raw"]) for s in image["sentences"])
    else:
        for id, captions in content.items():
            if not isinstance(captions, list | str):
                raise TypeError(f"{captions!r} is no list of captions")
            yield from ((id, caption) for caption in ([captions] if isinstance(captions, str) else captions))
