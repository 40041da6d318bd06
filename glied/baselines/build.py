"""A captioner from its configuration: Base, GLIED, what lies between them, and the paper's other systems."""

from glied.baselines.gcn_lstm import GcnLstm
from glied.baselines.rfnet import RecurrentFusion
from glied.baselines.systems import SYSTEMS
from glied.baselines.variants import Variant
from glied.config import ModelConfig
from glied.model import Base, Captioner, Glied


def build(config: ModelConfig) -> Captioner:
    """A captioner with fresh weights."""
    plain: dict[str, type[Captioner]] = {"base": Base, "glied": Glied, **SYSTEMS}
    plain |= {"rfnet": RecurrentFusion, "gcn-lstm": GcnLstm}
    return plain.get(config.architecture, Variant)(config)
