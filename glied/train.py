"""Cross-entropy training of a captioner, and of the attribute detector over cached regions."""

import csv
import hashlib
import io
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from glied.attributes import AttributeDetector, evidence, noisy_or_loss, probability
from glied.checkpoint import Checkpoint, load, load_detector, save_detector
from glied.config import preset
from glied.data import Dataset, FeatureCache, Photograph, attribute_ids, load_dataset, pad, report
from glied.decode import DecodeOptions, beam_search
from glied.errors import GliedError
from glied.files import replacing
from glied.metrics import score
from glied.model import Captioner, Inputs, build
from glied.regions import open_source
from glied.vocabulary import BOS, EOS, FUNCTION_WORDS, PAD, Vocabulary

CAPTIONS = 5  # captions of a photograph in one step


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
        weight_decay: of AdamW.
        patience: epochs without a better val CIDEr before stopping early.
        min_count: how often a word must come in the training captions to be in the vocabulary.
        attribute_count: attribute words of a photograph.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32.
        seed: of the initial weights, dropout and the order of photographs.
        save_minutes: minutes between two saved states.
    """

    epochs: int = 12
    images: int = 10
    rate: float = 5e-4
    warmup: int = 1000
    smoothing: float = 0.1
    clip: float = 1.0
    dropout: float = 0.1
    weight_decay: float = 0.01
    patience: int = 5
    min_count: int = 5
    attribute_count: int = 49
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: int = 0
    save_minutes: float = 5.0


class Split(NamedTuple):
    """Photographs of a split with their regions in memory (float16)."""

    photographs: list[Photograph]
    features: Float[Tensor, "I N R"]
    mask: Tensor | None


def cross_entropy(logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], smoothing: float) -> Float[Tensor, ""]:
    """Mean over words of the cross-entropy against smoothed labels."""
    return functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)  # Eq. (19)


def read_split(dataset: Dataset, cache: FeatureCache, *names: str) -> Split:
    """A split with its regions, found first where the cache lacks them; unreadable photographs are reported."""
    photographs = dataset.split(*names)
    keys, problems = cache.extract([p.path for p in photographs])
    if problems:
        print(report(problems))
    photographs = [p for p in photographs if p.path in keys]
    if not photographs:
        raise GliedError(f"Expected readable photographs in split {' or '.join(names)}, none of them is; see above.")
    regions = cache.read(keys[p.path] for p in photographs)
    bar = tqdm(regions, desc=f"reading {names[0]}", total=len(photographs), unit="image", leave=False)
    features, mask = pad([r.features.astype(np.float16) for r in bar])
    return Split(photographs, features, mask)


def encode_captions(photographs: Sequence[Photograph], vocabulary: Vocabulary, longest: int) -> Int[Tensor, "I C T"]:
    """BOS, words, EOS and PAD of the first five captions; a caption cut at `longest` words has no EOS."""
    tokens = torch.full((len(photographs), CAPTIONS, longest + 2), PAD)
    tokens[:, :, 0] = BOS
    for i, photograph in enumerate(photographs):
        for c, words in enumerate(photograph.tokens[:CAPTIONS]):
            ids = [*vocabulary.encode(words), EOS][: longest + (len(words) <= longest)]
            tokens[i, c, 1 : 1 + len(ids)] = torch.tensor(ids)
    return tokens


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Linear warm-up to `rate`, then half a cosine down to 0."""
    if step < options.warmup:
        return options.rate * (step + 1) / options.warmup
    past = (step - options.warmup) / max(1, steps - options.warmup)
    return options.rate * 0.5 * (1 + math.cos(math.pi * past))  # Choice (10)


def provenance(dataset: Dataset, command: str, options: Any) -> dict[str, Any]:
    """What a model card needs to know of a run: data, command, commit, options, versions."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    counts = Counter(p.split for p in dataset.photographs)
    return {
        "data": dataset.name,
        "splits": dict(counts),
        "command": command,
        "commit": git.stdout.strip() or "unknown",
        "options": asdict(options),
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------- captioners


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
    print(report(dataset.problems), end="")
    attribute_detector, _ = load_detector(detector)
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
    known = {} if crossfit is None else json.loads(crossfit.read_text())  # Choice (11)
    train_attributes = find_all(attribute_detector, train, options.attribute_count, vocabulary, known)
    val_attributes = find_all(attribute_detector, val, options.attribute_count, vocabulary, {})
    per_epoch = math.ceil(len(train.photographs) / options.images)
    steps = per_epoch * options.epochs

    card = provenance(dataset, f"train {name}", options) | {"crossfit": crossfit is not None}
    identity = hashlib.sha256(
        json.dumps(
            [card["options"], asdict(config), vocabulary.words, len(train.photographs), card["crossfit"]]
        ).encode()
    ).hexdigest()
    state: dict[str, Any] = {"identity": identity, "step": 0, "log": [], "losses": [], "best": -1.0, "epoch": 0}
    state_path, best_path = run / "state.pt", run / "best.safetensors"
    if state_path.is_file():
        state = torch.load(state_path, weights_only=True)
        if state["identity"] != identity:
            raise GliedError(
                f"Expected to resume the run in {run}, but it was started with other options or data; "
                "name another --run or delete that folder."
            )
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
    while state["step"] < steps and state["epoch"] - _best_epoch(state) < options.patience:
        model.train()
        order = torch.randperm(
            len(train.photographs), generator=torch.Generator().manual_seed(options.seed * 10_000 + state["epoch"])
        ).split(options.images)
        for chosen in order[state["step"] - state["epoch"] * per_epoch :]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state["step"], steps, options)
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
                "rate": learning_rate(state["step"] - 1, steps, options),
            }
        )
        state["losses"] = []
        if cider > state["best"]:
            state["best"] = cider
            card |= {"epochs": state["epoch"], "val_CIDEr_beam_3": round(cider, 4)}
            Checkpoint(model, vocabulary, attribute_detector.words, attribute_detector.source, card).save(best_path)
        save()
        saved = time.monotonic()
        write_log(run / "log.csv", state["log"])
        bar.write(f"epoch {state['epoch']}: loss {state['log'][-1]['loss']:.3f}, val CIDEr {cider:.4f}")
    bar.close()
    checkpoint = load(best_path)
    if out is not None:
        checkpoint.save(out)
    return checkpoint


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
        memory = model.encode(batch(split, attributes, chosen))
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


# ---------------------------------------------------------------- attributes


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
        seed: of the weights, dropout, order and folds.
    """

    words: int = 1000
    hidden: int = 512
    epochs: int = 12
    images: int = 100
    rate: float = 1e-3
    weight_decay: float = 0.05
    folds: int = 4
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: int = 0


def train_attributes(data: Path, cache: Path, source: str, out: Path, options: AttributeOptions) -> dict[str, float]:
    """Trains the detector on train and restval, writes it to `out` and the cross-fitted attributes beside it.

    Returns:
        quality on val: recall@49 of the content words of the references, and mean average precision.
    """
    dataset = load_dataset(data)
    print(report(dataset.problems), end="")
    feature_cache = FeatureCache(cache, open_source(source))
    train, val = read_split(dataset, feature_cache, "train", "restval"), read_split(dataset, feature_cache, "val")
    counts = Counter(w for p in train.photographs for t in p.tokens for w in t)
    words = tuple(sorted(counts, key=lambda w: (-counts[w], w))[: options.words])
    labels, val_labels = label(train.photographs, words), label(val.photographs, words)
    everything = torch.arange(len(train.photographs))
    part = torch.randperm(len(everything), generator=torch.Generator().manual_seed(options.seed)) % max(
        1, options.folds
    )
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
            found[train.photographs[i].id] = top_words(words, p)
    detector = fit_detector(words, train, labels, everything, feature_cache.source.name, options, "attributes")
    P = predict(detector, val, torch.arange(len(val.photographs)))
    quality = {"recall@49": recall(P, val.photographs, words), "mean_AP": average_precision(P, val_labels)}
    card = provenance(dataset, "train attributes", options) | {f"val_{k}": round(v, 4) for k, v in quality.items()}
    save_detector(out, detector, card)
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


def top_words(words: Sequence[str], P: Float[Tensor, " W"], count: int = 49) -> list[str]:
    """The `count` most probable words that are not function words."""
    return [words[i] for i in P.argsort(descending=True, stable=True).tolist() if words[i] not in FUNCTION_WORDS][
        :count
    ]


def find_all(
    detector: AttributeDetector, split: Split, count: int, vocabulary: Vocabulary, known: dict[str, list[str]]
) -> Int[Tensor, "I M"]:
    """Ids of the attributes of every photograph: from `known` where it has them, else from the detector."""
    rest = [i for i, p in enumerate(split.photographs) if p.id not in known]
    P = dict(zip(rest, predict(detector, split, torch.tensor(rest)) if rest else [], strict=True))
    words = [
        known[p.id][:count] if i not in P else top_words(detector.words, P[i], count)
        for i, p in enumerate(split.photographs)
    ]
    return pad([attribute_ids(w, vocabulary) for w in words])[0]


def _recalled(found: Sequence[str], photograph: Photograph) -> float:
    content = {w for t in photograph.tokens for w in t} - FUNCTION_WORDS
    return len(content & set(found)) / max(1, len(content))


def recall(P: Float[Tensor, "I W"], photographs: Sequence[Photograph], words: Sequence[str]) -> float:
    """Mean share of a photograph's content words (all words but Fang's 14) among its top 49."""
    return float(np.mean([_recalled(top_words(words, p), photo) for p, photo in zip(P, photographs, strict=True)]))


def average_precision(P: Float[Tensor, "I W"], labels: Float[Tensor, "I W"]) -> float:
    """Mean average precision over the words that come at least once."""
    order = P.argsort(0, descending=True)
    hits = labels.gather(0, order)
    precision = hits.cumsum(0) / torch.arange(1, len(P) + 1)[:, None]
    present = labels.sum(0) > 0
    return ((precision * hits).sum(0) / labels.sum(0).clamp_min(1))[present].mean().item()
