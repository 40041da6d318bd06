"""Commands that measure: evaluate, states, score, recall, curves."""

import time
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.captions import DecodeOptions
from glied.cli.options import Data, Models, ReportOut, Sets, SplitName, app, write_json
from glied.files import as_text, check_target, replacing
from glied.terminal import say


@app.command
def recall(
    data: Data,
    split: SplitName,
    out: ReportOut,
    source: Annotated[str, arg(help="region source (detector: its best 100), or selective-search")] = "detector",
) -> None:
    """Measure how many human boxes of a data set the regions cover, and how many of their labels are right."""
    from glied.data.dataset import report
    from glied.evaluation.recall import measure
    from glied.regions import open_source
    from glied.regions.selective_search import SelectiveSearch

    check_target(out)
    # the best 10 and 36 of 100 are those of detector@10 and detector@36
    name = "detector@100" if source == "detector" else source
    result = measure(data, split, SelectiveSearch() if name == SelectiveSearch.name else open_source(name))
    write_json(out, result)
    report(result["problems"])
    for key, value in ((key, value) for key, value in result.items() if key != "problems"):
        say(f"{key:18s} {value:.4f}" if isinstance(value, float) else f"{key:18s} {value}")
    say(f"wrote {out}")


@app.command(name="evaluate")
def evaluate_split(
    data: Data,
    split: SplitName,
    out: ReportOut,
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
    against: Annotated[tuple[Path, ...], arg(help="earlier reports to compare with, photograph by photograph")] = (),
    grounding: Annotated[
        bool, arg(help="also measure whether attention points at the named objects, on human boxes in --data")
    ] = False,
) -> None:
    """Caption a whole split and score it against its human captions: a report as JSON, and as Markdown beside it."""
    from glied.checkpoint import load_ensemble
    from glied.data.annotations import read_boxes
    from glied.data.dataset import load_dataset, report
    from glied.evaluation.evaluate import evaluate, read_scenes
    from glied.evaluation.grounding import check_groundable, ground
    from glied.evaluation.report import check_same, distinguish, markdown, read_report

    check_target(out)
    text, picture = (out.with_name(out.name.removesuffix(".json") + suffix) for suffix in (".md", ".png"))
    for target in (text, picture):
        check_target(target)
    others = [read_report(path) for path in against]
    dataset = load_dataset(data)
    for other in others:
        check_same(other, dataset.name, split)
    model, detector = load_ensemble(models.captioners, models.detector)
    if grounding:
        check_groundable(model)
        boxed, problems = read_boxes(dataset, dataset.split(split), human=True)
    scenes = read_scenes(dataset, split, models.cache, detector)
    result = evaluate(model, scenes, decoding)
    if grounding:
        start = time.perf_counter()
        captions = {id: image["caption"] for id, image in result["images"].items()}
        result["grounding"] = ground(model, scenes, boxed, captions)
        result["problems"] += [*problems, *result["grounding"].pop("problems")]
        result["seconds"]["grounding"] = round(time.perf_counter() - start, 2)
    written = [out, text]
    write_json(out, result, indent=None)
    with replacing(text) as aside:
        aside.write_text(as_text(markdown([*others, result])), encoding="utf-8")
    if grounded := {each["title"]: each["grounding"] for each in distinguish([*others, result]) if "grounding" in each}:
        from analysis.grounding import draw_grounding

        draw_grounding(grounded, picture)
        written.append(picture)
    report(result["problems"])
    _say_scores(result)
    say(f"perplexity of the human captions' words {result['perplexity']:.2f}")
    for habit, value in result["habits"].items():
        say(f"{habit:22s} {value:.4g} (people: {result['human_habits'][habit]:.4g})")
    say("seconds: " + ", ".join(f"{stage} {value:.1f}" for stage, value in result["seconds"].items()))
    for path in written:
        say(f"wrote {path}")


@app.command
def states(
    data: Sets,
    split: SplitName,
    out: Annotated[Path, arg(help="file of the states; the app looks for NAME.states.safetensors beside a checkpoint")],
    models: OmitArgPrefixes[Models] = Models(),
    decoding: OmitArgPrefixes[DecodeOptions] = DecodeOptions(),
) -> None:
    """Write the states of a captioner over whole splits to a file, in which the app finds the nearest photographs."""
    from glied.checkpoint import load_ensemble
    from glied.data.dataset import load_dataset, report
    from glied.evaluation.archive import gather_states
    from glied.evaluation.evaluate import read_scenes

    check_target(out)
    dataset = load_dataset(data)
    model, detector = load_ensemble(models.captioners, models.detector)
    scenes = read_scenes(dataset, split, models.cache, detector)
    archive = gather_states(model, scenes, decoding)
    report([*dataset.problems, *scenes.problems])
    archive.save(out)
    kinds = ", ".join(f"{len(known.rows):,} of {kind}" for kind, known in archive.known.items())
    say(f"wrote {out}: states of {len(archive.photographs):,} photographs, {kinds}")


def _say_scores(result: dict[str, Any]) -> None:
    for name, value in result["scores"].items():
        say(f"{name:8s} " + (f"{value:.4f}" if value is not None else result["missing"][name][1]))


@app.command(name="score")
def score_files(
    references: Annotated[Path, arg(help="captions of people: {id: [captions]}, COCO's annotations or Karpathy's")],
    captions: Annotated[Path, arg(help="captions to score: COCO's results, or {id: caption}")],
    out: ReportOut,
) -> None:
    """Score any caption file: BLEU, METEOR, ROUGE-L, CIDEr and SPICE as coco-caption computes them."""
    from glied.data.dataset import report as tell
    from glied.data.texts import pair, read_texts
    from glied.evaluation.metrics import doubt, habits, score

    check_target(out)
    people, told = read_texts(references), read_texts(captions)
    known, spoken, problems = pair(people, told)
    if len(spoken) < len(people.captions):
        problems.append(
            f"{len(spoken)} of {len(people.captions)} images with references have a caption; only they count"
        )
    problems = [*problems, *doubt(len(spoken))]
    result = score(known, spoken)
    report = {"scores": result.corpus, "missing": result.missing, "tokenizer": result.tokenizer}
    found = habits(spoken.values())
    images = {id: {"caption": spoken[id], **values} for id, values in result.images.items()}
    write_json(out, report | {"habits": found, "images": images, "problems": problems})
    tell(problems)
    _say_scores(report)
    for name, value in found.items():
        say(f"{name:22s} {value:.4g}")
    say(f"wrote {out}")


@app.command
def curves(
    runs: Annotated[Positional[tuple[Path, ...]], arg(help="folders of runs, with their log.csv")],
    out: Annotated[Path, arg(help="PNG, SVG or PDF")],
) -> None:
    """Draw the learning curves of runs: loss or reward, and val CIDEr, by epoch."""
    from analysis.curves import draw_curves

    check_target(out)
    draw_curves(runs, out)
    say(f"wrote {out}")
