"""Training on text alone: captions without photographs teach words, and which words go together.

A text is the captions of one unseen photograph. It borrows regions and attributes from one of the training photographs
whose captions share most of its words. Some of its own words join the attributes, as if a detector had found them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.baselines.build import build
from glied.checkpoint import Checkpoint
from glied.config import preset
from glied.data.dataset import CAPTIONS, report
from glied.data.split import encode_captions
from glied.data.texts import read_texts
from glied.errors import GliedError
from glied.terminal import say, track
from glied.training.cross_entropy import live_words, step_loss
from glied.training.loop import join, plan_steps, resolve, settings
from glied.training.material import Material, batch, hide, mirror, prepare
from glied.training.options import Places, TextOptions
from glied.vocabulary import FUNCTION_WORDS, PAD, tokenize

NEAREST = 5  # photographs that a text may borrow from


@dataclass(frozen=True, eq=False)
class Texts:
    """Captions without photographs, fitted to a data set.

    Attributes:
        tokens: BOS, words, EOS, PAD; a row of BOS and PAD where a caption has words outside the vocabulary.
        words: ids of each text's content words, PAD after the last.
        nearest: the training photographs whose captions share most of its words, nearest first.
        similarity: cosine of its words and those of the nearest, weighted by their idf.
    """

    tokens: Int[Tensor, "T C L"]
    words: Int[Tensor, "T W"]
    nearest: Int[Tensor, "T P"]
    similarity: Float[Tensor, " T"]


def fit_texts(texts: Sequence[Sequence[str]], material: Material, longest: int, count: int) -> Texts:
    """The `count` texts most like the training photographs' captions. A text that shares two captions with a photograph
    of val or test is that photograph, and left out."""
    vocabulary = material.vocabulary
    nameable = [w for w in material.detector.words if w in vocabulary and w not in FUNCTION_WORDS]
    column = {word: i for i, word in enumerate(nameable)}
    ids = torch.tensor([vocabulary.ids[w] for w in nameable])

    def bag(rows: Sequence[Sequence[Sequence[str]]]) -> Tensor:
        """[rows, nameable words]: 1 where a word comes."""
        found = torch.zeros(len(rows), len(nameable))
        for r, captions in enumerate(rows):
            found[r, [column[word] for words in captions for word in words if word in column]] = 1
        return found

    photographs = bag([p.tokens[:CAPTIONS] for p in material.train.photographs])
    idf = (len(photographs) / photographs.sum(0).clamp_min(1)).log()
    known = torch.nn.functional.normalize(photographs * idf)
    held = {" ".join(t) for p in material.dataset.photographs if p.split in ("val", "test") for t in p.tokens}
    kept: list[list[list[str]]] = []
    for text in track(texts, desc="texts", unit="text"):
        captions = [t for t in map(tokenize, text[:CAPTIONS]) if t and len(t) <= longest]
        if sum(" ".join(t) in held for t in captions) > 1:
            continue  # the text is of a photograph of val or test
        captions = [t for t in captions if all(w in vocabulary for w in t)]
        if captions:
            kept.append(captions)
    if not kept:
        raise GliedError("Expected captions in the words of the data set, found none in the texts; give other texts.")
    found = []
    for start in range(0, len(kept), 1000):
        words = bag(kept[start : start + 1000])
        similarity, nearest = (torch.nn.functional.normalize(words * idf) @ known.T).topk(min(NEAREST, len(known)))
        found.append((words.bool(), similarity, nearest))
    words, similarity, nearest = (torch.cat(parts) for parts in zip(*found, strict=True))
    chosen = similarity[:, 0].argsort(descending=True, stable=True)[:count]
    tokens = encode_captions([kept[i] for i in chosen], vocabulary, longest)
    own = torch.nn.utils.rnn.pad_sequence([ids[words[i]] for i in chosen], batch_first=True, padding_value=PAD)
    return Texts(tokens, own, nearest[chosen], similarity[chosen, 0])


def borrow(
    texts: Texts, part: Int[Tensor, " b"], attributes: Int[Tensor, "I M"], reveal: float
) -> tuple[Int[Tensor, " b"], Int[Tensor, "b M"]]:
    """A photograph for each text, at random among its nearest, and its attributes, some of them replaced by words of
    the text that they lack."""
    photographs = texts.nearest[part, torch.randint(texts.nearest.shape[1], part.shape)]  # Choice (15)
    found, own = attributes[photographs].clone(), texts.words[part]
    missing = (own != PAD) & ~(own[:, :, None] == found[:, None, :]).any(-1)
    given = missing & (torch.rand(own.shape) < reveal)
    for row in given.any(1).nonzero()[:, 0].tolist():
        words = own[row, given[row]][: found.shape[1]]
        found[row, torch.randperm(found.shape[1])[: len(words)]] = words
    return photographs, found


def train_on_text(name: str, captions: Sequence[Path], places: Places, options: TextOptions) -> Checkpoint:
    """Trains the preset `name` on texts, in the data set's vocabulary; epochs are measured on its val split.

    Args:
        captions: files for `read_texts`.
    """
    device, _, _ = join()
    options = resolve(options, device)
    read = [read_texts(path) for path in captions]
    report([problem for texts in read for problem in texts.problems])
    gathered = [text for texts in read for text in texts.captions.values()]
    material = prepare(places, options.mirror, options.min_count)
    config = preset(name, len(material.vocabulary), material.train.features.shape[-1], options.dropout)
    texts = fit_texts(gathered, material, config.max_length, options.texts)
    best, worst = texts.similarity[0], texts.similarity[-1]
    say(f"{len(texts.tokens)} of {len(gathered)} texts, similarity {best:.2f} to {worst:.2f}")
    torch.manual_seed(options.seed)
    model = build(config)

    def objective(step: int, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        photographs, attributes = borrow(texts, part, material.attributes, options.reveal)
        inputs = batch(material.train, attributes, mirror(photographs, material.train), device)
        tokens = texts.tokens[part]
        return step_loss(model, hide(inputs, options.hide), tokens, live_words(texts.tokens[whole]), options), {}

    card = material.provenance(f"train text {name}", options)
    card["texts"] = {"files": [path.name for path in captions], "captions": int((texts.tokens[:, :, 1] != PAD).sum())}
    found = hashlib.sha256(texts.tokens.numpy().tobytes() + texts.nearest.numpy().tobytes()).hexdigest()
    identity = material.identity(settings(options), config.stored(), found)
    plan = plan_steps(options, lambda generator: torch.randperm(len(texts.tokens), generator=generator))
    return material.fit(f"text {name}", places, options, model, identity, plan, objective, card)
