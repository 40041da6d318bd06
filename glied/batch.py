"""Scenes -> Inputs: photographs of different numbers of regions and attributes as one padded batch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from glied.model import Inputs
from glied.scene import Regions, Scene
from glied.vocabulary import UNK, Vocabulary


def pad(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Arrays of different length stacked over zeros (PAD, among ids), and a mask that is True where an entry is
    real (None: everywhere)."""
    longest = max(len(row) for row in rows)
    stacked = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    mask = np.zeros((len(rows), longest), bool)
    for i, row in enumerate(rows):
        stacked[i, : len(row)], mask[i, : len(row)] = row, True
    return torch.from_numpy(stacked), None if mask.all() else torch.from_numpy(mask)


def in_diagonals(regions: Regions) -> Float[np.ndarray, "N 4"]:
    """The boxes, with the photograph's diagonal as the unit of length."""
    return regions.boxes / np.float32(np.hypot(*regions.size))


def attribute_ids(words: Sequence[str], vocabulary: Vocabulary) -> np.ndarray:
    """Ids of attribute words; a word that captions do not have is left out, and UNK stands where none remains."""
    known = [vocabulary.ids[w] for w in words if w in vocabulary]
    return np.array(known or [UNK])


def stack(scenes: Sequence[Scene], vocabulary: Vocabulary) -> Inputs:
    """Scenes as one batch, padded and masked."""
    features, region_mask = pad([s.regions.features for s in scenes])
    attributes, attribute_mask = pad([attribute_ids(s.attributes.words, vocabulary) for s in scenes])
    boxes, _ = pad([in_diagonals(s.regions) for s in scenes])
    return Inputs(features, region_mask, attributes, attribute_mask, boxes)
