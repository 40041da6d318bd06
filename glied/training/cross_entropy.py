"""Cross-entropy training of a captioner, and what every training of a captioner starts from."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glied.baselines.build import build
from glied.checkpoint import Checkpoint, load
from glied.config import preset
from glied.data.split import encode_captions
from glied.errors import GliedError, within
from glied.model import Captioner, Inputs
from glied.training.loop import LoopOptions, join, settings
from glied.training.material import Places, batch, hide, mirror, prepare
from glied.vocabulary import PAD


@dataclass(frozen=True)
class TrainOptions(LoopOptions):
    """How a captioner is trained by cross-entropy; recorded in its checkpoint.

    Attributes:
        smoothing: label smoothing epsilon.
        dropout: in G, after every attention function.
        hide: share of the regions and of the attributes hidden at random in every step, so that the captioner
            does not learn photographs by heart and a removal (glied/replay.py) is nothing it has never met.
        mirror: take each photograph as it is or mirrored, at random.
        min_count: how often a word must come in the training captions to be in the vocabulary.
    """

    smoothing: float = 0.1
    dropout: float = 0.3
    hide: float = 0.2
    mirror: bool = True
    min_count: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, smoothing=(0, 0.99), dropout=(0, 0.99), hide=(0, 0.99), min_count=(1, 10**6))


def train_captioner(
    name: str, places: Places, options: TrainOptions, initial: Path | None = None, **changes: Any
) -> Checkpoint:
    """Trains the preset `name` by cross-entropy; goes on from the state in the run's folder where there is one.

    Args:
        initial: a checkpoint of the same preset to start from, trained on text alone, say; its vocabulary is kept. What
            a region has more than there starts at weight 0.
        changes: fields of the preset to replace.

    Returns:
        the checkpoint of the epoch with the best val CIDEr (beam 3).
    """
    device, _, _ = join()
    start = None if initial is None else load(initial)
    material = prepare(places, options.mirror, options.min_count if start is None else start.vocabulary)
    config = preset(name, len(material.vocabulary), material.train.features.shape[-1], options.dropout, **changes)
    torch.manual_seed(options.seed)
    model = build(config)
    card = material.provenance(f"train {name}", options)
    if start is not None:
        known = start.model.config
        same = replace(known, dropout=options.dropout, feature_dim=config.feature_dim) == config
        fits = known.feature_dim < config.feature_dim or start.source == material.source
        if not same or not fits or known.feature_dim > config.feature_dim:
            raise GliedError(
                f"Expected in {initial} a captioner of preset {name} over {material.source}, or over regions of less "
                f"than its {config.feature_dim} features, it is another; choose the preset that it was trained with."
            )
        weights = start.model.state_dict()
        more = config.feature_dim - known.feature_dim
        model.load_state_dict(weights | {"project.weight": functional.pad(weights["project.weight"], (0, more))})
        card["initial"] = {"digest": start.digest} | start.provenance
    tokens = encode_captions([p.tokens for p in material.train.photographs], material.vocabulary, config.max_length)

    def objective(model: Captioner, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        rows = mirror(part, material.train)
        inputs = batch(material.train, material.attributes[part], rows, device)
        return step_loss(model, hide(inputs, options.hide), tokens[part], live_words(tokens[whole]), options), {}

    identity = material.identity(settings(options), asdict(config), start and start.digest)
    return material.fit(name, places, options, model, identity, material.draw, objective, card)


def live_words(tokens: Int[Tensor, "b C T"]) -> int:
    """How many words (EOS counted, BOS not) the captions have."""
    return int((tokens[:, :, 1:] != PAD).sum())


def step_loss(
    model: Captioner, inputs: Inputs, tokens: Int[Tensor, "b C T"], words: int, options: TrainOptions
) -> Float[Tensor, ""]:
    """Cross-entropy of all captions, a part of a step of `words` words; scores are computed for live words only."""
    model.train()
    tokens = tokens[:, :, : int((tokens != PAD).sum(-1).max())].to(inputs.features.device)
    target = tokens[:, :, 1:]
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=options.bf16):
        memory = model.encode(inputs)
        live = target != PAD
        logits = model.logits(model(tokens[:, :, :-1], memory).c_tilde[live])
        return cross_entropy(logits, target[live], options.smoothing, words)


def cross_entropy(
    logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], smoothing: float, words: int
) -> Float[Tensor, ""]:
    """Sum of the cross-entropy against smoothed labels, over the number of `words` of which these are a part."""
    total = functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing, reduction="sum")
    return total / words  # Eq. (19)
