"""Where detectron2's Python is there, but its compiled part and torchvision cannot be: what stands in for them."""

import sys
from importlib.util import find_spec
from types import ModuleType

import torch
from pooling import roi_pool
from torch import Tensor, nn

from glied.regions.boxes import batched_nms, nms


class RoIPool(nn.Module):
    """torchvision's, out of our own `roi_pool`; for one photograph at a time."""

    def __init__(self, output_size: tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.size, self.stride = output_size[0], round(1 / spatial_scale)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        assert len(features) == 1
        assert not rois[:, 0].any()
        return roi_pool(features[0], rois[:, 1:], self.stride, self.size)


def unused(*args: object, **kwargs: object) -> Tensor:
    raise AssertionError("Bottom-Up Attention needs neither RoIAlign nor deformable convolutions")


def module(name: str, **content: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    sys.modules[name] = made
    return made


if find_spec("detectron2"):
    if not find_spec("torchvision"):
        boxes = module("torchvision.ops.boxes", nms=nms, batched_nms=batched_nms)
        ops = module("torchvision.ops", boxes=boxes, nms=nms, RoIPool=RoIPool, roi_align=unused, deform_conv2d=unused)
        module("torchvision", ops=ops, __version__="0", __path__=[])
    if not find_spec("detectron2._C"):
        module("detectron2._C")
    torch.set_num_threads(2)  # the full network, not a tiny model
