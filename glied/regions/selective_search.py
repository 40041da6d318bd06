"""Selective search (Uijlings et al. 2013): boxes without training, to compare with."""

import numpy as np
from PIL import Image

from glied.errors import GliedError
from glied.scene import Regions

BEST = 100  # boxes, in the order in which it finds them


class SelectiveSearch:
    """Selective search (Uijlings et al. 2013), fast mode, best 100: boxes without training, features or labels."""

    name = "selective-search"
    feature_dim = 0

    def __init__(self) -> None:
        try:
            import cv2

            self.search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        except (ImportError, AttributeError) as error:
            raise GliedError(
                f"Expected OpenCV with its contributed modules for selective search, found none ({error}); "
                "`pip install opencv-contrib-python-headless`."
            ) from error

    def find_regions(self, image: Image.Image) -> Regions:
        """Boxes of an RGB photograph."""
        self.search.setBaseImage(np.ascontiguousarray(np.array(image.convert("RGB"))[:, :, ::-1]))
        self.search.switchToSelectiveSearchFast()
        x, y, w, h = self.search.process()[:BEST].T
        boxes = np.stack([x, y, x + w, y + h], 1).astype(np.float32)
        return Regions(boxes, np.zeros((len(boxes), 0), np.float32), image.size, self.name)
