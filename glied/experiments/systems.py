"""The paper's Tables 1 and 2 with every captioner that they name, on our data: scores, and what they cost."""

import time
from collections.abc import Sequence
from typing import Any

from glied.checkpoint import load
from glied.evaluation import report
from glied.evaluation.report import table as markdown_table
from glied.experiments.rows import ENSEMBLE, IN_TABLE_1, MEMBER, PAPER, SYSTEMS, TABLE_1
from glied.experiments.trainings import SCORES, STAGES, say_unfinished, score_ensemble, tabulate, train_all
from glied.training.loop import join
from glied.training.material import caption_split, prepare
from glied.training.options import Places, ReinforceOptions, TrainOptions

MEASURED = (*SCORES, "METEOR")  # None without Java
SHOWN = {"Bleu_4": "B-4", "METEOR": "METEOR", "ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr"}


def score_systems(
    places: Places,
    names: Sequence[str],
    seeds: Sequence[int],
    members: Sequence[int],
    xe: TrainOptions,
    rl: ReinforceOptions,
    minutes: float = 0.0,
    together: int = 1,
) -> dict[str, Any]:
    """Table 1: trains captioners of TABLE_1 alike, by cross-entropy and self-critical (see `train_all`), and the Att2in
    of the seeds `members`, whose ensemble is a row.

    Returns:
        what `tabulate` and `train_all` find.
    """
    jobs = [(name, seed) for seed in seeds for name in names if name != ENSEMBLE]
    if ENSEMBLE in names:
        jobs += [(MEMBER, seed) for seed in members]
    ended = train_all(places, list(dict.fromkeys(jobs)), xe, rl, minutes, together, MEASURED)
    result: dict[str, Any] = {"rows": [], "unfinished": []}
    for name in names:
        for stage in STAGES if name == ENSEMBLE else ():
            trained = [f"{MEMBER}-{stage}-{seed}" for seed in members]
            score_ensemble(places, trained, f"{ENSEMBLE}-{stage}-{seeds[0]}", MEASURED)
        found = tabulate(places.run, [name], list(STAGES), seeds[:1] if name == ENSEMBLE else seeds)
        result = {key: [*known, *found[key]] for key, known in result.items()}
    return result | {"members": list(members)} | ended


def table1(result: dict[str, Any]) -> str:
    """A table for each data set, with the paper's CIDEr in columns of its own, and the captioners not finished."""
    parts = []
    for data, photographs in {row["data"]: row["photographs"] for row in result["rows"]}.items():
        found = {(row["captioner"], row["stage"]): row for row in result["rows"] if row["data"] == data}
        head, rows = [""], []
        for stage in STAGES.values():
            head += [f"{title}, {stage}" for title in SHOWN.values()] + ["95 % interval"]
        head += [f"paper, MSCOCO: CIDEr, {stage}" for stage in STAGES.values()]
        for name in dict.fromkeys(name for name, _ in found):
            cells = [TABLE_1[name]]
            for stage in STAGES.values():
                cells += _scores(found.get((name, stage)))
            rows.append(cells + [_paper(name, stage) for stage in STAGES.values()])
        parts += [f"{data} val, {photographs} photographs, scores times 100; * in the paper an ensemble", ""]
        parts += [markdown_table(head, rows), ""]
    return "\n".join([*parts, *say_unfinished(result)]).rstrip()


def _scores(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["-"] * (len(SHOWN) + 1)
    means = [row[name]["mean"] for name in SHOWN]
    return [*map(_hundred, means), f"{_hundred(row['low'])} to {_hundred(row['high'])}"]


def _hundred(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _paper(name: str, stage: str) -> str:
    """CIDEr in the paper: of Table 1, else of Table 2."""
    for row in report.PAPER:
        if row[0] == f"{IN_TABLE_1.get(name)}, {stage}":
            return row[report.HEAD.index("CIDEr")] + "*" * row[0].count("*")
    return f"{PAPER[name][3]:.1f}" if name in PAPER and stage == STAGES["xe"] else "-"


def time_systems(places: Places, names: Sequence[str], options: TrainOptions) -> dict[str, Any]:
    """Table 2: trains captioners of SYSTEMS alike by cross-entropy (see `train_all`), and measures how fast each
    captions val at beam 3. The speeds are of one run: the captioners take turns, each counts its best.

    Returns:
        what `tabulate` and `train_all` find; of each row `images_per_s` too.
    """
    ended = train_all(places, [(name, options.seed) for name in names], options, minutes=options.minutes)
    result = tabulate(places.run, names, ["xe"], [options.seed])
    done = list(dict.fromkeys(row["captioner"] for row in result["rows"]))
    if not done:
        return result | ended
    models = {name: load(places.run / f"{name}-xe-{options.seed}.safetensors") for name in done}
    material = prepare(places, False, next(iter(models.values())).vocabulary)
    device, _, _ = join()
    speeds = dict.fromkeys(done, 0.0)
    for name in [*done, *done, *done]:
        model = models[name].model.to(device)
        start = time.perf_counter()
        caption_split(model, material.val, material.val_attributes, material.vocabulary)
        speeds[name] = max(speeds[name], len(material.val.photographs) / (time.perf_counter() - start))
    rows = [row | {"images_per_s": speeds[row["captioner"]]} for row in result["rows"]]
    return result | {"rows": rows} | ended


def table2(result: dict[str, Any]) -> str:
    """A row for each captioner, the paper's figures beside ours."""
    sets = list(dict.fromkeys(row["data"] for row in result["rows"]))
    head = ["", "parameters", "minutes to best CIDEr", "images per second"]
    for data in sets:
        head += [f"CIDEr, {data} val", "95 % interval"]
    head += ["paper: parameters", "hours", "images per second", "CIDEr (MSCOCO)"]
    rows: dict[str, list[str]] = {}
    for row in result["rows"]:
        name, [minutes] = row["captioner"], row["minutes"]
        cost = [f"{row['parameters'] / 1e6:.1f}M", f"{minutes:.0f}", f"{row['images_per_s']:.0f}"]
        cells = rows.setdefault(name, [SYSTEMS[name], *cost])
        cells += [f"{row['CIDEr']['mean']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"]
    paper = {name: [f"{value:.1f}" for value in PAPER.get(name, ())] or ["-"] * 4 for name in rows}
    return "\n".join(
        [markdown_table(head, [cells + paper[name] for name, cells in rows.items()]), *say_unfinished(result)]
    )
