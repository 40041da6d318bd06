"""States: computed alike for one photograph and for many, kept small, read with care, and found again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny import run

from analysis.nearest import find_nearest
from glied.attributes import AttributeDetector, find_scene
from glied.checkpoint import load_pair, save_attribute_detector
from glied.errors import GliedError
from glied.images import open_image
from glied.regions.grid import Grid
from glied.replay import find_states, trace
from glied.states import FORMAT, Archive, reduce

SETS = {"one": 5, "two": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny captioners over the real regions, and two data sets of noise."""
    folder = tmp_path_factory.mktemp("states")
    for name in ("glied", "base"):
        checkpoint = replace(tiny.checkpoint(name, feature_dim=1280), attributes=tiny.WORDS, source=Grid.name)
        checkpoint.save(folder / f"{name}.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_attribute_detector(folder / "attributes.safetensors", AttributeDetector(tiny.WORDS, 1280, Grid.name), {})
    for name, count in SETS.items():
        (folder / name / "images").mkdir(parents=True)
        records = []
        for i in range(count):
            pixels = np.random.default_rng([count, i]).integers(0, 255, (3, 4, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((120, 80), i % 2).save(folder / name / "images" / f"{name}{i}.jpg")
            split = "val" if i else "train"
            records.append({"filename": f"{name}{i}.jpg", "split": split, "sentences": [{"raw": "A dog runs ."}]})
        (folder / name / "captions.json").write_text(json.dumps({"images": records}))
    return folder


@pytest.fixture
def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the command writes of the tiny GLIED."""
    return make(folder, monkeypatch, "glied")


def make(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    out = folder / f"{name}.states.safetensors"
    data = [part for each in SETS for part in ("--data", folder / each)]
    checkpoint = ("--checkpoint", folder / f"{name}.safetensors", "--cache", folder / "cache")
    assert run(monkeypatch, "states", *data, "--split", "val", *checkpoint, "--out", out) == 0
    return out


def test_a_photograph_of_the_file_finds_itself(folder: Path, made: Path) -> None:
    archive = Archive.load(made)
    checkpoint, detector = load_pair(folder / "glied.safetensors", folder / "attributes.safetensors")
    assert (archive.checkpoint, archive.split, archive.datasets) == (checkpoint.digest, "val", ("one", "two"))
    expected = [f"{name}{i}.jpg" for name, count in SETS.items() for i in range(1, count)]
    assert [p.id for p in archive.photographs] == expected
    for at, known in enumerate(archive.photographs):
        scene = find_scene(open_image(folder / known.dataset / "images" / known.id), Grid(), detector)
        states = find_states(checkpoint, scene, known.words)
        for kind, part in archive.known.items():
            for row in np.flatnonzero(part.photographs == at):
                place = part.places[row]
                near = find_nearest(archive, kind, states[kind][place], 100).neighbours
                own = next(each for each in near if each.photograph == known)
                assert own.similarity > 0.999
                assert near[0].similarity - own.similarity < 1e-3  # pivots of equal attributes are alike everywhere
                assert kind == "pivots" or (near[0], own.place) == (own, place)
                if kind == "regions":
                    shares = scene.regions.boxes[place] / np.tile(scene.regions.size, 2)
                    np.testing.assert_allclose(own.box, shares, atol=1e-4)
        attention = trace(checkpoint, scene, known.words).attention["vl"].mean((0, 1))
        kept = archive.known["regions"].places[archive.known["regions"].photographs == at]
        assert set(kept) == set(np.argsort(attention)[-6:])


def test_the_photograph_in_view_is_left_out_and_each_other_comes_once(made: Path) -> None:
    archive = Archive.load(made)
    state = np.random.default_rng(0).normal(size=16).astype(np.float32)
    every = find_nearest(archive, "words", state, 100)
    ids = [neighbour.photograph.id for neighbour in every.neighbours]
    assert sorted(ids) == sorted(p.id for p in archive.photographs)
    similar = [neighbour.similarity for neighbour in every.neighbours]
    assert similar == sorted(similar, reverse=True)
    assert every.usual == pytest.approx(np.median(similar))
    left = find_nearest(archive, "words", state, 2, without=ids[0])
    assert [neighbour.photograph.id for neighbour in left.neighbours] == ids[1:3]


def test_states_are_what_words_are_predicted_from(folder: Path) -> None:
    checkpoint, scene = tiny.checkpoint(), tiny.scene()
    states, traced = find_states(checkpoint, scene, ["a", "dog"]), trace(checkpoint, scene, ["a", "dog"])
    logits = checkpoint.model.logits(torch.from_numpy(states["words"])).log_softmax(-1)
    chosen = [logits[t, checkpoint.vocabulary.ids[word]].item() for t, word in enumerate(traced.words)]
    np.testing.assert_allclose(chosen, traced.log_probabilities, rtol=1e-4)
    assert {kind: len(found) for kind, found in states.items()} == {"words": 3, "regions": 5, "pivots": 3}
    other = find_states(checkpoint, scene, ["cat", "dog"])
    np.testing.assert_allclose(states["regions"], other["regions"])
    np.testing.assert_allclose(states["pivots"][2], other["pivots"][2], rtol=1e-4, atol=1e-5)
    assert not np.allclose(states["pivots"][1], other["pivots"][1])
    assert not np.allclose(states["words"][2], other["words"][2])


def test_base_has_states_of_words_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive.load(make(folder, monkeypatch, "base"))
    assert set(archive.known) == {"words"}
    assert not archive.labels


def test_directions_survive_their_reduction() -> None:
    random = np.random.default_rng(0)
    states = random.normal(size=(200, 4)) @ random.normal(size=(4, 80)) + 3
    known = reduce(states.astype(np.float32), list(range(200)), [0] * 200)
    assert known.rows.shape == (200, 56)
    centred = states - states.mean(0)
    exact = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(known.directions @ known.directions.T, exact @ exact.T, atol=0.02)
    np.testing.assert_allclose(known.project(states), known.directions, atol=0.02)


def test_the_same_states_are_the_same_file(made: Path, tmp_path: Path) -> None:
    Archive.load(made).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("format", "another format"),
        ("words.rows", "shapes disagree"),
        ("words.photographs", "of no photograph"),
        ("words.places", "of no word"),
        ("words.mean", "not finite"),
        ("boxes", "regions disagree"),
        ("words.axes", "KeyError"),
        ("bytes", "SafetensorError"),
        ("gone", "FileNotFoundError"),
    ],
)
def test_a_damaged_file_gets_one_sentence(made: Path, tmp_path: Path, change: str, reason: str) -> None:
    from safetensors import safe_open

    path, tensors = tmp_path / "changed.safetensors", load_file(made)
    with safe_open(made, "np") as file:
        header = json.loads(file.metadata()["glied"])
    assert header["format"] == FORMAT
    changes = {
        "words.rows": lambda a: a[:-1],
        "words.photographs": lambda a: a + 100,
        "words.places": lambda a: a + 100,
        "words.mean": lambda a: a * np.nan,
        "boxes": lambda a: a[:-1],
    }
    if change == "format":
        header["format"] = "glied-states-9"
    elif change == "words.axes":
        del tensors[change]
    elif change in changes:
        tensors[change] = changes[change](tensors[change])
    save_file(tensors, path, {"glied": json.dumps(header)})
    if change == "bytes":
        path.write_bytes(path.read_bytes()[:-1])
    elif change == "gone":
        path.unlink()
    with pytest.raises(GliedError, match=reason) as told:
        Archive.load(path)
    assert "`python -m glied states` writes one" in str(told.value)
