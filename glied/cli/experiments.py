"""Commands that compare: bench, ablation."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.cli.options import ReportOut, app, bench_app, say_table, write_json
from glied.cli.train import Run
from glied.errors import GliedError
from glied.experiments.rows import PAIR, ROWS, SYSTEMS
from glied.files import check_target
from glied.records import IMAGE
from glied.terminal import say
from glied.training.options import ReinforceOptions, TrainOptions

JsonOut = Annotated[Path | None, arg(name="json", help="also write the figures here")]


def _measure(benchmark: Callable[[], dict], table: Callable[[dict], str], out: Path | None) -> None:
    if out is not None:
        check_target(out)
    result = benchmark()
    if out is not None:
        write_json(out, result)
    say_table(table(result), needed=out is None)
    if out is not None:
        say(f"wrote {out}")


@bench_app.command(name="decode")
def bench_decode(out: JsonOut = None) -> None:
    """Images per second at beam 1, 3, 5 and batch 1, 10, 50, beside what this machine can do in the same run."""
    from glied.experiments import bench

    _measure(bench.decode, bench.table, out)


@bench_app.command(name="regions")
def bench_regions(
    photographs: Annotated[Positional[Path], arg(help="folder of photographs (app/photographs)")],
    out: JsonOut = None,
) -> None:
    """Milliseconds of finding regions by stage, with every engine and precision that this machine has."""
    from glied.experiments import bench_regions as bench

    paths = sorted(path for path in photographs.glob("*") if IMAGE.search(path.name))
    if not paths:
        raise GliedError(f"Expected a folder of photographs, found none in {photographs}; name another.")
    _measure(lambda: bench.regions(paths), bench.table, out)


@bench_app.command(name="reward")
def bench_reward(out: JsonOut = None) -> None:
    """Self-critical training's reward on word ids against pycocoevalcap's CIDEr, on 10,000 COCO captions."""
    from glied.experiments import bench

    _measure(bench.reward, bench.reward_table, out)


@bench_app.command(name="train")
def bench_train(out: JsonOut = None) -> None:
    """Seconds of a training step, cross-entropy and self-critical, against images, captions, regions and width."""
    from glied.experiments import bench

    _measure(bench.train, bench.train_table, out)


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
    out: ReportOut,
    systems: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(SYSTEMS),
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train the captioners of the paper's Table 2 alike: parameters, training time, speed, CIDEr; can be resumed."""
    from glied.experiments.ablation import compare_systems, systems_table

    _check_table(run, out, systems, SYSTEMS)
    result = compare_systems(run.places("table2"), systems, training)
    write_json(out, result)
    say_table(systems_table(result))
    say(f"wrote {out}")


@bench_app.command(name="pair")
def bench_pair(
    run: OmitArgPrefixes[Run],
    out: ReportOut,
    seeds: Annotated[tuple[int, ...], arg(help="train Base and GLIED once with each of these")] = (0, 1, 2),
    minutes: Annotated[float, arg(help="stop after so many, with all states saved; 0 for no limit")] = 0.0,
    together: Annotated[int, arg(help="processes that share the trainings: one alone does not fill a GPU")] = 1,
    device: Annotated[Literal["any", "cpu", "cuda"], arg(help="what must compute; any: the GPU where there is one")] = (
        "any"
    ),
    xe: TrainOptions = TrainOptions(epochs=5, mirror=False, save_minutes=2.0),
    rl: ReinforceOptions = ReinforceOptions(epochs=2, rate=8e-5, hide=0.4, mirror=False, save_minutes=2.0),
) -> None:
    """Train Base and GLIED alike with several seeds, by cross-entropy and self-critical, and compare them on val."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise GliedError(f"Expected different seeds, got {' '.join(map(str, seeds)) or 'none'}; correct the command.")
    if not 1 <= together <= 100 or not 0 <= minutes <= 1e6:
        raise GliedError("Expected --together from 1 to 100 and --minutes from 0 to 1000000; correct the command.")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for GPUs, in this process and in others
    import torch

    from glied.experiments.pair import table, train_pairs

    if device == "cuda" and not torch.cuda.is_available():
        raise GliedError("Expected a GPU, torch finds none; install torch for its CUDA, or leave --device out.")
    _check_table(run, out, tuple(PAIR), PAIR)
    result = train_pairs(run.places("pair"), seeds, xe, rl, minutes, together)
    write_json(out, result)
    say_table(table(result))
    say(f"wrote {out}")


@app.command
def ablation(
    run: OmitArgPrefixes[Run],
    out: ReportOut,
    variants: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(ROWS),
    seeds: Annotated[tuple[int, ...], arg(help="train each variant once with each of these")] = (0,),
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train GLIED's variants alike and score them on val, in one table; can be stopped and resumed at any time."""
    from glied.experiments.ablation import ablate, table

    _check_table(run, out, variants, ROWS)
    if not seeds:
        raise GliedError("Expected at least one seed, got none; correct the command.")
    result = ablate(run.places("ablation"), variants, seeds, training)
    write_json(out, result)
    say_table(table(result))
    say(f"wrote {out}")
