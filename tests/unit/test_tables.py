"""Tables 1 and 2 with tiny captioners on two coloured data sets: what they say, and that they go on where they were."""

from dataclasses import replace
from pathlib import Path

import colours
import pytest

from glied.checkpoint import load
from glied.evaluation.metrics import Scores, score
from glied.experiments import trainings
from glied.experiments.rows import ENSEMBLE, SYSTEMS, TABLE_1
from glied.experiments.systems import score_systems, table1, table2, time_systems
from glied.training import cross_entropy
from glied.training.options import Places, ReinforceOptions, TrainOptions

XE = TrainOptions(epochs=1, images=16, warmup=2, rate=2e-3, min_count=1, mirror=False)
RL = ReinforceOptions(epochs=1, images=16, warmup=1, samples=2, mirror=False)
NAMES = ["attfcn", "glied", ENSEMBLE]


def without_java(references, captions, names) -> Scores:
    found = score(references, captions, [name for name in names if name != "METEOR"], ptb=False)
    found.corpus.update({name: None for name in names if name == "METEOR"})
    return found


@pytest.fixture
def two(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where captioners are trained on two data sets."""
    monkeypatch.setattr(trainings, "score", without_java)
    return replace(places, data=(places.data, colours.write(tmp_path / "others", "o")))


def test_table_1(two: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, resumed, and done already: every row on each val set, with the ensemble's."""
    stopped = score_systems(two, NAMES, [0], [0, 1], XE, RL, minutes=1e-9)
    assert "is saved at step 1 of 2; the same command goes on from there" in table1(stopped)
    assert f"not done yet: attfcn-xe-0, attfcn-rl-0, glied-xe-0, glied-rl-0, {ENSEMBLE}-xe-0" in table1(stopped)

    result = score_systems(two, NAMES, [0], [0, 1], XE, RL)
    assert [(row["captioner"], row["stage"], row["data"]) for row in result["rows"]] == [
        (name, stage, data)
        for name in NAMES
        for stage in ("cross-entropy", "self-critical")
        for data in ("colours", "others")
    ]
    assert result["unfinished"] == result["stopped"] == []
    for row in result["rows"]:
        assert row["low"] <= row["CIDEr"]["mean"] <= row["high"]
        assert row["photographs"] == 8
    one, two_members = (load(two.run / f"att2in-rl-{seed}.safetensors") for seed in (0, 1))
    members = sum(p.numel() for made in (one, two_members) for p in made.model.parameters())
    assert result["rows"][-1]["parameters"] == members
    assert one.provenance["initial"]["command"] == "train att2in"

    lines = table1(result).splitlines()
    assert [line for line in lines if "photographs" in line] == [
        f"{data} val, 8 photographs, scores times 100; * in the paper an ensemble" for data in ("colours", "others")
    ]
    glied = [line.split(" | ") for line in lines if line.startswith("| GLIED |")]
    assert len(glied) == 2
    row = next(row for row in result["rows"] if row["captioner"] == "glied")
    assert glied[0][3:6] == [f"{100 * row[n]['mean']:.1f}" for n in ("ROUGE_L", "CIDEr")] + [
        f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    ]
    assert glied[0][2] == "-", "METEOR needs Java"
    assert glied[0][-2:] == ["118.2", "129.3 |"]
    assert [line.split(" | ")[-2:] for line in lines if line.startswith("| SCST")] == [["106.5*", "117.5* |"]] * 2
    assert [line.split(" | ")[-2:] for line in lines if line.startswith("| ATT-FCN")] == [["-", "- |"]] * 2
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1

    monkeypatch.setattr(trainings, "score", lambda *_: pytest.fail("measured twice"))
    assert score_systems(two, NAMES, [0], [0, 1], XE, RL) == result


def test_an_ensemble_of_others_is_measured_anew(two: Places) -> None:
    first = score_systems(two, [ENSEMBLE], [0], [0, 1], XE, RL)
    other = score_systems(two, [ENSEMBLE], [0], [1, 2], XE, RL)
    assert [trainings.read_scores(two.run, ENSEMBLE, stage, 0) is not None for stage in ("xe", "rl")] == [True, True]
    assert first["members"] != other["members"]
    found = trainings.read_scores(two.run, ENSEMBLE, "rl", 0)
    alone = trainings.load_ensemble([two.run / f"att2in-rl-{seed}.safetensors" for seed in (1, 2)], two.detector)[0]
    assert found is not None
    assert found["checkpoint"] == alone.digest


def test_table_2(two: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of Table 1 in the same folder are its own."""
    names = ["updown", "scst-fc", "glied"]
    assert trainings.train_all(two, [("updown", 0)], XE)["stopped"] == []
    trained, step_loss = set(), cross_entropy.step_loss
    monkeypatch.setattr(cross_entropy, "step_loss", lambda m, *rest: trained.add(m.title) or step_loss(m, *rest))
    result = time_systems(two, names, XE)
    assert trained == {"SCST FC", "GLIED"}
    assert all(row["images_per_s"] > 0 for row in result["rows"])
    assert [row["captioner"] for row in result["rows"]] == [name for name in names for _ in range(2)]
    lines = table2(result).splitlines()
    assert lines[0].count("CIDEr, colours val") == lines[0].count("CIDEr, others val") == 1
    assert lines[2].startswith(f"| {SYSTEMS['updown']} | ")
    assert lines[2].endswith("| 50.1 | 24.9 | 14.8 | 113.2 |")
    assert lines[3].endswith("| - | - | - | - |")
    assert {line.count("|") for line in lines} == {13}


def test_a_run_that_was_stopped_times_what_is_done(two: Places) -> None:
    result = time_systems(two, ["lstm"], replace(XE, minutes=1e-9))
    assert result["rows"] == []
    assert table2(result).endswith("not done yet: lstm-xe-0; the same command goes on")


def test_every_system_has_its_rows() -> None:
    assert list(TABLE_1) == [*SYSTEMS, ENSEMBLE]
