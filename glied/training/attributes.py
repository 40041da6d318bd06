"""Training of the attribute detector over cached regions, and its quality (Fang et al. 2015)."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from glied.attributes import AttributeDetector, evidence, noisy_or_loss, probability, top_words
from glied.checkpoint import save_attribute_detector
from glied.data.dataset import CAPTIONS, Data, Dataset, Photograph, load_dataset, report
from glied.data.features import FeatureCache
from glied.data.split import Split, draw_epoch, read_split
from glied.errors import GliedError, within
from glied.files import replacing
from glied.regions import open_source
from glied.training.loop import Precision, fastest, learning_rate, refuse_several, resume
from glied.training.provenance import provenance
from glied.vocabulary import FUNCTION_WORDS, GRAMMAR_WORDS


@dataclass(frozen=True)
class AttributeOptions:
    """How the attribute detector is trained.

    Attributes:
        words: size of the attribute vocabulary, the most frequent words of the training captions.
        grammar: allow words such as "has", "by" and "into" as attributes, as Fang et al. do, who exclude only 14
            function words.
        hidden: width of the hidden layer; 0 for a linear detector.
        epochs: passes over the photographs.
        images: photographs in a step.
        rate: learning rate of AdamW; it falls along a cosine.
        weight_decay: of AdamW.
        folds: extra detectors, each trained without one part of the photographs and then used to find that part's
            attributes. Captioners so train on attributes no better than new photographs will have. 0 for none.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32; by default the faster on
            the CPU, which computes.
        seed: of the weights, dropout, order and folds.
    """

    words: int = 1000
    grammar: bool = True
    hidden: int = 512
    epochs: int = 12
    images: int = 100
    rate: float = 1e-3
    weight_decay: float = 0.05
    folds: int = 4
    precision: Precision = field(default_factory=fastest)
    seed: int = 0

    def __post_init__(self) -> None:
        within(
            self,
            words=(1, 10**6),
            hidden=(0, 10**5),
            epochs=(1, 10_000),
            images=(1, 10_000),
            rate=(0, 1),
            weight_decay=(0, 1),
            folds=(0, 100),
            seed=(0, 2**31 - 1),
        )
        if self.folds == 1:
            raise GliedError("folds must be 0 or at least 2, got 1: one fold leaves nothing to train on; change it.")

    @property
    def without(self) -> frozenset[str]:
        """Words that are never given as attributes of a photograph."""
        return FUNCTION_WORDS if self.grammar else GRAMMAR_WORDS


def train_attributes(
    data: Data, cache: Path, source: str, run: Path, out: Path, options: AttributeOptions
) -> dict[str, float]:
    """Trains the detector on train and restval, writes it to `out` and the cross-fitted attributes beside it.

    Goes on after the last whole epoch where `run` has the state of one; the end is that of an unbroken run, on the same
    machine and thread count.

    Returns:
        quality on val, by data set where there are several: recall@49 of the words of the references (all but Fang's
        14, and of content words), mean average precision; and what the best attribute's probability reaches in 99 of
        100 photographs.
    """
    refuse_several()
    dataset = load_dataset(data)
    report(dataset.problems)
    feature_cache = FeatureCache(cache, open_source(source))
    train, val = read_split(dataset, feature_cache, "train", "restval"), read_split(dataset, feature_cache, "val")
    counts = Counter(word for p in train.photographs for words in p.tokens for word in words)
    words = tuple(sorted(counts, key=lambda w: (-counts[w], w))[: options.words])
    labels, val_labels = label(train.photographs, words), label(val.photographs, words)
    I = len(train.photographs)
    part = torch.randperm(I, generator=torch.Generator().manual_seed(options.seed)) % max(1, options.folds)
    everything = torch.arange(I)
    # the photographs of every detector: each fold's are all but those of one part
    chosen = [everything[part != fold] for fold in range(options.folds)] + [everything]
    described = [asdict(options), feature_cache.source.name, [(p.dataset, p.id, p.captions) for p in train.photographs]]
    identity = hashlib.sha256(json.dumps([*described, [p.weight for p in dataset.parts]]).encode()).hexdigest()
    fresh: dict[str, Any] = {"identity": identity, "fold": 0, "found": {}, "epoch": 0}
    state = resume(run / "state.pt", fresh)

    def save() -> None:
        with replacing(run / "state.pt") as aside:
            torch.save(state, aside)

    for fold in range(state["fold"], options.folds):
        detector = fit_detector(words, train, labels, chosen[fold], dataset, feature_cache.name, options, state, save)
        held = everything[part == fold]
        for i, p in zip(held.tolist(), predict(detector, train, held), strict=True):
            best = top_words(words, p.numpy(), without=options.without)
            state["found"][train.photographs[i].id] = [words[w] for w in best]
        state |= {"fold": fold + 1, "epoch": 0}
        save()
    detector = fit_detector(words, train, labels, everything, dataset, feature_cache.name, options, state, save)
    P = predict(detector, val, torch.arange(len(val.photographs)))
    quality = measure_quality(detector, P, val, val_labels)
    card = provenance(dataset, "train attributes", options)
    card |= {f"val_{name}": round(value, 4) for name, value in quality.items()}
    save_attribute_detector(out, detector, card)
    crossfit = out.with_suffix(".crossfit.json")
    crossfit.unlink(missing_ok=True)  # an earlier detector's
    if state["found"]:
        found = [state["found"][p.id] for p in train.photographs]
        quality["crossfit_recall@49"] = recall(found, train.photographs, FUNCTION_WORDS)
        with replacing(crossfit) as aside:
            aside.write_text(json.dumps(state["found"]))
    return quality


def fit_detector(
    words: tuple[str, ...],
    split: Split,
    labels: Float[Tensor, "I W"],
    chosen: Int[Tensor, " n"],
    dataset: Dataset,
    source: str,
    options: AttributeOptions,
    state: dict[str, Any],
    save: Callable[[], None],
) -> AttributeDetector:
    """A detector trained on the chosen photographs of the split, from `state`, which is saved after every epoch."""
    torch.manual_seed(options.seed)
    expected = split.features.shape[1] if split.mask is None else round(split.mask.sum(1).float().mean().item())
    shape = (words, split.features.shape[-1], source, options.hidden, expected)
    detector = AttributeDetector(*shape, without=options.without).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=options.rate, weight_decay=options.weight_decay)
    if state["epoch"]:
        detector.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    per_epoch = math.ceil(len(chosen) / options.images)
    photographs = [split.photographs[i] for i in chosen.tolist()]
    last = state["fold"] == options.folds
    title = "attributes" if last else f"attributes, fold {state['fold'] + 1} of {options.folds}"
    bar = tqdm(range(state["epoch"], options.epochs), desc=title, unit="epoch")
    for epoch in bar:
        seed = options.seed * 10_000 + epoch
        torch.manual_seed(seed)
        order = chosen[draw_epoch(photographs, dataset.parts, torch.Generator().manual_seed(seed))]
        losses = []
        for step, rows in enumerate(order.split(options.images), epoch * per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options.epochs * per_epoch, options.rate, warmup=1)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                s = detector(split.features[rows].float())
            loss = noisy_or_loss(evidence(s.float(), None if split.mask is None else split.mask[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses):.4f}")
        state |= {"epoch": epoch + 1, "model": detector.state_dict(), "optimizer": optimizer.state_dict()}
        save()
    return detector.eval()


def measure_quality(
    detector: AttributeDetector, P: Float[Tensor, "I W"], split: Split, labels: Float[Tensor, "I W"]
) -> dict[str, float]:
    """What `train_attributes` reports of a split."""
    words = detector.words
    found = [[words[w] for w in top_words(words, p, without=detector.without)] for p in P.numpy()]
    names = sorted({photograph.dataset for photograph in split.photographs})
    quality = {}
    for name in names:
        own = [i for i, photograph in enumerate(split.photographs) if photograph.dataset == name]
        photographs, theirs = [split.photographs[i] for i in own], [found[i] for i in own]
        label = f" {name}" if len(names) > 1 else ""
        quality[f"recall@49{label}"] = recall(theirs, photographs, FUNCTION_WORDS)
        quality[f"content_recall@49{label}"] = recall(theirs, photographs, GRAMMAR_WORDS)
        quality[f"mean_AP{label}"] = average_precision(P[own], labels[own])
    return quality | {"top_score@1%": sureness(P, words)}


def label(photographs: Sequence[Photograph], words: Sequence[str]) -> Float[Tensor, "I W"]:
    """1 where a word comes in any of the first five captions of a photograph."""
    ids = {word: i for i, word in enumerate(words)}
    labels = torch.zeros(len(photographs), len(words))
    for i, photograph in enumerate(photographs):
        for word in {w for t in photograph.tokens[:CAPTIONS] for w in t} & ids.keys():
            labels[i, ids[word]] = 1
    return labels


@torch.inference_mode()
def predict(detector: AttributeDetector, split: Split, chosen: Int[Tensor, " n"]) -> Float[Tensor, "n W"]:
    """Probability of every attribute word in the chosen photographs."""
    rows = [
        probability(evidence(detector(split.features[c].float()), None if split.mask is None else split.mask[c]))
        for c in chosen.split(100)
    ]
    return torch.cat(rows)


def recall(found: Sequence[Sequence[str]], photographs: Sequence[Photograph], without: frozenset[str]) -> float:
    """Mean share of the words that people used for a photograph, but those of `without`, among its attributes."""
    shares = []
    for attributes, photograph in zip(found, photographs, strict=True):
        content = {word for words in photograph.tokens for word in words} - without
        shares.append(len(content & set(attributes)) / max(1, len(content)))
    return float(np.mean(shares))


def sureness(P: Float[Tensor, "I W"], words: Sequence[str]) -> float:
    """What the most probable content word reaches in 99 of 100 photographs: below it, one is unlike them."""
    content = [i for i, word in enumerate(words) if word not in FUNCTION_WORDS]
    return P[:, content].amax(1).quantile(0.01).item()


def average_precision(P: Float[Tensor, "I W"], labels: Float[Tensor, "I W"]) -> float:
    """Mean average precision over the words that come at least once."""
    order = P.argsort(0, descending=True)
    hits = labels.gather(0, order)
    precision = hits.cumsum(0) / torch.arange(1, len(P) + 1)[:, None]
    present = labels.sum(0) > 0
    return ((precision * hits).sum(0) / labels.sum(0).clamp_min(1))[present].mean().item()
