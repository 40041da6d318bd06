"""Cross-entropy training of a captioner, and what every training of a captioner starts from."""

from dataclasses import replace
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
from glied.errors import GliedError
from glied.model import Captioner, Inputs
from glied.regions import find_views
from glied.training.loop import join, plan_steps, resolve, settings
from glied.training.material import Material, batch, hide, mirror, prepare, put
from glied.training.options import Places, TrainOptions
from glied.vocabulary import PAD


def train_captioner(
    name: str,
    places: Places,
    options: TrainOptions,
    initial: Path | None = None,
    material: Material | None = None,
    **changes: Any,
) -> Checkpoint:
    """Trains the preset `name` by cross-entropy; goes on from the state in the run's folder where there is one.

    Args:
        initial: a checkpoint of the same preset to start from, perhaps from `train text`; its vocabulary is kept. If
            the new features are wider, the extra columns of the projection start at zero.
        material: what `prepare` reads from `places`, if it was read already.
        changes: fields of the preset to replace.

    Returns:
        the checkpoint of the epoch with the best val CIDEr (beam 3).

    Raises:
        GliedError: the data or `initial` do not fit, or the run's folder has another training's state.
    """
    device, _, _ = join()
    options = resolve(options, device)
    start = None if initial is None else load(initial)
    if material is None:
        material = prepare(places, options.mirror, options.min_count if start is None else start.vocabulary)
    config = preset(name, len(material.vocabulary), material.train.features.shape[-1], options.dropout, **changes)
    if config.architecture == "rfnet":
        config = replace(config, views=find_views(material.source, config.feature_dim))
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
                f"than its {config.feature_dim} features, found another; choose the preset that it was trained with."
            )
        weights = start.model.state_dict()
        more = config.feature_dim - known.feature_dim
        model.load_state_dict(weights | {"project.weight": functional.pad(weights["project.weight"], (0, more))})
        card["initial"] = {"digest": start.digest} | start.provenance
    tokens = encode_captions([p.tokens for p in material.train.photographs], material.vocabulary, config.max_length)

    def objective(step: int, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        rows = mirror(part, material.train)
        inputs = batch(material.train, material.attributes[part], rows, device)
        return step_loss(model, hide(inputs, options.hide), tokens[part], live_words(tokens[whole]), options), {}

    identity = material.identity(settings(options), config.stored(), start and start.digest)
    plan = plan_steps(options, material.draw)
    return material.fit(f"{name}, seed {options.seed}", places, options, model, identity, plan, objective, card)


def live_words(tokens: Int[Tensor, "b C T"]) -> int:
    """The number of words of the captions, EOS counted, BOS not."""
    return int((tokens[:, :, 1:] != PAD).sum())


def step_loss(
    model: Captioner, inputs: Inputs, tokens: Int[Tensor, "b C T"], words: int, options: TrainOptions
) -> Float[Tensor, ""]:
    """Cross-entropy of all captions, a part of a step of `words` words; scores are computed for live words only."""
    model.train()
    device = inputs.features.device
    tokens = tokens[:, :, : int((tokens != PAD).sum(-1).max())]
    target = tokens[:, :, 1:].flatten()
    live = (target != PAD).nonzero()[:, 0]  # on the CPU: no wait for the GPU
    spoken, target, live = (put(t, device) for t in (tokens[:, :, :-1], target[live], live))
    with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
        memory = model.encode(inputs)
        c_tilde = model(spoken, memory).c_tilde
        logits = model.logits(c_tilde.flatten(0, 2).index_select(0, live))
        return cross_entropy(logits, target, options.smoothing, words) + model.auxiliary_loss(memory, tokens) / words


def cross_entropy(
    logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], smoothing: float, words: int
) -> Float[Tensor, ""]:
    """Sum of the cross-entropy against smoothed labels, divided by `words`, the number of words in the whole step."""
    total = functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing, reduction="sum")
    return total / words  # Eq. (19)
