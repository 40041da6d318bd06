"""Training of the attribute detector over cached regions, and its quality (Fang et al. 2015)."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from glied.attributes import AttributeDetector, evidence, noisy_or_loss, probability, top_words
from glied.checkpoint import save_attribute_detector
from glied.data import CAPTIONS, FeatureCache, Photograph, Split, load_dataset, read_split, report
from glied.errors import GliedError, within
from glied.files import replacing
from glied.loop import Precision, fastest
from glied.provenance import provenance
from glied.regions import open_source
from glied.vocabulary import FUNCTION_WORDS


@dataclass(frozen=True)
class AttributeOptions:
    """How the attribute detector is trained.

    Attributes:
        words: size of the attribute vocabulary, the most frequent words of the training captions.
        hidden: width of the hidden layer; 0 for a linear detector.
        epochs: passes over the photographs.
        images: photographs in a step.
        rate: learning rate of AdamW; it falls along a cosine.
        weight_decay: of AdamW.
        folds: detectors trained without one part of the photographs each, to find that part's attributes, so
            that captioners train on attributes as good as those they will meet; 0 for none.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32; by default the faster here.
        seed: of the weights, dropout, order and folds.
    """

    words: int = 1000
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


def train_attributes(data: Path, cache: Path, source: str, out: Path, options: AttributeOptions) -> dict[str, float]:
    """Trains the detector on train and restval, writes it to `out` and the cross-fitted attributes beside it.

    Returns:
        quality on val: recall@49 of the content words of the references, mean average precision, and what the
        best attribute's probability reaches in 99 of 100 photographs.
    """
    dataset = load_dataset(data)
    report(dataset.problems)
    feature_cache = FeatureCache(cache, open_source(source))
    train, val = read_split(dataset, feature_cache, "train", "restval"), read_split(dataset, feature_cache, "val")
    counts = Counter(w for p in train.photographs for t in p.tokens for w in t)
    words = tuple(sorted(counts, key=lambda w: (-counts[w], w))[: options.words])
    labels, val_labels = label(train.photographs, words), label(val.photographs, words)
    everything = torch.arange(len(train.photographs))
    shuffled = torch.randperm(len(everything), generator=torch.Generator().manual_seed(options.seed))
    part = shuffled % max(1, options.folds)
    found: dict[str, list[str]] = {}
    for fold in range(options.folds):
        detector = fit_detector(
            words,
            train,
            labels,
            everything[part != fold],
            feature_cache.source.name,
            options,
            f"attributes, fold {fold + 1} of {options.folds}",
        )
        held = everything[part == fold]
        for i, p in zip(held.tolist(), predict(detector, train, held), strict=True):
            found[train.photographs[i].id] = [words[w] for w in top_words(words, p.numpy())]
    detector = fit_detector(words, train, labels, everything, feature_cache.source.name, options, "attributes")
    P = predict(detector, val, torch.arange(len(val.photographs)))
    quality = {"recall@49": recall(P, val.photographs, words), "mean_AP": average_precision(P, val_labels)}
    quality["top_score@1%"] = sureness(P, words)
    card = provenance(dataset, "train attributes", options) | {f"val_{k}": round(v, 4) for k, v in quality.items()}
    save_attribute_detector(out, detector, card)
    if found:
        quality["crossfit_recall@49"] = float(np.mean([_recalled(found[p.id], p) for p in train.photographs]))
        with replacing(out.with_suffix(".crossfit.json")) as aside:
            aside.write_text(json.dumps(found))
    return quality


def fit_detector(
    words: tuple[str, ...],
    split: Split,
    labels: Float[Tensor, "I W"],
    chosen: Int[Tensor, " n"],
    source: str,
    options: AttributeOptions,
    title: str,
) -> AttributeDetector:
    """A detector trained on the chosen photographs of the split."""
    torch.manual_seed(options.seed)
    expected = split.features.shape[1] if split.mask is None else round(split.mask.sum(1).float().mean().item())
    detector = AttributeDetector(words, split.features.shape[-1], source, options.hidden, expected).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=options.rate, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(chosen) / options.images)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    bar = tqdm(range(options.epochs), desc=title, unit="epoch")
    for _ in bar:
        losses = []
        for rows in chosen[torch.randperm(len(chosen))].split(options.images):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                s = detector(split.features[rows].float())
            loss = noisy_or_loss(evidence(s.float(), None if split.mask is None else split.mask[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses):.4f}")
    return detector.eval()


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


def _recalled(found: Sequence[str], photograph: Photograph) -> float:
    content = {w for t in photograph.tokens for w in t} - FUNCTION_WORDS
    return len(content & set(found)) / max(1, len(content))


def recall(P: Float[Tensor, "I W"], photographs: Sequence[Photograph], words: Sequence[str]) -> float:
    """Mean share of a photograph's content words (all words but Fang's 14) among its top 49."""
    found = [[words[w] for w in top_words(words, p)] for p in P.numpy()]
    return float(np.mean([_recalled(f, photograph) for f, photograph in zip(found, photographs, strict=True)]))


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
