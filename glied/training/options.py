"""The options of trainings with defaults and limits, and the places they read and write. No torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from glied.data.dataset import Data
from glied.errors import GliedError, within
from glied.vocabulary import FUNCTION_WORDS, GRAMMAR_WORDS

# lowest and highest value of every option that has limits, whichever trainings have it
LIMITS: dict[str, tuple[int | float, int | float]] = {
    "epochs": (1, 10_000), "images": (1, 10_000), "rate": (0, 1), "warmup": (1, 10**7), "clip": (0, 1e6),
    "weight_decay": (0, 1), "seed": (0, 2**31 - 1), "save_minutes": (0, 10_000),
    "minutes": (0, 10**6),
    "ema": (0, 0.999999), "patience": (1, 10_000), "accumulate": (1, 10_000),
    "smoothing": (0, 0.99), "dropout": (0, 0.99), "hide": (0, 0.99), "min_count": (1, 10**6),
    "texts": (1, 10**8), "reveal": (0, 1), "samples": (1, 100),
    "words": (1, 10**6), "hidden": (0, 10**5), "folds": (0, 100),
    "frozen": (0, 10_000), "trunk_rate": (0, 1), "zoom": (0.1, 1), "least": (1, 10**6),
}  # fmt: skip


@dataclass(frozen=True)
class StepOptions:
    """What every training has; recorded in what it writes.

    Attributes:
        epochs: passes over the photographs.
        images: photographs (or texts) in a step, over all processes.
        rate: peak learning rate of AdamW, reached after the warm-up, then a cosine down to 0.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient; 0 for no limit.
        weight_decay: of AdamW.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32. `fastest` takes `bf16` where the
            device that computes has it in hardware, else `fp32`. Captioners compute on the GPU where there is one,
            detectors on the CPU.
        seed: of the initial weights and of everything that is drawn at random.
        save_minutes: minutes between two saved states.
        minutes: the training stops after this time, with its state saved; 0 for no limit.

    Raises:
        GliedError: an option is outside its limits.
    """

    epochs: int = 14
    images: int = 10
    rate: float = 5e-4
    warmup: int = 1000
    clip: float = 1.0
    weight_decay: float = 0.01
    precision: Literal["fastest", "bf16", "fp32"] = "fastest"
    seed: int = 0
    save_minutes: float = 5.0
    minutes: float = 0.0

    def __post_init__(self) -> None:
        within(self, **{field.name: LIMITS[field.name] for field in fields(self) if field.name in LIMITS})

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bfloat16."""
        return self.precision == "bf16"


# The options of captioners keep their order: with another, states that were saved before would be refused.
@dataclass(frozen=True)
class CaptionerOptions(StepOptions):
    """What every training of a captioner has.

    Attributes:
        ema: decay of the exponential moving average of the weights, which is what is validated and kept; 0 for none.
        patience: epochs without a better val CIDEr before stopping early.
        accumulate: parts into which a process divides its photographs of a step, to save memory.
    """

    ema: float = 0.999
    patience: int = 5
    accumulate: int = 1


@dataclass(frozen=True)
class TrainOptions(CaptionerOptions):
    """How a captioner is trained by cross-entropy.

    Attributes:
        smoothing: label smoothing epsilon.
        dropout: in G, after every attention function.
        hide: share of the regions and of the attributes hidden at random in every step, so that the captioner does
            not memorise photographs, and removals at analysis time (glied/replay.py) are in distribution.
        mirror: take each photograph as it is or mirrored, at random.
        min_count: how often a word must occur in the training captions to be in the vocabulary.
    """

    smoothing: float = 0.1
    dropout: float = 0.3
    hide: float = 0.2
    mirror: bool = True
    min_count: int = 5


@dataclass(frozen=True)
class TextOptions(TrainOptions):
    """How a captioner is trained on text; an epoch is a pass over the texts.

    Attributes:
        texts: how many texts are used: those most like the training photographs' captions.
        reveal: probability of adding a word of the text to the borrowed attributes that lack it.
    """

    epochs: int = 1
    texts: int = 60_000
    reveal: float = 0.2


@dataclass(frozen=True)
class ReinforceOptions(CaptionerOptions):
    """How a captioner is trained on the CIDEr-D of its own captions.

    Attributes:
        samples: captions drawn of each photograph in a step.
        baseline: what a sample's reward is compared with: `leave-one-out`, the mean of the photograph's other
            samples (Luo 2020), or `greedy`, the greedy caption's reward (Rennie et al. 2017).
        hide: share of the regions and of the attributes hidden at random in every step.
        mirror: take each photograph as it is or mirrored, at random.
    """

    epochs: int = 10
    rate: float = 5e-5
    warmup: int = 100
    weight_decay: float = 0.0
    patience: int = 10
    samples: int = 5
    baseline: Literal["leave-one-out", "greedy"] = "leave-one-out"
    hide: float = 0.2
    mirror: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline == "leave-one-out" and self.samples < 2:
            raise GliedError("samples must be at least 2 with the baseline leave-one-out, got 1; take more or greedy.")


@dataclass(frozen=True)
class AttributeOptions(StepOptions):
    """How the attribute detector is trained.

    Attributes:
        words: size of the attribute vocabulary, the most frequent words of the training captions.
        grammar: allow words such as "has", "by" and "into" as attributes, as Fang et al. do, who exclude only 14
            function words.
        hidden: width of the hidden layer; 0 for a linear detector.
        folds: extra detectors, each trained without one part of the photographs and then used to find that part's
            attributes, so that captioners train on attributes no better than on new photographs. 0 for none.
    """

    epochs: int = 12
    images: int = 100
    rate: float = 1e-3
    warmup: int = 1
    clip: float = 0.0
    weight_decay: float = 0.05
    words: int = 1000
    grammar: bool = True
    hidden: int = 512
    folds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            raise GliedError("folds must be 0 or at least 2, got 1: one fold leaves nothing to train on; change it.")

    @property
    def without(self) -> frozenset[str]:
        """Words that are never given as attributes of a photograph."""
        return FUNCTION_WORDS if self.grammar else GRAMMAR_WORDS


@dataclass(frozen=True)
class DetectorOptions(StepOptions):
    """How the region detector is trained.

    Attributes:
        frozen: epochs at the start in which EfficientNet-Lite2 keeps its ImageNet weights.
        trunk_rate: peak learning rate of EfficientNet-Lite2, on the same schedule as `rate`.
        zoom: smallest share of the sides that a random crop keeps.
        least: how often a noun or modifier must occur in the training phrases to be a label.
    """

    epochs: int = 6
    images: int = 8
    warmup: int = 500
    weight_decay: float = 0.05
    clip: float = 5.0
    frozen: int = 3
    trunk_rate: float = 1e-4
    zoom: float = 0.6
    least: int = 40


@dataclass(frozen=True)
class Places:
    """What the training of a captioner reads and where it writes.

    Attributes:
        data: the data set, or several (see `load_dataset`). `cache`: folder of its regions.
        detector: file of the attribute detector.
        crossfit: attributes of the training photographs from detectors that did not see them; without it, the
            detector's own.
        run: folder of the state, the log and the best checkpoint. `out`: another place for the best checkpoint.
    """

    data: Data
    cache: Path
    detector: Path
    crossfit: Path | None
    run: Path
    out: Path | None = None

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the best val CIDEr (beam 3)."""
        return self.run / "best.safetensors"
