"""One file holds a model; it comes back bit for bit, and anything else is one sentence."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from glied.attributes import AttributeDetector
from glied.checkpoint import Checkpoint, describe, load, load_attribute_detector, load_pair, save_attribute_detector
from glied.decode import caption
from glied.errors import GliedError
from glied.files import replacing

PAPER = {"ffn": 10, "share_local_output": True}


def halved(made: Checkpoint) -> Checkpoint:
    """The same checkpoint with weights that float16 can hold."""
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.copy_(parameter.half())
    return made


@pytest.mark.parametrize("changes", [{}, {"ffn": 10}, {"position": "context"}, {"d_head": 11}])
def test_round_trip_is_bit_equal(architecture: str, changes: dict, tmp_path: Path) -> None:
    made = halved(tiny.checkpoint(architecture, **changes))
    made.save(tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.model.config == made.model.config
    assert type(loaded.model) is type(made.model)
    assert (loaded.vocabulary, loaded.attributes, loaded.source) == (made.vocabulary, made.attributes, made.source)
    assert loaded.provenance == made.provenance
    assert len(loaded.digest) == 12
    assert not loaded.model.training
    ours, theirs = dict(loaded.model.named_parameters()), dict(made.model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(p.dtype == torch.float32 for p in ours.values())
    scenes = [tiny.scene(5, 4, 1)]
    assert caption(loaded, scenes) == caption(made, scenes)


def test_loading_draws_no_weights_to_throw_away(architecture: str, tmp_path: Path) -> None:
    tiny.checkpoint(architecture).save(tmp_path / "a")
    before = torch.get_rng_state()
    load(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_twice_gives_the_same_bytes(architecture: str, tmp_path: Path) -> None:
    tiny.checkpoint(architecture).save(tmp_path / "a")
    load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load(tmp_path / "a").digest == load(tmp_path / "b").digest
    tiny.checkpoint(architecture, seed=1).save(tmp_path / "c")
    assert load(tmp_path / "a").digest != load(tmp_path / "c").digest


def test_shared_parameters_are_stored_once_and_stay_shared(tmp_path: Path) -> None:
    made = halved(tiny.checkpoint("glied", **PAPER))
    made.save(tmp_path / "a")
    with safe_open(tmp_path / "a", "pt") as file:
        names = list(file.keys())
    assert len([n for n in names if n in ("H.vl.output.weight", "H.al.output.weight")]) == 1
    assert len(names) == len(list(made.model.parameters()))
    loaded = load(tmp_path / "a").model
    assert loaded.H["al"].output is loaded.H["vl"].output
    assert torch.equal(loaded.H["al"].output.weight, made.model.H["al"].output.weight)


def test_header_is_readable_without_our_code(tmp_path: Path) -> None:
    made = tiny.checkpoint("glied")
    made.save(tmp_path / "a")
    with safe_open(tmp_path / "a", "pt") as file:
        header = json.loads(file.metadata()["glied"])
    assert header["format"] == "glied-1"
    assert header["kind"] == "captioner"
    assert tuple(header["vocabulary"]) == made.vocabulary.words
    assert header["config"]["architecture"] == "glied"
    assert header["source"] == tiny.SOURCE
    assert header["provenance"] == made.provenance


def test_describe_counts_every_parameter(architecture: str, tmp_path: Path) -> None:
    made = tiny.checkpoint(architecture)
    made.save(tmp_path / "a")
    told = describe(tmp_path / "a")
    assert sum(told["parameters"].values()) == sum(p.numel() for p in made.model.parameters())
    assert told["parameters"]["embedding"] == made.model.embedding.numel()
    assert told["bytes"] == (tmp_path / "a").stat().st_size
    assert told["digest"] == load(tmp_path / "a").digest


@pytest.mark.parametrize("hidden", [0, 8])
def test_detector_round_trip(hidden: int, tmp_path: Path) -> None:
    made = AttributeDetector(("dog", "éclair", "red"), tiny.WIDTH, tiny.SOURCE, hidden).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_().copy_(parameter.half())
    save_attribute_detector(tmp_path / "a", made, {"epochs": 3})
    loaded, provenance = load_attribute_detector(tmp_path / "a")
    assert provenance == {"epochs": 3, "digest": describe(tmp_path / "a")["digest"]}
    assert (loaded.words, loaded.source, loaded.hidden) == (made.words, made.source, hidden)
    assert not loaded.training
    regions = tiny.regions()
    assert loaded.find_attributes(regions).words == made.find_attributes(regions).words
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), made.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "garbage", "pickle", "torch", "other", "detector"])
def test_foreign_file_is_one_sentence(kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "a.safetensors", tmp_path / "unpickled"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (mark,))

    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(bytes(range(256)) * 8)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save({"weight": torch.zeros(3)}, path)
    elif kind == "other":
        save_file({"weight": torch.zeros(3)}, path)
    elif kind == "detector":
        save_attribute_detector(path, AttributeDetector(("dog",), 3, "tiny-1"), {})
    with pytest.raises(GliedError, match=r"a\.safetensors"):
        load(path)
    assert not mark.exists()


def test_captioner_is_no_detector(tmp_path: Path) -> None:
    tiny.checkpoint().save(tmp_path / "a")
    with pytest.raises(GliedError, match="captioner"):
        load_attribute_detector(tmp_path / "a")


def test_truncated_file_is_one_sentence(tmp_path: Path) -> None:
    tiny.checkpoint().save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for kept in (4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b").write_bytes(whole[:kept])
        with pytest.raises(GliedError, match="damaged"):
            load(tmp_path / "b")


@pytest.mark.parametrize("change", ["missing weight", "wrong shape", "more weights", "unknown option", "no vocabulary"])
def test_file_of_another_version_is_one_sentence(change: str, tmp_path: Path) -> None:
    tiny.checkpoint().save(tmp_path / "a")
    with safe_open(tmp_path / "a", "pt") as file:
        header = json.loads(file.metadata()["glied"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if change == "missing weight":
        del tensors["bias"]
    elif change == "wrong shape":
        tensors["bias"] = tensors["bias"][:-1].clone()
    elif change == "more weights":
        tensors["H.other.weight"] = torch.zeros(2)
    elif change == "unknown option":
        header["config"]["layers"] = 2
    elif change == "no vocabulary":
        del header["vocabulary"]
    save_file(tensors, tmp_path / "b", {"glied": json.dumps(header)})
    with pytest.raises(GliedError, match=r"version"):
        load(tmp_path / "b")


def test_replacing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as aside:
        aside.write_text("first")
    assert path.read_text() == "first"

    def fail() -> None:
        with replacing(path) as aside:
            aside.write_text("half of the sec")
            assert path.read_text() == "first"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["a.txt"]
    with replacing(path) as aside:
        aside.write_text("second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["a.txt"]


def test_failed_save_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.checkpoint().save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()

    def full(file: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GliedError, match="no space"):
        tiny.checkpoint(seed=1).save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]


def test_a_pair_is_a_captioner_and_its_own_detector(tmp_path: Path) -> None:
    made = tiny.checkpoint()
    for name in ("right", "wrong"):
        detector = AttributeDetector(made.attributes, tiny.WIDTH, tiny.SOURCE)
        with torch.no_grad():
            detector.score.bias.add_(len(name))
        save_attribute_detector(tmp_path / name, detector, {"name": name})
    digest = describe(tmp_path / "right")["digest"]
    replace(made, provenance={"detector": digest}).save(tmp_path / "a")
    checkpoint, detector = load_pair(tmp_path / "a", tmp_path / "right")
    assert checkpoint.attributes == detector.words
    with pytest.raises(GliedError, match=digest):
        load_pair(tmp_path / "a", tmp_path / "wrong")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    with torch.no_grad():
        next(checkpoint.model.parameters()).view(-1)[0] = float("nan")
    checkpoint.save(tmp_path / "c.safetensors")
    with pytest.raises(GliedError, match="finite weights"):
        load(tmp_path / "c.safetensors")
