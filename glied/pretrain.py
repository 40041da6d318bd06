"""Training on text alone: captions without photographs teach words, and which words go together.

A text is the captions of one unseen photograph. It borrows regions and attributes from the training photograph whose
captions share most of its words, and some of its own words are put among the attributes: what a detector would find.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from glied.checkpoint import Checkpoint
from glied.config import preset
from glied.data import CAPTIONS
from glied.errors import GliedError, within
from glied.loop import join
from glied.model import Captioner
from glied.train import Material, Places, TrainOptions, batch, hide, live_words, mirror, prepare, settings, step_loss
from glied.variants import build
from glied.vocabulary import BOS, EOS, FUNCTION_WORDS, PAD, tokenize

NEAREST = 5  # photographs that a text may borrow from


@dataclass(frozen=True)
class TextOptions(TrainOptions):
    """How a captioner is trained on text; an epoch is a pass over the texts.

    Attributes:
        texts: how many texts, those most like the training photographs' captions.
        reveal: chance of each word of a text that the borrowed attributes lack to be put among them.
    """

    epochs: int = 1
    texts: int = 60_000
    reveal: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, texts=(1, 10**8), reveal=(0, 1))


def read_texts(path: Path | str) -> list[list[str]]:
    """Captions by photograph, from {id: [captions]} or COCO's annotations; `coco` names the 616,767 captions of COCO
    2014 that come inside pycocoevalcap."""
    if str(path) == "coco":
        with zipfile.ZipFile(str(files("pycocoevalcap.spice") / "spice-1.0.jar")) as jar:
            contents = [jar.read(f"coco/annotations/captions_{split}2014.json") for split in ("train", "val")]
    else:
        try:
            contents = [Path(path).read_bytes()]
        except OSError as error:
            raise GliedError(f"Expected captions in {path}, could not read it ({error.strerror}).") from error
    texts: dict[str, list[str]] = {}
    try:
        for content in map(json.loads, contents):
            pairs = [(a["image_id"], a["caption"]) for a in content["annotations"]] if "annotations" in content else []
            pairs = pairs or [(id, caption) for id, captions in content.items() for caption in captions]
            for id, caption in pairs:
                texts.setdefault(str(id), []).append(str(caption))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GliedError(
            f"Expected captions in {path} as {{id: [captions]}} or in COCO's layout, found another; convert it."
        ) from error
    return list(texts.values())


@dataclass(frozen=True, eq=False)
class Texts:
    """Captions without photographs, fitted to a data set.

    Attributes:
        tokens: BOS, words, EOS, PAD; a row of BOS and PAD where a caption has words outside the vocabulary.
        words: ids of each text's content words, PAD after the last.
        nearest: the training photographs whose captions share most of its words, nearest first.
        likeness: cosine of its words and those of the nearest, weighted by their rarity.
    """

    tokens: Int[Tensor, "T C L"]
    words: Int[Tensor, "T W"]
    nearest: Int[Tensor, "T P"]
    likeness: Float[Tensor, " T"]


def fit_texts(texts: Sequence[Sequence[str]], material: Material, longest: int, count: int) -> Texts:
    """The `count` texts most like the training photographs' captions."""
    vocabulary = material.vocabulary
    nameable = [w for w in material.detector.words if w in vocabulary and w not in FUNCTION_WORDS]
    column = {vocabulary.ids[w]: i for i, w in enumerate(nameable)}
    ids = torch.tensor([vocabulary.ids[w] for w in nameable])

    def bag(rows: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """[rows, nameable words]: 1 where a word comes."""
        found = torch.zeros(len(rows), len(nameable))
        for r, captions in enumerate(rows):
            found[r, [column[i] for caption in captions for i in caption if i in column]] = 1
        return found

    photographs = bag([[vocabulary.encode(t) for t in p.tokens[:CAPTIONS]] for p in material.train.photographs])
    rarity = (len(photographs) / photographs.sum(0).clamp_min(1)).log()
    known = torch.nn.functional.normalize(photographs * rarity)
    encoded: list[list[list[int]]] = []
    for text in tqdm(texts, desc="texts", unit="text"):
        captions = [t for t in map(tokenize, text[:CAPTIONS]) if t and len(t) <= longest]
        captions = [t for t in captions if all(w in vocabulary for w in t)]
        if captions:
            encoded.append([vocabulary.encode(t) for t in captions])
    if not encoded:
        raise GliedError("Expected captions in the words of the data set, no text has one; give other texts.")
    found = []
    for start in range(0, len(encoded), 1000):
        words = bag(encoded[start : start + 1000])
        likeness, nearest = (torch.nn.functional.normalize(words * rarity) @ known.T).topk(NEAREST)
        found.append((words.bool(), likeness, nearest))
    words, likeness, nearest = (torch.cat(parts) for parts in zip(*found, strict=True))
    chosen = likeness[:, 0].argsort(descending=True, stable=True)[:count]
    tokens = torch.full((len(chosen), CAPTIONS, longest + 2), PAD)
    tokens[:, :, 0] = BOS
    for row, text in enumerate(chosen.tolist()):
        for c, caption in enumerate(encoded[text]):
            tokens[row, c, 1 : len(caption) + 2] = torch.tensor([*caption, EOS])
    own = torch.nn.utils.rnn.pad_sequence([ids[words[i]] for i in chosen], batch_first=True, padding_value=PAD)
    return Texts(tokens, own, nearest[chosen], likeness[chosen, 0])


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
        captions: files for `read_texts`; they must not hold captions of the data set's val or test photographs.
    """
    device, _, _ = join()
    material = prepare(places, options.mirror, options.min_count)
    config = preset(name, len(material.vocabulary), material.train.features.shape[-1], options.dropout)
    gathered = [text for path in captions for text in read_texts(path)]
    texts = fit_texts(gathered, material, config.max_length, options.texts)
    print(f"{len(texts.tokens)} of {len(gathered)} texts, likeness {texts.likeness[0]:.2f} to {texts.likeness[-1]:.2f}")
    torch.manual_seed(options.seed)
    model = build(config)

    def objective(model: Captioner, part: Tensor, whole: Tensor) -> tuple[Tensor, dict[str, float]]:
        photographs, attributes = borrow(texts, part, material.attributes, options.reveal)
        inputs = batch(material.train, attributes, mirror(photographs, material.train), device)
        tokens = texts.tokens[part]
        return step_loss(model, hide(inputs, options.hide), tokens, live_words(texts.tokens[whole]), options), {}

    card = material.provenance(f"train text {name}", options)
    card["texts"] = {"files": [path.name for path in captions], "captions": int((texts.tokens[:, :, 1] != PAD).sum())}
    identity = material.identity(settings(options), asdict(config), texts.tokens.sum(0).tolist())
    return material.fit(f"text {name}", places, options, model, identity, len(texts.tokens), objective, card)
