"""The contracts of the command line: what is printed and written, and how it fails."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tiny
from tiny import run

from glied.attributes import AttributeDetector
from glied.baselines.build import build
from glied.checkpoint import save_attribute_detector
from glied.config import ModelConfig
from glied.evaluation import evaluate as evaluation
from glied.evaluation.metrics import METRICS, score
from glied.experiments import variety
from glied.regions.grid import Grid
from glied.traces import Trace, find_faults


def test_caption_prints_a_line_per_image(folder, monkeypatch, capsys):
    images = [folder / "data" / "images" / f"{i}.jpg" for i in (0, 1)]
    assert run(monkeypatch, "caption", *images, "--checkpoint", folder / "glied.safetensors", "--beam", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(i) for i in images]
    assert all(set(line.split("\t")[1].split()) <= set(tiny.FEW) for line in lines)


def test_score_scores_caption_files(tmp_path, monkeypatch, capsys):
    references, captions, out = (tmp_path / name for name in ("references.json", "captions.json", "scores.json"))
    pairs = [(7, "a dog runs"), (7, "the dog"), (8, "a red ball"), (9, "a man")]
    references.write_text(json.dumps({"annotations": [{"image_id": i, "caption": c} for i, c in pairs]}))
    captions.write_text(json.dumps([{"image_id": i, "caption": c} for i, c in ((8, "a red ball"), (7, "a dog"))]))
    assert run(monkeypatch, "score", "--references", references, "--captions", captions, "--json", out) == 0
    said = capsys.readouterr().out
    assert "2 of 3 images" in said
    assert "GLIED_SPICE" in said
    report = json.loads(out.read_text())
    assert list(report["scores"]) == list(METRICS)
    assert report["scores"]["Bleu_1"] == pytest.approx(1)
    assert report["scores"]["METEOR"] > 0.4
    assert report["scores"]["SPICE"] is None
    assert report["missing"]["SPICE"][0] == "spice_models_missing"
    assert report["images"]["8"]["caption"] == "a red ball"
    assert report["images"]["8"]["METEOR"] == 1
    captions.write_text(json.dumps([{"image_id": 10, "caption": "a dog"}]))
    assert run(monkeypatch, "score", "--references", references, "--captions", captions, "--json", out) == 2
    assert "10" in capsys.readouterr().err
    captions.write_text(json.dumps({"7": ["a dog", "a cat"]}))
    assert run(monkeypatch, "score", "--references", references, "--captions", captions, "--json", out) == 2
    assert "one caption per image" in capsys.readouterr().err


def test_caption_as_json_has_scores_and_the_n_best_list(folder, monkeypatch, capsys):
    image = folder / "data" / "images" / "0.jpg"
    arguments = ("--checkpoint", folder / "glied.safetensors", "--json", "--n-best", 3)
    assert run(monkeypatch, "caption", image, *arguments) == 0
    [result] = map(json.loads, capsys.readouterr().out.splitlines())
    assert result["image"] == str(image)
    scores = [c["score"] for c in result["captions"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_caption_in_groups_and_with_words(folder, monkeypatch, capsys):
    image = folder / "data" / "images" / "0.jpg"
    arguments = ("--checkpoint", folder / "glied.safetensors", "--json")
    assert run(monkeypatch, "caption", image, *arguments, "--beam", 3, "--groups", 3, "--n-best", 3) == 0
    [result] = map(json.loads, capsys.readouterr().out.splitlines())
    assert sorted(each["group"] for each in result["captions"]) == [1, 2, 3]
    assert run(monkeypatch, "caption", image, *arguments, "--require", "ball", "sits", "--forbid", "a", "dog") == 0
    [result] = map(json.loads, capsys.readouterr().out.splitlines())
    [only] = result["captions"]
    assert {"ball", "sits"} <= set(only["caption"].split())
    assert not {"a", "dog"} & set(only["caption"].split())
    assert "group" not in only
    assert run(monkeypatch, "caption", image, *arguments, "--require", "bal") == 2
    assert "(ball" in capsys.readouterr().err


def test_ways_to_decode_are_compared(folder, monkeypatch, capsys):
    images, out = folder / "data" / "images", folder / "variety.json"
    arguments = ("--checkpoint", folder / "glied.safetensors", "--json", out)
    assert run(monkeypatch, "bench", "variety", images / "0.jpg", images / "1.jpg", *arguments) == 0
    result = json.loads(out.read_text())
    assert result["photographs"] == 2
    beam, *others = result["rows"]
    assert beam["captions"] == 12
    assert beam["different"] == 6, "a beam never finds a caption twice"
    assert all(1 <= row["different"] <= 6 and row["log_p"] < 0 < row["words"] for row in others)
    assert "2 photographs" in capsys.readouterr().out
    alone = ("--ensemble", folder / "glied.safetensors")
    loaded: list[int] = []
    monkeypatch.setattr(variety, "compare_ways", lambda model, _: loaded.append(len(model.model.members)) or result)
    assert run(monkeypatch, "bench", "variety", images / "0.jpg", *arguments, *alone) == 0
    assert loaded == [2]
    assert run(monkeypatch, "bench", "corpus", "--corpus", images, *alone) == 2
    assert "no --ensemble" in capsys.readouterr().err


def test_a_bad_image_does_not_stop_the_others_but_is_reported(folder, monkeypatch, capsys):
    images = [folder / "data" / "images" / name for name in ("3.jpg", "0.jpg", "none.jpg")]
    assert run(monkeypatch, "caption", *images, "--checkpoint", folder / "glied.safetensors") == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "3.jpg" in err
    assert "none.jpg" in err
    assert "Traceback" not in err


def test_trace_writes_any_words(folder, monkeypatch, capsys):
    out = folder / "t.npz"
    image = folder / "data" / "images" / "0.jpg"
    words = ("--checkpoint", folder / "glied.safetensors", "--words", "A red dog.")
    assert run(monkeypatch, "trace", image, "--out", out, *words) == 0
    trace = Trace.load(out)
    assert trace.words == ("a", "red", "dog", "<eos>")
    assert trace.region_falls.shape == (4, 36)
    assert find_faults(out.read_bytes()) == [], "the pages open it, photograph and all"


def test_evaluate_writes_scores_and_images(folder, monkeypatch, capsys):
    file = folder / "report.json"
    arguments = ("--data", folder / "data", "--split", "val", "--checkpoint", folder / "glied.safetensors")
    assert run(monkeypatch, "evaluate", *arguments, "--cache", folder / "cache", "--json", file) == 0
    report = json.loads(file.read_text())
    assert set(report["scores"]) == set(METRICS)
    assert set(report["images"]) == {"0.jpg", "1.jpg", "2.jpg"}
    assert set(report["images"]["0.jpg"]) == {"caption", *METRICS} - {"SPICE"}
    assert any("3.jpg" in problem for problem in report["problems"])
    assert "3.jpg" in capsys.readouterr().out
    table = file.with_suffix(".md").read_text()
    assert "| GLIED, cross-entropy | 77.8 |" in table
    assert f"| GLIED, cross-entropy (`{report['checkpoint']}`) | {100 * report['scores']['Bleu_1']:.1f} |" in table
    assert "SPICE: Expected" in table
    again = (*arguments, "--cache", folder / "cache")
    assert run(monkeypatch, "evaluate", *again, "--json", folder / "second.json", "--against", file) == 0
    assert "minus GLIED, cross-entropy" in (folder / "second.md").read_text()
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: pytest.fail("worked before it looked"))
    for wrong in (
        ("--json", folder / "new.json", "--grounding"),  # no entities.json
        ("--json", folder / "new.json", "--against", folder / "none.json"),
        ("--json", folder / "new.json", "--against", folder / "other.json"),
    ):
        (folder / "other.json").write_text(json.dumps(report | {"split": "test"}))
        assert run(monkeypatch, "evaluate", *again, *wrong) == 2


def test_evaluate_reads_its_data_set_once(folder, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    phrase = {"chain": 0, "types": [], "phrase": "A dog", "first_word": 0}
    boxed = {
        "sentences": [{"raw": "A dog runs .", "phrases": [phrase]}],
        "boxes": [{"chains": [0], "box": [5, 5, 40, 30]}],
    }
    (data / "entities.json").write_text(json.dumps({f"{i}.jpg": boxed for i in range(4)}))
    monkeypatch.setattr(evaluation, "score", partial(score, names=("Bleu_4", "CIDEr"), ptb=False))  # Java takes seconds
    read: list[str] = []
    for way in ("read_bytes", "read_text"):
        real = getattr(Path, way)
        monkeypatch.setattr(Path, way, lambda path, *a, real=real, **k: read.append(path.name) or real(path, *a, **k))
    arguments = ("--data", data, "--split", "val", "--checkpoint", folder / "glied.safetensors")
    for more in ((), ("--grounding",)):
        read.clear()
        places = ("--cache", folder / "cache", "--json", tmp_path / "report.json")
        assert run(monkeypatch, "evaluate", *arguments, *places, *more) == 0
        assert read.count("captions.json") == 1
        assert read.count("entities.json") == len(more)
    assert json.loads((tmp_path / "report.json").read_text())["grounding"]["photographs"] == 3


def test_what_one_command_writes_another_reads(folder, tmp_path, monkeypatch, capsys) -> None:
    """`evaluate --json` and `caption --json`, an array or JSON Lines, into `score`."""
    monkeypatch.setenv("PATH", "")  # without Java
    models = ("--checkpoint", folder / "glied.safetensors")
    arguments = ("--data", folder / "data", "--split", "val", "--cache", tmp_path / "cache")
    assert run(monkeypatch, "evaluate", *arguments, *models, "--json", tmp_path / "report.json") == 0
    capsys.readouterr()
    assert (
        run(monkeypatch, "caption", *(folder / "data" / "images" / f"{i}.jpg" for i in range(3)), *models, "--json")
        == 0
    )
    (tmp_path / "captions.json").write_text(capsys.readouterr().out)
    expected = json.loads((tmp_path / "report.json").read_text())
    for file in ("report.json", "captions.json"):
        places = ("--references", folder / "data" / "captions.json", "--captions", tmp_path / file)
        assert run(monkeypatch, "score", *places, "--json", tmp_path / "scores.json") == 0
        found = json.loads((tmp_path / "scores.json").read_text())
        assert found["scores"] == expected["scores"]
        assert found["images"].keys() == expected["images"].keys()


def test_info_counts_parameters(folder, monkeypatch, capsys):
    assert run(monkeypatch, "info", folder / "glied.safetensors") == 0
    out = capsys.readouterr().out
    model = build(ModelConfig(vocabulary_size=12, feature_dim=1280, d=16, heads=2, d_head=8))
    assert re.search(rf"parameters +{sum(p.numel() for p in model.parameters()):,}", out)
    assert '"architecture": "glied"' in out


def test_a_detector_of_another_vocabulary_is_refused(folder, monkeypatch, capsys):
    other = folder / "other.safetensors"
    save_attribute_detector(other, AttributeDetector(tiny.FEW[:3], 1280, Grid.name), {})
    image = folder / "data" / "images" / "0.jpg"
    assert run(monkeypatch, "caption", image, "--checkpoint", folder / "glied.safetensors", "--attributes", other) == 2
    assert "attribute detector" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "nowhere.jpg", "--checkpoint", "nowhere.safetensors"),
        ("info", "README.md"),
        ("evaluate", "--data", "nowhere", "--split", "val", "--json", "x.json"),
        ("caption", "README.md", "--beam", "0"),
        ("extract", "--data", "nowhere"),
        ("train", "glied", "--data", "nowhere"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_errors_are_one_sentence_and_status_2(root, monkeypatch, capsys, arguments):
    monkeypatch.chdir(root)
    assert run(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("glied: ")
    assert len(err.strip().splitlines()) == 1


def test_the_module_runs_and_its_help_names_every_command(root):
    done = subprocess.run(
        [sys.executable, "-m", "glied", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert all(
        name in done.stdout
        for name in ("extract", "convert", "train", "recall", "caption", "trace", "evaluate", "info", "bench")
    )


@pytest.mark.parametrize("words", ["", "  ", "!!!"])
def test_trace_of_no_words_is_refused(folder, monkeypatch, capsys, words):
    image = folder / "data" / "images" / "0.jpg"
    arguments = ("--out", folder / "none.npz", "--checkpoint", folder / "glied.safetensors", "--words", words)
    assert run(monkeypatch, "trace", image, *arguments) == 2
    assert "Expected words" in capsys.readouterr().err
    assert not (folder / "none.npz").exists()


def test_words_outside_the_vocabulary_are_named(folder, monkeypatch, capsys):
    image = folder / "data" / "images" / "0.jpg"
    arguments = ("--out", folder / "u.npz", "--checkpoint", folder / "glied.safetensors", "--words", "a perro runs")
    assert run(monkeypatch, "trace", image, *arguments) == 0
    assert "read as <unk>: perro" in capsys.readouterr().out


def test_recall_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    """The first window of the grid is the whole photograph, and it has no labels."""
    humans = [((0, 0, 60, 40), ("a field",)), ((0, 0, 3, 3), ("a bird",))]
    data, out = tiny.boxed(tmp_path / "data", ("test", (60, 40), humans)), tmp_path / "recall.json"
    assert run(monkeypatch, "recall", "--data", data, "--split", "test", "--json", out, "--source", "grid") == 0
    result = json.loads(out.read_text())
    assert [result[f"recall@{k}"] for k in (10, 36, 100)] == [0.5, 0.5, 0.5]
    assert (result["source"], result["label_accuracy"], result["human_boxes"]) == (Grid.name, None, 2)
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:-1])
    assert printed.keys() == result.keys() - {"problems"}
    assert (printed["recall@36"], printed["label_accuracy"]) == ("0.5000", "None")


@pytest.mark.parametrize(
    "change", ["no data", "no entities", "no such split", "no such source", "no detector", "no OpenCV", "a folder"]
)
def test_recall_errors_are_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, change):
    data, out = tiny.boxed(tmp_path / "data", ("val", (60, 40), [((0, 0, 30, 30), ("a dog",))])), tmp_path / "r.json"
    monkeypatch.setenv("GLIED_DETECTOR", str(tmp_path / "none.safetensors"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    arguments = {"--data": data, "--split": "val", "--json": out, "--source": "grid"}
    if change == "no entities":
        (data / "entities.json").unlink()
    arguments |= {
        "no data": {"--data": tmp_path / "nowhere"},
        "no such split": {"--split": "test"},
        "no such source": {"--source": "detector@0"},
        "no detector": {"--source": "detector"},
        "no OpenCV": {"--source": "selective-search"},
        "a folder": {"--json": data},
    }.get(change, {})
    assert run(monkeypatch, "recall", *(word for pair in arguments.items() for word in pair)) == 2
    err = capsys.readouterr().err
    assert err.startswith("glied: ")
    assert len(err.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("target", ["data", "glied.safetensors/x.json"])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(folder, monkeypatch, capsys, target):
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: pytest.fail("the work was begun"))
    arguments = ("--data", folder / "data", "--split", "val", "--checkpoint", folder / "glied.safetensors")
    assert run(monkeypatch, "evaluate", *arguments, "--json", folder / target) == 2
    assert "Expected to write" in capsys.readouterr().err
    assert run(monkeypatch, "evaluate", *arguments, "--json", ".") == 2


def test_extract_of_nothing_readable_fails(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    sentences = [{"raw": "A dog."}]
    records = [{"filename": name, "split": "val", "sentences": sentences} for name in ("a.jpg", "../../secret.jpg")]
    (tmp_path / "captions.json").write_text(json.dumps({"images": records}))
    assert run(monkeypatch, "extract", "--data", tmp_path, "--cache", tmp_path / "cache") == 2
    out, err = capsys.readouterr()
    assert "leads out of the data set" in out
    assert "found none; see above" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", 0], "Expected a port between 1 and 65535, got 0; correct --port."),
        (["--images", "nothing"], "Expected a folder at nothing, there is none; correct --images."),
        (["--checkpoints", __file__], f"Expected a folder at {__file__}, there is none; correct --checkpoints."),
        (["--host", "192.0.2.1"], "Expected port 8501 of 192.0.2.1 to be free for the app, but cannot open it "),
    ],
)
def test_an_app_that_cannot_open_says_why_in_a_sentence(monkeypatch, capsys, arguments, told):
    assert run(monkeypatch, "app", *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"glied: {told}")
    assert said.count("\n") == 1


def test_a_package_of_an_extra_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("pycocoevalcap", "glied.evaluation.metrics"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    references, captions = tmp_path / "r.json", tmp_path / "c.json"
    references.write_text('{"1": ["a dog"]}')
    captions.write_text('{"1": "a dog"}')
    files = ("--references", references, "--captions", captions, "--json", tmp_path / "scores.json")
    assert run(monkeypatch, "score", *files) == 2
    said = capsys.readouterr().err
    assert said == (
        "glied: The package pycocoevalcap is needed and not installed; "
        "run `python -m pip install 'glied-studio[evaluate]'`.\n"
    )
