"""GCN-LSTM (Yao et al., ECCV 2018): regions learn of each other along the edges of a graph, then Up-Down speaks.

The equations are the paper's. Its semantic graph needs relations learned from Visual Genome; `GraphConvolution` takes
the labels of any graph, and the captioner gives it the spatial one, which boxes alone decide.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glied.baselines.systems import UpDown
from glied.config import ModelConfig
from glied.model import Inputs

INSIDE, COVER, OVERLAP = 1, 2, 3  # labels of edges; 0: no edge
SECTORS = 8  # of 45 degrees, one label each
LABELS = OVERLAP + SECTORS
ALIKE = 0.5  # IoU from which two regions overlap
FAR = 0.5  # distance of centres, in diagonals of the photograph, from which there is no edge


def spatial_relations(boxes: Float[Tensor, "B N 4"]) -> Int[Tensor, "B N N"]:
    """The label of the edge from region i (row) to region j (column), Section 3.2 of the paper; 0: no edge.

    1, inside: i includes j. 2, cover: i is covered by j. 3, overlap: IoU of at least 0.5. 4 to 11: the centres are
    nearer than half the photograph's diagonal, and the angle of the way from i to j, from the x axis towards the y
    axis, which points down, is in (0, 45], (45, 90] ... (315, 360] degrees.

    Args:
        boxes: x1 y1 x2 y2 in diagonals of the photograph.
    """
    i, j = boxes[:, :, None], boxes[:, None]
    low, high = torch.maximum(i, j), torch.minimum(i, j)
    common = (high[..., 2:] - low[..., :2]).clamp_min(0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    iou = common / (area[:, :, None] + area[:, None] - common)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    x, y = (centre[:, None] - centre[:, :, None]).unbind(-1)
    angle = torch.atan2(y, x) % (2 * math.pi)
    sector = torch.where(angle > 0, angle / (2 * math.pi / SECTORS), SECTORS).ceil().clamp(1, SECTORS)
    label = torch.where(torch.hypot(x, y) < FAR, OVERLAP + sector.long(), 0)
    label = label.masked_fill(iou >= ALIKE, OVERLAP)
    label = label.masked_fill((i[..., :2] >= j[..., :2]).all(-1) & (i[..., 2:] <= j[..., 2:]).all(-1), COVER)
    label = label.masked_fill((i[..., :2] <= j[..., :2]).all(-1) & (i[..., 2:] >= j[..., 2:]).all(-1), INSIDE)
    return label.masked_fill(torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device), 0)


class GraphConvolution(nn.Module):
    """One layer over a directed graph with labelled edges: a matrix for each direction, a bias for each label.

    Args:
        labels: how many labels edges have: 1 .. labels. 0 is the label of a region's loop to itself.
    """

    def __init__(self, d: int, labels: int) -> None:
        super().__init__()
        # along an edge from i to j, against one from j to i, and the loop
        self.W, self.gate = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, 3, bias=False)
        self.label = nn.Parameter(torch.zeros(labels + 1, d))
        self.gate_label = nn.Parameter(torch.zeros(labels + 1))

    def forward(
        self, v: Float[Tensor, "#B N d"], relations: Int[Tensor, "#B N N"], mask: Bool[Tensor, "#B N"] | None
    ) -> Float[Tensor, "#B N d"]:
        """Regions after the layer: of each, the sum over its edges and its loop.

        Args:
            relations: the label of the edge from i (row) to j (column); 0: no edge.
            mask: regions that are there; the others have no edges.
        """
        along, against, loop = self.W(v).chunk(3, -1)
        gates = self.gate(v)
        total = (gates[..., 2:] + self.gate_label[0]).sigmoid() * (loop + self.label[0])
        for k, (values, labels) in enumerate(((along, relations), (against, relations.transpose(1, 2)))):
            g = (gates[:, None, :, k] + self.gate_label[labels]).sigmoid() * (labels > 0)
            if mask is not None:
                g = g * mask[:, None]
            # the biases: of each region, how much each label weighs
            weight = g.new_zeros(*g.shape[:2], len(self.label)).scatter_add(2, labels.expand_as(g), g)
            total = total + g @ values.to(g.dtype) + weight @ self.label
        return total.relu()  # Yao et al. 2018, Eq. (3) and (4)


class GcnLstm(UpDown):
    """Up-Down over regions after a graph convolution: its attention LSTM is the paper's Eq. (5), its attention Eq. (6),
    and its second LSTM Eq. (7)."""

    title = "GCN-LSTM"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.graph = GraphConvolution(config.d, LABELS)

    def relate(self, I: Float[Tensor, "_ N d"], inputs: Inputs) -> Float[Tensor, "B N d"]:
        """The regions after the convolution over their spatial graph."""
        assert inputs.boxes is not None, "the graph is made of boxes"
        return self.graph(I, spatial_relations(inputs.boxes), inputs.region_mask)
