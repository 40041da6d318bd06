"""RoIPool, which Bottom-Up Attention on detectron2 takes from torchvision."""

from jaxtyping import Float
from torch import Tensor, inf, stack
from torch.nn import functional


def roi_pool(
    features: Float[Tensor, "D H W"], boxes: Float[Tensor, "N 4"], stride: int, size: int
) -> Float[Tensor, "N D size size"]:
    """RoIPool (Girshick 2015): corners rounded to cells, both ends included, each box cut into size x size
    overlapping bins of whole cells, each the maximum of its cells; 0 where a bin lies outside the map.

    As torchvision, whose float32 bins are one cell off for a few lengths (57, 62, 114, 121 cells).
    """
    cells = boxes / stride
    pooled = []
    for x1, y1, x2, y2 in (cells + 0.5 * cells.sign()).trunc().long().tolist():  # half away from zero
        x2, y2 = max(x1, x2) + 1, max(y1, y2) + 1
        inside = features[:, max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        left, top = min(max(-x1, 0), x2 - x1), min(max(-y1, 0), y2 - y1)
        outside = (left, x2 - x1 - left - inside.shape[2], top, y2 - y1 - top - inside.shape[1])
        pooled.append(functional.adaptive_max_pool2d(functional.pad(inside, outside, value=-inf), size))
    stacked = stack(pooled) if pooled else features.new_zeros(0, len(features), size, size)
    return stacked.masked_fill(stacked == -inf, 0)
