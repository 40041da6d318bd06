"""Commands on photographs and checkpoints: caption, trace, info."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.captions import DecodeOptions
from glied.cli.options import Models, app, to_json
from glied.errors import GliedError
from glied.files import check_target


@app.command(name="caption")
def caption_images(
    images: Positional[tuple[Path, ...]],
    models: OmitArgPrefixes[Models] = Models(),
    as_json: Annotated[bool, arg(name="json", help="print JSON with scores and the n-best list")] = False,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Caption image files: one line each, or JSON with scores and the n-best list. A bad file stops nothing."""
    from glied.attributes import find_scene
    from glied.checkpoint import load_pair
    from glied.data.features import open_cached
    from glied.decode import caption
    from glied.images import open_image

    if not images:
        raise GliedError("Expected at least one image file, got none; name one.")
    model, detector = load_pair(models.checkpoint, models.detector)
    source = open_cached(model.source, models.cache)
    results: list[dict[str, Any]] = []
    failures = []
    for path in images:
        try:
            scene = find_scene(open_image(path), source, detector)
        except GliedError as error:
            failures.append(str(error))
            continue
        [decoded] = caption(model, [scene], decoding)
        results.append(
            {
                "image": str(path),
                "captions": [
                    {"caption": c.text, "log_probability": c.log_probability, "score": c.score}
                    for c in decoded.captions
                ],
            }
        )
        if not as_json:
            print(f"{path}\t{decoded.captions[0].text}")
    if as_json:
        print(to_json(results))
    if failures:
        raise GliedError("\n".join(failures))


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
        print(f"outside the vocabulary, read as <unk>: {' '.join(unknown)}")
    result = trace(model, scene, spoken, falls=True)
    result.save(out)
    print(f"{result.text}\nwrote {out}")


@app.command
def info(checkpoint: Positional[Path]) -> None:
    """Print what a checkpoint says of itself: configuration, parameters by module, provenance."""
    from glied.checkpoint import describe

    about = describe(checkpoint)
    modules = about.pop("parameters")
    for name in ("vocabulary", "attributes", "words", "labels"):
        if name in about:
            about[name] = f"{len(about[name])} words: {' '.join(about[name][:12])} ..."
    print(to_json(about))
    for name, count in sorted(modules.items()):
        print(f"{name:24s} {count:12,d}")
    print(f"{'parameters':24s} {sum(modules.values()):12,d}")
