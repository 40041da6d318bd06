"""Packs: the same training without the photographs; and a pair of captioners trained from one."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import colours
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import run

from glied.attributes import AttributeDetector
from glied.checkpoint import load, save_attribute_detector
from glied.data.dataset import load_dataset
from glied.data.features import FeatureCache
from glied.data.pack import FORMAT, MANIFEST, open_pack
from glied.errors import GliedError
from glied.evaluation.metrics import score
from glied.experiments import pair, trainings
from glied.experiments.pair import table, train_pairs
from glied.scene import Regions
from glied.training import cross_entropy, material, self_critical
from glied.training import pack as packing
from glied.training.cross_entropy import train_captioner
from glied.training.material import batch, hide, prepare
from glied.training.options import Places, ReinforceOptions, TrainOptions
from glied.training.pack import write_pack
from glied.training.reward import CiderD

OPTIONS = TrainOptions(epochs=2, images=16, warmup=4, rate=2e-3, min_count=1, mirror=False, save_minutes=0.0)
RL = ReinforceOptions(epochs=1, images=16, warmup=2, mirror=False, save_minutes=0.0)


class Wide:
    """Regions of another number for each photograph, with labels, and features that 8 bits cannot hold."""

    name, feature_dim = "wide/1", 3000

    def find_regions(self, image: Image.Image) -> Regions:
        seed = image.getpixel((0, 0))[0]
        found = tiny.regions(1 + seed % 3, seed, self.name, self.feature_dim)
        scores = np.linspace(0.25, 0.75, len(found.boxes), dtype=np.float32)
        return replace(found, size=image.size, labels=("café",) * len(found.boxes), scores=scores)


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Arguments of `write_pack`: forty photographs with regions of about 0.24 MB, 18 KB a photograph with 16 bits."""
    for module in (packing, material):
        monkeypatch.setattr(module, "open_source", lambda _: Wide())
    images = tmp_path / "set" / "images"
    images.mkdir(parents=True)
    records = []
    for i in range(40):
        Image.new("RGB", (40, 30), (i, 9, 9)).save(images / f"{i}.png")
        split = ("train", "restval", "val", "test")[i % 4]
        records.append({"filename": f"{i}.png", "split": split, "sentences": [{"raw": f"A dog , {i} ."}]})
    (tmp_path / "set" / "captions.json").write_text(json.dumps({"images": records}))
    detector = tmp_path / "detector.safetensors"
    save_attribute_detector(detector, AttributeDetector(tiny.WORDS, Wide.feature_dim, Wide.name), {})
    return {"data": tmp_path / "set", "cache": tmp_path / "cache", "detector": detector, "crossfit": None}


def regions(cache: FeatureCache, folder: Path) -> dict[str, Regions]:
    """Of the photographs of a data set that captioners are trained on, by id."""
    photographs = load_dataset(folder).split("train", "restval", "val")
    keys, problems = cache.extract([p.path for p in photographs], known={p.path: p.key for p in photographs if p.key})
    assert not problems
    return dict(zip((p.id for p in photographs), cache.read(keys.values()), strict=True))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_pack_holds_what_the_cache_holds(wide, tmp_path, bits):
    files = write_pack(**wide, folder=tmp_path / "pack", bits=bits)
    before = regions(FeatureCache(wide["cache"], Wide()), wide["data"])
    shutil.rmtree(wide["data"])
    packed = open_pack(tmp_path / "pack")
    assert (packed.name, packed.feature_dim, packed.mirrored) == (Wide.name, 3000, False)
    after = regions(FeatureCache(tmp_path / "pack", packed), tmp_path / "pack")
    assert list(after) == list(before)
    assert len(after) == 30
    for one, other in zip(before.values(), after.values(), strict=True):
        assert (one.size, one.source, one.labels) == (other.size, other.source, other.labels)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
        step = np.ptp(one.features, axis=1).max() / 255 if bits == 8 else 0
        assert np.abs(one.features - other.features).max() <= 0.501 * step
    captions = json.loads((tmp_path / "pack" / "set" / "captions.json").read_text())["images"]
    assert captions[1]["split"] == "restval"
    assert captions[1]["sentences"] == [{"raw": "A dog , 1 ."}]
    assert {f.name for f in files} >= {"attributes.safetensors", "captions.json"}


def test_parts_obey_the_limit(wide, tmp_path):
    whole = write_pack(**wide, folder=tmp_path / "whole")
    assert sum(f.suffix == ".h5" for f in whole) == 1
    detector = wide["detector"].stat().st_size
    limit = max(60_000, detector)
    files = write_pack(**wide, folder=tmp_path / "parts", part=limit)
    assert sum(f.suffix == ".h5" for f in files) > 3
    assert max(f.stat().st_size for f in files) <= limit
    assert sorted(f for f in (tmp_path / "parts").rglob("*") if f.is_file()) == sorted(
        [*files, tmp_path / "parts" / "pack.json"]
    )
    with pytest.raises(GliedError, match=r"cannot be divided; give --part 0\.[1-9]\.$"):
        write_pack(**wide, folder=tmp_path / "small", part=30_000)


def test_another_pack_in_the_same_folder_replaces_the_first(wide, tmp_path):
    folder = tmp_path / "pack"
    (folder).mkdir()
    (folder / "attributes.crossfit.json").write_text("{}")
    first = {f for f in write_pack(**wide, folder=folder, bits=16) if f.suffix == ".h5"}
    second = {f for f in write_pack(**wide, folder=folder, bits=8) if f.suffix == ".h5"}
    assert not first & second
    assert set(folder.glob("*/*.h5")) == second
    assert not (folder / "attributes.crossfit.json").exists()


@pytest.mark.parametrize("stopped_at", range(1, 8))
def test_a_stopped_pack_goes_on_and_is_the_same_to_the_byte(wide, tmp_path, monkeypatch, stopped_at):
    limit = max(60_000, wide["detector"].stat().st_size)
    files = write_pack(**wide, folder=tmp_path / "whole", part=limit)
    real, renamed = os.replace, []

    def stops(*paths) -> None:
        renamed.append(paths)
        if len(renamed) == stopped_at:
            raise KeyboardInterrupt
        real(*paths)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        write_pack(**wide, folder=tmp_path / "stopped", part=limit)
    assert not (tmp_path / "stopped" / "pack.json").exists()
    there = set((tmp_path / "stopped").glob("*/*.h5"))
    monkeypatch.setattr(os, "replace", real)
    written = {f: f.stat().st_mtime_ns for f in there}
    write_pack(**wide, folder=tmp_path / "stopped", part=limit)
    assert written == {f: f.stat().st_mtime_ns for f in there}
    for file in [*files, tmp_path / "whole" / "pack.json"]:
        assert file.read_bytes() == (tmp_path / "stopped" / file.relative_to(tmp_path / "whole")).read_bytes()


@pytest.fixture
def packed(data, detector, tmp_path, monkeypatch) -> Places:
    """A pack of two data sets of colours, the second three times as heavy, and where a training from it goes."""
    monkeypatch.setattr(packing, "open_source", lambda _: colours.Colours())
    colours.write(tmp_path / "others", "other-")
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps({"colours": 1, "others": 3}))
    crossfit = detector.with_suffix(".crossfit.json")
    folder = tmp_path / "pack"
    write_pack(sets, tmp_path / "cache", detector, crossfit, folder, bits=16, mirrored=True)
    beside = folder / "attributes.crossfit.json"
    return Places(folder, folder, folder / "attributes.safetensors", beside, tmp_path / "from-pack")


@pytest.mark.parametrize("mirror", [False, True])
def test_training_from_a_pack_is_the_same_run(packed, tmp_path, monkeypatch, mirror):
    detector = tmp_path / "detector" / "attributes.safetensors"
    crossfit = detector.with_suffix(".crossfit.json")
    places = Places(tmp_path / "sets.json", tmp_path / "cache", detector, crossfit, tmp_path / "from-cache")
    options = replace(OPTIONS, mirror=mirror)
    first = train_captioner("base", places, options)
    shutil.rmtree(tmp_path / "others")  # the photographs stay behind, and so does what finds regions
    monkeypatch.setattr(material, "open_source", lambda _: pytest.fail("opened the source of a pack"))
    second = train_captioner("base", packed, options)
    states = [torch.load(p.run / "state.pt", weights_only=True) for p in (places, packed)]
    assert states[0]["identity"] == states[1]["identity"]
    assert states[0]["log"] == states[1]["log"]
    assert all(torch.equal(w, states[1]["average"][name]) for name, w in states[0]["average"].items())
    timed = {"minutes"}
    cards = [{k: v for k, v in each.provenance.items() if k not in timed} for each in (first, second)]
    assert cards[0] == cards[1]
    assert cards[0]["weights"] == {"colours": 1, "others": 3}


def test_attributes_are_those_of_the_exact_features(packed, tmp_path):
    exact = prepare(packed, False, 1)
    write_pack(
        tmp_path / "sets.json", tmp_path / "cache", packed.detector, packed.crossfit, tmp_path / "rough", mirrored=True
    )
    folder = tmp_path / "rough"
    places = replace(packed, data=folder, cache=folder, crossfit=folder / "attributes.crossfit.json")
    rough = prepare(places, False, 1)
    assert torch.equal(exact.attributes, rough.attributes)
    assert torch.equal(exact.val_attributes, rough.val_attributes)
    assert not torch.equal(exact.train.features, rough.train.features)


@pytest.mark.parametrize("damage", ["missing", "damaged", "list"])
def test_a_damaged_pack_is_one_sentence(packed, tmp_path, monkeypatch, capsys, damage):
    part = sorted(packed.cache.glob("*/*.h5"))[0]
    if damage == "missing":
        part.unlink()
    elif damage == "damaged":
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    else:
        part = packed.cache / "pack.json"
        part.write_text("{")
    assert run(monkeypatch, "train", "base", "--data", packed.cache, "--run", packed.run) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert part.name in said
    assert "copy it again" in said
    assert damage == "list" or damage in said


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "x" * 100_000},
        {"sets": {"a": "much"}},
        {"sets": {"a": float("nan")}},
        {"feature_dim": 10**40},
        {"files": ["a"]},
        {"files": {"x" * 100_000: "0"}},
        {"files": {"\0": "0"}},
    ],
)
def test_a_list_with_wrong_values_is_one_short_sentence(changes, tmp_path):
    about = {"format": FORMAT, "source": "wide/1", "feature_dim": 8, "mirrored": False, "sets": {"a": None}}
    (tmp_path / MANIFEST).write_text(json.dumps(about | {"files": {}} | changes))
    with pytest.raises(GliedError, match="copy it again") as told:
        open_pack(tmp_path)
    assert len(str(told.value)) < 700


def test_commands_pack_and_train_from_a_pack(packed, tmp_path, monkeypatch, capsys):
    folder, sets = tmp_path / "p", ("--data", tmp_path / "colours", "--data", tmp_path / "others")
    where = ("--cache", tmp_path / "cache", "--attributes", tmp_path / "detector" / "attributes.safetensors")
    assert run(monkeypatch, "pack", *sets, *where, "--out", folder) == 0
    assert f"train with --data {folder}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "others")
    train = ("train", "base", "--run", tmp_path / "run", "--epochs", 1, "--images", 16, "--min-count", 1)
    assert run(monkeypatch, *train, "--data", folder, "--no-mirror") == 0
    card = load(tmp_path / "run" / "best.safetensors").provenance
    assert (card["data"], card["crossfit"]) == ("colours + others", True)
    for wrong, said in (
        (("--data", folder), "give --no-mirror"),
        (("--data", folder, "--data", tmp_path / "colours"), "alone"),
    ):
        assert run(monkeypatch, *train, *wrong) == 2
        assert said in capsys.readouterr().err
    assert run(monkeypatch, "pack", *sets, *where, "--out", folder, "--part", 0) == 2


@pytest.fixture
def quick(monkeypatch):
    """Scores without Java, which takes seconds."""
    monkeypatch.setattr(trainings, "score", lambda *a: score(*a, ptb=False))


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Of the finished captioners in a folder."""
    return {file.stem: dict(load(file).model.named_parameters()) for file in sorted(folder.glob("*.safetensors"))}


def assert_same(one: Path, other: Path) -> None:
    """The four captioners of a seed, or more, are the same in both folders."""
    first, second = weights(one), weights(other)
    assert len(second) >= 4
    for name, parameters in second.items():
        assert all(torch.equal(w, first[name][n]) for n, w in parameters.items()), name


def test_a_pair_is_trained_and_compared(packed, quick, tmp_path):
    """Two seeds, in one process; stopped by the clock again and again, it comes to the same."""
    result = train_pairs(packed, [0, 1], OPTIONS, RL, 0.0, 1)
    names = {f"{model}-{stage}-{seed}" for model in ("base", "glied") for stage in ("xe", "rl") for seed in (0, 1)}
    assert weights(packed.run).keys() == result["captioners"].keys() == names
    assert result["unfinished"] == result["stopped"] == []
    assert [(row["stage"], row["data"]) for row in result["rows"]] == [
        (stage, data) for stage in ("cross-entropy", "self-critical") for data in ("colours", "others")
    ]
    for row in result["rows"]:
        short = "xe" if row["stage"] == "cross-entropy" else "rl"
        scores = {m: [result["captioners"][f"{m}-{short}-{s}"]["val"][row["data"]] for s in (0, 1)] for m in pair.PAIR}
        for model, found in scores.items():
            assert row[model]["CIDEr"]["by_seed"] == [each["CIDEr"] for each in found]
            assert row[model]["CIDEr"]["deviation"] == pytest.approx(np.std([e["CIDEr"] for e in found], ddof=1))
        gaps = [g["CIDEr"] - b["CIDEr"] for b, g in zip(scores["base"], scores["glied"], strict=True)]
        assert row["difference"]["by_seed"] == pytest.approx(gaps)
        assert row["difference"]["difference"] == pytest.approx(np.mean(gaps))
        assert row["difference"]["low"] <= row["difference"]["difference"] <= row["difference"]["high"]
    card = load(packed.run / "glied-rl-1.safetensors").provenance
    assert (card["command"], card["options"]["seed"], card["initial"]["options"]["seed"]) == ("train rl", 1, 1)
    assert card["initial"]["digest"] == load(packed.run / "glied-xe-1.safetensors").digest
    text = table(result)
    assert text.count("self-critical") == 2
    assert "not done" not in text

    stopped = replace(packed, run=tmp_path / "stopped")
    for step in (1, 2, 3, 4, 1):  # one at each start; after the fourth the training ends, and the next begins
        again = train_pairs(stopped, [0], OPTIONS, RL, 1e-9, 1)
        assert f"is saved at step {step} of" in table(again)
    assert again["captioners"].keys() == {"base-xe-0"}
    assert again["rows"] == []
    assert "not done yet: glied-xe-0, base-rl-0, glied-rl-0; the same command goes on" in table(again)
    train_pairs(stopped, [0], OPTIONS, RL, 0.0, 1)
    assert_same(packed.run, stopped.run)


def running(process: str) -> bool:
    """Whether a process is there, and not only waits to be forgotten."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_processes_share_the_trainings_of_a_pair(packed, root, tmp_path, quick, monkeypatch):
    """As a command, in processes of their own, which know nothing of this test's doings. They end with the one that
    began them when that is killed; resumed, the captioners are those of one process."""
    alone = replace(packed, run=tmp_path / "alone")
    train_pairs(alone, [3], OPTIONS, RL, 0.0, 1)
    options = [("epochs", 2, 1), ("images", 16, 16), ("warmup", 4, 2), ("rate", 2e-3, 5e-5), ("hide", 0.2, 0.2)]
    given = [w for name, xe, rl in options for w in (f"--xe.{name}", xe, f"--rl.{name}", rl)] + ["--xe.min-count", 1]
    given += ["--xe.save-minutes", 0, "--rl.save-minutes", 0, "--seeds", 3, "--together", 2]
    out = tmp_path / "pair.json"
    command = ["bench", "pair", "--data", packed.cache, "--run", packed.run, "--json", out, *given]
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with subprocess.Popen([sys.executable, "-m", "glied", *map(str, command)], cwd=root) as child:
        while not list(packed.run.glob("*/state.pt")):
            assert child.poll() is None
            time.sleep(0.05)
        workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert len(workers) >= 2
        child.kill()
    while any(map(running, workers)):
        time.sleep(0.05)
    assert not out.exists()
    assert run(monkeypatch, *command) == 0
    assert_same(alone.run, packed.run)
    result = json.loads(out.read_text())
    assert result["machine"]["together"] == 2
    assert result["rows"][0]["seeds"] == [3]
    assert result["rows"][0]["base"]["CIDEr"]["deviation"] is None


def test_a_state_of_other_options_is_one_sentence_from_another_process(packed, tmp_path, monkeypatch, capsys):
    train_captioner("base", replace(packed, run=packed.run / "base-xe-0"), replace(OPTIONS, rate=1e-4))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    arguments = ("--data", packed.cache, "--run", packed.run, "--json", tmp_path / "pair.json", "--seeds", 0)
    quick = ("--xe.epochs", 1, "--xe.images", 32, "--xe.min-count", 1, "--rl.epochs", 1, "--rl.images", 32)
    assert run(monkeypatch, "bench", "pair", *arguments, "--together", 2, "--minutes", 1e-9, *quick) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("glied: Expected to resume the run in")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--seeds", 0, 0), "different seeds"),
        (("--together", 0), "--together"),
        (("--xe.mirror",), "both stages or in none"),
        (("--device", "cuda"), "Expected a GPU"),
    ],
)
def test_a_wrong_pair_is_refused_before_it_is_trained(packed, tmp_path, monkeypatch, capsys, wrong, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(trainings, "prepare", lambda *_: pytest.fail("worked before it looked"))
    arguments = ("--data", packed.cache, "--run", packed.run, "--json", tmp_path / "pair.json")
    assert run(monkeypatch, "bench", "pair", *arguments, *wrong) == 2
    assert said in capsys.readouterr().err


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@CUDA
@pytest.mark.parametrize("name", ["base", "glied"])
def test_losses_on_a_gpu_are_those_of_the_cpu(packed, name):
    found = prepare(packed, False, 1)
    assert found.train.features.is_cuda
    rows, still = torch.arange(8), {f"{n}dropout": 0.0 for n in ("", "attention_", "feature_", "output_")}
    checkpoint = tiny.checkpoint(name, found.vocabulary.words[4:], feature_dim=12, **still)
    tokens = cross_entropy.encode_captions([p.tokens for p in found.train.photographs[:8]], found.vocabulary, 8)
    losses = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        inputs = batch(found.train, found.attributes[rows], rows, device)
        model = checkpoint.model.to(device)
        options = replace(OPTIONS, precision="fp32")
        words = cross_entropy.live_words(tokens)
        losses.append(cross_entropy.step_loss(model, inputs, tokens, words, options).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@CUDA
def test_a_cross_entropy_step_waits_for_no_gpu(packed):
    found, device = prepare(packed, False, 1), torch.device("cuda")
    model = tiny.checkpoint("glied", found.vocabulary.words[4:], feature_dim=12).model.to(device)
    tokens = cross_entropy.encode_captions([p.tokens for p in found.train.photographs], found.vocabulary, 8)
    words = cross_entropy.live_words(tokens[:8])
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            inputs = batch(found.train, found.attributes[:8], torch.arange(8), device)
            cross_entropy.step_loss(model, hide(inputs, 0.2), tokens[:8], words, OPTIONS).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@CUDA
def test_self_critical_steps_run_on_a_gpu(packed):
    found, device = prepare(packed, False, 1), torch.device("cuda")
    model = tiny.checkpoint("glied", found.vocabulary.words[4:], feature_dim=12).model.to(device)
    cider = CiderD([self_critical.references(p.tokens, found.vocabulary) for p in found.train.photographs])
    inputs = batch(found.train, found.attributes[:8], torch.arange(8), device)
    loss, figures = self_critical.step_loss(model, inputs, list(range(8)), cider, found.vocabulary, 40, RL)
    loss.backward()
    assert loss.isfinite()
    assert figures["length"] > 0


@CUDA
def test_a_pair_is_trained_on_a_gpu(packed, quick):
    result = train_pairs(packed, [0], OPTIONS, RL, 0.0, 1)
    assert not result["unfinished"]
    assert result["machine"]["device"] != "cpu"
