"""Command line: python -m glied COMMAND: caption, trace, evaluate, info, extract, convert, train, curves ..."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from glied import bench as benchmarks
from glied.ablation import ROWS, SYSTEMS, ablate, compare_systems, systems_table
from glied.ablation import table as ablation_table
from glied.annotations import read_boxes
from glied.attributes import AttributeDetector, find_scene
from glied.checkpoint import Checkpoint, describe, load_pair
from glied.data import FeatureCache, load_dataset, open_cached, report
from glied.decode import DecodeOptions, caption
from glied.errors import GliedError
from glied.evaluate import evaluate
from glied.files import check_target, replacing
from glied.grounding import check_groundable, ground
from glied.images import open_image
from glied.loop import leave
from glied.metrics import habits, score
from glied.pretrain import TextOptions, train_on_text
from glied.recall import SelectiveSearch, measure
from glied.regions import Mirrored, open_source
from glied.regions.stored import StoredFiles
from glied.reinforce import ReinforceOptions, reinforce
from glied.report import check_same, markdown, named, read_report
from glied.texts import read_texts
from glied.trace import trace
from glied.train import Places, TrainOptions, train_captioner
from glied.train_attributes import AttributeOptions, train_attributes
from glied.train_detector import DetectorOptions, train_detector
from glied.vocabulary import tokenize

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
GLIED = SHIPPED / "glied-rl.safetensors"

app = SubcommandApp()
train_app = SubcommandApp()
bench_app = SubcommandApp()

DATA = "data set: a folder with images/ and captions.json (Karpathy's or COCO's layout)"
Data = Annotated[Path, arg(help=DATA)]
Sets = Annotated[
    UseAppendAction[tuple[Path, ...]],
    arg(help=f'{DATA}; may be given several times, or name a JSON file {{"FOLDER": WEIGHT, ...}}'),
]
Source = Annotated[str, arg(help="region source: detector, detector@10-100, grid, detectron2, stored/NAME@WIDTH")]
Cache = Annotated[Path, arg(help="folder of cached regions; what is there is never computed again")]


@dataclass(frozen=True)
class Models:
    """Which captioner, on which attributes and regions."""

    checkpoint: Annotated[Path, arg(help="checkpoint of a captioner (.safetensors)")] = GLIED
    attributes: Annotated[
        Path | None, arg(help="attribute detector; default: attributes.safetensors beside the checkpoint, else ours")
    ] = None
    cache: Cache = Path("cache")

    def load(self) -> tuple[Checkpoint, AttributeDetector]:
        """The captioner and its detector."""
        beside = self.checkpoint.parent / "attributes.safetensors"
        shipped = SHIPPED / "attributes.safetensors"
        return load_pair(self.checkpoint, self.attributes or (beside if beside.is_file() else shipped))


def _write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=indent) + "\n")
    print(f"wrote {path}")


@app.command
def extract(
    data: Sets,
    source: Source = "detector",
    cache: Cache = Path("cache"),
    mirrored: Annotated[bool, arg(help="of the photographs as mirrors show them: training takes both")] = False,
) -> None:
    """Find the regions of every photograph of a data set and keep them; can be stopped and resumed at any time."""
    dataset = load_dataset(data)
    opened = Mirrored(open_source(source)) if mirrored else open_source(source)
    keys, problems = FeatureCache(cache, opened).extract([p.path for p in dataset.photographs])
    report([*dataset.problems, *problems])
    if not keys:
        raise GliedError(f"Expected readable photographs in {data}, none of them is; see above.")
    print(f"{len(keys)} photographs have their regions in {cache}")


@app.command
def convert(
    stored: Annotated[
        Positional[tuple[Path, ...]], arg(help="Bottom-Up TSV or HDF5 files, or folders of these or of .npz or .npy")
    ],
    data: Data,
    name: Annotated[str, arg(help="what to call these features; other features need another name")],
    cache: Cache = Path("cache"),
) -> None:
    """Put features that others extracted into the cache; can be stopped and resumed at any time."""
    dataset = load_dataset(data)
    source = StoredFiles(name, stored)
    paths = sorted((p.path for p in dataset.photographs), key=lambda p: source.find_id(p.name) is None)  # missing last
    keys, problems = FeatureCache(cache, source).extract(paths)
    if unclaimed := source.unclaimed(path.name for path in paths):
        problems.insert(0, f"{len(unclaimed)} stored image(s) without a photograph: {', '.join(unclaimed[:5])}")
    report([*problems, *dataset.problems])
    if not keys:
        raise GliedError(
            f"Expected stored features of photographs such as {paths[0].name}, {len(source.readers)} are stored, under "
            f"ids such as {next(iter(source.readers))}; name the data set that they were extracted from."
        )
    print(f"{len(keys)} of {len(paths)} photographs have regions; train with --source {source.name}")


@dataclass(frozen=True)
class Run:
    """Where a captioner's training reads and writes.

    Attributes:
        attributes: the attribute detector.
        crossfit: attributes of the training photographs from detectors that did not see them; default
            attributes.crossfit.json beside the detector, as `train attributes` writes it.
        run: folder of the state, the log and the best checkpoint; default runs/NAME.
        out: where the best checkpoint goes as well.
    """

    data: Sets
    attributes: Path = SHIPPED / "attributes.safetensors"
    crossfit: Path | None = None
    cache: Cache = Path("cache")
    run: Path | None = None
    out: Path | None = None

    def places(self, name: str) -> Places:
        """With the defaults filled in; `name` is what is trained."""
        beside = self.attributes.with_suffix(".crossfit.json")
        crossfit = self.crossfit or (beside if beside.is_file() else None)
        if crossfit is None:
            print(f"no {beside.name}: training on the detector's own attributes, which no new photograph's will match")
        if self.out is not None:
            check_target(self.out)
        folder = self.run or Path("runs") / name
        return Places(self.data, self.cache, self.attributes, crossfit, folder, self.out)


@dataclass(frozen=True)
class CaptionerRun(Run):
    """Which captioner, from which weights.

    Attributes:
        preset: '' for the paper's slides, `context` (GLIED alone), `narrow`, `wide` or `paper` (see glied/config.py).
        initial: a checkpoint of the same captioner to start from, from `train text` say.
        project: what follows the projection of region features; default the preset's.
        heads: attention heads of `d_head`; default the preset's (8 of 64).
        d_head: width of an attention head.
        feature_dropout: dropout on region features; default the preset's.
    """

    preset: Literal["", "context", "narrow", "wide", "paper"] = ""
    initial: Path | None = None
    project: Literal["relu", "none", "norm"] | None = None
    heads: int | None = None
    d_head: int | None = None
    feature_dropout: float | None = None

    def changes(self) -> dict[str, Any]:
        """The fields of the preset that are given here."""
        given = {name: getattr(self, name) for name in ("project", "heads", "d_head", "feature_dropout")}
        return {name: value for name, value in given.items() if value is not None}


def _trained(checkpoint: Checkpoint, places: Places) -> None:
    print(f"best val CIDEr {checkpoint.provenance['val_CIDEr_beam_3']}: {places.out or places.best}")


def _train(architecture: str, run: CaptionerRun, training: TrainOptions) -> None:
    name = "-".join(filter(None, (architecture, run.preset)))
    places = run.places(name)
    _trained(train_captioner(name, places, training, run.initial, **run.changes()), places)


@train_app.command(name="base")
def train_base(run: OmitArgPrefixes[CaptionerRun], training: OmitArgPrefixes[TrainOptions] = TrainOptions()) -> None:
    """Train Base by cross-entropy; resumes the run where it was last saved."""
    _train("base", run, training)


@train_app.command(name="glied")
def train_glied(run: OmitArgPrefixes[CaptionerRun], training: OmitArgPrefixes[TrainOptions] = TrainOptions()) -> None:
    """Train GLIED by cross-entropy; resumes the run where it was last saved."""
    _train("glied", run, training)


@train_app.command(name="text")
def train_text(
    name: Positional[
        Literal["base", "glied", "base-narrow", "glied-narrow", "base-wide", "glied-wide", "base-paper", "glied-paper"]
    ],
    captions: Annotated[
        tuple[Path, ...], arg(help="JSON {id: [captions]} or COCO's; coco: those inside pycocoevalcap")
    ],
    run: OmitArgPrefixes[Run],
    training: OmitArgPrefixes[TextOptions] = TextOptions(),
) -> None:
    """Train a captioner's words on captions without photographs, to start `train base|glied --initial` from."""
    places = run.places(f"text-{name}")
    _trained(train_on_text(name, captions, places, training), places)


@train_app.command(name="rl")
def train_rl(
    checkpoint: Annotated[Positional[Path], arg(help="checkpoint of a captioner, from `train base|glied`")],
    run: OmitArgPrefixes[Run],
    training: OmitArgPrefixes[ReinforceOptions] = ReinforceOptions(),
) -> None:
    """Train a captioner further on the CIDEr-D of its own samples (self-critical sequence training)."""
    places = run.places(f"rl-{checkpoint.parent.name if checkpoint.stem == 'best' else checkpoint.stem}")
    _trained(reinforce(checkpoint, places, training), places)


@train_app.command(name="attributes")
def train_attribute_detector(
    data: Sets,
    source: Source = "detector",
    cache: Cache = Path("cache"),
    run: Annotated[Path, arg(help="folder of the state")] = Path("runs/attributes"),
    out: Annotated[Path | None, arg(help="where the detector goes; default attributes.safetensors in --run")] = None,
    training: OmitArgPrefixes[AttributeOptions] = AttributeOptions(),
) -> None:
    """Train the noisy-OR attribute detector, and cross-fit the training photographs' attributes; resumes."""
    target = out or run / "attributes.safetensors"
    check_target(target)
    for name, value in train_attributes(data, cache, source, run, target, training).items():
        print(f"{name} {value:.4f}")


@train_app.command(name="detector")
def train_region_detector(
    data: Sets,
    run: Annotated[Path, arg(help="folder of the state")] = Path("runs/detector"),
    out: Annotated[Path | None, arg(help="where the detector goes; default detector.safetensors in --run")] = None,
    initial: Annotated[Path | None, arg(help="a trained detector to start from; default ImageNet's weights")] = None,
    training: OmitArgPrefixes[DetectorOptions] = DetectorOptions(),
) -> None:
    """Train the region detector on boxes with phrases or classes; resumes where it was last saved."""
    target = out or run / "detector.safetensors"
    check_target(target)
    for name, quality in train_detector(data, run, target, training, initial).items():
        print(f"{name} val: " + ", ".join(f"{key} {value}" for key, value in quality.items()))
    print(f"wrote {target}; use it with GLIED_DETECTOR={target}")


@app.command
def recall(
    data: Data,
    split: str,
    out: Annotated[Path, arg(name="json")],
    source: Annotated[str, arg(help="region source (detector: its best 100), or selective-search")] = "detector",
) -> None:
    """Measure how many of a data set's human boxes regions cover, and whether their labels are right."""
    check_target(out)
    # the best 10 and 36 of 100 are those of detector@10 and detector@36
    name = "detector@100" if source == "detector" else source
    result = measure(data, split, SelectiveSearch() if name == SelectiveSearch.name else open_source(name))
    for key, value in result.items():
        print(f"{key:18s} {value:.4f}" if isinstance(value, float) else f"{key:18s} {value}")
    _write_json(out, result)


@app.command(name="caption")
def caption_images(
    images: Positional[tuple[Path, ...]],
    models: OmitArgPrefixes[Models] = Models(),
    as_json: Annotated[bool, arg(name="json")] = False,
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Caption image files: one line each, or JSON with scores and the n-best list. A bad file stops nothing."""
    if not images:
        raise GliedError("Expected at least one image file, got none; name one.")
    model, detector = models.load()
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
        print(_json(results))
    if failures:
        raise GliedError("\n".join(failures))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


@app.command(name="trace")
def trace_image(
    image: Positional[Path],
    out: Path,
    words: Annotated[str | None, arg(help="replay this caption instead of the model's own")] = None,
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Write every attention behind a caption to FILE.npz: the model's own caption, or any `--words`."""
    check_target(out)
    model, detector = models.load()
    scene = find_scene(open_image(image), open_cached(model.source, models.cache), detector)
    spoken = tokenize(words or "")
    if words is not None and not spoken:
        raise GliedError(f"Expected words to replay, got {words!r}; leave --words out for the model's own caption.")
    if words is None:
        spoken = list(caption(model, [scene], decoding)[0].captions[0].words)
    if unknown := [word for word in spoken if word not in model.vocabulary]:
        print(f"outside the vocabulary, read as <unk>: {' '.join(unknown)}")
    result = trace(model, scene, spoken, removals=True)
    result.save(out)
    print(f"{result.text}\nwrote {out}")


@app.command(name="evaluate")
def evaluate_split(
    data: Data,
    split: str,
    out: Annotated[Path, arg(name="json")],
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
    against: Annotated[tuple[Path, ...], arg(help="earlier reports to compare with, photograph by photograph")] = (),
    grounding: Annotated[
        bool, arg(help="also measure whether the attention is true, on the human boxes of DIR")
    ] = False,
) -> None:
    """Caption a whole split and score it against its human captions: a report as JSON, and as Markdown beside it."""
    check_target(out)
    text, picture = (out.with_name(out.name.removesuffix(".json") + suffix) for suffix in (".md", ".png"))
    for target in (text, picture):
        check_target(target)
    others = [read_report(path) for path in against]
    name = load_dataset(data).name
    for other in others:
        check_same(other, name, split)
    model, detector = models.load()
    if grounding:
        check_groundable(model)
        read_boxes(load_dataset(data), load_dataset(data).split(split), human=True)
    result = evaluate(model, detector, data, split, models.cache, decoding)
    report(result["problems"])
    _print_scores(result)
    print(f"perplexity of the human captions' words {result['perplexity']:.2f}")
    for habit, value in result["habits"].items():
        print(f"{habit:22s} {value:.4g} (people: {result['human_habits'][habit]:.4g})")
    if grounding:
        start = time.perf_counter()
        captions = {id: image["caption"] for id, image in result["images"].items()}
        result["grounding"] = ground(model, detector, data, split, models.cache, captions)
        result["seconds"]["grounding"] = round(time.perf_counter() - start, 2)
    _write_json(out, result, indent=None)
    print("seconds: " + ", ".join(f"{stage} {value:.1f}" for stage, value in result["seconds"].items()))
    with replacing(text) as aside:
        aside.write_text(markdown([*others, result]), encoding="utf-8")
    print(f"wrote {text}")
    if grounded := {each["title"]: each["grounding"] for each in named([*others, result]) if "grounding" in each}:
        from analysis.grounding import draw_grounding

        draw_grounding(grounded, picture)
        print(f"wrote {picture}")


def _print_scores(result: dict[str, Any]) -> None:
    for name, value in result["scores"].items():
        print(f"{name:8s} " + (f"{value:.4f}" if value is not None else result["missing"][name][1]))


@app.command(name="score")
def score_files(
    references: Annotated[Path, arg(help="captions of people: {id: [captions]}, COCO's annotations or Karpathy's")],
    captions: Annotated[Path, arg(help="captions to score: COCO's results, or {id: caption}")],
    out: Annotated[Path, arg(name="json")],
) -> None:
    """Score any caption file: BLEU, METEOR, ROUGE-L, CIDEr and SPICE as coco-caption computes them."""
    check_target(out)
    known, told = read_texts(references), read_texts(captions)
    if strangers := told.keys() - known.keys():
        raise GliedError(
            f"Expected references of every image with a caption, {min(strangers)} and {len(strangers) - 1} more have "
            f"none in {references}; ids must be the same in both files."
        )
    if several := [id for id, texts in told.items() if len(texts) > 1]:
        raise GliedError(f"Expected one caption per image, {several[0]} has {len(told[several[0]])} in {captions}.")
    if len(told) < len(known):
        print(f"{len(told)} of {len(known)} images with references have a caption; only they count")
    spoken = {id: text for id, (text,) in told.items()}
    result = score({id: known[id] for id in spoken}, spoken)
    report = {"scores": result.corpus, "missing": result.missing, "tokenizer": result.tokenizer}
    _print_scores(report)
    written = habits(spoken.values())
    for name, value in written.items():
        print(f"{name:22s} {value:.4g}")
    images = {id: {"caption": spoken[id], **values} for id, values in result.images.items()}
    _write_json(out, report | {"habits": written, "images": images})


@app.command
def info(checkpoint: Positional[Path]) -> None:
    """Print what a checkpoint says of itself: configuration, parameters by module, provenance."""
    about = describe(checkpoint)
    modules = about.pop("parameters")
    for name in ("vocabulary", "attributes", "words", "labels"):
        if name in about:
            about[name] = f"{len(about[name])} words: {' '.join(about[name][:12])} ..."
    print(_json(about))
    for name, count in sorted(modules.items()):
        print(f"{name:24s} {count:12,d}")
    print(f"{'parameters':24s} {sum(modules.values()):12,d}")


JsonOut = Annotated[Path | None, arg(name="json", help="also write the figures here")]


def _measure(benchmark: Callable[[], dict], table: Callable[[dict], str], out: Path | None) -> None:
    if out is not None:
        check_target(out)
    result = benchmark()
    print(table(result))
    if out is not None:
        _write_json(out, result)


@bench_app.command(name="decode")
def bench_decode(out: JsonOut = None) -> None:
    """Images per second at beam 1, 3, 5 and batch 1, 10, 50, beside what this machine can do in the same run."""
    _measure(benchmarks.decode, benchmarks.table, out)


@bench_app.command(name="reward")
def bench_reward(out: JsonOut = None) -> None:
    """Self-critical training's reward on word ids against pycocoevalcap's CIDEr, on 10,000 COCO captions."""
    _measure(benchmarks.reward, benchmarks.reward_table, out)


@bench_app.command(name="train")
def bench_train(out: JsonOut = None) -> None:
    """Seconds of a training step, cross-entropy and self-critical, against images, captions, regions and width."""
    _measure(benchmarks.train, benchmarks.train_table, out)


def _check_table(run: Run, out: Path, names: Sequence[str], known: Mapping[str, str]) -> None:
    """Before anything is trained for a table: its file, and what its rows shall be."""
    check_target(out)
    if run.out is not None:
        raise GliedError("Expected no --out, which is for a checkpoint: this writes a table; correct the command.")
    if not names or set(names) - known.keys():
        raise GliedError(f"Expected some of {', '.join(known)}, got {', '.join(names) or 'none'}; choose from these.")


@bench_app.command(name="table2")
def bench_table2(
    run: OmitArgPrefixes[Run],
    out: Annotated[Path, arg(name="json")],
    systems: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(SYSTEMS),
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train the captioners of the paper's Table 2 alike: parameters, training time, speed, CIDEr; can be resumed."""
    _check_table(run, out, systems, SYSTEMS)
    result = compare_systems(run.places("table2"), systems, training)
    print(systems_table(result))
    _write_json(out, result)


@app.command
def ablation(
    run: OmitArgPrefixes[Run],
    out: Annotated[Path, arg(name="json")],
    variants: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(ROWS),
    seeds: tuple[int, ...] = (0,),
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train GLIED's variants alike and score them on val, in one table; can be stopped and resumed at any time."""
    _check_table(run, out, variants, ROWS)
    if not seeds:
        raise GliedError("Expected at least one seed, got none; correct the command.")
    result = ablate(run.places("ablation"), variants, seeds, training)
    print(ablation_table(result))
    _write_json(out, result)


@app.command
def curves(
    runs: Annotated[Positional[tuple[Path, ...]], arg(help="folders of runs, with their log.csv")],
    out: Annotated[Path, arg(help="PNG, SVG or PDF")],
) -> None:
    """Draw the learning curves of runs: loss or reward, and val CIDEr, by epoch."""
    from analysis.curves import draw_curves

    check_target(out)
    draw_curves(runs, out)
    print(f"wrote {out}")


app.command(
    train_app,
    name="train",
    help="Train captioners (base, glied, text, rl) and detectors.",
)
app.command(bench_app, name="bench", help="Measure speed beside what this machine can do.")


def main() -> None:
    """Runs the command; an error that a person can act on is one sentence and exit status 2."""
    try:
        app.cli(prog="python -m glied", description=__doc__)
    except GliedError as error:
        print(f"glied: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # no permission, no space
        place = error.filename or "a file"
        print(f"glied: Expected to read or write {place}, but {error.strerror}; check the path.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("glied: stopped.", file=sys.stderr)
        sys.exit(130)
    finally:
        leave()


if __name__ == "__main__":
    main()
