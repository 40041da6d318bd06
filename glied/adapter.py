"""Captioners that are not ours: one function of a captioner in PyTorch, and its captions become Traces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glied.errors import GliedError
from glied.functions import Functions
from glied.traces import Trace

TOP = 10  # alternatives of each word
NONE = ("<unk>",)  # stands in for the attributes of a captioner without any; nothing attends to it


# (what the captioner sees of a photograph, ids of the input words [L], regions that are there [N], attributes that are
# there [M]) -> scores [L, V], attention by name [k, rows, keys]
Replay = Callable[[Any, Int[Tensor, " L"], Bool[Tensor, " N"], Bool[Tensor, " M"]], tuple[Tensor, Mapping[str, Tensor]]]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A captioner that is not ours, as traces need it.

    Attributes:
        captioner: what people call it.
        words: its vocabulary, in the order of ids. begin, end, unknown: those of its words that begin a caption, end
            it, and stand for a word that it lacks ("" if it has no such word); traces call them <bos>, <eos>, <unk>.
        functions: what it attends with, in the order of their use (see `AttentionFunction`). A captioner over a grid
            attends to regions: the cells (see `grid_boxes`).
        replay: called with the `seen` of `trace`, the ids of the input words (`begin` first), and two masks: which
            regions and which attributes are there (all of them, unless falls are computed). Returns the scores [L, V]
            of every word as the next (log probabilities, or logits), and the weights [k, rows, keys] of each function
            by its name, as in `Trace`. Its arguments are on the CPU; its results may be on any device.
        unsayable: words, beside `begin` and `unknown`, that are never offered as alternatives, for example padding.
        architecture, checkpoint, source: which captioner this is, the digest or name of its weights, and who found the
            regions.
    """

    captioner: str
    words: Sequence[str]
    functions: Functions
    replay: Replay
    begin: str = "<bos>"
    end: str = "<eos>"
    unknown: str = ""
    unsayable: Sequence[str] = ("<pad>",)
    architecture: str = "other"
    checkpoint: str = "unknown"
    source: str = "unknown"

    def trace(
        self,
        seen: Any,
        caption: Sequence[str],
        size: tuple[int, int],
        boxes: Float[np.ndarray, "N 4"],
        labels: Sequence[str] = (),
        attributes: Sequence[str] = (),
        attribute_scores: Float[np.ndarray, " M"] | None = None,
        attribute_regions: Float[np.ndarray, "M N"] | None = None,
        falls: bool = False,
    ) -> Trace:
        """A caption of a photograph, replayed.

        Args:
            seen: what the captioner sees of the photograph, as `replay` takes it.
            caption: words without `end`.
            size: width and height of the photograph in pixels. boxes: x1 y1 x2 y2 of each region in them.
            labels: one for each region, or none.
            attributes: M words that the captioner was given beside the regions, or none; attribute_scores: of each
                from 0 to 1, by default 1; attribute_regions: of each in each region, by default 0.
            falls: replay the caption once more without each region and, if it attends to any, without each attribute.

        Raises:
            GliedError: the parts do not fit together; the sentence says which.
        """
        ids = {word: i for i, word in enumerate(self.words)}
        if lost := [word for word in (self.begin, self.end) if word not in ids]:
            raise GliedError(f"Expected {lost[0]} among the words of {self.captioner}; name the one that it has.")
        known = [word if word in ids else self.unknown for word in caption]
        if not all(known):
            raise GliedError(
                f"Expected words that {self.captioner} knows, got {caption[known.index('')]}; choose another, or name "
                "the word that stands for unknown ones."
            )
        said = [ids[word] for word in [self.begin, *known, self.end]]
        N, M = len(boxes), len(attributes or NONE)
        whole = torch.ones(N, dtype=torch.bool), torch.ones(M, dtype=torch.bool)

        def read(region_mask: Tensor, attribute_mask: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            scores, weights = self.replay(seen, torch.tensor(said[:-1]), region_mask, attribute_mask)
            if scores.shape != (len(said) - 1, len(self.words)):
                raise GliedError(
                    f"Expected scores of shape {(len(said) - 1, len(self.words))} from {self.captioner}, a row per "
                    f"input word and a column per known word, got {tuple(scores.shape)}; correct replay."
                )
            return scores.detach().float().cpu().log_softmax(-1), weights

        def fall(count: int, over: str) -> Float[np.ndarray, "L K"]:
            columns = []
            for i in range(count):
                kept = torch.arange(count) != i
                masks = (kept, whole[1]) if over == "regions" else (whole[0], kept)
                columns.append(chosen - spoken(read(*masks)[0]) if count > 1 else torch.full_like(chosen, torch.nan))
            return torch.stack(columns, 1).numpy()

        def spoken(log_p: Float[Tensor, "L V"]) -> Float[Tensor, " L"]:
            return log_p.gather(-1, torch.tensor(said[1:])[:, None])[:, 0]

        with torch.inference_mode():
            log_p, weights = read(*whole)
            chosen = spoken(log_p)
            never = [ids[word] for word in {self.begin, self.unknown, *self.unsayable} if word in ids]
            top = log_p.index_fill(-1, torch.tensor(never), -torch.inf).topk(min(TOP, len(ids) - len(never)), -1)
            over_attributes = any(function.over == "attributes" for function in self.functions)
            region_falls = fall(N, "regions") if falls else np.zeros((0, N))
            attribute_falls = fall(M, "attributes") if falls and over_attributes else np.zeros((0, M))
        names = {self.begin: "<bos>", self.end: "<eos>", self.unknown: "<unk>"}
        shown = [names.get(word, word) for word in self.words]
        made = Trace(
            captioner=self.captioner,
            architecture=self.architecture,
            checkpoint=self.checkpoint,
            functions=self.functions,
            size=size,
            boxes=np.asarray(boxes),
            labels=tuple(labels),
            source=self.source,
            attributes=tuple(attributes) or NONE,
            attribute_scores=np.full(M, float(len(attributes) > 0)) if attribute_scores is None else attribute_scores,
            attribute_regions=np.zeros((M, N)) if attribute_regions is None else attribute_regions,
            inputs=tuple(shown[i] for i in said[:-1]),
            words=tuple(shown[i] for i in said[1:]),
            log_probabilities=chosen.numpy(),
            alternatives=tuple(tuple(shown[i] for i in row) for row in top.indices.tolist()),
            alternative_log_probabilities=top.values.numpy(),
            attention={name: each.detach().float().cpu().numpy() for name, each in weights.items()},
            region_falls=region_falls,
            attribute_falls=attribute_falls,
        )
        for fault in made.faults():
            raise GliedError(f"The parts of the trace of {self.captioner} do not fit together: {fault}; correct them.")
        return made


def grid_boxes(size: tuple[int, int], rows: int, columns: int) -> Float[np.ndarray, "N 4"]:
    """The cells of a photograph of this width and height, row by row from the top left, as x1 y1 x2 y2 in pixels."""
    (width, height) = size
    x, y = np.linspace(0, width, columns + 1), np.linspace(0, height, rows + 1)
    return np.array([[x[j], y[i], x[j + 1], y[i + 1]] for i in range(rows) for j in range(columns)], np.float32)
