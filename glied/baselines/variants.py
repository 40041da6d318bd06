"""Base, GLIED and the ablation's variants of them, made of the same blocks."""

from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from glied.config import ModelConfig
from glied.functions import BASE, GLIED, AttentionFunction, Functions
from glied.model import Attend, Captioner, Inputs, Keys, Memory, Output, explicit, recorder


class Parts(NamedTuple):
    """The attention functions that a variant has; the local ones select the word together. `global` among the shortcuts
    says that there is a global aspect vector."""

    functions: Functions
    shortcuts: tuple[str, ...]


VD, AD, X, V, VL, AL = GLIED
AA = AttentionFunction("aa", None, "attributes", "grouping")  # attributes by themselves, which the slides strike out
VARIANTS = {
    "base+vd": Parts((VD, *BASE), ("vd", "x", "local")),
    "base+aa": Parts((AA, *BASE), ("aa", "x", "local")),
    "base+ad": Parts((AD, *BASE), ("ad", "x", "local")),
    "glied-global": Parts((VD, AD, X, V), ("vd", "ad", "x", "global")),
    "glied-vl": Parts((VD, AD, X, V, VL), ("vd", "ad", "x", "global", "local")),
    "glied-al": Parts((VD, AD, X, V, AL), ("vd", "ad", "x", "global", "local")),
}


class Variant(Captioner):
    """Base or GLIED with parts added or left out; each of its steps is one of theirs (glied/model.py)."""

    def __init__(self, config: ModelConfig, parts: Parts | None = None) -> None:
        self.functions, self.shortcuts = parts or VARIANTS[config.architecture]
        self.local = [f.name for f in self.functions if f.role == "local"]
        super().__init__(config)

    def encode(self, inputs: Inputs) -> Memory:
        """Regions and attributes as keys, distilled where the variant does."""
        H, weights = recorder(self.H, explicit)
        I, A = self.regions(inputs.features), self.embed(inputs.attributes)
        m_I, m_A = inputs.region_mask, inputs.attribute_mask
        I_tilde = A_tilde = None
        if "vd" in self.H:
            I_tilde = self.G["vd"](H("vd", I[:, None], self.H["vd"].keys(I, m_I)), I[:, None])[:, 0]
        if "aa" in self.H:
            A_tilde = self.G["aa"](H("aa", A[:, None], self.H["aa"].keys(A, m_A)), A[:, None])[:, 0]
        seen, read = I if I_tilde is None else I_tilde, A if A_tilde is None else A_tilde
        sources = {"v": (seen, m_I), "vl": (I, m_I), "a": (read, m_A), "ad": (A, m_A), "al": (A, m_A)}
        keys = {name: self.H[name].keys(*sources[name]) for name in sources if name in self.H}
        return Memory(I, A, I_tilde, keys, weights)

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None, attend: Attend = explicit
    ) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it."""
        H, weights = recorder(self.H, attend)
        x = self.place(self.embed(words), 0 if cache is None else cache.key.shape[-2])
        t_tilde = self.G["ad"](H("ad", x, memory.keys["ad"]), x) if "ad" in self.H else None
        t = x if t_tilde is None else t_tilde
        T = self.context(t, cache)
        x_tilde = self.G["x"](H("x", t, T), t)
        c_g = self.G["global"](H("v", x_tilde, memory.keys["v"]), x_tilde) if "global" in self.shortcuts else None
        c = x_tilde if c_g is None else c_g
        if self.local:
            c = self.G["local"](sum(H(name, c, memory.keys[name]) for name in self.local), c)
        return Output(x, t_tilde, x_tilde, c_g, c, weights, T)
