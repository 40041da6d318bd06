"""A data set as captioners are trained on it: regions, attributes, batches, validation."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycocoevalcap  # noqa: F401  for the scores: fails here, before the work, if it is missing
import torch
from jaxtyping import Int
from torch import Tensor

from glied.attributes import AttributeDetector, top_words
from glied.batch import attribute_ids, pad
from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint, load, load_attribute_detector
from glied.data.dataset import Dataset, Photograph, load_dataset
from glied.data.dataset import report as report_problems
from glied.data.features import FeatureCache
from glied.data.pack import is_pack, open_pack
from glied.data.split import Split, draw_epoch, read_split
from glied.decode import beam_search
from glied.errors import GliedError
from glied.evaluation.metrics import doubt, score
from glied.model import Captioner, Inputs
from glied.records import Names, match_names, read_json, refuse, shown
from glied.regions import Mirrored, open_source
from glied.regions.stored import Stored
from glied.training.attributes import predict
from glied.training.loop import Objective, Plan, Training, Validation, fit, join, rank_0_first
from glied.training.options import CaptionerOptions, Places
from glied.training.provenance import provenance
from glied.vocabulary import PAD, Vocabulary


@dataclass(frozen=True, eq=False)
class Material:
    """A data set as captioners are trained on it.

    Attributes:
        dataset, source: the data set, and the name of the region source.
        detector, card: the attribute detector and its provenance.
        train, val: photographs with their regions.
        vocabulary: of the captions.
        attributes, val_attributes: ids of every photograph's attributes, PAD after the last.
        crossfit: whether the attributes of training photographs are from detectors that had not seen them.
    """

    dataset: Dataset
    source: str
    detector: AttributeDetector
    card: dict[str, Any]
    train: Split
    val: Split
    vocabulary: Vocabulary
    attributes: Int[Tensor, "I M"]
    val_attributes: Int[Tensor, "J M"]
    crossfit: bool

    def identity(self, *others: Any) -> str:
        """A digest of this and `others`: whatever a training's result depends on."""
        photographs = [(p.dataset, p.id, p.captions) for split in (self.train, self.val) for p in split.photographs]
        weights = [part.weight for part in self.dataset.subsets]
        described = json.dumps([self.source, self.vocabulary.words, photographs, weights, self.train.mirrored, *others])
        found = self.attributes.numpy().tobytes() + self.val_attributes.numpy().tobytes()
        return hashlib.sha256(described.encode() + found).hexdigest()

    def validate(self, model: Captioner) -> dict[str, float]:
        """CIDEr on val, beam 3, by data set."""
        return validate(model, self.val, self.val_attributes, self.vocabulary)

    def draw(self, generator: torch.Generator) -> Int[Tensor, " I"]:
        """An epoch of training photographs (see `draw_epoch`)."""
        return draw_epoch(self.train.photographs, self.dataset.subsets, generator)

    def provenance(self, command: str, options: CaptionerOptions) -> dict[str, Any]:
        """What a checkpoint trained on this records."""
        return provenance(self.dataset, command, options) | {"detector": self.card["digest"], "crossfit": self.crossfit}

    def fit(
        self,
        title: str,
        places: Places,
        options: CaptionerOptions,
        model: Captioner,
        identity: str,
        plan: Plan,
        objective: Objective,
        card: dict[str, Any],
    ) -> Checkpoint:
        """Trains the model on the photographs (or texts) of the plan, and keeps the best epoch with its `card`."""

        def keep(model: Captioner, row: dict[str, Any]) -> None:
            reached = {"epochs": row["epoch"], "minutes": round(row["minutes"], 1)}
            found = {name: value for name, value in row.items() if name.startswith("val_CIDEr")}
            reached |= {name.replace("CIDEr", "CIDEr_beam_3"): round(value, 4) for name, value in found.items()}
            Checkpoint(model, self.vocabulary, self.detector.words, self.source, card | reached).save(places.best)

        device, rank, _ = join()
        model.to(device)
        decay = options.weight_decay
        optimizer = torch.optim.AdamW(  # fused: a fifth of a step on a CPU
            model.parameters(), lr=options.rate, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay, fused=True
        )
        validation = Validation(options.ema, options.patience, self.validate, keep)
        run = (title, places.run, identity)
        fit(Training(*run, model, optimizer, plan, objective, options, options.accumulate, validation))
        checkpoint = load(places.best)
        if places.out is not None and rank == 0:
            checkpoint.save(places.out)
        return checkpoint


def prepare(places: Places, mirror: bool, vocabulary: Vocabulary | int) -> Material:
    """Reads a data set, its regions and its attributes; `vocabulary`: a captioner's own, or how often a word must
    occur to be in a new one."""
    packed = open_pack(places.cache) if is_pack(places.cache) else None
    dataset = load_dataset(places.data)
    report_problems(dataset.problems)
    attribute_detector, card = load_attribute_detector(places.detector)
    if packed and packed.name != attribute_detector.source:
        raise GliedError(
            f"Expected an attribute detector over {packed.name}, the regions of the pack {places.cache}, got one over "
            f"{attribute_detector.source}; leave --attributes out."
        )
    if packed and mirror and not packed.mirrored:
        raise GliedError(
            f"Expected the mirrored photographs' regions in the pack {places.cache}, it has none; give --no-mirror, or "
            "pack again with --mirrored."
        )
    source = packed or open_source(attribute_detector.source)
    mirror = mirror and not isinstance(source, Stored)  # stored features are of the photographs as they are
    with rank_0_first():  # rank 0 finds the regions that the cache lacks
        feature_cache = FeatureCache(places.cache, source)
        mirrored = FeatureCache(places.cache, Mirrored(source)) if mirror else None
        train = read_split(dataset, feature_cache, "train", "restval", mirrored=mirrored)
        val = read_split(dataset, feature_cache, "val")
    if isinstance(vocabulary, int):
        vocabulary = Vocabulary.build((t for p in train.photographs for t in p.tokens), vocabulary)
    known: dict[str, list[str]] = {}
    if places.crossfit is not None:  # Choice (11)
        known, problems = read_crossfit(places.crossfit, (*train.photographs, *(val.photographs if packed else ())))
        report_problems(problems)
    alone = Counter(photograph.dataset for photograph in val.photographs)
    report_problems([f"val of {name}: {each}" for name, n in alone.items() for each in doubt(n)])
    attributes = find_all(attribute_detector, train, vocabulary, known)
    val_attributes = find_all(attribute_detector, val, vocabulary, known if packed else {})
    train, val = (move(split, join()[0]) for split in (train, val))
    crossfit = places.crossfit is not None
    about = (dataset, source.name, attribute_detector, card)
    return Material(*about, train, val, vocabulary, attributes, val_attributes, crossfit)


def move(split: Split, device: torch.device) -> Split:
    """A split with its regions on the device that computes, where they fit beside all else."""
    if device.type == "cpu" or split.features.nbytes > 0.7 * torch.cuda.mem_get_info(device)[0]:
        return split
    return split._replace(
        features=split.features.to(device),
        mask=None if split.mask is None else split.mask.to(device),
        boxes=split.boxes.to(device),
    )


def read_crossfit(path: Path, photographs: Sequence[Photograph] = ()) -> tuple[dict[str, list[str]], list[str]]:
    """Photograph -> attribute words, as `train attributes` wrote them, and a sentence for each thing that was left out
    or that the file lacks."""
    what, advice = "attributes by photograph", "run `python -m glied train attributes` again"
    content, problems = read_json(path, what, advice)
    if not isinstance(content, dict):
        raise refuse(what, path, "it is no object with photographs as keys", advice)
    found = {}
    for id, words in content.items():
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            found[id] = words
        else:
            problems.append(f"{shown(id)}: left out of {path.name}, {shown(words)} are no words")
    if content and not found:
        raise refuse(what, path, problems[-1], advice)
    keys, doubts = match_names([photograph.id for photograph in photographs], Names(found))
    own = {id: found[key] for id, key in keys.items()} if photographs else found
    problems += doubts
    if missing := [photograph.id for photograph in photographs if photograph.id not in own]:
        problems.append(
            f"{len(missing)} photograph(s) have no attributes in {path.name}, such as {shown(missing[0])}: they are "
            "trained with the detector's own"
        )
    return own, problems


def mirror(part: Int[Tensor, " b"], split: Split) -> Int[Tensor, " b"]:
    """Rows of the photographs' regions: mirrored or not, at random, where the split has both."""
    if not split.mirrored:
        return part
    return part + len(split.photographs) * torch.randint(2, part.shape)


def batch(
    split: Split,
    attributes: Int[Tensor, "b M"],
    rows: Int[Tensor, " b"],
    device: torch.device = torch.device("cpu"),
) -> Inputs:
    """The regions in `rows` of a split with their attributes, which are padded with PAD."""
    mask, rows = attributes != PAD, put(rows, split.features.device)
    return Inputs(
        put(split.features[rows], device).float(),
        None if split.mask is None else put(split.mask[rows], device),
        put(attributes, device),
        None if mask.all() else put(mask, device),
        put(split.boxes[rows], device),
    )


def put(values: Tensor, device: torch.device) -> Tensor:
    """Values from the CPU, copied to the device that computes without waiting for it."""
    return values.to(device, non_blocking=True)


def hide(inputs: Inputs, share: float) -> Inputs:  # Choice (12)
    """The batch with a random share of its regions and attributes masked; a photograph keeps at least one of each."""
    masks = []
    for entries, mask in ((inputs.features[..., 0], inputs.region_mask), (inputs.attributes, inputs.attribute_mask)):
        real = torch.ones(entries.shape, dtype=torch.bool, device=entries.device) if mask is None else mask
        kept = real & put(torch.rand(entries.shape) >= share, entries.device)
        masks.append(torch.where(kept.any(-1, keepdim=True), kept, real))
    return inputs._replace(region_mask=masks[0], attribute_mask=masks[1])


def validate(
    model: Captioner, split: Split, attributes: Int[Tensor, "I M"], vocabulary: Vocabulary
) -> dict[str, float]:
    """CIDEr of the split, beam 3, for each of its data sets."""
    captions = caption_split(model, split, attributes, vocabulary)
    found = {}
    for name, references in references_by_set(split).items():
        scores = score(references, {id: captions[id] for id in references}, ["CIDEr"], ptb=False)
        if (cider := scores.corpus["CIDEr"]) is None:
            raise GliedError(f"Expected val captions that CIDEr can score, but: {scores.missing['CIDEr'][1]}.")
        found[name] = cider
    return found


def references_by_set(split: Split) -> dict[str, dict[str, tuple[str, ...]]]:
    """The human captions of the photographs of each data set, by id."""
    by_set: dict[str, dict[str, tuple[str, ...]]] = {}
    for photograph in split.photographs:
        by_set.setdefault(photograph.dataset, {})[photograph.id] = photograph.captions
    return by_set


@torch.inference_mode()
def caption_split(
    model: Captioner, split: Split, attributes: Int[Tensor, "I M"], vocabulary: Vocabulary
) -> dict[str, str]:
    """The best caption of each photograph, beam 3."""
    model.eval()
    captions: dict[str, str] = {}
    device = model.bias.device
    for rows in torch.arange(len(split.photographs)).split(50 if device.type == "cpu" else 250):
        memory = model.encode(batch(split, attributes[rows], rows, device))
        decoded = beam_search(model, memory, vocabulary, DecodeOptions())
        captions |= {split.photographs[i].id: d.captions[0].text for i, d in zip(rows.tolist(), decoded, strict=True)}
    return captions


def find_all(
    detector: AttributeDetector, split: Split, vocabulary: Vocabulary, known: dict[str, list[str]]
) -> Int[Tensor, "I M"]:
    """Ids of the attributes of every photograph: from `known` where it has them, else from the detector."""
    return pad([attribute_ids(words, vocabulary) for words in find_words(detector, split, known)])[0]


def find_words(detector: AttributeDetector, split: Split, known: dict[str, list[str]]) -> list[list[str]]:
    """The attributes of every photograph: from `known` where it has them, else from the detector."""
    rest = [i for i, p in enumerate(split.photographs) if p.id not in known]
    P = dict(zip(rest, predict(detector, split, torch.tensor(rest)) if rest else [], strict=True))
    return [
        [detector.words[w] for w in top_words(detector.words, P[i].numpy(), without=detector.without)]
        if i in P
        else known[p.id]
        for i, p in enumerate(split.photographs)
    ]
