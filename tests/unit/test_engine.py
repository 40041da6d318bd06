"""What computes the detector's networks: OpenVINO finds what torch finds, and keeps its form of a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_detector import noise, random_net
from tiny import SOURCE, checkpoint, scene

from glied.data.features import FeatureCache
from glied.decode import caption
from glied.errors import GliedError
from glied.experiments import bench_regions
from glied.images import open_image
from glied.regions import engine, open_source
from glied.regions.detector import SHIPPED, Detector, save_net
from glied.replay import trace
from glied.scene import same_source


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "detector.safetensors"
    save_net(path, random_net(), {})
    return path


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where OpenVINO's form of networks is kept during these tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "glied"


class Twice(torch.nn.Module):
    """The smallest network."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.factor * x, x.sum(1)


X = torch.arange(24.0).view(1, 2, 3, 4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_networks_compute_what_they_are(name: str, threads: int) -> None:
    """Also on inputs of another size, and two that were begun before either is waited for."""
    if name == "openvino":
        pytest.importorskip("openvino")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begin = engine.prepare(name, Twice(), X, "HW", False, "twice")
        wide = torch.arange(40.0).view(1, 2, 4, 5)
        ends = [begin(x) for x in (X, wide)]
        for x, end in zip((X, wide), ends, strict=True):
            double, total = end()
            torch.testing.assert_close(double, 2 * x)
            torch.testing.assert_close(total, x.sum(1))
    finally:
        torch.set_num_threads(before)


def test_openvino_finds_the_regions_that_torch_finds(root: Path) -> None:
    """Of photographs: boxes that a network of random weights finds equally good could change places."""
    pytest.importorskip("openvino")
    plain, fast = (Detector(SHIPPED, 36, 36, name) for name in ("torch", "openvino"))
    assert plain.name == fast.name
    for name in ("kitten", "bridge"):
        image = open_image(root / "app" / "photographs" / f"{name}.jpg")
        a, b = plain.find_regions(image), fast.find_regions(image)
        np.testing.assert_allclose(b.boxes, a.boxes, atol=0.01)
        np.testing.assert_allclose(b.features, a.features, atol=1e-3)
        assert a.labels == b.labels


def test_what_is_kept_is_read_again_and_what_is_damaged_made_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    converted = []
    convert = openvino.convert_model
    monkeypatch.setattr(openvino, "convert_model", lambda *a, **k: converted.append(1) or convert(*a, **k))
    before = set(kept.glob("*")) if kept.is_dir() else set()

    def compute() -> float:
        return engine.prepare("openvino", Twice(3.0), X, "HW", False, "thrice")(X)()[0][0, 0, 0, 1].item()

    assert compute() == 3
    [file] = set(kept.glob("*")) - before
    assert compute() == 3
    assert len(converted) == 1
    content = file.read_bytes()
    for damaged in (b"", content[:100], content[:-9] + b"\0" + content[-8:]):
        file.write_bytes(damaged)
        assert compute() == 3
    assert len(converted) == 4


def test_another_network_is_never_taken_for_the_kept_one() -> None:
    pytest.importorskip("openvino")
    first, second = (engine.prepare("openvino", Twice(f), X, "HW", False, f"times {f}") for f in (5.0, 7.0))
    assert [begin(X)()[0][0, 0, 0, 1].item() for begin in (first, second)] == [5, 7]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert engine.prepare("openvino", Twice(), X, "HW", False, "twice")(X)()[0][0, 0, 0, 1].item() == 2


# Which engine


def test_fastest_is_what_is_installed_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIED_ENGINE", raising=False)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert engine.choose("fastest") == engine.choose("torch") == ("torch", False)
    with pytest.raises(GliedError, match="pip install openvino"):
        engine.choose("openvino")
    monkeypatch.setattr(engine, "find_spec", lambda name: object())
    assert engine.choose("fastest") == engine.choose("openvino") == ("openvino", False)
    monkeypatch.setenv("GLIED_ENGINE", "torch")
    assert engine.choose("fastest") == ("torch", False)
    assert engine.choose("openvino") == ("openvino", False)
    for said, chosen in (("torch+bf16", "torch"), ("fastest+bf16", "openvino"), ("+bf16", "openvino")):
        monkeypatch.setenv("GLIED_ENGINE", said)
        assert engine.choose("fastest") == (chosen, True)
    for wrong in ("abacus", "torch+bf17"):
        monkeypatch.setenv("GLIED_ENGINE", wrong)
        with pytest.raises(GliedError, match="fastest, torch, openvino"):
            engine.choose("fastest")


# bfloat16


def test_bfloat16_has_another_name_and_cache(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same boxes and labels, other features in the last 1,280 columns."""
    monkeypatch.setenv("GLIED_DETECTOR", str(path))
    plain, fast = open_source("detector@36"), open_source("detector@36+bf16")
    assert fast.name == f"{plain.name}+bf16"
    assert open_source(fast.name).name == fast.name
    assert same_source(plain.name, fast.name)
    assert not same_source(plain.name, fast.name.replace("@36", "@10"))
    assert len({FeatureCache(tmp_path, source).folder for source in (plain, fast)}) == 2
    monkeypatch.setenv("GLIED_ENGINE", "torch+bf16")
    assert open_source(plain.name).name == fast.name
    a, b = (source.find_regions(noise(320, 240)) for source in (plain, fast))
    assert (a.source, b.source, a.labels) == (plain.name, fast.name, b.labels)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.features[:, :-1280], b.features[:, :-1280])
    other = np.linalg.norm(a.features - b.features) / np.linalg.norm(a.features[:, -1280:])
    assert 1e-4 < other < 0.5


def test_captioners_take_bfloat16s_regions_for_float32s() -> None:
    """And no others."""
    captioner, plain = checkpoint(), scene()
    [expected] = caption(captioner, [plain])
    fast, wrong = (
        replace(plain, regions=replace(plain.regions, source=f"{SOURCE}{end}")) for end in ("+bf16", "+bf17")
    )
    assert [each.words for each in caption(captioner, [fast])[0].captions] == [c.words for c in expected.captions]
    assert trace(captioner, fast, expected.captions[0].words).source == f"{SOURCE}+bf16"
    with pytest.raises(GliedError, match="use that source or another checkpoint"):
        caption(captioner, [wrong])


# The benchmark


def test_stages_add_up(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_regions, "SHIPPED", path)
    monkeypatch.setattr(bench_regions, "ROUNDS", 1)
    monkeypatch.setattr(bench_regions, "find_spec", lambda name: None)
    monkeypatch.setattr(bench_regions, "fastest", lambda: "bf16")
    noise(320, 240).save(tmp_path / "a.png")
    result = bench_regions.regions([tmp_path / "a.png"])
    plain, fast = result["rows"]
    assert (plain["engine"], plain["precision"], fast["precision"]) == ("torch", "fp32", "bf16")
    assert plain["largest_box_difference"] == plain["largest_feature_difference"] == 0
    assert plain["same_labels"] == 1
    assert fast["largest_feature_difference"] > fast["largest_box_difference"] == 0
    stages = {"pixels", "detector", "proposals", "head", "soft-NMS", "means over boxes", "ImageNet's network"}
    assert set(plain["ms"]) == stages | {"all", "processor time", "the rest"}
    assert all(ms >= 0 for ms in plain["ms"].values())
    assert "100%" in bench_regions.table(result)
