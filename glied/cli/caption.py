"""Commands on photographs, traces and checkpoints: caption, trace, check-trace, info."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.captions import DecodeOptions
from glied.cli.options import Models, app, say_json
from glied.errors import GliedError
from glied.files import check_target
from glied.terminal import complain, say
from glied.workers import Workers


@dataclass(frozen=True)
class Many:
    """Which corpus to caption, and what to write of it."""

    corpus: Annotated[
        Path | None, arg(help="instead of files: a folder of photographs at any depth, or Parquet; needs --out")
    ] = None
    out: Annotated[Path | None, arg(help="folder for the captions of the corpus, as Parquet")] = None
    column: Annotated[str, arg(help="column of a Parquet corpus with the paths or bytes of photographs")] = "path"
    part: Annotated[int, arg(help="photographs in each file of --out")] = 100
    traces: Annotated[
        Literal["none", "attention", "falls"],
        arg(help="keep traces in --out: all attention, or also the falls of words"),
    ] = "none"


FEW = 10  # photographs up to which torch is used: a faster engine takes a second to start


@app.command(name="caption")
def caption_images(
    images: Annotated[Positional[tuple[Path, ...]], arg(help="photographs, or folders of them")],
    models: OmitArgPrefixes[Models] = Models(),
    as_json: Annotated[bool, arg(name="json", help="JSON Lines: a line per photograph, with scores")] = False,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
    many: OmitArgPrefixes[Many] = Many(),
    workers: OmitArgPrefixes[Workers] = Workers(),
) -> None:
    """Caption image files: a line per caption, after the file's name, or JSON Lines with scores. Each line is written
    at once, so a stopped run loses none; a bad file is reported and skipped.

    With --corpus and --out, caption any number of photographs into Parquet; started again, it goes on where it was."""
    if many.corpus is not None or many.out is not None:
        if many.corpus is None or many.out is None or images or as_json or models.ensemble:
            raise GliedError(
                "Expected --corpus together with --out, and without image files, --json and --ensemble; correct the "
                "command."
            )
        _caption_corpus(many.corpus, many.out, many, models, decoding, workers)
        return
    if many != Many() or workers != Workers():
        raise GliedError(
            "--column, --part, --traces and the options of workers need --corpus; name a corpus, or leave them out."
        )
    from glied.attributes import find_scene
    from glied.checkpoint import load_ensemble
    from glied.data.features import open_cached
    from glied.decode import caption
    from glied.images import open_image

    if not images:
        raise GliedError("Expected at least one image file, got none; name one.")
    paths = [path for named in images for path in photographs_in(named)]
    model, detector = load_ensemble(models.captioners, models.detector)
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
                {"caption": c.text, "log_probability": c.log_probability, "score": c.score}
                | ({"group": c.group + 1} if decoding.groups > 1 else {})
                for c in decoded.captions
            ]
            say_json({"image": str(path), "captions": found})
        else:
            for each in decoded.captions:
                say(path, each.text, needed=True)
    if failed:
        sys.exit(2)


def _caption_corpus(
    place: Path, out: Path, many: Many, models: Models, decoding: DecodeOptions, workers: Workers
) -> None:
    """Captions a corpus, and prints how many of its photographs are captioned."""
    from glied.corpus.options import Captioning, Corpus
    from glied.corpus.run import caption_corpus

    checkpoint, attributes, cache = (f.absolute() for f in (models.checkpoint, models.detector, models.cache))
    captioning = Captioning(checkpoint, attributes, cache, out.absolute(), decoding, many.traces)
    done = caption_corpus(Corpus(place.absolute(), many.column, many.part), captioning, workers)
    earlier = f", {done.before} of them by an earlier run" if done.before else ""
    say(f"{done.before + done.photographs} photographs are captioned in {out}{earlier}")
    if done.failed:
        say(f"{done.failed} photographs of this run could not be read: the column `error` says why")


def photographs_in(named: Path) -> list[Path]:
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
    image: Annotated[Positional[Path], arg(help="photograph")],
    out: Annotated[Path, arg(help="where the trace goes (.npz)")],
    words: Annotated[str | None, arg(help="replay this caption instead of the model's own")] = None,
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Write a trace to --out: the photograph and every attention behind a caption, the model's own or --words."""
    from glied.attributes import find_scene
    from glied.checkpoint import load_ensemble
    from glied.data.features import open_cached
    from glied.decode import caption
    from glied.images import open_image
    from glied.replay import trace
    from glied.vocabulary import tokenize

    check_target(out)
    model, detector = load_ensemble(models.captioners, models.detector)
    photograph = open_image(image)
    scene = find_scene(photograph, open_cached(model.source, models.cache), detector)
    spoken = tokenize(words or "")
    if words is not None and not spoken:
        raise GliedError(f"Expected words to replay, got {words!r}; leave --words out for the model's own caption.")
    if words is None:
        spoken = list(caption(model, [scene], decoding)[0].captions[0].words)
    if unknown := [word for word in spoken if word not in model.vocabulary]:
        say(f"outside the vocabulary, read as <unk>: {' '.join(unknown)}")
    result = trace(model, scene, spoken, falls=True)
    result.save(out, photograph)
    say(result.text)
    say(f"wrote {out}")


@app.command(name="check-trace")
def check_traces(files: Annotated[Positional[tuple[Path, ...]], arg(help="traces (.npz), whoever made them")]) -> None:
    """Check that the app can open these traces (docs/trace.md). Prints a line for each fault; the exit status is 2 if
    there is any."""
    from glied.traces import find_faults, unpack

    if not files:
        raise GliedError("Expected at least one file, got none; name one.")
    failed = False
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            complain(f"{path}: it cannot be read ({error.strerror})")
            failed = True
            continue
        faults = find_faults(data, str(path))
        for fault in faults:
            complain(f"{path}: {fault}")
        if not faults:
            trace, _ = unpack(data, str(path))
            say(path, f"{trace.captioner}: {trace.text}", needed=True)
        failed = failed or bool(faults)
    if failed:
        sys.exit(2)


@app.command
def info(checkpoint: Annotated[Positional[Path], arg(help="file of a captioner or of a detector")]) -> None:
    """Print what a checkpoint records: configuration, parameters by module, provenance."""
    from glied.checkpoint import describe

    about = describe(checkpoint)
    modules = about.pop("parameters")
    for name in ("vocabulary", "attributes", "words", "labels"):
        if name in about:
            about[name] = f"{len(about[name])} words: {' '.join(about[name][:12])} ..."
    say_json(about, indent=1)
    for name, count in [*sorted(modules.items()), ("parameters", sum(modules.values()))]:
        say(f"{name:24s} {count:12,d}", needed=True)
