"""Bottom-Up Attention without detectron2: which boxes, what goes in, what a weights file may hold, what is missing."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glied.errors import GliedError
from glied.regions import bottom_up, open_source
from glied.regions.boxes import nms


def row(*lefts: float) -> torch.Tensor:
    """Boxes of 10 x 10 at these places; two that lie d apart overlap by (10 - d) / (10 + d)."""
    return torch.tensor([[left, 0, left + 10, 10] for left in lefts], dtype=torch.float32)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, [0, 3]),  # at 0.3: 0 suppresses 1 (1/3) and 2 (7/13)
        (3, [0, 1, 3]),  # at 0.4: 1 survives
        (4, [0, 1, 2, 3]),  # at 0.6: 1 still suppresses 2 (2/3); at 0.7 all survive
        (5, [0, 1, 2, 3]),  # there are no five
    ],
)
def test_threshold_rises_until_enough_survive(count: int, expected: list[int]) -> None:
    boxes, scores = row(0, 5, 3, 100), torch.tensor([0.9, 0.8, 0.7, 0.1])
    assert bottom_up.fixed(boxes, scores, count).tolist() == expected


def test_36_of_40() -> None:
    """30 boxes apart, each of the first 10 with a weaker one 5 to the right: 30 survive at 0.3, all at 0.4."""
    boxes = row(*range(0, 3000, 100), *range(5, 1000, 100))
    scores = torch.cat([torch.linspace(0.9, 0.6, 30), torch.linspace(0.2, 0.1, 10)])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    kept = bottom_up.fixed(boxes[order], scores[order])
    assert order[kept].tolist() == list(range(36))


def test_equal_boxes_fill_the_count() -> None:
    assert bottom_up.fixed(row(0, 0, 0), torch.tensor([0.1, 0.3, 0.2]), 3).tolist() == [1, 2, 0]


def test_adaptive_suppresses_within_each_class() -> None:
    boxes = row(0, 5, 100)
    scores = torch.tensor([[0.9, 0.1], [0.5, 0.3], [0.1, 0.05]])
    kept = bottom_up.unsuppressed(boxes, scores, 0.3)
    assert kept.tolist() == [[True, False], [False, True], [True, True]]
    assert bottom_up.adaptive(boxes, scores, least=1).tolist() == [0, 1]  # confidences 0.9, 0.3, 0.1
    assert bottom_up.adaptive(boxes, scores, least=1, most=1).tolist() == [0]
    assert bottom_up.adaptive(boxes, scores, least=3).tolist() == [0, 1, 2]
    scores[1, 1] = 0.05  # now box 1 is suppressed in both classes, and its 0.5 counts for nothing
    assert bottom_up.adaptive(boxes, scores, least=1).tolist() == [0]
    assert bottom_up.adaptive(boxes, scores, least=3).tolist() == [0, 2, 1]


@pytest.mark.parametrize(("boxes", "confident", "expected"), [(150, 150, 100), (150, 60, 60), (150, 5, 10), (8, 5, 8)])
def test_adaptive_takes_10_to_100(boxes: int, confident: int, expected: int) -> None:
    scores = torch.full((boxes, 3), 0.01)
    scores[:confident, 1] = torch.linspace(0.9, 0.2, boxes)[:confident]
    kept = bottom_up.adaptive(row(*range(0, 100 * boxes, 100)), scores)
    assert kept.tolist() == list(range(expected))


def test_all_classes_at_once_equal_one_by_one() -> None:
    random = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(40, 2, generator=random)
    boxes = torch.cat([corners, corners + 10 + 30 * torch.rand(40, 2, generator=random)], 1)
    scores = torch.rand(40, 7, generator=random)
    kept = bottom_up.unsuppressed(boxes, scores, 0.3)
    for c in range(7):
        assert kept[:, c].nonzero()[:, 0].tolist() == sorted(nms(boxes, scores[:, c], 0.3).tolist())
    assert 0 < kept.sum() < kept.numel()


@pytest.mark.parametrize(
    ("size", "prepared"),
    [
        ((500, 400), (750, 600)),
        ((333, 500), (600, 901)),
        ((2000, 500), (1000, 250)),  # the long side binds
        ((16, 16), (600, 600)),
        ((5000, 20), (1000, 32)),  # a panorama keeps enough rows for the network
    ],
)
def test_prepared_size(size: tuple[int, int], prepared: tuple[int, int]) -> None:
    pixels = bottom_up.prepare(Image.new("RGB", size, (10, 20, 30)))
    assert pixels.shape == (3, prepared[1], prepared[0])
    assert pixels[:, 0, 0].tolist() == [30, 20, 10]  # blue, green, red


ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([7])}


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_weights_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    found = bottom_up.read_weights(write(tmp_path / "w.pkl", {"model": ARRAYS}, protocol))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


class Spelled:
    """Pickles as told: what to call, with which arguments, and the state to set."""

    def __init__(self, *told: object) -> None:
        self.told = told

    def __reduce__(self) -> tuple:
        return self.told


def test_weights_as_numpy_of_2019_wrote_them(tmp_path: Path) -> None:
    dtype = Spelled(np.dtype, ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    array = np.arange(4, dtype="<f4")
    rebuild = array.__reduce__()[0]
    old = Spelled(rebuild, (np.ndarray, (0,), b"b"), (1, (2, 2), dtype, False, array.tobytes()))
    path = tmp_path / "w.pkl"
    data = pickle.dumps({"model": {"a": old}}, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(data)
    np.testing.assert_array_equal(bottom_up.read_weights(path)["a"], array.reshape(2, 2))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch harmed",)),
        (eval, ("open('harmed', 'w')",)),
        (getattr, ("harmed", "upper")),
        (np.load, ("harmed",)),
        (np.memmap, ("harmed", "u1", "w+", 0, (1,))),
    ],
)
def test_malicious_pickles_are_refused(tmp_path: Path, monkeypatch, call: tuple, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "w.pkl", {"model": {"a": Spelled(*call)}}, protocol)
    with pytest.raises(GliedError, match="may be malicious"):
        bottom_up.read_weights(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [ARRAYS, ["model"], {"model": [1]}, {"model": {"a": [1.0]}}, {"model": {"a": np.array([None])}}, {"model": {3: 1}}],
)
def test_other_pickles_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(GliedError, match="under 'model'"):
        bottom_up.read_weights(write(tmp_path / "w.pkl", content))


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html>404</html>", pickle.dumps({"model": ARRAYS})[:-20]])
def test_damaged_weights_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.pkl").write_bytes(data)
    with pytest.raises(GliedError, match=r"w\.pkl, it cannot be read .* download"):
        bottom_up.read_weights(tmp_path / "w.pkl")


def test_the_attribute_head_does_not_change_the_fingerprint() -> None:
    whole = ARRAYS | {"roi_heads.box_predictor.fc_attr.bias": np.float32([1])}
    assert bottom_up.fingerprint(whole) == bottom_up.fingerprint(ARRAYS)
    assert bottom_up.fingerprint(ARRAYS | {"b": np.float32([8])}) != bottom_up.fingerprint(ARRAYS)


def vocabularies(folder: Path) -> None:
    for kind, count in (("objects", 1600), ("attributes", 400)):
        lines = [f"{kind[:-1]} {i},Synonym {i}" for i in range(count)]
        (folder / f"{kind}_vocab.txt").write_text("\n".join(lines))


def test_names_are_the_first_synonyms(tmp_path: Path) -> None:
    vocabularies(tmp_path)
    objects, attributes = bottom_up.read_names(tmp_path)
    assert (len(objects), objects[7], attributes[399]) == (1600, "object 7", "attribute 399")
    (tmp_path / "attributes_vocab.txt").write_text("red\nblue")
    with pytest.raises(GliedError, match=r"400 names .* got 2"):
        bottom_up.read_names(tmp_path)


def test_names_of_the_published_vocabularies(shared: Path) -> None:
    objects, attributes = bottom_up.read_names(shared / "data" / "vg_features")
    assert objects[:3] == ["yolk", "goal", "bathroom"]
    assert attributes[:2] == ["gray", "multi colored"]


@pytest.mark.parametrize("name", ["detectron2", "detectron2@36", "detectron2-1/vg-r101-c4-01234567@10-100"])
def test_missing_weights_say_where_to_put_them(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.delenv("GLIED_VG_WEIGHTS", raising=False)
    with pytest.raises(GliedError, match=r"GLIED_VG_WEIGHTS .* got nothing; download http\S+attr\.pkl"):
        open_source(name)
    monkeypatch.setenv("GLIED_VG_WEIGHTS", str(tmp_path))  # a folder without the file
    with pytest.raises(GliedError, match="GLIED_VG_WEIGHTS"):
        open_source(name)
    weights = write(tmp_path / "faster_rcnn_from_caffe.pkl", {"model": ARRAYS})
    for place in (tmp_path, weights):
        monkeypatch.setenv("GLIED_VG_WEIGHTS", str(place))
        with pytest.raises(GliedError, match=r"objects_vocab\.txt beside the weights"):
            open_source(name)


@pytest.mark.parametrize("name", ["detectron2@100", "detectron2-2/vg-r101-c4-01234567@36", "detectron2 "])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(GliedError, match="detectron2@10-100"):
        open_source(name)


@pytest.mark.parametrize("package", ["detectron2", "torchvision"])
def test_missing_detectron2_says_what_to_install(tmp_path: Path, monkeypatch, package: str) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    vocabularies(tmp_path)
    write(tmp_path / "faster_rcnn_from_caffe_attr.pkl", {"model": ARRAYS})
    monkeypatch.setenv("GLIED_VG_WEIGHTS", str(tmp_path))
    with pytest.raises(GliedError, match=r"detectron2.* pip install .*facebookresearch/detectron2"):
        open_source("detectron2")
