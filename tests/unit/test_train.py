"""Training: the same weights however often it is stopped, and it learns."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glied import train as training
from glied import train_attributes
from glied.attributes import top_words
from glied.checkpoint import load, load_attribute_detector
from glied.data import Dataset, Photograph
from glied.errors import GliedError
from glied.model import Inputs
from glied.scene import Regions
from glied.train import (
    TrainOptions,
    cross_entropy,
    encode_captions,
    learning_rate,
    train_captioner,
)
from glied.train_attributes import AttributeOptions, average_precision, sureness
from glied.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}


class Colours:
    """A region source that sees nothing but the mean colour of four corners."""

    name = "colours-1"
    feature_dim = 12

    def find_regions(self, image: Image.Image) -> Regions:
        small = np.asarray(image.resize((2, 2)), np.float32).reshape(4, 3) / 255
        features = np.concatenate([small, 1 - small, small**2, np.ones((4, 3), np.float32)], 1)
        w, h = image.size
        boxes = np.array([[x * w / 2, y * h / 2, (x + 1) * w / 2, (y + 1) * h / 2] for y in (0, 1) for x in (0, 1)])
        return Regions(boxes.astype(np.float32), features, image.size, self.name)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of plain coloured photographs whose captions name the colour."""
    for module in (training, train_attributes):
        monkeypatch.setattr(module, "open_source", lambda name: Colours())
    folder = tmp_path / "colours"
    (folder / "images").mkdir(parents=True)
    records = []
    random = np.random.default_rng(0)
    for i in range(24):
        name, colour = list(COLOURS.items())[i % 4]
        pixels = np.clip(np.array(colour) + random.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        captions = [f"A {name} wall.", f"The wall is {name}.", f"A {name} {name} wall in the sun."]
        sentences = [{"raw": c} for c in captions]
        records.append({"filename": f"{i}.png", "split": "val" if i >= 16 else "train", "sentences": sentences})
    (folder / "captions.json").write_text(json.dumps({"images": records}))
    return folder


@pytest.fixture
def detector(data: Path, tmp_path: Path) -> Path:
    out = tmp_path / "detector" / "attributes.safetensors"
    options = AttributeOptions(words=9, hidden=8, epochs=60, images=8, rate=0.02, folds=2, precision="fp32")
    quality = train_attributes.train_attributes(data, tmp_path / "cache", "colours", out, options)
    assert quality["mean_AP"] > 0.8  # colours that were never seen in training are told apart
    return out


OPTIONS = TrainOptions(epochs=3, images=4, warmup=4, rate=2e-3, min_count=1, save_minutes=0.0)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load(path).model.named_parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_stopped_and_resumed_run_is_bit_identical(data, detector, tmp_path, monkeypatch, precision):
    options = TrainOptions(**{**OPTIONS.__dict__, "precision": precision})
    train_captioner("glied", data, tmp_path / "cache", detector, tmp_path / "whole", options)

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
            train_captioner("glied", data, tmp_path / "cache", detector, tmp_path / "stopped", options)
    train_captioner("glied", data, tmp_path / "cache", detector, tmp_path / "stopped", options)

    whole, stopped = (torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("whole", "stopped"))
    assert whole["step"] == stopped["step"] == 12
    assert all(torch.equal(whole["model"][name], stopped["model"][name]) for name in whole["model"])
    assert whole["log"] == stopped["log"]
    best = [weights(tmp_path / run / "best.safetensors") for run in ("whole", "stopped")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_it_learns_to_name_the_colour_and_records_how(data, detector, tmp_path):
    options = TrainOptions(**{**OPTIONS.__dict__, "epochs": 25, "patience": 25, "images": 8})
    out = tmp_path / "shipped.safetensors"
    train_captioner("base", data, tmp_path / "cache", detector, tmp_path / "run", options, out)
    shipped = load(out)
    assert shipped.provenance["val_CIDEr_beam_3"] > 2  # captions of the same colour come many times: the scale is 10
    assert shipped.provenance["splits"] == {"train": 16, "val": 8}
    assert shipped.provenance["options"]["seed"] == 0
    assert shipped.source == Colours.name
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_it_stops_early_when_val_no_longer_improves(data, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "validate", lambda *_: 1.0)
    options = TrainOptions(**{**OPTIONS.__dict__, "epochs": 20, "patience": 2})
    train_captioner("base", data, tmp_path / "cache", detector, tmp_path / "run", options)
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + 3


def test_a_run_with_other_options_is_refused(data, detector, tmp_path):
    train_captioner("base", data, tmp_path / "cache", detector, tmp_path / "run", OPTIONS)
    with pytest.raises(GliedError, match="other options"):
        train_captioner("glied", data, tmp_path / "cache", detector, tmp_path / "run", OPTIONS)


def test_cross_fitted_attributes_cover_the_training_photographs_only(data, detector):
    found = json.loads(detector.with_suffix(".crossfit.json").read_text())
    assert set(found) == {f"{i}.png" for i in range(16)}
    words = set(load_attribute_detector(detector)[0].words)
    assert all(set(row) <= words for row in found.values())


def test_captions_are_encoded_with_bos_and_eos_and_cut_without_eos():
    vocabulary = Vocabulary((*SPECIAL, "a", "dog"))
    photograph = Photograph("x", Path("x"), "train", ("A dog.", "a a a a a"))
    tokens = encode_captions([photograph], vocabulary, 3)
    assert tokens[0, 0].tolist() == [BOS, 4, 5, EOS, PAD]
    assert tokens[0, 1].tolist() == [BOS, 4, 4, 4, PAD]
    assert tokens[0, 2].tolist() == [BOS, PAD, PAD, PAD, PAD]


def test_learning_rate_warms_up_then_falls_to_zero():
    options = TrainOptions(rate=1.0, warmup=10)
    rates = [learning_rate(step, 100, options.rate, options.warmup) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3


def test_cross_entropy_without_smoothing_is_the_negative_log_likelihood():
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    expected = -(logits.log_softmax(-1)[0, 2] + logits.log_softmax(-1)[1, 1]) / 2
    assert cross_entropy(logits, torch.tensor([2, 1]), 0.0) == pytest.approx(expected.item())


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
