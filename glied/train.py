"""Cross-entropy training of a captioner."""

import csv
import hashlib
import io
import json
import math
import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from glied.attributes import AttributeDetector, top_words
from glied.checkpoint import Checkpoint, load, load_attribute_detector
from glied.config import preset
from glied.data import CAPTIONS, FeatureCache, Photograph, Split, attribute_ids, load_dataset, pad, read_split, report
from glied.decode import DecodeOptions, beam_search
from glied.errors import GliedError, within
from glied.files import replacing
from glied.metrics import score
from glied.model import Captioner, Inputs, build
from glied.provenance import provenance
from glied.regions import open_source
from glied.train_attributes import predict
from glied.vocabulary import BOS, EOS, PAD, Vocabulary


@dataclass(frozen=True)
class TrainOptions:
    """How a captioner is trained; recorded in its checkpoint.

    Attributes:
        epochs: passes over the photographs, all captions of each.
        images: photographs in a step; with five captions each, 50 captions by default.
        rate: peak learning rate, reached after the warm-up, then a cosine down to 0.
        warmup: steps of linear warm-up.
        smoothing: label smoothing epsilon.
        clip: largest norm of the gradient.
        dropout: in G, after every attention function.
        hide: share of the regions and of the attributes hidden at random in every step, so that the captioner
            does not learn photographs by heart and a removal (trace.py) is nothing it has never met.
        weight_decay: of AdamW.
        patience: epochs without a better val CIDEr before stopping early.
        min_count: how often a word must come in the training captions to be in the vocabulary.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32.
        seed: of the initial weights, dropout and the order of photographs.
        save_minutes: minutes between two saved states.
    """

    epochs: int = 14
    images: int = 10
    rate: float = 5e-4
    warmup: int = 1000
    smoothing: float = 0.1
    clip: float = 1.0
    dropout: float = 0.3
    hide: float = 0.2
    weight_decay: float = 0.01
    patience: int = 5
    min_count: int = 5
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: int = 0
    save_minutes: float = 5.0

    def __post_init__(self) -> None:
        within(
            self,
            epochs=(1, 10_000),
            images=(1, 10_000),
            rate=(0, 1),
            warmup=(1, 10**7),
            smoothing=(0, 0.99),
            clip=(0, 1e6),
            dropout=(0, 0.99),
            hide=(0, 0.99),
            weight_decay=(0, 1),
            patience=(1, 10_000),
            min_count=(1, 10**6),
            save_minutes=(0, 10_000),
        )


def cross_entropy(logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], smoothing: float) -> Float[Tensor, ""]:
    """Mean over words of the cross-entropy against smoothed labels."""
    return functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)  # Eq. (19)


def encode_captions(photographs: Sequence[Photograph], vocabulary: Vocabulary, longest: int) -> Int[Tensor, "I C T"]:
    """BOS, words, EOS and PAD of the first five captions; a caption cut at `longest` words has no EOS."""
    tokens = torch.full((len(photographs), CAPTIONS, longest + 2), PAD)
    tokens[:, :, 0] = BOS
    for i, photograph in enumerate(photographs):
        for c, words in enumerate(photograph.tokens[:CAPTIONS]):
            ids = [*vocabulary.encode(words), EOS][: longest + (len(words) <= longest)]
            tokens[i, c, 1 : 1 + len(ids)] = torch.tensor(ids)
    return tokens


def learning_rate(step: int, steps: int, rate: float, warmup: int) -> float:
    """Linear warm-up to `rate`, then half a cosine down to 0."""
    if step < warmup:
        return rate * (step + 1) / warmup
    past = (step - warmup) / max(1, steps - warmup)
    return rate * 0.5 * (1 + math.cos(math.pi * past))  # Choice (10)


def train_captioner(
    name: str,
    data: Path,
    cache: Path,
    detector: Path,
    run: Path,
    options: TrainOptions,
    out: Path | None = None,
    crossfit: Path | None = None,
) -> Checkpoint:
    """Trains the preset `name`; goes on from the state in `run` where there is one.

    The state (weights, optimizer, random state, log) is saved every few minutes; a run that was stopped at any
    moment and resumed ends with exactly the weights of an unbroken one, on the same machine and thread count.

    Args:
        detector: file of the attribute detector. `crossfit`: attributes of the training photographs from
            detectors that did not see them; without it, the detector's own.
        out: where the best checkpoint goes; default best.safetensors in `run`.

    Returns:
        the checkpoint of the epoch with the best val CIDEr (beam 3).
    """
    dataset = load_dataset(data)
    report(dataset.problems)
    attribute_detector, detector_card = load_attribute_detector(detector)
    feature_cache = FeatureCache(cache, open_source(attribute_detector.source))
    train, val = read_split(dataset, feature_cache, "train", "restval"), read_split(dataset, feature_cache, "val")
    vocabulary = Vocabulary.build((t for p in train.photographs for t in p.tokens), options.min_count)
    config = preset(name, len(vocabulary), train.features.shape[-1], options.dropout)
    torch.manual_seed(options.seed)
    model = build(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.rate, betas=(0.9, 0.98), eps=1e-9, weight_decay=options.weight_decay
    )
    tokens = encode_captions(train.photographs, vocabulary, config.max_length)
    known = {} if crossfit is None else read_crossfit(crossfit)  # Choice (11)
    train_attributes = find_all(attribute_detector, train, vocabulary, known)
    val_attributes = find_all(attribute_detector, val, vocabulary, {})
    per_epoch = math.ceil(len(train.photographs) / options.images)
    steps = per_epoch * options.epochs

    card = provenance(dataset, f"train {name}", options)
    card |= {"detector": detector_card["digest"], "crossfit": crossfit is not None}
    photographs = [p.id for split in (train, val) for p in split.photographs]
    training = {name: value for name, value in card["options"].items() if name != "save_minutes"}
    described = json.dumps([training, asdict(config), vocabulary.words, feature_cache.source.name, photographs])
    found = train_attributes.numpy().tobytes() + val_attributes.numpy().tobytes()
    identity = hashlib.sha256(described.encode() + found).hexdigest()
    fresh = {"identity": identity, "step": 0, "log": [], "losses": [], "best": -1.0, "epoch": 0}
    state_path, best_path = run / "state.pt", run / "best.safetensors"
    state = resume(state_path, fresh)
    if state is not fresh:
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
        torch.set_rng_state(state.pop("random"))
        print(f"resuming {run} at step {state['step']} of {steps}")

    def save() -> None:
        with replacing(state_path) as aside:
            torch.save(
                state
                | {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()},
                aside,
            )

    saved = time.monotonic()
    bar = tqdm(total=steps, initial=state["step"], desc=name, unit="step", dynamic_ncols=True)
    while state["epoch"] < options.epochs and state["epoch"] - _best_epoch(state) < options.patience:
        model.train()
        order = torch.randperm(
            len(train.photographs), generator=torch.Generator().manual_seed(options.seed * 10_000 + state["epoch"])
        ).split(options.images)
        for chosen in order[state["step"] - state["epoch"] * per_epoch :]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state["step"], steps, options.rate, options.warmup)
            loss = step_loss(model, train, train_attributes, tokens, chosen, options)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            state["step"] += 1
            state["losses"].append(loss.item())
            bar.update()
            bar.set_postfix(loss=f"{np.mean(state['losses'][-100:]):.3f}", cider=f"{state['best']:.3f}", refresh=False)
            if time.monotonic() - saved > 60 * options.save_minutes:
                save()
                saved = time.monotonic()
        state["epoch"] += 1
        cider = validate(model, val, val_attributes, vocabulary)
        state["log"].append(
            {
                "epoch": state["epoch"],
                "step": state["step"],
                "loss": float(np.mean(state["losses"])),
                "val_CIDEr": cider,
                "rate": learning_rate(state["step"] - 1, steps, options.rate, options.warmup),
            }
        )
        state["losses"] = []
        if cider > state["best"]:
            state["best"] = cider
            card |= {"epochs": state["epoch"], "val_CIDEr_beam_3": round(cider, 4)}
            Checkpoint(model, vocabulary, attribute_detector.words, attribute_detector.source, card).save(best_path)
        write_log(run / "log.csv", state["log"])
        save()
        saved = time.monotonic()
        bar.write(f"epoch {state['epoch']}: loss {state['log'][-1]['loss']:.3f}, val CIDEr {cider:.4f}")
    bar.close()
    checkpoint = load(best_path)
    if out is not None:
        checkpoint.save(out)
    return checkpoint


def read_state(path: Path) -> dict[str, Any]:
    """The saved state of a run; nothing but tensors and plain values is unpickled."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise GliedError(f"Expected the state of a run in {path}, it is damaged ({error}); delete it.") from error


def resume(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """The state of a run saved in `path`, or `fresh` where there is none; refuses another run's, by `identity`."""
    if not path.is_file():
        return fresh
    state = read_state(path)
    if state["identity"] != fresh["identity"]:
        raise GliedError(
            f"Expected to resume the run in {path.parent}, but it was started with other options or data; "
            "name another --run or delete that folder."
        )
    return state


def read_crossfit(path: Path) -> dict[str, list[str]]:
    """Photograph -> attribute words, as `train attributes` wrote them."""
    try:
        found = json.loads(path.read_text())
        return {str(id): [str(word) for word in words] for id, words in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise GliedError(
            f"Expected attributes by photograph in {path}, could not read them ({error}); "
            "run `python -m glied train attributes` again."
        ) from error


def _best_epoch(state: dict[str, Any]) -> int:
    return max(state["log"], key=lambda row: row["val_CIDEr"])["epoch"] if state["log"] else 0


def step_loss(
    model: Captioner,
    split: Split,
    attributes: Int[Tensor, "I M"],
    tokens: Int[Tensor, "I C T"],
    chosen: Int[Tensor, " b"],
    options: TrainOptions,
) -> Float[Tensor, ""]:
    """Cross-entropy of all captions of the chosen photographs; scores are computed for live words only."""
    words = tokens[chosen]
    words = words[:, :, : int((words != PAD).sum(-1).max())]
    target = words[:, :, 1:]
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
        memory = model.encode(hide(batch(split, attributes, chosen), options.hide))
        live = target != PAD
        logits = model.logits(model(words[:, :, :-1], memory).c_tilde[live])
        return cross_entropy(logits, target[live], options.smoothing)


def batch(split: Split, attributes: Int[Tensor, "I M"], chosen: Int[Tensor, " b"]) -> Inputs:
    """The chosen photographs as a batch; attributes are padded with PAD."""
    ids = attributes[chosen]
    mask = ids != PAD
    return Inputs(
        split.features[chosen].float(),
        None if split.mask is None else split.mask[chosen],
        ids,
        None if mask.all() else mask,
    )


def hide(inputs: Inputs, share: float) -> Inputs:  # Choice (12)
    """The batch with a random share of its regions and attributes masked; a photograph keeps at least one of each."""
    masks = []
    for entries, mask in ((inputs.features[..., 0], inputs.region_mask), (inputs.attributes, inputs.attribute_mask)):
        real = torch.ones(entries.shape, dtype=torch.bool) if mask is None else mask
        kept = real & (torch.rand(entries.shape) >= share)
        masks.append(torch.where(kept.any(-1, keepdim=True), kept, real))
    return inputs._replace(region_mask=masks[0], attribute_mask=masks[1])


@torch.inference_mode()
def validate(model: Captioner, split: Split, attributes: Int[Tensor, "I M"], vocabulary: Vocabulary) -> float:
    """CIDEr of the split, beam 3."""
    model.eval()
    captions: dict[str, str] = {}
    for chosen in torch.arange(len(split.photographs)).split(50):
        memory = model.encode(batch(split, attributes, chosen))
        decoded = beam_search(model, memory, vocabulary, DecodeOptions())
        captions |= {split.photographs[i].id: d.captions[0].text for i, d in zip(chosen.tolist(), decoded, strict=True)}
    references = {p.id: p.captions for p in split.photographs}
    return score(references, captions, ["CIDEr"]).corpus["CIDEr"]


def write_log(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The log as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as aside:
        aside.write_text(text.getvalue())


def find_all(
    detector: AttributeDetector, split: Split, vocabulary: Vocabulary, known: dict[str, list[str]]
) -> Int[Tensor, "I M"]:
    """Ids of the attributes of every photograph: from `known` where it has them, else from the detector."""
    rest = [i for i, p in enumerate(split.photographs) if p.id not in known]
    P = dict(zip(rest, predict(detector, split, torch.tensor(rest)) if rest else [], strict=True))
    words = [
        [detector.words[w] for w in top_words(detector.words, P[i].numpy())] if i in P else known[p.id]
        for i, p in enumerate(split.photographs)
    ]
    return pad([attribute_ids(w, vocabulary) for w in words])[0]
