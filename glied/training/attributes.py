"""Training of the attribute detector over cached regions, and its quality (Fang et al. 2015)."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.attributes import AttributeDetector, evidence, noisy_or_loss, probability, top_words
from glied.checkpoint import save_attribute_detector
from glied.data.dataset import CAPTIONS, Data, Dataset, Photograph, load_dataset, report
from glied.data.features import FeatureCache
from glied.data.split import Split, draw_epoch, read_split
from glied.files import replacing, to_json
from glied.regions import open_source
from glied.training.loop import Training, fit, plan_steps, refuse_several, resolve, settings
from glied.training.options import AttributeOptions
from glied.training.provenance import provenance
from glied.vocabulary import FUNCTION_WORDS, GRAMMAR_WORDS


def train_attributes(
    data: Data, cache: Path, source: str, run: Path, out: Path, options: AttributeOptions
) -> dict[str, float]:
    """Trains the detector on train and restval, writes it to `out` and the cross-fitted attributes beside it.

    Goes on from the states in `run` (in its folders fold-1, fold-2 ... those of the folds' detectors).

    Returns:
        quality on val, by data set where there are several: recall@49 of the words of the references (of all but
        Fang's 14, and of content words), mean average precision, and the probability that the best attribute reaches
        in 99 of 100 photographs.

    Raises:
        GliedError: torchrun started several processes, the data cannot be used, or `run` is another training's.
    """
    refuse_several()
    options = resolve(options)
    dataset = load_dataset(data)
    report(dataset.problems)
    feature_cache = FeatureCache(cache, open_source(source))
    train, val = read_split(dataset, feature_cache, "train", "restval"), read_split(dataset, feature_cache, "val")
    counts = Counter(word for p in train.photographs for words in p.tokens for word in words)
    words = tuple(sorted(counts, key=lambda w: (-counts[w], w))[: options.words])
    labels, val_labels = label(train.photographs, words), label(val.photographs, words)
    everything = torch.arange(len(train.photographs))
    drawn = torch.randperm(len(everything), generator=torch.Generator().manual_seed(options.seed))
    fold_of = drawn % max(1, options.folds)
    photographs = [(p.dataset, p.id, p.captions) for p in train.photographs]
    described = [settings(options), feature_cache.name, photographs, [subset.weight for subset in dataset.subsets]]
    identity = hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def train_on(chosen: Int[Tensor, " n"], title: str, folder: Path) -> AttributeDetector:
        place = (title, folder, f"{identity} {title}")
        return fit_detector(words, train, labels, chosen, dataset, feature_cache.name, options, place)

    found: dict[str, list[str]] = {}  # attributes by photograph, from a detector that had not seen it
    for fold in range(options.folds):
        title = f"attributes, fold {fold + 1} of {options.folds}"
        detector = train_on(everything[fold_of != fold], title, run / f"fold-{fold + 1}")
        held = everything[fold_of == fold]
        for i, p in zip(held.tolist(), predict(detector, train, held), strict=True):
            best = top_words(words, p.numpy(), without=options.without)
            found[train.photographs[i].id] = [words[w] for w in best]
    detector = train_on(everything, "attributes", run)
    P = predict(detector, val, torch.arange(len(val.photographs)))
    quality = measure_quality(detector, P, val, val_labels)
    card = provenance(dataset, "train attributes", options)
    card |= {f"val_{name}": round(value, 4) for name, value in quality.items()}
    save_attribute_detector(out, detector, card)
    crossfit = out.with_suffix(".crossfit.json")
    crossfit.unlink(missing_ok=True)  # an earlier detector's
    if found:
        rows = [found[p.id] for p in train.photographs]
        quality["crossfit_recall@49"] = recall(rows, train.photographs, FUNCTION_WORDS)
        with replacing(crossfit) as aside:
            aside.write_text(to_json(found), encoding="utf-8")
    return quality


def fit_detector(
    words: tuple[str, ...],
    split: Split,
    labels: Float[Tensor, "I W"],
    chosen: Int[Tensor, " n"],
    dataset: Dataset,
    source: str,
    options: AttributeOptions,
    place: tuple[str, Path, str],
) -> AttributeDetector:
    """A detector trained on the chosen photographs of the split; `place`: title, folder and identity (`Training`)."""
    torch.manual_seed(options.seed)
    expected = split.features.shape[1] if split.mask is None else round(split.mask.sum(1).float().mean().item())
    shape = (words, split.features.shape[-1], source, options.hidden, expected)
    detector = AttributeDetector(*shape, without=options.without).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=options.rate, weight_decay=options.weight_decay)
    photographs = [split.photographs[i] for i in chosen.tolist()]
    plan = plan_steps(options, lambda generator: chosen[draw_epoch(photographs, dataset.subsets, generator)])

    def objective(step: int, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        epoch, first = divmod(step, len(plan[0]))
        if first == 0:  # the dropout of an epoch has a seed of its own
            torch.manual_seed(options.seed * 10_000 + epoch)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            s = detector(split.features[part].float())
        return noisy_or_loss(evidence(s.float(), None if split.mask is None else split.mask[part]), labels[part]), {}

    fit(Training(*place, detector, optimizer, plan, objective, options))
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
    """Mean share of the words of people's captions, except those of `without`, that are among the attributes."""
    shares = []
    for attributes, photograph in zip(found, photographs, strict=True):
        content = {word for words in photograph.tokens for word in words} - without
        shares.append(len(content & set(attributes)) / max(1, len(content)))
    return float(np.mean(shares))


def sureness(P: Float[Tensor, "I W"], words: Sequence[str]) -> float:
    """The probability that the most probable content word reaches in 99 of 100 photographs. A photograph below it is
    unlike them."""
    content = [i for i, word in enumerate(words) if word not in FUNCTION_WORDS]
    return P[:, content].amax(1).quantile(0.01).item()


def average_precision(P: Float[Tensor, "I W"], labels: Float[Tensor, "I W"]) -> float:
    """Mean average precision over the words that occur at least once."""
    order = P.argsort(0, descending=True)
    hits = labels.gather(0, order)
    precision = hits.cumsum(0) / torch.arange(1, len(P) + 1)[:, None]
    present = labels.sum(0) > 0
    return ((precision * hits).sum(0) / labels.sum(0).clamp_min(1))[present].mean().item()
