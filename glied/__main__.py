"""Command line: python -m glied extract | train | caption | trace | evaluate | info | bench."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads must not spin on a shared machine

from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.extras import SubcommandApp

from glied import bench as benchmarks
from glied.attributes import AttributeDetector, find_scene
from glied.checkpoint import Checkpoint, describe, load, load_detector
from glied.data import FeatureCache, load_dataset, report
from glied.decode import DecodeOptions, caption
from glied.errors import GliedError
from glied.evaluate import evaluate
from glied.files import replacing
from glied.images import open_image
from glied.regions import open_source
from glied.trace import trace
from glied.train import TrainOptions, train_captioner
from glied.train_attributes import AttributeOptions, train_attributes
from glied.vocabulary import tokenize

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
GLIED = SHIPPED / "glied.safetensors"

app = SubcommandApp()
train_app = SubcommandApp()
bench_app = SubcommandApp()

Data = Annotated[Path, arg(help="data set: a folder with images/ and captions.json (Karpathy's or COCO's layout)")]
Cache = Annotated[Path, arg(help="folder of cached regions; what is there is never computed again")]
Model = Annotated[Path, arg(help="checkpoint of a captioner (.safetensors)")]
Detector = Annotated[Path | None, arg(help="attribute detector; default: attributes.safetensors beside the checkpoint")]


def _models(checkpoint: Path, attributes: Path | None) -> tuple[Checkpoint, AttributeDetector]:
    """A captioner, and the detector of the attributes that it was trained on."""
    beside = checkpoint.parent / "attributes.safetensors"
    model = load(checkpoint)
    detector, _ = load_detector(attributes or (beside if beside.is_file() else SHIPPED / "attributes.safetensors"))
    if detector.words != model.attributes:
        raise GliedError(
            f"Expected the attribute detector that {checkpoint.name} was trained with, got another "
            "vocabulary of attributes; name the right one with --attributes."
        )
    return model, detector


def _write_json(path: Path, value: Any) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")
    print(f"wrote {path}")


@app.command
def extract(data: Data, source: str = "grid", cache: Cache = Path("cache")) -> None:
    """Find the regions of every photograph of a data set and keep them; can be stopped and resumed at any time."""
    dataset = load_dataset(data)
    keys, problems = FeatureCache(cache, open_source(source)).extract([p.path for p in dataset.photographs])
    print(report([*dataset.problems, *problems]) or f"{len(keys)} photographs, nothing left out")


def _train(
    name: str,
    data: Path,
    cache: Path,
    attributes: Path,
    crossfit: Path | None,
    run: Path | None,
    out: Path | None,
    training: TrainOptions,
) -> None:
    crossfit = crossfit or attributes.with_suffix(".crossfit.json")
    run = run or Path("runs") / name
    checkpoint = train_captioner(
        name, data, cache, attributes, run, training, out, crossfit if crossfit.is_file() else None
    )
    print(f"best val CIDEr {checkpoint.provenance['val_CIDEr_beam_3']}: {out or run / 'best.safetensors'}")


Preset = Annotated[str, arg(help="'' for the paper's slides, 'wide' or 'paper' (see `config.py`)")]
Run = Annotated[Path | None, arg(help="folder of this run's state, log and best checkpoint; default runs/NAME")]
Out = Annotated[Path | None, arg(help="where the best checkpoint goes as well")]
Crossfit = Annotated[Path | None, arg(help="attributes of the training photographs; default: .crossfit.json beside")]


@train_app.command(name="base")
def train_base(
    data: Data,
    attributes: Path = SHIPPED / "attributes.safetensors",
    crossfit: Crossfit = None,
    preset: Preset = "",
    cache: Cache = Path("cache"),
    run: Run = None,
    out: Out = None,
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train Base by cross-entropy; resumes the run where it stopped."""
    _train("-".join(filter(None, ("base", preset))), data, cache, attributes, crossfit, run, out, training)


@train_app.command(name="glied")
def train_glied(
    data: Data,
    attributes: Path = SHIPPED / "attributes.safetensors",
    crossfit: Crossfit = None,
    preset: Preset = "",
    cache: Cache = Path("cache"),
    run: Run = None,
    out: Out = None,
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train GLIED by cross-entropy; resumes the run where it stopped."""
    _train("-".join(filter(None, ("glied", preset))), data, cache, attributes, crossfit, run, out, training)


@train_app.command(name="attributes")
def train_attribute_detector(
    data: Data,
    source: str = "grid",
    cache: Cache = Path("cache"),
    out: Path = Path("runs/attributes/attributes.safetensors"),
    training: OmitArgPrefixes[AttributeOptions] = AttributeOptions(),
) -> None:
    """Train the noisy-OR attribute detector, and find the training photographs' attributes by cross-fitting."""
    for name, value in train_attributes(data, cache, source, out, training).items():
        print(f"{name} {value:.4f}")


@app.command(name="caption")
def caption_images(
    images: Positional[tuple[Path, ...]],
    checkpoint: Model = GLIED,
    attributes: Detector = None,
    as_json: Annotated[bool, arg(name="json")] = False,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Caption image files: one line each, or JSON with scores and the n-best list. A bad file stops nothing."""
    if not images:
        raise GliedError("Expected at least one image file, got none; name one.")
    model, detector = _models(checkpoint, attributes)
    source = open_source(model.source)
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
        print(_json(results))
    if failures:
        raise GliedError("\n".join(failures))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


@app.command(name="trace")
def trace_image(
    image: Positional[Path],
    out: Path,
    words: str = "",
    checkpoint: Model = GLIED,
    attributes: Detector = None,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Write every attention behind a caption to FILE.npz: the model's own caption, or any `--words`."""
    model, detector = _models(checkpoint, attributes)
    scene = find_scene(open_image(image), open_source(model.source), detector)
    spoken = tokenize(words) if words else caption(model, [scene], decoding)[0].captions[0].words
    result = trace(model, scene, spoken, removals=True)
    result.save(out)
    print(f"{result.text}\nwrote {out}")


@app.command(name="evaluate")
def evaluate_split(
    data: Data,
    split: str,
    out: Annotated[Path, arg(name="json")],
    checkpoint: Model = GLIED,
    attributes: Detector = None,
    cache: Cache = Path("cache"),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Caption a whole split and score it (BLEU, ROUGE-L, CIDEr) against its human captions."""
    model, detector = _models(checkpoint, attributes)
    result = evaluate(model, detector, data, split, cache, decoding)
    print(report(result["problems"]), end="")
    for name, value in result["scores"].items():
        print(f"{name:8s} {value:.4f}")
    _write_json(out, result)


@app.command
def info(checkpoint: Positional[Path]) -> None:
    """Print what a checkpoint says of itself: configuration, parameters by module, provenance."""
    about = describe(checkpoint)
    modules = about.pop("parameters")
    for name in ("vocabulary", "attributes", "words"):
        if name in about:
            about[name] = f"{len(about[name])} words: {' '.join(about[name][:12])} ..."
    print(_json(about))
    for name, count in sorted(modules.items()):
        print(f"{name:24s} {count:12,d}")
    print(f"{'parameters':24s} {sum(modules.values()):12,d}")


@bench_app.command(name="decode")
def bench_decode(out: Annotated[Path | None, arg(name="json", help="also write the figures here")] = None) -> None:
    """Images per second at beam 1, 3, 5 and batch 1, 10, 50, beside what this machine can do in the same run."""
    result = benchmarks.decode()
    print(benchmarks.table(result))
    if out is not None:
        _write_json(out, result)


app.command(train_app, name="train", help="Train base, glied or the attribute detector.")
app.command(bench_app, name="bench", help="Measure speed beside what this machine can do.")


def main() -> None:
    """Runs the command; an error that a person can act on is one sentence and exit status 2."""
    try:
        app.cli(prog="python -m glied", description=__doc__)
    except GliedError as error:
        print(f"glied: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("glied: stopped; run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
