"""Commands that train: base, glied and the other captioners, text, rl, attributes, detector."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.cli.options import Attributes, Cache, Crossfit, Sets, Source, find_crossfit, train_app
from glied.data.pack import is_pack
from glied.errors import GliedError
from glied.experiments.rows import SYSTEMS
from glied.files import SHIPPED, check_target
from glied.terminal import say
from glied.training.options import (
    AttributeOptions,
    DetectorOptions,
    Places,
    ReinforceOptions,
    TextOptions,
    TrainOptions,
)


@dataclass(frozen=True)
class Run:
    """Where a captioner's training reads and writes.

    Attributes:
        cache: folder of cached regions; default: the pack where --data is one, else `cache`.
        run: folder of the state, the log and the best checkpoint; default runs/NAME.
        out: another place to write the best checkpoint.
    """

    data: Sets
    attributes: Attributes = None
    crossfit: Crossfit = None
    cache: Path | None = None
    run: Path | None = None
    out: Path | None = None

    def places(self, name: str) -> Places:
        """With the defaults filled in; `name` is what is trained."""
        packs = [path for path in self.data if is_pack(path)]
        if packs and len(self.data) > 1:
            raise GliedError(f"Expected the pack {packs[0]} alone, got {len(self.data)} data sets; pack them together.")
        pack = packs[0] if packs else None
        attributes = self.attributes or (pack or SHIPPED) / "attributes.safetensors"
        crossfit = find_crossfit(attributes, self.crossfit)
        if self.out is not None:
            check_target(self.out)
        folder = self.run or Path("runs") / name
        check_target(folder / "state.pt")
        return Places(self.data, self.cache or pack or Path("cache"), attributes, crossfit, folder, self.out)


@dataclass(frozen=True)
class CaptionerRun(Run):
    """Which captioner, from which weights.

    Attributes:
        preset: '' for the paper's slides, `context` (GLIED alone), `narrow`, `wide` or `paper` (see glied/config.py).
        initial: a checkpoint of the same captioner to start from, for example from `train text`.
        project: what follows the projection of region features; default the preset's.
        heads: attention heads of `d_head`; default the preset's (8 of 64).
        d_head: width of an attention head.
        feature_dropout: dropout on region features; default the preset's.
        output_dropout: dropout before the classifier; default the preset's.
    """

    preset: Literal["", "context", "narrow", "wide", "paper"] = ""
    initial: Path | None = None
    project: Literal["relu", "none", "norm"] | None = None
    heads: int | None = None
    d_head: int | None = None
    feature_dropout: float | None = None
    output_dropout: float | None = None

    def changes(self) -> dict[str, Any]:
        """The fields of the preset that are given here."""
        names = ("project", "heads", "d_head", "feature_dropout", "output_dropout")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def _report(card: dict[str, Any], places: Places) -> None:
    say(f"best val CIDEr {card['val_CIDEr_beam_3']}: {places.out or places.best}")


def _train(architecture: str, run: CaptionerRun, training: TrainOptions) -> None:
    from glied.training.cross_entropy import train_captioner

    name = "-".join(filter(None, (architecture, run.preset)))
    places = run.places(name)
    _report(train_captioner(name, places, training, run.initial, **run.changes()).provenance, places)


def _add(name: str, title: str) -> None:
    def train(run: OmitArgPrefixes[CaptionerRun], training: OmitArgPrefixes[TrainOptions] = TrainOptions()) -> None:
        _train(name, run, training)

    train.__doc__ = f"Train {title} by cross-entropy; resumes the run where it was last saved."
    train_app.command(name=name)(train)


for _name, _title in SYSTEMS.items():
    _add(_name, _title)


@train_app.command(name="text")
def train_text(
    name: Annotated[
        Positional[
            Literal[
                "base", "glied", "base-narrow", "glied-narrow", "base-wide", "glied-wide", "base-paper", "glied-paper"
            ]
        ],
        arg(help="preset of the captioner (see glied/config.py)"),
    ],
    captions: Annotated[
        tuple[Path, ...], arg(help="JSON {id: [captions]} or COCO's; coco: those inside pycocoevalcap")
    ],
    run: OmitArgPrefixes[Run],
    training: OmitArgPrefixes[TextOptions] = TextOptions(),
) -> None:
    """Train a captioner's words on captions without photographs, to start `train base|glied --initial` from."""
    from glied.training.text import train_on_text

    places = run.places(f"text-{name}")
    _report(train_on_text(name, captions, places, training).provenance, places)


@train_app.command(name="rl")
def train_rl(
    checkpoint: Annotated[Positional[Path], arg(help="checkpoint of a captioner, for example from `train glied`")],
    run: OmitArgPrefixes[Run],
    training: OmitArgPrefixes[ReinforceOptions] = ReinforceOptions(),
) -> None:
    """Train a captioner further on the CIDEr-D of its own samples (self-critical sequence training)."""
    from glied.training.self_critical import reinforce

    places = run.places(f"rl-{checkpoint.parent.name if checkpoint.stem == 'best' else checkpoint.stem}")
    _report(reinforce(checkpoint, places, training).provenance, places)


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
    from glied.training.attributes import train_attributes

    target = out or run / "attributes.safetensors"
    check_target(target)
    check_target(run / "state.pt")
    for name, value in train_attributes(data, cache, source, run, target, training).items():
        say(f"{name} {value:.4f}")


@train_app.command(name="detector")
def train_region_detector(
    data: Sets,
    run: Annotated[Path, arg(help="folder of the state")] = Path("runs/detector"),
    out: Annotated[Path | None, arg(help="where the detector goes; default detector.safetensors in --run")] = None,
    initial: Annotated[Path | None, arg(help="a trained detector to start from; default ImageNet's weights")] = None,
    training: OmitArgPrefixes[DetectorOptions] = DetectorOptions(),
) -> None:
    """Train the region detector on boxes with phrases or classes; resumes where it was last saved."""
    from glied.training.detector import train_detector

    target = out or run / "detector.safetensors"
    check_target(target)
    check_target(run / "state.pt")
    for name, quality in train_detector(data, run, target, training, initial).items():
        say(f"{name} val: " + ", ".join(f"{key} {value}" for key, value in quality.items()))
    say(f"wrote {target}; use it with GLIED_DETECTOR={target}")
