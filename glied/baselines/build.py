"""A captioner from its configuration: Base, GLIED, their variants, and the paper's other systems."""

from glied.baselines.attfcn import AttFcn
from glied.baselines.gcn_lstm import GcnLstm
from glied.baselines.rfnet import RecurrentFusion
from glied.baselines.scst import Att2in, Fc
from glied.baselines.systems import ShowAndTell, ShowAttendAndTell, Transformer, UpDown
from glied.baselines.variants import Variant
from glied.config import ModelConfig
from glied.model import Base, Captioner, Glied

BASELINES: dict[str, type[Captioner]] = {
    "lstm": ShowAndTell,
    "softatt": ShowAttendAndTell,
    "attfcn": AttFcn,
    "scst-fc": Fc,
    "att2in": Att2in,
    "updown": UpDown,
    "ct": Transformer,
    "rfnet": RecurrentFusion,
    "gcn-lstm": GcnLstm,
}


def build(config: ModelConfig) -> Captioner:
    """A captioner with fresh weights."""
    plain: dict[str, type[Captioner]] = {"base": Base, "glied": Glied, **BASELINES}
    return plain.get(config.architecture, Variant)(config)
