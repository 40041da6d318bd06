"""Operations on boxes, in plain torch."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def roi_align(
    features: Float[Tensor, "D H W"], boxes: Float[Tensor, "N 4"], stride: int, size: int, samples: int = 2
) -> Float[Tensor, "N D size size"]:
    """RoIAlign (He et al. 2017): each box cut into size x size bins, each the mean of samples x samples
    bilinear readings; half-pixel aligned, as torchvision with `aligned=True`, readings held at the border.

    Args:
        features: map of the whole image; `boxes` are x1 y1 x2 y2 in image pixels.
        stride: image pixels per cell of the map.
    """
    D, H, W = features.shape
    ticks = (torch.arange(size * samples, dtype=boxes.dtype) + 0.5) / (size * samples)
    x = boxes[:, :1] + ticks * (boxes[:, 2:3] - boxes[:, :1])
    y = boxes[:, 1:2] + ticks * (boxes[:, 3:] - boxes[:, 1:2])
    x, y = 2 * x / (stride * W) - 1, 2 * y / (stride * H) - 1  # grid_sample's corners are -1 and 1
    n, s = len(boxes), len(ticks)
    points = torch.stack([x[:, None, :].expand(n, s, s), y[:, :, None].expand(n, s, s)], -1)
    read = functional.grid_sample(
        features[None], points.view(1, n * s, s, 2), padding_mode="border", align_corners=False
    )
    bins = read[0].view(D, n, s, s).transpose(0, 1)
    return functional.avg_pool2d(bins, samples) if samples > 1 else bins


def iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """Intersection over union of every box of `a` with every box of `b` (x1 y1 x2 y2); 0 between empty boxes."""
    width, height = (
        (torch.minimum(a[:, None, i + 2], b[:, i + 2]) - torch.maximum(a[:, None, i], b[:, i])).clamp_min(0)
        for i in (0, 1)
    )
    shared = width * height
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - shared
    return torch.where(union > 0, shared / union, 0)


def nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], threshold: float, most: int | None = None
) -> Int[Tensor, " K"]:
    """Non-maximum suppression: positions of the boxes that overlap none of higher score by an IoU above
    `threshold`, best first, at most `most`; of equal scores the first wins, as in torchvision.
    """
    return batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.long), threshold, most)


def batched_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    groups: Int[Tensor, " N"],
    threshold: float,
    most: int | None = None,
) -> Int[Tensor, " K"]:
    """`nms` in which only boxes of the same group (class, level) suppress each other."""
    order = scores.argsort(descending=True, stable=True)
    boxes, groups = boxes[order], groups[order]
    suppressed = np.zeros(len(order), bool)
    kept: list[int] = []
    for start in range(0, len(order), 100):  # in parts, for the memory of thousands of boxes
        if most is not None and len(kept) >= most:
            break
        part = slice(start, start + 100)
        rivals = (iou(boxes[part], boxes) > threshold) & (groups[part, None] == groups)
        for i, suppresses in enumerate(rivals.numpy(), start):
            if not suppressed[i]:
                kept.append(i)
                suppressed |= suppresses
    return order[kept[:most]]
