"""Trainings on several data sets at once, and attribute training that is stopped and goes on."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import colours
import pytest
import torch

from glied.checkpoint import load_attribute_detector
from glied.errors import GliedError
from glied.training import attributes, material
from glied.training.attributes import train_attributes
from glied.training.cross_entropy import train_captioner
from glied.training.options import AttributeOptions, Places, ReinforceOptions, TrainOptions
from glied.training.self_critical import reinforce
from glied.vocabulary import FUNCTION_WORDS, GRAMMAR_WORDS

OPTIONS = AttributeOptions(words=9, hidden=8, epochs=3, images=8, rate=0.02, folds=2, precision="fp32")
SHORT = TrainOptions(epochs=2, images=8, warmup=2, ema=0.0, precision="fp32", min_count=1)


@pytest.fixture
def sets(data: Path, tmp_path: Path) -> list[Path]:
    """Two data sets of the same colours."""
    return [data, colours.write(tmp_path / "others", "other-")]


def both(sets: list[Path], tmp_path: Path, detector: Path, run: str = "run") -> Places:
    return Places(sets, tmp_path / "cache", detector, None, tmp_path / run)


def test_val_is_measured_in_each_set_and_the_mean_chooses(sets, detector, tmp_path) -> None:
    checkpoint = train_captioner("base", both(sets, tmp_path, detector), SHORT)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    for row in rows:
        each = [float(row[f"val_CIDEr {name}"]) for name in ("colours", "others")]
        assert float(row["val_CIDEr"]) == pytest.approx(sum(each) / 2)
    best = max(rows, key=lambda row: float(row["val_CIDEr"]))
    card = checkpoint.provenance
    assert card["data"] == "colours + others"
    assert card["val_CIDEr_beam_3 others"] == round(float(best["val_CIDEr others"]), 4)
    assert card["splits"] == {"train": 32, "val": 16}


def test_one_set_has_one_figure(data, detector, tmp_path) -> None:
    train_captioner("base", both([data], tmp_path, detector), SHORT)
    header = (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    assert header.split(",").count("val_CIDEr") == 1
    assert "colours" not in header


def test_a_run_on_sets_of_other_weights_is_another_run(sets, detector, tmp_path) -> None:
    lists = []
    for weight in (1, 3):
        lists.append(tmp_path / f"{weight}.json")
        lists[-1].write_text(json.dumps({"colours": 1, "others": weight}))
    places = both(sets, tmp_path, detector)
    train_captioner("base", replace(places, data=lists[0]), SHORT)
    with pytest.raises(GliedError, match="started with other options"):
        train_captioner("base", replace(places, data=lists[1]), SHORT)


def test_self_critical_training_takes_its_references_from_all_sets(sets, detector, tmp_path, monkeypatch) -> None:
    places = both(sets, tmp_path, detector)
    train_captioner("base", places, SHORT)
    seen = []
    original = material.Material.draw
    monkeypatch.setattr(material.Material, "draw", lambda *a: seen.append(original(*a)) or seen[-1])
    reinforce(places.best, replace(places, run=tmp_path / "rl"), ReinforceOptions(epochs=1, images=8, precision="fp32"))
    assert sorted(seen[-1].tolist()) == list(range(32))


def test_attribute_words_and_quality_are_of_all_sets(sets, tmp_path) -> None:
    out = tmp_path / "two" / "attributes.safetensors"
    quality = train_attributes(sets, tmp_path / "cache", "colours", out.parent, out, replace(OPTIONS, epochs=30))
    assert {"mean_AP colours", "mean_AP others", "recall@49 colours", "content_recall@49 others"} <= quality.keys()
    assert quality["mean_AP others"] > 0.8
    found = json.loads(out.with_suffix(".crossfit.json").read_text())
    assert {"0.png", "other-0.png"} <= found.keys()
    assert len(found) == 32


@pytest.mark.parametrize("grammar", [True, False])
def test_a_detector_remembers_which_words_it_leaves_out(data, tmp_path, grammar) -> None:
    out = tmp_path / "a" / "attributes.safetensors"
    options = replace(OPTIONS, epochs=1, folds=0, grammar=grammar)
    train_attributes(data, tmp_path / "cache", "colours", out.parent, out, options)
    detector, _ = load_attribute_detector(out)
    assert detector.without == (FUNCTION_WORDS if grammar else GRAMMAR_WORDS)


@pytest.mark.parametrize("stopped_at", [1, 2, 6, 7, 14, 15])
def test_a_stopped_attribute_training_ends_bit_identical(data, tmp_path, monkeypatch, stopped_at) -> None:
    """Stopped while the n-th state is saved: in the first fold's 6, the second's 6, and the 9 of the training on all
    photographs, which takes two steps an epoch."""
    cache, options = tmp_path / "cache", replace(OPTIONS, save_minutes=0.0)
    outs = [tmp_path / run / "attributes.safetensors" for run in ("whole", "stopped")]
    expected = train_attributes(data, cache, "colours", outs[0].parent, outs[0], options)
    save, saved = torch.save, []

    def stops(*arguments) -> None:
        saved.append(1)
        if len(saved) == stopped_at:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(torch, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        train_attributes(data, cache, "colours", outs[1].parent, outs[1], options)
    assert not outs[1].exists()
    torch.manual_seed(77)  # whatever the process did before must not matter
    assert train_attributes(data, cache, "colours", outs[1].parent, outs[1], options) == expected
    assert len(saved) == 1 + 6 + 6 + 9
    nets = [load_attribute_detector(out)[0] for out in outs]
    assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True))
    files = [out.with_suffix(".crossfit.json").read_text() for out in outs]
    assert files[0] == files[1]
    logs = [(out.parent / "fold-2" / "log.csv").read_text() for out in outs]
    assert logs[0] == logs[1]
    assert logs[0].startswith("epoch,step,loss,rate")


def test_a_detector_records_the_precision_of_the_cpu(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    out = tmp_path / "a" / "attributes.safetensors"
    options = replace(OPTIONS, epochs=1, folds=0, precision="fastest")
    train_attributes(data, tmp_path / "cache", "colours", out.parent, out, options)
    assert load_attribute_detector(out)[1]["options"]["precision"] == "bf16"


def test_the_state_of_another_attribute_training_is_refused(data, tmp_path) -> None:
    out = tmp_path / "a" / "attributes.safetensors"
    train_attributes(data, tmp_path / "cache", "colours", out.parent, out, replace(OPTIONS, folds=0))
    with pytest.raises(GliedError, match="started with other options"):
        train_attributes(data, tmp_path / "cache", "colours", out.parent, out, replace(OPTIONS, folds=0, rate=0.01))


def test_a_positive_word_without_evidence_still_learns() -> None:
    s = torch.full((1, 4, 1), -30.0, requires_grad=True)
    attributes.noisy_or_loss(attributes.evidence(s, None), torch.ones(1, 1)).backward()
    assert (s.grad < 0).all()
