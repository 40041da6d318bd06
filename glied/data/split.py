"""A split in memory: its photographs, their regions and captions, and the order of an epoch."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glied.batch import in_diagonals, pad
from glied.data.dataset import CAPTIONS, Dataset, Photograph, Subset, report
from glied.data.features import FeatureCache
from glied.errors import GliedError
from glied.terminal import track
from glied.vocabulary import BOS, EOS, PAD, Vocabulary


def encode_captions(
    texts: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, longest: int, count: int = CAPTIONS
) -> Int[Tensor, "I C T"]:
    """BOS, words, EOS and PAD of the first `count` captions; a caption cut at `longest` words has no EOS."""
    tokens = torch.full((len(texts), count, longest + 2), PAD)
    tokens[:, :, 0] = BOS
    for i, captions in enumerate(texts):
        for c, words in enumerate(captions[:count]):
            ids = [*vocabulary.encode(words), EOS][: longest + (len(words) <= longest)]
            tokens[i, c, 1 : 1 + len(ids)] = torch.tensor(ids)
    return tokens


class Split(NamedTuple):
    """Photographs of a split with their regions in memory (float16). With mirrored photographs, `features`, `mask` and
    `boxes` (as in `Inputs`) have 2 I rows: the mirrored ones follow in the same order."""

    photographs: list[Photograph]
    features: Float[Tensor, "rows N R"]
    mask: Tensor | None
    boxes: Float[Tensor, "rows N 4"]

    @property
    def mirrored(self) -> bool:
        """Whether the mirrored photographs' regions are there too."""
        return len(self.features) > len(self.photographs)


def draw_epoch(
    photographs: Sequence[Photograph], subsets: Sequence[Subset], generator: torch.Generator
) -> Int[Tensor, " I"]:
    """An epoch: as many photographs as there are, in random order, the data sets in proportion to their weights.

    If the part of a set is larger than the set, its photographs come again, in another order.
    """
    rows: dict[str, list[int]] = {}
    for i, photograph in enumerate(photographs):
        rows.setdefault(photograph.dataset, []).append(i)
    given = {subset.name: subset.weight for subset in subsets}
    weights = np.array([given.get(name) or len(own) ** 0.5 for name, own in rows.items()])
    ends = np.rint(weights.cumsum() / weights.sum() * len(photographs)).astype(int)
    due = np.diff(ends, prepend=0)
    drawn = []
    for own, count in zip(rows.values(), due.tolist(), strict=True):
        passes = [torch.randperm(len(own), generator=generator) for _ in range(max(1, math.ceil(count / len(own))))]
        drawn.append(torch.tensor(own)[torch.cat(passes)[:count]])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)] if len(rows) > 1 else order


def find_keys(dataset: Dataset, caches: Sequence[FeatureCache], *names: str) -> dict[Photograph, str]:
    """The photographs of a split with their keys in the caches. Regions that a cache lacks are found first; unreadable
    photographs are reported."""
    photographs = dataset.split(*names)
    known = {p.path: p.key for p in photographs if p.key}
    for cache in caches:
        keys, problems = cache.extract([p.path for p in photographs], known=known)
        report(problems)
        photographs = [p for p in photographs if p.path in keys]
    if not photographs:
        raise GliedError(f"Expected readable photographs in split {' or '.join(names)}, found none; see above.")
    return {p: keys[p.path] for p in photographs}


def read_split(dataset: Dataset, cache: FeatureCache, *names: str, mirrored: FeatureCache | None = None) -> Split:
    """A split with its regions, found first where the cache lacks them; unreadable photographs are reported."""
    caches = [cache] if mirrored is None else [cache, mirrored]
    keys = find_keys(dataset, caches, *names)
    photographs, chosen = list(keys), list(keys.values())
    regions = chain.from_iterable(each.read(chosen) for each in caches)
    total = len(chosen) * len(caches)
    bar = track(regions, desc=f"reading {names[0]}", total=total, unit="image", leave=False)
    found = [(r.features.astype(np.float16), in_diagonals(r)) for r in bar]
    features, mask = pad([features for features, _ in found])
    return Split(photographs, features, mask, pad([boxes for _, boxes in found])[0])
