"""Bottom-Up Attention (Anderson et al. 2018): Visual Genome's objects and attributes, on detectron2.

Only `BottomUp` needs detectron2, torchvision and the published weights; all else needs torch and NumPy.
"""

import hashlib
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from glied.errors import GliedError
from glied.regions.boxes import iou, nms
from glied.scene import Regions

FAMILY = "detectron2-1/vg-r101-c4"
WEIGHTS = "GLIED_VG_WEIGHTS"  # the environment variable that names the file, or the folder that holds it
FILES = ("faster_rcnn_from_caffe_attr.pkl", "faster_rcnn_from_caffe.pkl")  # with attributes, and without
VOCABULARIES = {"objects_vocab.txt": 1600, "attributes_vocab.txt": 400}
ATTRIBUTE_HEAD = ("cls_embedding", "fc_attr", "attr_score")
ATTRIBUTE_THRESHOLD = 0.1  # a less probable attribute is left out of the label
SHORT_SIDE, LONG_SIDE, LEAST_SIDE = 600, 1000, 32


# Which boxes


def fixed(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], count: int = 36) -> Int[Tensor, " K"]:
    """The `count` best boxes after non-maximum suppression at 0.3, or at the first of 0.4, 0.5 ... that leaves
    `count`; if there are fewer boxes, all of them by falling score."""
    for tenths in range(3, 10):
        kept = nms(boxes, scores, tenths / 10)
        if len(kept) >= count:
            return kept[:count]
    return scores.argsort(descending=True, stable=True)[:count]


def unsuppressed(boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N C"], threshold: float) -> Bool[Tensor, "N C"]:
    """Non-maximum suppression in every class by itself, all classes at once: the same N boxes compete in each."""
    rivals = (iou(boxes, boxes) > threshold).fill_diagonal_(False)
    kept = torch.ones(scores.T.shape, dtype=torch.bool)
    classes = torch.arange(scores.shape[1])
    for box in scores.argsort(dim=0, descending=True, stable=True):  # [C]: the best box of each class, then the second
        kept &= ~(rivals[box] & kept[classes, box, None])
    return kept.T


def adaptive(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N C"],
    least: int = 10,
    most: int = 100,
    confident: float = 0.2,
) -> Int[Tensor, " K"]:
    """Boxes in which some class is confident, after suppression at 0.3 within each class: `least` to `most`
    (fewer only if there are fewer boxes), most confident first."""
    confidence = scores.where(unsuppressed(boxes, scores, 0.3), 0).amax(1)
    order = confidence.argsort(descending=True, stable=True)
    return order[: min(max(int((confidence >= confident).sum()), least), most)]


# What goes in


def prepare(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """BGR pixels 0..255 of an RGB photograph, short side 600, long side at most 1,000."""
    short, long = sorted(image.size)
    scale = min(SHORT_SIDE / short, LONG_SIDE / long)
    width, height = (max(int(side * scale + 0.5), LEAST_SIDE) for side in image.size)
    pixels = np.array(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy(pixels[:, :, ::-1].copy()).permute(2, 0, 1)


def find_weights() -> Path:
    """The weights file that GLIED_VG_WEIGHTS names, or the one in the folder that it names."""
    place = os.environ.get(WEIGHTS, "")
    path = Path(place).expanduser()
    found = [file for file in (path, *(path / name for name in FILES)) if place and file.is_file()]
    if not found:
        raise GliedError(
            f"Expected the environment variable {WEIGHTS} to name a folder with {' or '.join(FILES)}, got "
            f"{place or 'nothing'}; download http://nlp.cs.unc.edu/models/{FILES[0]} into a folder, with "
            f"{' and '.join(VOCABULARIES)} beside it, and set {WEIGHTS} to that folder."
        )
    return found[0]


def read_names(folder: Path) -> tuple[list[str], list[str]]:
    """Names of objects and of attributes, the first of each line's synonyms, from the vocabularies in a folder."""
    names = []
    for file, count in VOCABULARIES.items():
        try:
            lines = (folder / file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise GliedError(
                f"Expected {file} beside the weights, but {folder / file} cannot be read; copy it there from "
                "data/genome/1600-400-20 of https://github.com/peteanderson80/bottom-up-attention."
            ) from error
        names.append([line.split(",")[0].strip().lower() for line in lines if line.strip()])
        if len(names[-1]) != count:
            raise GliedError(
                f"Expected {count} names in {folder / file}, got {len(names[-1])}; copy the file again from "
                "data/genome/1600-400-20 of https://github.com/peteanderson80/bottom-up-attention."
            )
    return names[0], names[1]


class _ArraysOnly(pickle.Unpickler):
    """Makes NumPy arrays in plain containers, and refuses everything else that a pickle may ask for."""

    ADMITTED = (
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.numeric._frombuffer",
        "collections.OrderedDict",
        "_codecs.encode",  # how protocols before 3 spell bytes
    )

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.ADMITTED:
            raise GliedError(
                f"Expected nothing but arrays in the weights file, it asks for {module}.{name} and may be "
                f"malicious; download {FILES[0]} again from where its authors published it."
            )
        return super().find_class(module, name)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a published weights file {"model": {name: array}}; no code in it is ever run."""
    advice = f"download {FILES[0]} again from http://nlp.cs.unc.edu/models/{FILES[0]}."
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, at the spelling of its older self
            content = _ArraysOnly(file, encoding="latin1").load()
    except GliedError:
        raise
    except Exception as error:  # a damaged pickle fails in many ways
        raise GliedError(f"Expected a pickle of weights in {path}, it cannot be read ({error}); {advice}") from error
    arrays = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(arrays, Mapping) or not all(
        isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind == "f"
        for name, array in arrays.items()
    ):
        raise GliedError(f"Expected arrays of numbers by name under 'model' in {path}, got something else; {advice}")
    return dict(arrays)


# The network


def build(attributes: bool = True) -> Any:
    """Faster R-CNN R-101-C4 as Anderson et al. changed it, with random weights."""
    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.Resampling.BILINEAR  # type: ignore[attr-defined]  # detectron2 0.6 uses the old name
    try:
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
    except (ImportError, OSError, RuntimeError) as error:  # the latter two: built for another torch
        raise GliedError(
            f"Expected detectron2 and torchvision, importing them fails ({error}); run pip install torchvision, then "
            "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2'."
        ) from error
    cfg = get_cfg()
    # fmt: off
    cfg.MODEL.DEVICE                         = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.PIXEL_MEAN                     = [102.9801, 115.9465, 122.7717]  # blue, green, red
    cfg.MODEL.RESNETS.DEPTH                  = 101
    cfg.MODEL.ANCHOR_GENERATOR.SIZES         = [[64, 128, 256, 512]]
    cfg.MODEL.RPN.CONV_DIMS                  = [512]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST          = 6000
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST         = 300
    cfg.MODEL.ROI_HEADS.NUM_CLASSES          = 1600
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE       = "ROIPool"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14
    # fmt: on
    network = build_model(cfg)
    network.backbone.stem = _Stem(network.backbone.stem.conv1)
    res5 = network.roi_heads.res5
    res5[0].conv1.stride = res5[0].shortcut.stride = (1, 1)  # RoIs stay 14 x 14; dilation keeps the field of view
    for block in res5:
        block.conv2.padding = block.conv2.dilation = (2, 2)
    if attributes:
        predictor = network.roi_heads.box_predictor
        predictor.cls_embedding = nn.Embedding(1601, 256)
        predictor.fc_attr = nn.Linear(2048 + 256, 512)
        predictor.attr_score = nn.Linear(512, 401)
    return network.to(cfg.MODEL.DEVICE).eval().requires_grad_(False)


class _Stem(nn.Module):
    """The stem with Caffe's max-pooling, whose last window may hang over the border."""

    stride = 4

    def __init__(self, conv1: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv1

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 64 h w"]:
        return functional.max_pool2d(self.conv1(pixels).relu_(), 3, 2, 0, ceil_mode=True)


def load(network: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets every parameter of the network; no array may be missing, left over or of another shape."""
    state = network.state_dict()
    constants = {name for name, _ in network.named_buffers()} - set(state)  # such as anchors, which it knows itself
    missing, left = sorted(set(state) - set(arrays)), sorted(set(arrays) - set(state) - constants)
    misfits = [name for name in state if name in arrays and state[name].shape != arrays[name].shape]
    if missing or left or misfits:
        raise GliedError(
            f"Expected the {len(state)} arrays of Bottom-Up Attention R-101-C4 in the weights file, got {len(missing)} "
            f"missing, {len(left)} unknown and {len(misfits)} of another shape (such as "
            f"{(missing + left + misfits)[0]}); use the published {FILES[0]}."
        )
    network.load_state_dict({name: torch.from_numpy(np.array(arrays[name], np.float32)) for name in state})


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """Eight hexadecimal digits that name the weights, the same with and without the attribute head."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if not any(layer in name for layer in ATTRIBUTE_HEAD):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name], np.float32).tobytes())
    return digest.hexdigest()[:8]


class Detections(NamedTuple):
    """The network's output for N proposals in a photograph from `prepare`."""

    proposals: Float[Tensor, "N 4"]
    features: Float[Tensor, "N 2048"]
    objects: Float[Tensor, "N 1600"]
    refined: Float[Tensor, "N 4"]
    attributes: Float[Tensor, "N 400"] | None


@torch.inference_mode()
def detect(network: Any, pixels: Float[Tensor, "3 H W"]) -> Detections:
    """Proposals. Each with the mean of res5, the probability of every object, the probability of every attribute given
    the most probable object, and the box refined for that object."""
    heads, predictor = network.roi_heads, network.roi_heads.box_predictor
    images = network.preprocess_image([{"image": pixels}])
    maps = network.backbone(images.tensor)
    boxes = network.proposal_generator(images, maps, None)[0][0].proposal_boxes
    features = heads.res5(heads.pooler([maps["res4"]], [boxes])).mean((2, 3))
    logits = predictor.cls_score(features)
    objects = logits.softmax(1)[:, :-1]  # the last is the background
    deltas = predictor.bbox_pred(features).unflatten(1, (1600, 4))[torch.arange(len(features)), objects.argmax(1)]
    refined = predictor.box2box_transform.apply_deltas(deltas, boxes.tensor)
    H, W = pixels.shape[1:]
    refined = refined.clamp(min=0).minimum(refined.new_tensor([W, H, W, H]))
    attributes = None
    if hasattr(predictor, "attr_score"):
        embedded = predictor.cls_embedding(logits.argmax(1))
        hidden = predictor.fc_attr(torch.cat([features, embedded], 1)).relu()
        attributes = predictor.attr_score(hidden)[:, :-1].softmax(1).cpu()
    return Detections(boxes.tensor.cpu(), features.cpu(), objects.cpu(), refined.cpu(), attributes)


# The source


class BottomUp:
    """Salient regions with labels such as "red shirt".

    A feature is the mean of res5 over a proposal. With `boxes` "36", boxes are the proposals refined for their
    most probable object; with "10-100" (as many as the photograph has) the proposals themselves.
    """

    feature_dim = 2048

    def __init__(self, weights: Path, boxes: str = "36") -> None:
        self.boxes = boxes
        self.object_names, self.attribute_names = read_names(weights.parent)
        arrays = read_weights(weights)
        self.name = f"{FAMILY}-{fingerprint(arrays)}@{boxes}"
        self.network = build(attributes=any("attr_score" in name for name in arrays))
        load(self.network, arrays)

    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of an RGB photograph."""
        pixels = prepare(image)
        found = detect(self.network, pixels)
        boxes = found.refined if self.boxes == "36" else found.proposals
        real = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1).nonzero()[:, 0]  # thinner than a pixel is no box
        scores, objects = found.objects.max(1)
        if self.boxes == "36":
            chosen = real[fixed(boxes[real], scores[real])]
        else:
            chosen = real[adaptive(boxes[real], found.objects[real])]
        labels = [self.object_names[i] for i in objects[chosen]]
        if found.attributes is not None:
            sure, attributes = found.attributes[chosen].max(1)
            labels = [
                f"{self.attribute_names[a]} {label}" if p >= ATTRIBUTE_THRESHOLD else label
                for label, a, p in zip(labels, attributes, sure, strict=True)
            ]
        width, height = image.size
        scale = torch.tensor([width / pixels.shape[2], height / pixels.shape[1]]).repeat(2)
        return Regions(
            (boxes[chosen] * scale).numpy(),
            found.features[chosen].numpy(),
            image.size,
            self.name,
            tuple(labels),
            scores[chosen].numpy(),
        )


def open_bottom_up(name: str = "detectron2") -> BottomUp:
    """The source called `detectron2`, `detectron2@36` or `detectron2@10-100`, or by the full name that a checkpoint
    recorded, with the weights that GLIED_VG_WEIGHTS names."""
    match = re.fullmatch(rf"(?:detectron2|{FAMILY}-[0-9a-f]{{8}})(?:@(36|10-100))?", name)
    if not match:
        raise GliedError(
            f"Expected detectron2, detectron2@36, detectron2@10-100 or a full name such as {FAMILY}-0123abcd@36, "
            f"got {name!r}; use one of these."
        )
    weights = find_weights()
    source = BottomUp(weights, match[1] or "36")
    if name.startswith(FAMILY) and source.name != name:
        raise GliedError(
            f"Expected the weights of {name}, {weights} makes {source.name}; name the file that the checkpoint was "
            f"trained with in {WEIGHTS}."
        )
    return source
