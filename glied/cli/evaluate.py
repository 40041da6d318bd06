"""Commands that measure: evaluate, states, score, recall, curves."""

import time
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.captions import DecodeOptions
from glied.cli.options import Data, Models, ReportOut, Sets, SplitName, app, write_json
from glied.errors import GliedError
from glied.files import check_target, replacing


@app.command
def recall(
    data: Data,
    split: SplitName,
    out: ReportOut,
    source: Annotated[str, arg(help="region source (detector: its best 100), or selective-search")] = "detector",
) -> None:
    """Measure how many of a data set's human boxes regions cover, and whether their labels are right."""
    from glied.evaluation.recall import measure
    from glied.regions import open_source
    from glied.regions.selective_search import SelectiveSearch

    check_target(out)
    # the best 10 and 36 of 100 are those of detector@10 and detector@36
    name = "detector@100" if source == "detector" else source
    result = measure(data, split, SelectiveSearch() if name == SelectiveSearch.name else open_source(name))
    for key, value in result.items():
        print(f"{key:18s} {value:.4f}" if isinstance(value, float) else f"{key:18s} {value}")
    write_json(out, result)


@app.command(name="evaluate")
def evaluate_split(
    data: Data,
    split: SplitName,
    out: ReportOut,
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
    against: Annotated[tuple[Path, ...], arg(help="earlier reports to compare with, photograph by photograph")] = (),
    grounding: Annotated[
        bool, arg(help="also measure whether the attention is true, on the boxes that people drew in --data")
    ] = False,
) -> None:
    """Caption a whole split and score it against its human captions: a report as JSON, and as Markdown beside it."""
    from glied.checkpoint import load_pair
    from glied.data.annotations import read_boxes
    from glied.data.dataset import load_dataset, report
    from glied.evaluation.evaluate import evaluate, read_scenes
    from glied.evaluation.grounding import check_groundable, ground
    from glied.evaluation.report import check_same, markdown, named, read_report

    check_target(out)
    text, picture = (out.with_name(out.name.removesuffix(".json") + suffix) for suffix in (".md", ".png"))
    for target in (text, picture):
        check_target(target)
    others = [read_report(path) for path in against]
    dataset = load_dataset(data)
    for other in others:
        check_same(other, dataset.name, split)
    model, detector = load_pair(models.checkpoint, models.detector)
    boxed = []
    if grounding:
        check_groundable(model)
        boxed = read_boxes(dataset, dataset.split(split), human=True)
    scenes = read_scenes(dataset, split, models.cache, detector)
    result = evaluate(model, scenes, decoding)
    report(result["problems"])
    _print_scores(result)
    print(f"perplexity of the human captions' words {result['perplexity']:.2f}")
    for habit, value in result["habits"].items():
        print(f"{habit:22s} {value:.4g} (people: {result['human_habits'][habit]:.4g})")
    if grounding:
        start = time.perf_counter()
        captions = {id: image["caption"] for id, image in result["images"].items()}
        result["grounding"] = ground(model, scenes, boxed, captions)
        result["seconds"]["grounding"] = round(time.perf_counter() - start, 2)
    write_json(out, result, indent=None)
    print("seconds: " + ", ".join(f"{stage} {value:.1f}" for stage, value in result["seconds"].items()))
    with replacing(text) as aside:
        aside.write_text(markdown([*others, result]), encoding="utf-8")
    print(f"wrote {text}")
    if grounded := {each["title"]: each["grounding"] for each in named([*others, result]) if "grounding" in each}:
        from analysis.grounding import draw_grounding

        draw_grounding(grounded, picture)
        print(f"wrote {picture}")


@app.command
def states(
    data: Sets,
    split: SplitName,
    out: Annotated[Path, arg(help="file of the states; the app looks for NAME.states.safetensors beside a checkpoint")],
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Keep the states of a captioner over whole splits, among which the app finds the nearest photographs."""
    from glied.checkpoint import load_pair
    from glied.data.dataset import load_dataset, report
    from glied.evaluation.archive import gather_states
    from glied.evaluation.evaluate import read_scenes

    check_target(out)
    dataset = load_dataset(data)
    model, detector = load_pair(models.checkpoint, models.detector)
    scenes = read_scenes(dataset, split, models.cache, detector)
    archive = gather_states(model, scenes, decoding)
    report([*dataset.problems, *scenes.problems])
    archive.save(out)
    kinds = ", ".join(f"{len(known.rows):,} of {kind}" for kind, known in archive.known.items())
    print(f"wrote {out}: states of {len(archive.photographs):,} photographs, {kinds}")


def _print_scores(result: dict[str, Any]) -> None:
    for name, value in result["scores"].items():
        print(f"{name:8s} " + (f"{value:.4f}" if value is not None else result["missing"][name][1]))


@app.command(name="score")
def score_files(
    references: Annotated[Path, arg(help="captions of people: {id: [captions]}, COCO's annotations or Karpathy's")],
    captions: Annotated[Path, arg(help="captions to score: COCO's results, or {id: caption}")],
    out: ReportOut,
) -> None:
    """Score any caption file: BLEU, METEOR, ROUGE-L, CIDEr and SPICE as coco-caption computes them."""
    from glied.data.texts import read_texts
    from glied.evaluation.metrics import habits, score

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
    write_json(out, report | {"habits": written, "images": images})


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
