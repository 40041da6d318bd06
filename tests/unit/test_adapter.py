"""A captioner that is not ours gives the traces that ours give; what does not fit is one sentence."""

import re
from dataclasses import fields, replace
from pathlib import Path
from textwrap import dedent
from typing import get_args

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import glied
from glied.adapter import Adapter, grid_boxes
from glied.batch import stack
from glied.errors import GliedError
from glied.functions import AttentionFunction, Role
from glied.replay import trace
from glied.traces import MOST, Trace, find_faults

SCENE = tiny.scene()
CAPTION = ("a", "dog", "runs", "on", "grass")
REGIONS = SCENE.regions
SEEN = {"size": REGIONS.size, "boxes": REGIONS.boxes}


def ours(architecture: str) -> Adapter:
    """One of our own captioners, as if it were another's."""
    made = tiny.checkpoint(architecture)

    def replay(seen, ids, regions, attributes):
        inputs = stack([seen], made.vocabulary)._replace(
            region_mask=regions[None], attribute_mask=attributes[None] if len(attributes) > 1 else None
        )
        memory = made.model.encode(inputs)
        output = made.model(ids[None, None], memory)
        return made.model.logits(output.c_tilde)[0, 0], {
            name: weights[0, 0] for name, weights in (memory.weights | output.weights).items()
        }

    return Adapter(
        made.model.title, made.vocabulary.words, made.model.functions, replay, unknown="<unk>",
        architecture=architecture, checkpoint=made.digest, source=tiny.SOURCE,
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ["base", "glied", "updown", "ct", "rfnet"])
@pytest.mark.parametrize("falls", [False, True])
def test_it_gives_the_traces_of_our_own_captioners(architecture: str, falls: bool) -> None:
    expected = trace(tiny.checkpoint(architecture), SCENE, (*CAPTION, "zeppelin"), falls=falls)
    found = SCENE.attributes
    made = ours(architecture).trace(
        SCENE, (*CAPTION, "zeppelin"), **SEEN, attributes=found.words, attribute_scores=found.scores,
        attribute_regions=found.by_region, falls=falls,
    )  # fmt: skip
    assert made.faults() == []
    assert {name: getattr(made, name) for name in ("captioner", "functions", "inputs", "words", "alternatives")} == {
        name: getattr(expected, name) for name in ("captioner", "functions", "inputs", "words", "alternatives")
    }
    for name, array in expected._arrays().items():
        np.testing.assert_allclose(made._arrays()[name], array, atol=1e-5, err_msg=name)


def test_without_attributes_there_is_one_that_nothing_attends_to(tmp_path: Path) -> None:
    made = ours("updown").trace(SCENE, CAPTION, **SEEN, labels=["thing"] * 5)
    assert (made.attributes, made.attribute_scores.tolist()) == (("<unk>",), [0.0])
    made.save(tmp_path / "a.npz", Image.new("RGB", (100, 90)))
    assert Trace.load(tmp_path / "a.npz") == made
    assert find_faults((tmp_path / "a.npz").read_bytes()) == []


def test_a_single_region_cannot_be_removed() -> None:
    scene = tiny.scene(1, 1)
    made = ours("base").trace(scene, ["a"], scene.regions.size, scene.regions.boxes, attributes=["dog"], falls=True)
    assert np.isnan(made.region_falls).all()
    assert made.faults() == []


def test_words_of_another_vocabulary_are_called_as_here() -> None:
    words = ("PAD", "[S]", "[E]", "dog", "cat")

    def replay(seen, ids, regions, attributes):
        return torch.eye(5)[ids], {"v": torch.full((3, len(ids), 4), 0.25)}

    function = (AttentionFunction("v", None, "regions", "local"),)
    made = Adapter("Eye", words, function, replay, begin="[S]", end="[E]", unsayable=("PAD",))
    traced = made.trace(None, ["cat", "dog"], (60, 40), grid_boxes((60, 40), 2, 2))
    assert traced.inputs == ("<bos>", "cat", "dog")
    assert traced.words == ("cat", "dog", "<eos>")
    assert {word for row in traced.alternatives for word in row} == {"dog", "cat", "<eos>"}
    assert traced.log_probabilities[0] == pytest.approx(-np.log(4 + np.e))
    assert traced.heads == 3


def test_cells_of_a_grid() -> None:
    assert grid_boxes((60, 40), 2, 3).tolist()[:4] == [
        [0, 0, 20, 20],
        [20, 0, 40, 20],
        [40, 0, 60, 20],
        [0, 20, 20, 40],
    ]
    assert grid_boxes((61, 40), 2, 3)[-1].tolist() == pytest.approx([40.667, 20, 61, 40], abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "arguments", "reason"),
    [
        ({"begin": "<s>"}, {}, "Expected <s> among the words of Up-Down|Expected <s> among the words of updown"),
        ({"unknown": ""}, {"caption": ["a", "zeppelin"]}, "got zeppelin; choose another"),
        ({"functions": ()}, {}, "attention.v is of no function"),
        ({"replay": lambda *_: (torch.zeros(3, 16), {})}, {}, r"scores of shape \(6, 16\).* got \(3, 16\)"),
        ({"replay": lambda *_: (torch.zeros(6, 16), {})}, {}, "attention.v|no heads"),
        ({"replay": lambda *_: (torch.zeros(6, 16), {"v": torch.ones(1, 6, 5)})}, {}, "row 1 of head 1 sums to 5"),
        ({}, {"boxes": REGIONS.boxes + 60}, "boxes must lie on the photograph"),
        ({}, {"labels": ["one"]}, "labels must be one for each of the 5 regions"),
        (
            {},
            {"attributes": ["dog"], "attribute_scores": np.array([2.0])},
            "attribute_scores must hold probabilities, it has 2",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes: dict, arguments: dict, reason: str) -> None:
    made = replace(ours("updown"), **changes)
    with pytest.raises(GliedError, match=reason):
        made.trace(SCENE, **({"caption": CAPTION} | SEEN | arguments))


def test_python_users_find_it() -> None:
    assert (glied.Adapter, glied.grid_boxes, glied.AttentionFunction) == (Adapter, grid_boxes, AttentionFunction)


def test_traces_are_checked_from_the_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    made, photograph = ours("updown").trace(SCENE, CAPTION, **SEEN), Image.new("RGB", (100, 90))
    good, bare, other = (tmp_path / f"{name}.npz" for name in ("good", "bare", "other"))
    made.save(good, photograph)
    made.save(bare)
    other.write_bytes(b"other")
    assert tiny.run(monkeypatch, "check-trace", good) == 0
    assert capsys.readouterr().out == f"{good}\t{made.captioner}: a dog runs on grass\n"
    assert tiny.run(monkeypatch, "check-trace", bare, good, other, tmp_path / "missing.npz") == 2
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    lines = told.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [str(bare), str(other), str(tmp_path / "missing.npz")]
    assert ["no photograph" in lines[0], "BadZipFile" in lines[1], "No such file" in lines[2]] == [True] * 3
    assert tiny.run(monkeypatch, "check-trace") == 2


def test_a_trace_by_numpy_alone_is_sound(root: Path, tmp_path: Path, monkeypatch) -> None:
    block = re.search(r"^    import json\n(?:    .*\n|\n(?=    ))+", (root / "docs" / "trace.md").read_text(), re.M)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (640, 480)).save("photo.jpg")
    exec(dedent(block[0]), {})
    assert find_faults(Path("even.npz").read_bytes()) == []


def test_the_document_names_every_part_of_a_file(root: Path) -> None:
    text = (root / "docs" / "trace.md").read_text()
    table = set(re.findall(r"`([\w.-]+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.M))))
    parts = {field.name for field in fields(Trace)} - {"attention"}
    assert parts | {"format", "photograph", "attention.NAME"} <= table
    assert set(get_args(Role)) <= table
    for name, most in MOST.items():
        assert f"{most:,} {name}" in text
