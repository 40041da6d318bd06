"""What a captioner is built from: one frozen configuration and the published presets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from glied.errors import GliedError

Architecture = (
    Literal["base", "glied"]
    | Literal["base+vd", "base+aa", "base+ad", "glied-global", "glied-vl", "glied-al"]
    | Literal["lstm", "softatt", "updown", "ct"]
    | Literal["attfcn", "scst-fc", "att2in"]
    | Literal["rfnet", "gcn-lstm"]
)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a captioner; stored inside its checkpoint.

    Attributes:
        architecture: `base` (attends to regions and attributes), `glied` (distils first), one of the ablation's
            variants, or a captioner that the paper compares with (glied/baselines/).
        vocabulary_size: V, the four special tokens included.
        feature_dim: R, the width of one region's feature (2048 for Bottom-Up Attention).
        d: model width, shared by regions, words and attributes.
        heads, d_head: k and d_k; k * d_k need not equal d.
        ffn: inner width of a feed-forward network after every attention function; 0 for none.
        share_local_output: one output matrix for H_vl and H_al (preset `glied-paper`).
        position: add the positional code to the word before distilling (`input`) or after (`context`).
        project: what follows the projection of region features: `relu`, `none`, or `norm`, a layer normalisation.
        dropout, attention_dropout, feature_dropout, output_dropout: in G, on the attention
            weights, on region features, and before the classifier.
        max_length: longest caption, in words, the end-of-sentence token not counted.
        views: of RFNet, the widths of the parts of a region's feature that it fuses; none: the feature is one view.
    """

    architecture: Architecture = "glied"
    vocabulary_size: int = 9567
    feature_dim: int = 2048
    d: int = 512
    heads: int = 8
    d_head: int = 64
    ffn: int = 0
    share_local_output: bool = False
    position: Literal["input", "context"] = "input"
    project: Literal["relu", "none", "norm"] = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    feature_dropout: float = 0.5
    output_dropout: float = 0.1
    max_length: int = 20
    views: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "feature_dim", "d", "heads", "d_head", "max_length"):
            if getattr(self, name) < 1:
                raise GliedError(f"{name} must be at least 1, got {getattr(self, name)}; correct the configuration.")
        if self.architecture != "glied" and self.share_local_output:
            raise GliedError(
                f"share_local_output needs the glied architecture, got {self.architecture}; turn one of the two off."
            )
        object.__setattr__(self, "views", tuple(self.views))  # a file has a list
        if self.views and sum(self.views) != self.feature_dim:
            raise GliedError(
                f"Expected views that make up the {self.feature_dim} numbers of a feature, got {self.views}; correct "
                "the configuration."
            )

    def stored(self) -> dict[str, Any]:
        """What files and the states of trainings hold; without `views` where there are none, as before they were."""
        return {name: value for name, value in asdict(self).items() if name != "views" or value}


# At V = 9,567 and R = 2,048: 9.11M, 12.27M; 12.26M, 18.57M; 12.26M, 18.31M (the paper prints 12.3M and 18.3M).
PRESETS = {
    "base": ModelConfig(architecture="base"),
    "glied": ModelConfig(),
    "base-narrow": ModelConfig(architecture="base", d_head=32),
    "glied-narrow": ModelConfig(d_head=32),  # of Base's size
    "base-wide": ModelConfig(architecture="base", d_head=128),  # of GLIED's size
    "glied-wide": ModelConfig(d_head=128),
    "base-paper": ModelConfig(architecture="base", ffn=1024),
    "glied-paper": ModelConfig(ffn=1024, share_local_output=True),
    "glied-context": ModelConfig(position="context"),
    # the ablation's
    "base+vd": ModelConfig(architecture="base+vd"),
    "base+aa": ModelConfig(architecture="base+aa"),
    "base+ad": ModelConfig(architecture="base+ad"),
    "glied-global": ModelConfig(architecture="glied-global"),
    "glied-vl": ModelConfig(architecture="glied-vl"),
    "glied-al": ModelConfig(architecture="glied-al"),
    # Table 2's
    "lstm": ModelConfig(architecture="lstm", output_dropout=0.5),
    "softatt": ModelConfig(architecture="softatt", output_dropout=0.5),
    "updown": ModelConfig(architecture="updown", output_dropout=0.5),
    "ct": ModelConfig(architecture="ct"),
    # Table 1's others
    "attfcn": ModelConfig(architecture="attfcn", output_dropout=0.5),
    "scst-fc": ModelConfig(architecture="scst-fc", output_dropout=0.5),
    "att2in": ModelConfig(architecture="att2in", output_dropout=0.5),
    "rfnet": ModelConfig(architecture="rfnet", output_dropout=0.5),
    "gcn-lstm": ModelConfig(architecture="gcn-lstm", output_dropout=0.5),
}


def preset(name: str, vocabulary_size: int, feature_dim: int, dropout: float = 0.1, **changes: Any) -> ModelConfig:
    """The preset called `name`, fitted to a vocabulary and a width of region features.

    Args:
        dropout: in G. changes: other fields to replace.
    """
    if name not in PRESETS:
        raise GliedError(f"Expected a preset among {', '.join(PRESETS)}, got {name!r}; choose one of them.")
    fitted = {"vocabulary_size": vocabulary_size, "feature_dim": feature_dim, "dropout": dropout}
    return replace(PRESETS[name], **(fitted | changes))
