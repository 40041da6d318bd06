"""Caption files in the usual layouts: photograph -> captions."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from glied.errors import GliedError
from glied.records import DAMAGE, Images, as_id, read_json, reason, refuse, shown, tell_strangers

WHAT = "captions as {id: [captions]} or in COCO's or Karpathy's layout"


class Texts(NamedTuple):
    """Captions by photograph.

    Attributes:
        also: another name of a photograph in the file, for example its file name -> its id.
        problems: a sentence for each thing that was left out.
    """

    captions: dict[str, list[str]]
    also: dict[str, str]
    problems: list[str]


class Said(NamedTuple):
    """Captions of a photograph as a file has them, not checked yet, and what else it is called."""

    id: object
    captions: list[object]
    name: object = None


def read_texts(path: Path | str) -> Texts:
    """Captions by photograph, from {id: [captions]}, {id: caption}, COCO's annotations or results, Karpathy's layout,
    or what `caption --json` and `evaluate` wrote; `coco` names the 616,767 captions of COCO 2014 that come inside
    pycocoevalcap."""
    if str(path) == "coco":
        with zipfile.ZipFile(str(files("pycocoevalcap.spice") / "spice-1.0.jar")) as jar:
            names = [f"coco/annotations/captions_{split}2014.json" for split in ("train", "val")]
            return _collect(Path(path), [json.loads(jar.read(name)) for name in names], [])
    content, problems = read_json(Path(path), WHAT, "convert it")
    return _collect(Path(path), [content], problems)


def _collect(path: Path, contents: list[Any], problems: list[str]) -> Texts:
    found = Texts({}, {}, problems)
    for content in contents:
        try:
            for said in _captions(content):
                try:
                    _add(said, found)
                except (ValueError, TypeError) as error:
                    problems.append(f"{shown(said.id)}: a caption was left out, {reason(error)}")
        except DAMAGE as error:
            raise refuse(WHAT, path, reason(error), "convert it") from error
    if not found.captions:
        why = f"none can be used: {problems[0]}" if problems else "it has none"
        raise refuse(WHAT, path, why, "convert it")
    return found


def _add(said: Said, found: Texts) -> None:
    id = as_id(said.id)
    if not said.captions and said.name is None:
        found.problems.append(f"{shown(id)}: left out, it has no caption")
    for caption in said.captions:
        if not isinstance(caption, str):
            found.problems.append(f"{shown(id)}: a caption was left out, {shown(caption)} is no text")
        else:
            found.captions.setdefault(id, []).append(caption)
    if isinstance(said.name, str) and said.name and id in found.captions:
        found.also[said.name] = id


def _captions(content: Any) -> Iterator[Said]:
    """Photographs and their captions, one after another."""
    if not isinstance(content, list | dict):
        raise ValueError("it is neither a list nor an object")
    if isinstance(content, list) or "annotations" in content:
        annotations = content if isinstance(content, list) else content["annotations"]
        if not isinstance(annotations, list):
            raise ValueError("no list of annotations in it")
        yield from map(_said, annotations)
        listed = [] if isinstance(content, list) else content.get("images")
        for image in listed if isinstance(listed, list) else []:  # which files these are
            if isinstance(image, dict) and "id" in image:
                yield Said(image["id"], [], image.get("file_name", ""))
    elif isinstance(content.get("images"), dict):  # a report of `evaluate` or `score`
        for id, image in content["images"].items():
            yield Said(id, [image.get("caption") if isinstance(image, dict) else None])
    elif "images" in content:
        if not isinstance(content["images"], list):
            raise ValueError("no list of images in it")
        yield from map(_said_of_image, content["images"])
    elif isinstance(content.get("captions"), list) and "image" in content:  # the one line of `caption --json`
        yield _said(content)
    else:
        for id, captions in content.items():
            yield Said(id, captions if isinstance(captions, list) else [captions])


def _said(record: Any) -> Said:
    """A record of COCO's annotations or results, or of `caption --json`, whose best caption comes first."""
    if not isinstance(record, dict):
        return Said(record, [None])
    id = record.get("image_id", record.get("image"))
    if "caption" not in record and isinstance(record.get("captions"), list) and record["captions"]:
        record = record["captions"][0]
    return Said(id, [record.get("caption") if isinstance(record, dict) else record])


def _said_of_image(image: Any) -> Said:
    """One of Karpathy's records; COCO's number is its id where there is one, as in COCO's results."""
    if not isinstance(image, dict):
        return Said(image, [None])
    name, sentences = image.get("filename"), image.get("sentences")
    raw = [s.get("raw") if isinstance(s, dict) else s for s in sentences] if isinstance(sentences, list) else []
    return Said(image.get("cocoid", name), raw, name if raw else None)


def pair(references: Texts, captions: Texts) -> tuple[dict[str, list[str]], dict[str, str], list[str]]:
    """References and the caption of every photograph with a caption, under the references' ids, and a sentence for each
    thing that was left out.

    Raises:
        GliedError: a photograph has several captions, or captions have no references.
    """
    known = Images(references.captions, references.also)
    spoken: dict[str, str] = {}
    callers: dict[str, str] = {}
    strangers = []
    for id, texts in captions.captions.items():
        own = known.find(id)
        if own is None:
            strangers.append(id)
            continue
        if len(texts) > 1 or own in spoken:
            twice = f", as {shown(callers[own])} too" if own in spoken else f" has {len(texts)}"
            raise GliedError(f"Expected one caption per image, {shown(id)}{twice}; choose one.")
        callers[own], spoken[own] = id, texts[0]
    if strangers:
        [told] = tell_strangers("image(s) with a caption have no references", strangers, references.captions)
        raise GliedError(f"Expected references for every image with a caption, {told}; use the same ids in both files.")
    kept: Mapping[str, list[str]] = references.captions
    return {id: kept[id] for id in spoken}, spoken, [*references.problems, *captions.problems]
