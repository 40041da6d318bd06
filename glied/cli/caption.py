"""Commands on photographs and checkpoints: caption, trace, info."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.captions import DecodeOptions
from glied.cli.options import Models, app, say_json
from glied.errors import GliedError
from glied.files import check_target
from glied.terminal import complain, say

FEW = 10  # photographs; a faster engine takes a second to begin


@app.command(name="caption")
def caption_images(
    images: Annotated[Positional[tuple[Path, ...]], arg(help="photographs, or folders of them")],
    models: OmitArgPrefixes[Models] = Models(),
    as_json: Annotated[bool, arg(name="json", help="JSON with scores, a line a photograph (JSON Lines)")] = False,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Caption image files: each caption in a line behind its file's name, or JSON Lines with scores. Every line is
    written as soon as it is known, so that stopping loses none, and a bad file stops nothing."""
    from glied.attributes import find_scene
    from glied.checkpoint import load_pair
    from glied.data.features import open_cached
    from glied.decode import caption
    from glied.images import open_image

    if not images:
        raise GliedError("Expected at least one image file, got none; name one.")
    paths = [path for named in images for path in _photographs(named)]
    model, detector = load_pair(models.checkpoint, models.detector)
    source = open_cached(model.source, models.cache, "fastest" if len(paths) > FEW else "torch")
    failed = False
    for path in paths:
        try:
            scene = find_scene(open_image(path), source, detector)
        except GliedError as error:
            complain(error)
            failed = True
            continue
        [decoded] = caption(model, [scene], decoding)
        if as_json:
            found = [
                {"caption": c.text, "log_probability": c.log_probability, "score": c.score} for c in decoded.captions
            ]
            say_json({"image": str(path), "captions": found})
        else:
            for each in decoded.captions:
                say(path, each.text, needed=True)
    if failed:
        sys.exit(2)


def _photographs(named: Path) -> list[Path]:
    """The photograph itself, or those in a folder."""
    from glied.records import IMAGE

    if not named.is_dir():
        return [named]
    inside = sorted(named.iterdir())
    found = [path for path in inside if IMAGE.search(path.name) and not path.name.startswith(".")]
    if not found:
        folders = [path for path in inside if path.is_dir()]
        but = f", but {len(folders)} folder(s) such as {folders[0].name}" if folders else ""
        raise GliedError(f"Expected photographs in {named}, found none{but}; name their files or their folder.")
    return found


@app.command(name="trace")
def trace_image(
    image: Positional[Path],
    out: Annotated[Path, arg(help="where the trace goes (.npz)")],
    words: Annotated[str | None, arg(help="replay this caption instead of the model's own")] = None,
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Write every attention behind a caption to FILE.npz: the model's own caption, or any `--words`."""
    from glied.attributes import find_scene
    from glied.checkpoint import load_pair
    from glied.data.features import open_cached
    from glied.decode import caption
    from glied.images import open_image
    from glied.replay import trace
    from glied.vocabulary import tokenize

    check_target(out)
    model, detector = load_pair(models.checkpoint, models.detector)
    scene = find_scene(open_image(image), open_cached(model.source, models.cache), detector)
    spoken = tokenize(words or "")
    if words is not None and not spoken:
        raise GliedError(f"Expected words to replay, got {words!r}; leave --words out for the model's own caption.")
    if words is None:
        spoken = list(caption(model, [scene], decoding)[0].captions[0].words)
    if unknown := [word for word in spoken if word not in model.vocabulary]:
        say(f"outside the vocabulary, read as <unk>: {' '.join(unknown)}")
    result = trace(model, scene, spoken, falls=True)
    result.save(out)
    say(result.text)
    say(f"wrote {out}")


@app.command
def info(checkpoint: Positional[Path]) -> None:
    """Print what a checkpoint says of itself: configuration, parameters by module, provenance."""
    from glied.checkpoint import describe

    about = describe(checkpoint)
    modules = about.pop("parameters")
    for name in ("vocabulary", "attributes", "words", "labels"):
        if name in about:
            about[name] = f"{len(about[name])} words: {' '.join(about[name][:12])} ..."
    say_json(about, indent=1)
    for name, count in [*sorted(modules.items()), ("parameters", sum(modules.values()))]:
        say(f"{name:24s} {count:12,d}", needed=True)
