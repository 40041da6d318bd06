"""Training: the same weights however often it is stopped, and it learns."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
import tiny
import torch

from glied.attributes import top_words
from glied.baselines.build import build
from glied.checkpoint import load, load_attribute_detector
from glied.data.dataset import Dataset, Photograph
from glied.data.split import encode_captions
from glied.errors import GliedError
from glied.model import Inputs
from glied.training import cross_entropy as training
from glied.training import material as material_module
from glied.training.attributes import average_precision, sureness
from glied.training.cross_entropy import cross_entropy, train_captioner
from glied.training.loop import OutOfTimeError, fastest, learning_rate, resolve, settings
from glied.training.options import Places, ReinforceOptions, TrainOptions
from glied.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary

OPTIONS = TrainOptions(epochs=3, images=4, warmup=4, rate=2e-3, min_count=1, save_minutes=0.0)
STILL = {
    "epochs": 2,
    "images": 4,
    "warmup": 4,
    "dropout": 0.0,
    "hide": 0.0,
    "mirror": False,
    "precision": "fp32",
    "still": True,
}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load(path).model.named_parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_stopped_and_resumed_run_is_bit_identical(places, tmp_path, monkeypatch, precision):
    options = replace(OPTIONS, precision=precision)
    whole, stopped = (replace(places, run=tmp_path / name) for name in ("whole", "stopped"))
    train_captioner("glied", whole, options)

    step_loss, calls = training.step_loss, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) in (3, 8, 9):  # within an epoch, at its start, and at once after resuming
            raise KeyboardInterrupt
        return step_loss(*arguments)

    monkeypatch.setattr(training, "step_loss", stops)
    for _ in range(3):
        torch.manual_seed(len(calls) + 77)  # whatever the process did before must not matter
        with pytest.raises(KeyboardInterrupt):
            train_captioner("glied", stopped, options)
    train_captioner("glied", stopped, options)
    assert_same(whole, stopped)


def test_a_training_stops_when_its_minutes_are_over_and_goes_on(places, tmp_path):
    whole, stopped = (replace(places, run=tmp_path / name) for name in ("whole", "stopped"))
    options = replace(OPTIONS, epochs=2, images=8, save_minutes=10_000.0)
    train_captioner("base", whole, options)
    for step in range(1, 5):  # however short they are, they are enough for a step
        with pytest.raises(OutOfTimeError, match=f"saved at step {step} of 4; the same command goes on"):
            train_captioner("base", stopped, replace(options, minutes=1e-9))
    train_captioner("base", stopped, replace(options, minutes=1e-9))
    assert_same(whole, stopped)


def assert_same(one: Places, other: Places) -> None:
    states = [torch.load(places.run / "state.pt", weights_only=True) for places in (one, other)]
    assert states[0]["step"] == states[1]["step"]
    assert states[0]["log"] == states[1]["log"]
    for part in ("model", "average"):
        assert all(torch.equal(states[0][part][name], states[1][part][name]) for name in states[0][part])
    best = [weights(places.best) for places in (one, other)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def process(places: Places, options: dict[str, Any], *before: str) -> list[str]:
    """The command line of tests/colours.py."""
    script = Path(colours.__file__)
    arguments = [places.data, places.detector, places.cache, places.run, json.dumps(options)]
    return [sys.executable, *before, str(script), *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    root = Path(colours.__file__).parents[1]
    return (
        os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | changes
    )


def kill_all(run: Path) -> None:
    """Every process that works on this run: torchrun puts its own in sessions of their own."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(run).encode() in file.read_bytes().split(b"\0"):
                os.kill(int(file.parent.name), signal.SIGKILL)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize("before", [(), TORCHRUN], ids=["alone", "two processes"])
def test_a_killed_and_resumed_run_is_bit_identical(places, tmp_path, before):
    options = {"epochs": 4, "images": 4, "warmup": 4, "min_count": 1, "save_minutes": 0.0, "pause": 0.1}
    whole, killed = (replace(places, run=tmp_path / name) for name in ("whole", "killed"))
    subprocess.run(process(whole, options, *before), check=True, env=environment(), stdout=subprocess.DEVNULL)
    random, state, kills = np.random.default_rng(), killed.run / "state.pt", 0
    while kills < 2:
        with subprocess.Popen(process(killed, options, *before), env=environment()) as child:
            saved = state.stat().st_mtime_ns if state.is_file() else 0
            while not (state.is_file() and state.stat().st_mtime_ns > saved):
                assert child.poll() is None
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            kill_all(killed.run)
            kills += 1
    assert torch.load(state, weights_only=True)["step"] < 16, "it was done before it was killed"
    subprocess.run(process(killed, options, *before), check=True, env=environment(), stdout=subprocess.DEVNULL)
    assert_same(whole, killed)


def test_two_processes_and_accumulation_take_the_steps_of_one(places, tmp_path):
    """Losses, gradients and scores: Adam's first moment is linear in the gradient, and nothing is clipped."""
    cases = {
        "one": (STILL, ()),
        "parts": (STILL | {"accumulate": 3}, ()),
        "two": (STILL, TORCHRUN),
        # 5 photographs a step: the processes' parts differ in size, and the last step of an epoch has one photograph
        "uneven": (STILL | {"images": 5}, ()),
        "uneven, two": (STILL | {"images": 5}, TORCHRUN),
    }
    runs = {name: replace(places, run=tmp_path / name) for name in cases}
    for name, (options, before) in cases.items():
        subprocess.run(process(runs[name], options | {"clip": 1e6}, *before), check=True, env=environment())
    for one, other in (("one", "parts"), ("one", "two"), ("uneven", "uneven, two")):
        rows = [list(csv.DictReader((runs[name].run / "log.csv").read_text().splitlines())) for name in (one, other)]
        for first, second in zip(*rows, strict=True):
            assert float(second["loss"]) == pytest.approx(float(first["loss"]), abs=1e-5)
            assert float(second["val_CIDEr"]) == pytest.approx(float(first["val_CIDEr"]), abs=1e-6)
        states = [torch.load(runs[name].run / "state.pt", weights_only=True) for name in (one, other)]
        moments = [[m["exp_avg"] for m in state["optimizer"]["state"].values()] for state in states]
        scale = max(moment.abs().max().item() for moment in moments[0])
        for first, second in zip(*moments, strict=True):
            torch.testing.assert_close(second, first, rtol=0.01, atol=1e-4 * scale)


def test_one_process_of_several_finds_the_regions(places, tmp_path):
    fresh, diary = replace(places, cache=tmp_path / "fresh"), tmp_path / "diary"
    command = process(fresh, STILL | {"epochs": 1, "mirror": True}, *TORCHRUN)
    subprocess.run(command, check=True, env=environment(COLOURS_DIARY=str(diary)))
    assert (
        diary.read_text().split() == ["0"] * 40
    )  # 16 photographs to train on, as they are and mirrored, and 8 for val


@pytest.mark.parametrize("what", ["attributes", "detector"])
def test_detectors_are_not_trained_in_several_processes(what, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tiny.run(monkeypatch, "train", what, "--data", data, "--run", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.startswith("glied: Detectors are trained in one process")
    assert len(said.splitlines()) == 1


def test_another_number_of_processes_is_refused(places):
    options = STILL | {"epochs": 1}
    subprocess.run(process(places, options), check=True, env=environment())
    again = subprocess.run(process(places, options, *TORCHRUN), env=environment(), capture_output=True, text=True)
    assert again.returncode
    assert "options, data or processes" in again.stderr


def test_it_learns_to_name_the_colour_and_records_how(places, tmp_path):
    options = replace(OPTIONS, epochs=25, patience=25, images=8)
    places = replace(places, out=tmp_path / "shipped.safetensors")
    train_captioner("base", places, options)
    shipped = load(places.out)
    assert shipped.provenance["val_CIDEr_beam_3"] > 2  # captions of the same colour come many times: the scale is 10
    assert shipped.provenance["splits"] == {"train": 16, "val": 8}
    assert shipped.provenance["options"]["seed"] == 0
    assert shipped.provenance["options"]["precision"] == fastest(torch.cuda.is_available())
    assert shipped.source == colours.Colours.name
    rows = list(csv.DictReader((places.run / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_it_stops_early_when_val_no_longer_improves(places, monkeypatch):
    monkeypatch.setattr(material_module, "validate", lambda *_: {"colours": 1.0})
    train_captioner("base", places, replace(OPTIONS, epochs=20, patience=2))
    assert len((places.run / "log.csv").read_text().splitlines()) == 1 + 3


def test_a_run_with_other_options_is_refused(places):
    train_captioner("base", places, OPTIONS)
    with pytest.raises(GliedError, match="other options"):
        train_captioner("glied", places, OPTIONS)


def test_it_starts_from_another_checkpoint_and_keeps_its_words(places, tmp_path):
    first = train_captioner("base", places, OPTIONS)
    again = replace(places, run=tmp_path / "again")
    still = replace(OPTIONS, rate=0.0, min_count=3, epochs=1)
    second = train_captioner("base", again, still, places.best)
    assert second.vocabulary == first.vocabulary
    assert second.provenance["initial"]["digest"] == first.digest
    assert all(torch.equal(w, weights(places.best)[name]) for name, w in weights(again.best).items())
    with pytest.raises(GliedError, match="preset glied"):
        train_captioner("glied", again, still, places.best)


def test_it_starts_from_a_captioner_of_narrower_regions(places, tmp_path):
    train_captioner("base", places, OPTIONS)
    checkpoint = load(places.best)
    known = checkpoint.model.project.weight[:, :-2].clone()
    checkpoint.model.project.weight.data[:, -2:] = 0
    narrow = build(replace(checkpoint.model.config, feature_dim=known.shape[1]))
    narrow.load_state_dict(checkpoint.model.state_dict() | {"project.weight": known})
    replace(checkpoint, model=narrow, source="narrow").save(tmp_path / "narrow.safetensors")
    again = replace(places, run=tmp_path / "again")
    still = replace(OPTIONS, rate=0.0, min_count=3, epochs=1)
    train_captioner("base", again, still, tmp_path / "narrow.safetensors")
    assert all(torch.equal(w, weights(again.best)[n]) for n, w in checkpoint.model.half().state_dict().items())
    wider = build(replace(checkpoint.model.config, feature_dim=99))
    replace(checkpoint, model=wider).save(tmp_path / "wider.safetensors")
    replace(checkpoint, source="another").save(tmp_path / "another.safetensors")
    with pytest.raises(GliedError, match="less than"):
        train_captioner("base", replace(places, run=tmp_path / "no"), still, tmp_path / "another.safetensors")
    with pytest.raises(GliedError, match="less than"):
        train_captioner("base", replace(places, run=tmp_path / "no"), still, tmp_path / "wider.safetensors")


def test_the_average_of_the_weights_is_what_is_kept(places, tmp_path):
    plain = replace(places, run=tmp_path / "plain")
    train_captioner("base", plain, replace(OPTIONS, ema=0.0))
    state = torch.load(plain.run / "state.pt", weights_only=True)
    assert all(torch.equal(state["average"][f"module.{name}"], w) for name, w in state["model"].items())
    train_captioner("base", places, OPTIONS)
    state = torch.load(places.run / "state.pt", weights_only=True)
    assert not torch.equal(state["average"]["module.embedding"], state["model"]["embedding"])


def test_mirrored_photographs_double_the_rows(places):
    material = training.prepare(places, True, 1)
    assert len(material.train.features) == 32
    rows = training.mirror(torch.arange(16), material.train)
    assert ((rows == torch.arange(16)) | (rows == torch.arange(16) + 16)).all()
    again = training.mirror(torch.arange(16), training.prepare(places, False, 1).train)
    assert torch.equal(again, torch.arange(16))


def test_cross_fitted_attributes_cover_the_training_photographs_only(data, detector):
    found = json.loads(detector.with_suffix(".crossfit.json").read_text())
    assert set(found) == {f"{i}.png" for i in range(16)}
    words = set(load_attribute_detector(detector)[0].words)
    assert all(set(row) <= words for row in found.values())


def test_captions_are_encoded_with_bos_and_eos_and_cut_without_eos():
    vocabulary = Vocabulary((*SPECIAL, "a", "dog"))
    tokens = encode_captions([[["a", "dog"], ["a"] * 5]], vocabulary, 3, 3)
    assert tokens[0, 0].tolist() == [BOS, 4, 5, EOS, PAD]
    assert tokens[0, 1].tolist() == [BOS, 4, 4, 4, PAD]
    assert tokens[0, 2].tolist() == [BOS, PAD, PAD, PAD, PAD]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({"neon": True}, "fp32"),
    ],
)
def test_the_default_precision_is_bf16_only_in_hardware(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert fastest() == resolve(TrainOptions()).precision == expected


@pytest.mark.parametrize(("cpu", "gpu"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_default_precision_is_that_of_the_device_that_computes(monkeypatch, cpu, gpu):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu == "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": cpu == "bf16"})
    assert resolve(TrainOptions(), torch.device("cuda")).precision == gpu
    assert resolve(TrainOptions()).precision == cpu
    assert resolve(TrainOptions(precision=gpu)).precision == gpu


def test_states_of_earlier_runs_stay_valid():
    """A run is known by its options in this order."""
    order = "epochs images rate warmup clip weight_decay precision seed ema patience accumulate"
    assert " ".join(settings(TrainOptions())) == f"{order} smoothing dropout hide mirror min_count"
    assert " ".join(settings(ReinforceOptions())) == f"{order} samples baseline hide mirror"


def test_learning_rate_warms_up_then_falls_to_zero():
    options = TrainOptions(rate=1.0, warmup=10)
    rates = [learning_rate(step, 100, options.rate, options.warmup) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3


def test_cross_entropy_without_smoothing_is_the_negative_log_likelihood():
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    expected = -(logits.log_softmax(-1)[0, 2] + logits.log_softmax(-1)[1, 1]) / 2
    assert cross_entropy(logits, torch.tensor([2, 1]), 0.0, 2) == pytest.approx(expected.item())


def test_average_precision_against_scikit_learn():
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    P, labels = random.random((40, 6)), (random.random((40, 6)) < 0.3).astype(np.float32)
    expected = np.mean([average_precision_score(labels[:, w], P[:, w]) for w in range(6)])
    assert average_precision(torch.tensor(P), torch.tensor(labels)) == pytest.approx(expected, abs=1e-6)


def test_top_words_leave_out_function_words():
    assert top_words(["a", "dog", "the", "ball"], np.array([0.9, 0.2, 0.8, 0.5])) == [3, 1]
    assert top_words(["a", "dog", "the", "ball"], np.array([0.9, 0.2, 0.8, 0.5]), 1) == [3]


def test_sureness_is_the_first_percentile_of_the_surest_content_word():
    P = torch.linspace(0, 1, 101)[:, None].repeat(1, 3) * torch.tensor([0.5, 1.0, 0.25])
    assert sureness(P, ["dog", "the", "ball"]) == pytest.approx(0.005)  # "the" is surer, but no content word


def test_a_data_set_without_val_is_refused_in_one_sentence():
    dataset = Dataset("x", (Photograph("a", Path("a"), "train", ("a dog",)),), ())
    with pytest.raises(GliedError, match="x has train"):
        dataset.split("val")


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_hide_masks_its_share_and_leaves_at_least_one(share):
    torch.manual_seed(0)
    real = torch.ones(200, 9, dtype=torch.bool)
    real[:, 6:] = False
    inputs = Inputs(torch.randn(200, 9, 3), real, torch.randint(4, 9, (200, 5)), None)
    hidden = training.hide(inputs, share)
    assert not (hidden.region_mask & ~real).any()
    assert hidden.region_mask.any(-1).all()
    assert hidden.attribute_mask.any(-1).all()
    kept = hidden.attribute_mask.float().mean().item()
    assert kept == pytest.approx(1 if share == 1 else 1 - share, abs=0.05)  # a photograph that would lose all keeps all
    assert torch.equal(hidden.features, inputs.features)


def test_a_validation_that_cannot_be_scored_is_no_zero(places, monkeypatch):
    material = training.prepare(places, False, 1)
    monkeypatch.setattr(material_module, "caption_split", lambda *_: {p.id: "a" for p in material.val.photographs})
    photographs = [replace(p, captions=("!",)) for p in material.val.photographs]
    with pytest.raises(GliedError, match="CIDEr can score"):
        replace(material, val=material.val._replace(photographs=photographs)).validate(
            build(training.preset("base", len(material.vocabulary), material.val.features.shape[-1]))
        )
