"""Commands that compare: bench, ablation."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.cli.caption import photographs_in
from glied.cli.options import Models, ReportOut, app, bench_app, say_table, write_json
from glied.cli.train import Run
from glied.errors import GliedError
from glied.experiments.rows import PAIR, ROWS, SYSTEMS, TABLE_1
from glied.files import check_target
from glied.records import IMAGE
from glied.terminal import say
from glied.training.options import ReinforceOptions, TrainOptions
from glied.workers import Workers

JsonOut = Annotated[Path | None, arg(name="json", help="also write the result here, as JSON")]


def _measure(benchmark: Callable[[], dict], table: Callable[[dict], str], out: Path | None) -> None:
    if out is None:
        say_table(table(benchmark()), needed=True)
    else:
        check_target(out)
        _tell(table, benchmark(), out)


@bench_app.command(name="decode")
def bench_decode(out: JsonOut = None) -> None:
    """Images per second at beam 1, 3, 5 and batch 1, 10, 50, beside what this machine can do in the same run."""
    from glied.experiments import bench

    _measure(bench.decode, bench.table, out)


@bench_app.command(name="variety")
def bench_variety(
    images: Annotated[Positional[tuple[Path, ...]], arg(help="photographs, or folders of them")],
    models: OmitArgPrefixes[Models] = Models(),
    out: JsonOut = None,
) -> None:
    """Six captions of each photograph by beam search, diverse groups and sampling: how different, and how likely."""
    from glied.attributes import find_scene
    from glied.checkpoint import load_ensemble
    from glied.data.features import open_cached
    from glied.experiments.variety import compare_ways, table
    from glied.images import open_image

    paths = [path for named in images for path in photographs_in(named)]
    if not paths:
        raise GliedError("Expected at least one image file, got none; name one.")

    def compare() -> dict:
        model, detector = load_ensemble(models.captioners, models.detector)
        source = open_cached(model.source, models.cache)
        return compare_ways(model, [find_scene(open_image(path), source, detector) for path in paths])

    _measure(compare, table, out)


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
    """Speed of the reward of self-critical training against pycocoevalcap's CIDEr, on 10,000 COCO captions."""
    from glied.experiments import bench

    _measure(bench.reward, bench.reward_table, out)


@bench_app.command(name="train")
def bench_train(out: JsonOut = None) -> None:
    """Seconds of a cross-entropy and of a self-critical step, by images, captions, regions and width."""
    from glied.experiments import bench

    _measure(bench.train, bench.train_table, out)


@bench_app.command(name="corpus")
def bench_corpus(
    corpus: Annotated[Path | None, arg(help="folder of photographs; default: the gallery's")] = None,
    photographs: Annotated[int, arg(help="how many; those of a smaller folder are repeated")] = 200,
    workers: Annotated[tuple[int, ...], arg(help="numbers of workers to try")] = (1, 2),
    engines: Annotated[tuple[Literal["processes", "ray"], ...], arg(help="what runs the workers")] = ("processes",),
    models: OmitArgPrefixes[Models] = Models(),
    out: JsonOut = None,
) -> None:
    """Photographs per second through `caption --corpus`, by engine and workers, and the memory that it takes."""
    from glied.corpus.options import Captioning
    from glied.experiments import corpus as bench

    if not 1 <= photographs <= 10**6 or not workers or not engines or models.ensemble:
        raise GliedError(
            "Expected 1 to 1000000 --photographs, some --workers and --engines, and no --ensemble; correct the command."
        )
    cases = [Workers(count, engine) for engine in engines for count in workers]
    checkpoint, attributes, cache = (f.absolute() for f in (models.checkpoint, models.detector, models.cache))
    captioning = Captioning(checkpoint, attributes, cache, out=Path())
    _measure(lambda: bench.measure(corpus, photographs, cases, captioning), bench.table, out)


def _check_table(run: Run, out: Path, names: Sequence[str], known: Mapping[str, str]) -> None:
    """Raises GliedError, before anything is trained, if a table cannot be written or has unknown rows."""
    check_target(out)
    if run.out is not None:
        raise GliedError("Expected no --out, which is for a checkpoint: this writes a table; correct the command.")
    if not names or set(names) - known.keys():
        raise GliedError(f"Expected some of {', '.join(known)}, got {', '.join(names) or 'none'}; choose from these.")


def _tell(table: Callable[[dict], str], result: dict, out: Path) -> None:
    write_json(out, result)
    say_table(table(result))
    say(f"wrote {out}")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise GliedError(f"Expected different seeds, got {' '.join(map(str, seeds)) or 'none'}; correct the command.")


XE = TrainOptions(epochs=5, mirror=False, save_minutes=2.0)
RL = ReinforceOptions(epochs=2, rate=8e-5, hide=0.4, mirror=False, save_minutes=2.0)


@dataclass(frozen=True)
class Sharing:
    """How trainings share the time and the machine.

    Attributes:
        minutes: stop after this time, with all states saved; 0 for no limit.
        together: processes that train at the same time; one alone does not fill a GPU.
        device: what must compute; `any` takes the GPU where there is one.
    """

    minutes: float = 0.0
    together: int = 1
    device: Literal["any", "cpu", "cuda"] = "any"

    def choose(self) -> None:
        """Checks the options, and makes torch, which must not be loaded before, find the right device."""
        if not 1 <= self.together <= 100 or not 0 <= self.minutes <= 1e6:
            raise GliedError("Expected --together from 1 to 100 and --minutes from 0 to 1000000; correct the command.")
        if self.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # in this process and in others
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise GliedError("Expected a GPU, torch finds none; install torch for its CUDA, or leave --device out.")


@bench_app.command(name="table2")
def bench_table2(
    run: OmitArgPrefixes[Run],
    out: ReportOut,
    systems: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(SYSTEMS),
    training: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train the captioners of the paper's tables alike: parameters, training time, speed, CIDEr; can be resumed."""
    from glied.experiments.systems import table2, time_systems

    _check_table(run, out, systems, SYSTEMS)
    _tell(table2, time_systems(run.places("table2"), systems, training), out)


@bench_app.command(name="table1")
def bench_table1(
    run: OmitArgPrefixes[Run],
    out: ReportOut,
    sharing: OmitArgPrefixes[Sharing] = Sharing(),
    systems: Annotated[tuple[str, ...], arg(help="which of them; default all")] = tuple(TABLE_1),
    seeds: Annotated[tuple[int, ...], arg(help="train each once with each of these")] = (0,),
    members: Annotated[tuple[int, ...], arg(help="seeds of the Att2in in the ensemble; the paper has four")] = (
        0,
        1,
        2,
        3,
    ),
    xe: TrainOptions = XE,
    rl: ReinforceOptions = RL,
) -> None:
    """Train the captioners of the paper's Table 1 alike, by cross-entropy and self-critical: scores on each val set."""
    _check_seeds(seeds)
    _check_seeds(members)
    sharing.choose()
    from glied.experiments.systems import score_systems, table1

    _check_table(run, out, systems, TABLE_1)
    result = score_systems(run.places("table1"), systems, seeds, members, xe, rl, sharing.minutes, sharing.together)
    _tell(table1, result, out)


@bench_app.command(name="pair")
def bench_pair(
    run: OmitArgPrefixes[Run],
    out: ReportOut,
    seeds: Annotated[tuple[int, ...], arg(help="train Base and GLIED once with each of these")] = (0, 1, 2),
    sharing: OmitArgPrefixes[Sharing] = Sharing(),
    xe: TrainOptions = XE,
    rl: ReinforceOptions = RL,
) -> None:
    """Train Base and GLIED alike with several seeds, by cross-entropy and self-critical, and compare them on val."""
    _check_seeds(seeds)
    sharing.choose()
    from glied.experiments.pair import table, train_pairs

    _check_table(run, out, tuple(PAIR), PAIR)
    _tell(table, train_pairs(run.places("pair"), seeds, xe, rl, sharing.minutes, sharing.together), out)


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
    _check_seeds(seeds)
    _tell(table, ablate(run.places("ablation"), variants, seeds, training), out)
