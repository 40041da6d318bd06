"""RFNet (Jiang et al., ECCV 2018): several views of a photograph, fused by recurrent networks before a word is said.

A view is here a part of a region's feature (`ModelConfig.views`); there are M of them. Where the paper has one vector
of the whole photograph, this takes the mean region.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from glied.baselines.systems import REGIONS, Additive, Recurrent, State, mean_region, pass_gates
from glied.config import ModelConfig
from glied.model import Attend, Inputs, Keys, Linear, Memory, Output, explicit, linear
from glied.vocabulary import SPECIAL

FIRST, SECOND = 2, 3  # steps of the two stages; each has networks of its own
FREQUENT = 1000  # words that thought vectors are told apart by
WEIGHT = 1.0  # of the discriminative loss beside the cross-entropy of a caption, as in the authors' code


def attend_to(
    attention: Additive, h: Float[Tensor, "B d"], seen: Float[Tensor, "B K d"], mask: Tensor | None = None
) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B K"]]:
    """The mean of `seen` under an attention with the state `h` as query, and its weights."""
    z, weights = attention(h[:, None], seen, attention.key(seen), mask)
    return z[:, 0], weights[:, 0]


class RecurrentFusion(Recurrent):
    """Stage I: an LSTM for each view reads its view, and the states of all. Stage II: one LSTM reads the thoughts of
    stage I. The decoder attends to the thoughts of stage II.

    The attention of a word to regions is a product: its attention to the thoughts of stage II, theirs to the thoughts
    of stage I, and that of stage I to the regions. Head m sees the regions through view m.
    """

    title = "RFNet"
    functions = (REGIONS,)
    inputs = (2,)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d, M = config.d, len(self.views)
        self.begin = nn.ModuleList(Linear(d, d) for _ in range(M))
        self.first = nn.ModuleList(Linear((M + 1) * d, 4 * d) for _ in range(FIRST * M))
        self.second = nn.ModuleList(Linear((M + 1) * d, 4 * d) for _ in range(SECOND))
        first, second = (nn.ModuleList(Additive(d) for _ in range(steps * M)) for steps in (FIRST, SECOND))
        self.attention: Any = nn.ModuleDict({"first": first, "second": second, "word": Additive(d)})
        self.frequent = max(1, min(FREQUENT, config.vocabulary_size - len(SPECIAL)))
        self.judge = nn.ModuleList(Linear(d, self.frequent) for _ in range(M + 1))

    @property
    def views(self) -> tuple[int, ...]:
        """Their widths."""
        return tuple(self.config.views) or (self.config.feature_dim,)

    def encode(self, inputs: Inputs) -> Memory:
        """The thought vectors of both stages."""
        mask, M = inputs.region_mask, range(len(self.views))
        F = functional.dropout(inputs.features, self.config.feature_dropout, self.training).split(self.views, -1)
        W = self.project.weight.split(self.views, 1)
        I = [self.activate(linear(F[m], W[m], self.project.bias)) for m in M]
        I = [view if mask is None else view.expand(len(mask), -1, -1) for view in I]  # a photograph under many masks
        h = [self.begin[m](mean_region(I[m], mask)[:, 0]).to(self.bias.dtype) for m in M]
        c, thoughts, seen = h, [[] for _ in M], [[] for _ in M]  # type: ignore[var-annotated]
        # Stage I: h_t^m, c_t^m = LSTM_t^m([h_t-1^1; ...; h_t-1^M], attention_t^m(view m, h_t-1^m))
        for t in range(FIRST):
            H, own = torch.cat(h, -1), [t * len(M) + m for m in M]
            found = [attend_to(self.attention["first"][own[m]], h[m], I[m], mask) for m in M]
            gates = [self.first[own[m]](torch.cat([H, found[m][0]], -1)) for m in M]
            h, c = map(list, zip(*(pass_gates(gates[m], c[m]) for m in M), strict=True))
            for m in M:
                thoughts[m].append(h[m])
                seen[m].append(found[m][1])
        B = [torch.stack(each, 1) for each in thoughts]
        views = [torch.stack(each, 1) for each in seen]
        # Stage II: h_t, c_t = LSTM_t(h_t-1, [attention_t^1(B^1, h_t-1); ...; attention_t^M(B^M, h_t-1)])
        h_t, c_t = torch.stack(h).mean(0), torch.stack(c).mean(0)
        last, paths = [], []
        for t in range(SECOND):
            found = [attend_to(self.attention["second"][t * len(M) + m], h_t, B[m]) for m in M]
            h_t, c_t = pass_gates(self.second[t](torch.cat([h_t, *(z for z, _ in found)], -1)), c_t)
            last.append(h_t)
            paths.append(torch.stack([(found[m][1][:, None] @ views[m])[:, 0] for m in M], 1))
        C, path, mean = torch.stack(last, 1), torch.stack(paths, 2), mean_region(torch.stack(I).mean(0), mask)
        key = self.attention["word"].key(C)
        pairs = {"mean": (mean, mean), "start": (h_t, c_t), "thoughts": (key, C), "paths": (path, path)}
        pairs |= {f"first {m}": (B[m], B[m]) for m in M}
        return Memory(torch.stack(I).mean(0), C[:, :0], None, {name: Keys(*pair) for name, pair in pairs.items()}, {})

    def step(self, word: Tensor, mean: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """The decoder: h_t, c_t = LSTM([x_t; h_t-1], attention(C, h_t-1)); its hidden vector selects the word."""
        C = memory.keys["thoughts"]
        z, weights = self.attention["word"](state[0][0].view_as(word), C.value, C.key, None)
        h, new = self.turn(0, torch.cat([word, z], -1), state)
        return h, weights, [new]

    def forward(
        self, words: Int[Tensor, "B C L"], memory: Memory, cache: Keys | None = None, attend: Attend = explicit
    ) -> Output:
        """`words` are input words (BOS first); with a cache, the words after those in it. The decoder begins in the
        state that stage II ended in."""
        if cache is None:
            start = memory.keys["start"]
            h, c = (each[:, None, None, None].expand(-1, words.shape[1], 1, 1, -1) for each in start[:2])
            cache = Keys(h, c)
        output = super().forward(words, memory, cache, attend)
        thoughts = output.weights["v"]  # [B, C, 1, L, SECOND]
        assert thoughts is not None
        return output._replace(weights={"v": thoughts @ memory.keys["paths"].key[:, None].to(thoughts.dtype)})

    def auxiliary_loss(self, memory: Memory, tokens: Int[Tensor, "B C T"]) -> Tensor:
        """Discriminative supervision: WEIGHT / (M + 1) (L_d(C) + L_d(B^1) + ... + L_d(B^M)), summed over captions.

        A set of thought vectors gives each frequent word the largest of its scores, s = max_t W h_t, and
        L_d = sum over j in the caption, i not in it, of max(0, 1 - (s_j - s_i)), divided by the number of words.
        """
        sets = [memory.keys["thoughts"].value, *(memory.keys[f"first {m}"].value for m in range(len(self.views)))]
        n = self.frequent
        ids = tokens.flatten(0, 1) - len(SPECIAL)  # 0 is the most frequent word
        ids = ids.masked_fill((ids < 0) | (ids > n), n)
        said = torch.zeros(len(ids), n + 1, dtype=torch.bool, device=ids.device).scatter(1, ids, True)[:, :n]
        labels = torch.where(said, torch.arange(n, device=ids.device), -1)
        labels = labels.sort(-1, descending=True).values.to(self.bias.device)  # each word once, then -1
        total = self.bias.new_zeros(())
        for judge, thoughts in zip(self.judge, sets, strict=True):
            scores = judge(thoughts).amax(1).float().repeat_interleave(tokens.shape[1], 0)
            total = total + functional.multilabel_margin_loss(scores, labels, reduction="sum")
        return WEIGHT / len(sets) * total
