"""Regions -> Attributes: noisy-OR multiple-instance learning (Fang et al. 2015), in its exact log form."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from glied.regions import RegionSource
from glied.scene import Attributes, Regions, Scene
from glied.vocabulary import FUNCTION_WORDS

DENSITY = 0.02  # share of the words that are true of a photograph: the prior the bias starts from


class AttributeDetector(nn.Module):
    """Scores every attribute word in every region; a photograph shows a word if some region does.

    Args:
        words: the attribute vocabulary, most frequent first, function words included.
        feature_dim: R. `source`: name of the region source whose features it reads.
        hidden: width of the hidden layer; 0 for a linear detector.
        regions: expected number of regions, for the bias that encodes the prior.
        without: words that are never given as attributes of a photograph.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        feature_dim: int,
        source: str,
        hidden: int = 0,
        regions: int = 36,
        without: frozenset[str] = FUNCTION_WORDS,
    ) -> None:
        super().__init__()
        self.words, self.feature_dim, self.source, self.hidden = words, feature_dim, source, hidden
        self.without = without
        self.norm = nn.LayerNorm(feature_dim)
        self.inner = nn.Linear(feature_dim, hidden) if hidden else None
        self.dropout = nn.Dropout(0.5)
        self.score = nn.Linear(hidden or feature_dim, len(words))
        nn.init.normal_(self.score.weight, std=0.001)
        prior = 1 - (1 - DENSITY) ** (1 / regions)
        nn.init.constant_(self.score.bias, math.log(prior / (1 - prior)))

    def forward(self, features: Float[Tensor, "B N R"]) -> Float[Tensor, "B N W"]:
        """s, the score of each word in each region."""
        hidden = self.norm(features)
        if self.inner is not None:
            hidden = self.inner(hidden).relu()
        return self.score(self.dropout(hidden))

    @torch.inference_mode()
    def find_attributes(self, regions: Regions, count: int = 49) -> Attributes:
        """The `count` most probable words that are not in `self.without`, and where each was seen."""
        regions.check_source(self.source, "attribute detector", "train a detector on the new one")
        s = self(torch.from_numpy(regions.features.copy())[None])
        P = probability(evidence(s, None))[0].numpy()
        keep = top_words(self.words, P, count, self.without)
        by_region = torch.sigmoid(s[0]).T.numpy()  # Eq. (15)
        return Attributes(tuple(self.words[i] for i in keep), P[keep], by_region[keep])


def top_words(
    words: Sequence[str], P: Float[np.ndarray, " W"], count: int = 49, without: frozenset[str] = FUNCTION_WORDS
) -> list[int]:
    """Which words describe the photograph: positions of the `count` most probable that are not in `without`."""
    return [int(i) for i in np.argsort(-P, kind="stable") if words[i] not in without][:count]  # Choice (8)


def evidence(s: Float[Tensor, "B N W"], mask: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B W"]:
    """S, the evidence for each word: minus the log-probability that no region shows it."""
    shown = functional.softplus(s)
    return (shown if mask is None else shown * mask[..., None]).sum(1)  # Eq. (16)


def probability(S: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
    """P, the probability that some region shows the word (noisy-OR)."""
    return -torch.expm1(-S)  # Eq. (17)


def noisy_or_loss(S: Float[Tensor, "B W"], y: Float[Tensor, "B W"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of P against the labels y, mean over photographs and words."""
    return ((1 - y) * S - y * torch.log(1e-12 - torch.expm1(-S))).mean()  # Eq. (18)


def find_scene(image: Image.Image, source: RegionSource, detector: AttributeDetector) -> Scene:
    """A photograph as the captioner sees it: its regions, and the attributes found over them."""
    regions = source.find_regions(image)
    return Scene(regions, detector.find_attributes(regions))
