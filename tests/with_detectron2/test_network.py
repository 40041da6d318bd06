"""Bottom-Up Attention on detectron2's own code, with random weights in a file of the published format."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pooling import roi_pool
from torch.nn import functional

pytest.importorskip("detectron2", reason="needs detectron2: make detectron2-test")

from glied.errors import GliedError
from glied.regions import RegionSource, bottom_up, open_source
from glied.regions.boxes import iou

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::UserWarning")  # detectron2's own

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every array of the file, written down from the paper's network and detectron2's names."""
    convolutions = {"backbone.stem.conv1": (64, 3, 7, 7)}
    width = 64
    for stage, blocks in enumerate((3, 4, 23, 3), 2):
        inner, outer = 2**stage * 16, 2**stage * 64
        place = f"backbone.res{stage}" if stage < 5 else "roi_heads.res5"
        for i in range(blocks):
            if i == 0:
                convolutions[f"{place}.0.shortcut"] = (outer, width, 1, 1)
            convolutions[f"{place}.{i}.conv1"] = (inner, width, 1, 1)
            convolutions[f"{place}.{i}.conv2"] = (inner, inner, 3, 3)
            convolutions[f"{place}.{i}.conv3"] = (outer, inner, 1, 1)
            width = outer
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in convolutions.items():
        shapes[f"{name}.weight"] = shape
        shapes |= {f"{name}.norm.{part}": shape[:1] for part in BATCH_NORM}
    layers = {
        "proposal_generator.rpn_head.conv": (512, 1024, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (12, 512, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (48, 512, 1, 1),
        "roi_heads.box_predictor.cls_score": (1601, 2048),
        "roi_heads.box_predictor.bbox_pred": (6400, 2048),
        "roi_heads.box_predictor.fc_attr": (512, 2304),
        "roi_heads.box_predictor.attr_score": (401, 512),
    }
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes | {"roi_heads.box_predictor.cls_embedding.weight": (1601, 256)}


def random_arrays() -> dict[str, np.ndarray]:
    """Weights that keep activations of order 1 through all 101 layers, no two alike."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, shape in published_shapes().items():
        fan_in = int(np.prod(shape[1:])) or 1
        array = random.normal(0, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.1, shape)
        if name.endswith(("norm.weight", "running_var")):
            array = abs(array) + (0.3 if "conv3.norm.weight" in name else 1)
        if "stem.conv1.weight" in name:
            array /= 60  # pixels are not of order 1
        if "anchor_deltas" in name or "bbox_pred" in name:
            array *= 0.2
        arrays[name] = array.astype(np.float32)
    return arrays


ARRAYS = random_arrays()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """The weights file and the vocabularies, as a user lays them down."""
    folder = tmp_path_factory.mktemp("vg")
    for kind, count in (("objects", 1600), ("attributes", 400)):
        (folder / f"{kind}_vocab.txt").write_text("\n".join(f"{kind[:-1]}{i},other" for i in range(count)))
    with open(folder / "faster_rcnn_from_caffe_attr.pkl", "wb") as file:
        pickle.dump({"model": ARRAYS, "__author__": "random"}, file, 4)
    yield folder
    (folder / "faster_rcnn_from_caffe_attr.pkl").unlink()


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[RegionSource]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIED_VG_WEIGHTS", str(folder))
        yield open_source("detectron2")


@pytest.fixture
def few(source: Any, monkeypatch) -> Any:
    """The network with 60 proposals instead of 300."""
    monkeypatch.setitem(source.network.proposal_generator.post_nms_topk, False, 60)
    return source.network


def photograph(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_names_and_shapes_of_all_535_arrays(source: Any) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in source.network.state_dict().items()}
    assert len(found) == 535
    assert found == published_shapes()


def test_the_file_sets_every_parameter(source: Any) -> None:
    for name, tensor in source.network.state_dict().items():
        np.testing.assert_array_equal(tensor.cpu(), ARRAYS[name], err_msg=name)
    assert not source.network.training
    assert not any(parameter.requires_grad for parameter in source.network.parameters())


def test_constants_of_detectron2_may_be_in_the_file(source: Any) -> None:
    constants = {
        "pixel_mean": np.zeros((3, 1, 1)),
        "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((12, 4)),
    }
    bottom_up.load(source.network, ARRAYS | constants)
    assert source.network.pixel_mean.flatten().tolist() == pytest.approx([102.9801, 115.9465, 122.7717])


def test_other_weights_are_refused(source: Any) -> None:
    name = "backbone.res4.22.conv2.weight"
    missing = {key: array for key, array in ARRAYS.items() if key != name}
    for arrays, words in (
        (missing, rf"535 arrays .* 1 missing, 0 unknown and 0 of another shape \(such as {name}\)"),
        (ARRAYS | {"backbone.fc": np.zeros(3)}, r"0 missing, 1 unknown .* \(such as backbone\.fc\)"),
        (ARRAYS | {name: np.zeros((1, 1, 3, 3))}, "0 missing, 0 unknown and 1 of another shape"),
    ):
        with pytest.raises(GliedError, match=words):
            bottom_up.load(source.network, arrays)
    np.testing.assert_array_equal(source.network.state_dict()[name].cpu(), ARRAYS[name])


def test_configuration(source: Any) -> None:
    network = source.network
    anchors = next(iter(network.proposal_generator.anchor_generator.cell_anchors)).cpu()
    sides = anchors[:, 2:] - anchors[:, :2]
    np.testing.assert_allclose(sides.prod(1).sqrt(), np.repeat([64, 128, 256, 512], 3), rtol=1e-5)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 1, 2] * 4, rtol=1e-5)
    proposer = network.proposal_generator
    assert (proposer.pre_nms_topk[False], proposer.post_nms_topk[False], proposer.nms_thresh) == (6000, 300, 0.7)
    assert tuple(network.roi_heads.box_predictor.box2box_transform.weights) == (10, 10, 5, 5)
    assert [block.conv2.dilation for block in network.roi_heads.res5] == [(2, 2)] * 3
    assert [block.conv1.stride for block in network.backbone.res3] == [(2, 2), (1, 1), (1, 1), (1, 1)]
    assert {module.eps for module in network.modules() if hasattr(module, "running_var")} == {1e-5}


def test_pixels_are_bgr_less_the_mean(few: Any) -> None:
    seen = []
    hook = few.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].cpu()))
    bottom_up.detect(few, bottom_up.prepare(Image.new("RGB", (500, 400), (200, 100, 50)))[:, :128, :160])
    hook.remove()
    assert seen[0].shape == (1, 3, 128, 160)
    expected = np.array([50 - 102.9801, 100 - 115.9465, 200 - 122.7717])
    np.testing.assert_allclose(seen[0][0, :, 64, 80], expected, rtol=1e-5)
    assert (seen[0] == seen[0][:, :, :1, :1]).all()


def test_the_stem_pools_as_caffe(source: Any) -> None:
    """Windows of 3 at 0, 2, 4 ... of 17 columns: 8, no padding; of 18 columns: 9, the last hanging over."""
    stem = source.network.backbone.stem
    for width, pooled in ((33, 8), (35, 9)):
        pixels = torch.randn(1, 3, 33, width)
        before = functional.relu(stem.conv1(pixels))
        after = stem(pixels)
        assert after.shape == (1, 64, 8, pooled)
        columns = before[0, 0, :3, 2 * (pooled - 1) :]
        assert columns.shape[1] == (3 if pooled == 8 else 2)
        torch.testing.assert_close(after[0, 0, 0, -1], columns.max())


def test_features_are_means_of_res5_on_the_proposals(few: Any) -> None:
    maps, pooled, res5 = [], [], []
    hooks = [
        few.backbone.register_forward_hook(lambda _, inputs, output: maps.append(output["res4"])),
        few.roi_heads.res5.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0])),
        few.roi_heads.res5.register_forward_hook(lambda _, inputs, output: res5.append(output)),
    ]
    found = bottom_up.detect(few, bottom_up.prepare(photograph(400, 300))[:, :240, :320])
    for hook in hooks:
        hook.remove()
    assert maps[0].shape == (1, 1024, 15, 20)
    n = len(found.proposals)
    assert 36 <= n <= 60
    expected = roi_pool(maps[0][0].cpu(), found.proposals, 16, 14)
    torch.testing.assert_close(pooled[0].cpu(), expected)
    assert res5[0].shape == (n, 2048, 14, 14)
    np.testing.assert_allclose(found.features, res5[0].cpu().numpy().mean((2, 3)), rtol=1e-4, atol=1e-5)

    # heads, from the arrays of the file
    def linear(layer: str, inputs: np.ndarray) -> np.ndarray:
        return inputs @ ARRAYS[f"{prefix}.{layer}.weight"].T + ARRAYS[f"{prefix}.{layer}.bias"]

    prefix = "roi_heads.box_predictor"
    features = found.features.numpy()
    logits = linear("cls_score", features)
    np.testing.assert_allclose(found.objects, torch.tensor(logits).softmax(1)[:, :1600], rtol=1e-3, atol=1e-6)
    embedded = ARRAYS[f"{prefix}.cls_embedding.weight"][logits.argmax(1)]
    hidden = np.maximum(linear("fc_attr", np.concatenate([features, embedded], 1)), 0)
    attributes = torch.tensor(linear("attr_score", hidden)[:, :400]).softmax(1)
    np.testing.assert_allclose(found.attributes, attributes, rtol=1e-3, atol=1e-6)
    deltas = linear("bbox_pred", features).reshape(n, 1600, 4)[np.arange(n), logits[:, :1600].argmax(1)]
    x1, y1, x2, y2 = found.proposals.numpy().T
    w, h = (x2 - x1) * np.exp(deltas[:, 2] / 5), (y2 - y1) * np.exp(deltas[:, 3] / 5)
    x, y = (x1 + x2) / 2 + deltas[:, 0] / 10 * (x2 - x1), (y1 + y2) / 2 + deltas[:, 1] / 10 * (y2 - y1)
    refined = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clip(0, [320, 240, 320, 240])
    np.testing.assert_allclose(found.refined, refined, rtol=1e-3, atol=0.05)


def test_regions_of_a_photograph(source: Any, few: Any) -> None:
    """The whole way at full size: 36 labelled regions in pixels of the photograph."""
    assert isinstance(source, RegionSource)
    image = photograph(200, 150)
    regions = source.find_regions(image)
    found = bottom_up.detect(few, bottom_up.prepare(image))
    assert regions.boxes.shape == (36, 4)
    assert regions.features.shape == (36, 2048)
    assert regions.size == (200, 150)
    assert regions.source == source.name
    assert regions.boxes.min() >= 0
    assert (regions.boxes <= [200, 150, 200, 150]).all()
    assert (np.diff(regions.scores) <= 0).all()
    for box, feature, score, label in zip(regions.boxes, regions.features, regions.scores, regions.labels, strict=True):
        distance = (found.refined / 4 - torch.tensor(box)).abs().sum(1)
        distance += (found.features - torch.tensor(feature)).abs().sum(1)
        i = int(distance.argmin())  # each region is one of the proposals
        np.testing.assert_allclose(found.refined[i] / 4, box, atol=0.01)
        np.testing.assert_allclose(found.features[i], feature, rtol=1e-4, atol=1e-5)
        assert found.objects[i].max().item() == pytest.approx(float(score), rel=1e-3)
        sure, attribute = found.attributes[i].max(0)
        named = f"attribute{attribute} " if sure >= 0.1 else ""
        assert label == f"{named}object{found.objects[i].argmax()}"
    between = iou(torch.tensor(regions.boxes), torch.tensor(regions.boxes)).fill_diagonal_(0)
    assert between.max() <= 0.91


def test_adaptive_regions_are_proposals(source: Any, few: Any, monkeypatch) -> None:
    monkeypatch.setattr(bottom_up, "SHORT_SIDE", 240)
    monkeypatch.setattr(source, "boxes", "10-100")
    image = photograph(160, 120)
    regions = source.find_regions(image)
    assert 10 <= len(regions.boxes) <= 60
    proposals = bottom_up.detect(few, bottom_up.prepare(image)).proposals / 2
    apart = np.abs(regions.boxes[:, None] - proposals.numpy()).max(2)
    assert apart.min(1).max() < 0.01


def test_full_names(source: Any, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("GLIED_VG_WEIGHTS", str(folder))
    assert source.name == f"detectron2-1/vg-r101-c4-{bottom_up.fingerprint(ARRAYS)}@36"
    again = open_source(source.name.replace("@36", "@10-100"))
    assert again.name == source.name.replace("@36", "@10-100")
    with pytest.raises(GliedError, match=r"Expected the weights of .*-00000000@36, .* makes .*GLIED_VG_WEIGHTS"):
        open_source("detectron2-1/vg-r101-c4-00000000@36")


def test_weights_without_attributes(source: Any, folder: Path, tmp_path: Path, monkeypatch) -> None:
    """The older of the two published files: 530 arrays; the same regions, labelled by objects alone."""
    plain = {name: array for name, array in ARRAYS.items() if not any(x in name for x in bottom_up.ATTRIBUTE_HEAD)}
    assert len(plain) == 530
    with open(tmp_path / "faster_rcnn_from_caffe.pkl", "wb") as file:
        pickle.dump({"model": plain}, file, 4)
    for file in folder.glob("*.txt"):
        os.link(file, tmp_path / file.name)
    monkeypatch.setattr(bottom_up, "SHORT_SIDE", 240)
    monkeypatch.setenv("GLIED_VG_WEIGHTS", str(tmp_path))
    other = open_source("detectron2")
    (tmp_path / "faster_rcnn_from_caffe.pkl").unlink()
    other.network.proposal_generator.post_nms_topk[False] = 40
    monkeypatch.setitem(source.network.proposal_generator.post_nms_topk, False, 40)
    assert other.name == source.name
    a, b = (s.find_regions(photograph(160, 120)) for s in (source, other))
    np.testing.assert_allclose(a.features, b.features, rtol=1e-4, atol=1e-5)
    assert b.labels == tuple(label.split()[-1] for label in a.labels)
    assert all(label.startswith("object") for label in b.labels)
