"""A trace replays any caption, is immutable, compares by value, and survives its file."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from glied.captions import DecodeOptions
from glied.decode import caption
from glied.errors import GliedError
from glied.evaluation.evaluate import human_log_probability
from glied.functions import AttentionFunction
from glied.replay import look_ahead, trace
from glied.scene import Attributes, Regions, Scene
from glied.traces import Trace, unpack

SCENE = tiny.scene(5, 4, 1)
WORDS = ("a", "dog", "runs", "on", "grass")


def without_region(scene: Scene, i: int) -> Scene:
    r, a = scene.regions, scene.attributes
    regions = Regions(np.delete(r.boxes, i, 0), np.delete(r.features, i, 0), r.size, r.source)
    return Scene(regions, replace(a, by_region=np.delete(a.by_region, i, 1)))


def without_attribute(scene: Scene, i: int) -> Scene:
    a = scene.attributes
    words = tuple(w for j, w in enumerate(a.words) if j != i)
    return replace(scene, attributes=Attributes(words, np.delete(a.scores, i), np.delete(a.by_region, i, 0)))


def test_replay_reproduces_the_decode(architecture: str) -> None:
    for seed in range(3):
        made = tiny.checkpoint(architecture, seed=seed)
        for c in caption(made, [SCENE], DecodeOptions(n_best=3))[0].captions:
            replayed = trace(made, SCENE, c.words)
            assert replayed.words == (*c.words, "<eos>")
            assert replayed.inputs == ("<bos>", *c.words)
            assert replayed.text == c.text
            assert float(replayed.log_probabilities.sum()) == pytest.approx(c.log_probability, abs=1e-4)


def test_trace_says_what_it_is_of(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    replayed = trace(made, SCENE, WORDS)
    assert (replayed.architecture, replayed.checkpoint, replayed.source) == (architecture, made.digest, tiny.SOURCE)
    assert replayed.size == SCENE.regions.size
    assert replayed.attributes == SCENE.attributes.words
    np.testing.assert_array_equal(replayed.boxes, SCENE.regions.boxes)
    np.testing.assert_array_equal(replayed.attribute_scores, SCENE.attributes.scores)
    np.testing.assert_array_equal(replayed.attribute_regions, SCENE.attributes.by_region)
    assert replayed.region_falls.shape == (0, 5)
    assert replayed.attribute_falls.shape == (0, 4)


def test_attention_has_the_names_and_shapes_of_the_architecture(architecture: str) -> None:
    N, M, L, k = 5, 4, len(WORDS) + 1, 2
    base = {"x": (k, L, L), "v": (k, L, N), "a": (k, L, M)}
    glied = {
        "vd": (k, N, N),
        "ad": (k, L, M),
        "x": (k, L, L),
        "v": (k, L, N),
        "vl": (k, L, N),
        "al": (k, L, M),
    }
    attention = trace(tiny.checkpoint(architecture), SCENE, WORDS).attention
    assert {name: w.shape for name, w in attention.items()} == (base if architecture == "base" else glied)
    for name, weights in attention.items():
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5, err_msg=name)


def test_alternatives_are_the_most_probable_words(architecture: str) -> None:
    replayed = trace(tiny.checkpoint(architecture), SCENE, WORDS)
    rows = replayed.alternative_log_probabilities
    assert rows.shape == (len(WORDS) + 1, 10)
    assert (np.diff(rows, axis=1) <= 0).all()
    assert (np.exp(rows).sum(1) < 1 + 1e-5).all()
    for words, row, word, log_p in zip(
        replayed.alternatives, rows, replayed.words, replayed.log_probabilities, strict=True
    ):
        assert len(set(words)) == 10
        if word in words:
            assert row[words.index(word)] == pytest.approx(log_p)
        else:
            assert log_p <= row[-1]


def test_small_vocabulary_has_fewer_alternatives() -> None:
    made = tiny.checkpoint("glied", ("a", "dog", "runs"))
    assert trace(made, tiny.scene(m=2, words=("a", "dog", "runs")), ["a"]).alternative_log_probabilities.shape == (2, 4)


def test_trace_is_immutable(architecture: str) -> None:
    replayed = trace(tiny.checkpoint(architecture), SCENE, WORDS, falls=True)
    arrays = {f.name: getattr(replayed, f.name) for f in fields(replayed)} | replayed.attention
    arrays = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
    assert len(arrays) == 7 + len(replayed.attention)
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(FrozenInstanceError):
        replayed.words = ("a",)


def test_trace_keeps_its_own_copy() -> None:
    attributes = np.array([0.5, 0.4, 0.3, 0.2], np.float32)
    first = trace(tiny.checkpoint(), SCENE, WORDS)
    second = replace(first, attribute_scores=attributes)
    attributes[:] = 0
    np.testing.assert_allclose(second.attribute_scores, [0.5, 0.4, 0.3, 0.2])


@pytest.mark.parametrize("removals", [False, True])
def test_round_trip_through_a_file(architecture: str, removals: bool, tmp_path: Path) -> None:
    replayed = trace(tiny.checkpoint(architecture), SCENE, (*WORDS, "éclair"), removals)
    replayed.save(tmp_path / "a.npz")
    loaded = Trace.load(tmp_path / "a.npz")
    assert loaded == replayed
    assert hash(loaded) == hash(replayed)
    assert loaded.digest == replayed.digest
    for f in fields(Trace):
        ours, theirs = getattr(loaded, f.name), getattr(replayed, f.name)
        assert type(ours) is type(theirs)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        elif f.name != "attention":
            assert ours == theirs
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert pickle.loads(pickle.dumps(replayed)) == replayed  # caches of the app need it


def test_a_file_of_0_1_0_is_opened(architecture: str) -> None:
    made = trace(tiny.checkpoint(architecture), SCENE, WORDS, falls=True)
    names = {"region_falls": "visual_drop", "attribute_falls": "attribute_drop"}
    arrays = {name: None for name in names} | {old: getattr(made, name) for name, old in names.items()}
    texts = {"format": "glied-trace-1", "captioner": None, "functions": None}
    assert unpack(repacked(made.packed(b"picture"), texts, arrays)) == (made, b"picture")


@pytest.mark.parametrize("name", ["base+ad", "glied-al", "softatt", "ct"])
def test_other_captioners_are_traced_as_they_declare(name: str) -> None:
    made = tiny.checkpoint(name)
    for falls in (False, True):
        replayed = trace(made, SCENE, WORDS, falls=falls)
        assert replayed.functions == made.model.functions
        assert set(replayed.attention) == {function.name for function in replayed.functions}
        assert unpack(replayed.packed()) == (replayed, b"")
    read = any(function.over == "attributes" for function in replayed.functions)
    assert replayed.attribute_falls.shape == (6 if read else 0, 4)
    fewer = trace(made, without_region(SCENE, 2), WORDS)
    expected = replayed.log_probabilities - fewer.log_probabilities
    np.testing.assert_allclose(replayed.region_falls[:, 2], expected, atol=2e-5)


def test_a_captioner_without_attention_is_traced_and_its_words_fall_too() -> None:
    replayed = trace(tiny.checkpoint("lstm"), SCENE, WORDS, falls=True)
    assert (replayed.captioner, replayed.heads, dict(replayed.attention)) == ("LSTM", 0, {})
    fewer = trace(tiny.checkpoint("lstm"), without_region(SCENE, 2), WORDS)
    expected = replayed.log_probabilities - fewer.log_probabilities
    np.testing.assert_allclose(replayed.region_falls[:, 2], expected, atol=2e-5)
    assert unpack(replayed.packed()) == (replayed, b"")


def test_labels_survive_the_file(tmp_path: Path) -> None:
    r = SCENE.regions
    labelled = replace(r, labels=("dog", "grass", "ball", "sky", "dog"), scores=np.full(5, 0.5, np.float32))
    replayed = trace(tiny.checkpoint(), replace(SCENE, regions=labelled), WORDS)
    replayed.save(tmp_path / "a.npz")
    assert Trace.load(tmp_path / "a.npz").labels == labelled.labels


class Bomb:
    """Unpickling it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "pickle", "array", "objects", "other", "truncated"])
def test_foreign_file_is_one_sentence(kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "a.npz", tmp_path / "unpickled"
    replayed = trace(tiny.checkpoint(), SCENE, WORDS)
    replayed.save(path)
    whole = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(b"\x00\x01" * 500)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif kind == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "objects":
        np.savez(path, header=np.array([Bomb(mark)], dtype=object))
    elif kind == "other":
        np.savez(path, header=np.array('{"format": "other"}'))
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GliedError, match=r"glied-trace-2"):
        Trace.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("architecture", ["base", "glied", "base+aa", "base+ad"])
def test_falls_equal_a_fresh_trace_without_it(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    whole = trace(made, SCENE, WORDS, falls=True)
    assert whole.region_falls.shape == (6, 5)
    assert whole.attribute_falls.shape == (6, 4)
    for i in range(5):
        fewer = trace(made, without_region(SCENE, i), WORDS)
        expected = whole.log_probabilities - fewer.log_probabilities
        np.testing.assert_allclose(whole.region_falls[:, i], expected, atol=2e-5)
    for i in range(4):
        fewer = trace(made, without_attribute(SCENE, i), WORDS)
        expected = whole.log_probabilities - fewer.log_probabilities
        np.testing.assert_allclose(whole.attribute_falls[:, i], expected, atol=2e-5)
    assert np.abs(whole.region_falls).max() > 1e-3
    assert np.abs(whole.attribute_falls).max() > 1e-3


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_falls_look_at_the_features_of_one_photograph(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.checkpoint(architecture)
    looked: list[int] = []
    real = made.model.regions
    monkeypatch.setattr(made.model, "regions", lambda F: (looked.append(len(F)), real(F))[1])
    trace(made, SCENE, WORDS, falls=True)
    assert looked == [1, 1]


def test_last_region_or_attribute_cannot_be_removed(architecture: str) -> None:
    replayed = trace(tiny.checkpoint(architecture), tiny.scene(1, 1), WORDS, falls=True)
    assert np.isnan(replayed.region_falls).all()
    assert np.isnan(replayed.attribute_falls).all()
    assert replayed == replace(replayed)


def test_unknown_words_are_read_as_unk(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    replayed = trace(made, SCENE, ("a", "zeppelin", "runs"))
    assert replayed.words == ("a", "<unk>", "runs", "<eos>")
    assert replayed.inputs == ("<bos>", "a", "<unk>", "runs")
    assert np.isfinite(replayed.log_probabilities).all()


def test_unknown_attributes_are_left_out(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    scene = tiny.scene(5, 3, words=("dog", "zeppelin", "cat"))
    i = scene.attributes.words.index("zeppelin")
    assert trace(made, scene, WORDS) == trace(made, without_attribute(scene, i), WORDS)
    nothing = trace(made, tiny.scene(5, 2, words=("zeppelin", "abacus")), WORDS)
    assert nothing.attributes == ("<unk>",)
    assert nothing.attribute_regions.shape == (1, 5)


def test_empty_caption_and_too_long_one(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    assert trace(made, SCENE, ()).words == ("<eos>",)
    assert trace(made, SCENE, ()).text == ""
    assert len(trace(made, SCENE, ["a"] * 100).words) == 101
    with pytest.raises(GliedError, match="101"):
        trace(made, SCENE, ["a"] * 101)


def test_scene_of_another_source_is_refused() -> None:
    with pytest.raises(GliedError, match="other-2"):
        trace(tiny.checkpoint(), tiny.scene(source="other-2"), WORDS)


def test_equality_is_by_value(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    replayed = trace(made, SCENE, WORDS, falls=True)
    assert replayed == trace(made, SCENE, WORDS, falls=True)
    assert replayed != "a trace"
    others = [replace(replayed, checkpoint="other"), replace(replayed, labels=("a",) * 5)]
    for f in fields(Trace):
        value = getattr(replayed, f.name)
        if isinstance(value, np.ndarray):
            changed = value.copy()
            changed[(-1,) * changed.ndim] += 1e-3
            others.append(replace(replayed, **{f.name: changed}))
    for name, weights in replayed.attention.items():
        changed = weights.copy()
        changed[0, 0, 0] += 1e-3
        others.append(replace(replayed, attention=replayed.attention | {name: changed}))
    assert len({t.digest for t in (replayed, *others)}) == 1 + len(others)
    assert all(other != replayed for other in others)


def test_alternatives_are_words_that_decoding_may_produce(architecture: str) -> None:
    made = tiny.checkpoint(architecture)
    with torch.no_grad():
        made.model.bias[:4] += 9  # <pad>, <bos>, <eos> and <unk> first of all
    replayed = trace(made, tiny.scene(), ["dog", "runs"])
    for row in replayed.alternatives:
        assert row[0] == "<eos>"
        assert not {"<pad>", "<bos>", "<unk>"} & set(row)
    assert np.exp(replayed.alternative_log_probabilities).sum(1).max() < 0.5  # their probability is not shared out


def test_evaluation_reads_the_log_probabilities_of_the_trace() -> None:
    checkpoint, scenes = tiny.checkpoint("glied"), [tiny.scene(seed=i) for i in range(2)]
    texts = [[["a", "dog", "runs"], ["the", "ball"]], [["red", "beach"]]]
    expected = [
        value
        for scene, captions in zip(scenes, texts, strict=True)
        for words in captions
        for value in trace(checkpoint, scene, words).log_probabilities
    ]
    found = human_log_probability(checkpoint, scenes, texts)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", ["base", "glied"])
def test_an_outlook_is_the_next_step_of_a_trace(architecture: str) -> None:
    made, scene = tiny.checkpoint(architecture), tiny.scene()
    words = ("a", "dog", "runs", "on")
    whole = trace(made, scene, words)
    prefixes = [words[:2], (), words, ("man",), words[:1]]
    found = look_ahead(made, scene, prefixes)
    assert found.prefixes == tuple(map(tuple, prefixes))
    assert set(found.attention) == {"base": {"v", "a"}, "glied": {"v", "vl", "al"}}[architecture]
    for p, prefix in enumerate(prefixes):
        if prefix != ("man",):
            t = len(prefix)
            for name, weights in found.attention.items():
                np.testing.assert_allclose(weights[:, p], whole.attention[name][:, t], atol=1e-5)
            assert found.alternatives[p] == whole.alternatives[t]
            likely = whole.alternative_log_probabilities[t]
            np.testing.assert_allclose(found.alternative_log_probabilities[p], likely, atol=1e-5)


@pytest.mark.parametrize("removals", [False, True])
def test_json_holds_all_of_the_trace(architecture: str, removals: bool) -> None:
    replayed = trace(tiny.checkpoint(architecture), SCENE, (*WORDS, "éclair"), removals)
    told = json.loads(replayed.json())
    assert told.pop("format") == "glied-trace-2"
    assert set(told) == {f.name for f in fields(Trace)}
    for name, value in told.items():
        ours = getattr(replayed, name)
        if name == "attention":
            assert set(value) == set(ours)
            for key, weights in value.items():
                np.testing.assert_array_equal(np.array(weights, np.float32), ours[key])
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(np.array(value, np.float32).reshape(ours.shape), ours)
        elif name == "functions":
            assert [AttentionFunction(**function) for function in value] == list(ours)
        else:
            assert value == json.loads(json.dumps(ours))


def test_json_has_null_for_what_is_unknown(architecture: str) -> None:
    told = json.loads(trace(tiny.checkpoint(architecture), tiny.scene(1, 1), ("a",), falls=True).json())
    assert told["region_falls"] == told["attribute_falls"] == [[None], [None]]


def test_a_photograph_travels_with_the_trace(architecture: str, tmp_path: Path) -> None:
    replayed = trace(tiny.checkpoint(architecture), SCENE, WORDS, falls=True)
    data = replayed.packed(b"any bytes \x00\xff")
    assert unpack(data) == (replayed, b"any bytes \x00\xff")
    assert unpack(replayed.packed()) == (replayed, b"")
    (tmp_path / "a.npz").write_bytes(data)
    assert Trace.load(tmp_path / "a.npz") == replayed
    alone = trace(tiny.checkpoint(architecture), tiny.scene(1, 1), WORDS, falls=True)
    assert unpack(alone.packed())[0] == alone


def repacked(data: bytes, texts: dict, arrays: dict) -> bytes:
    """The file with some of its texts and arrays replaced, None for those left out."""
    with np.load(io.BytesIO(data)) as stored:
        found = {name: stored[name] for name in stored.files} | arrays
    header = json.loads(str(found["header"])) | texts
    found["header"] = np.array(json.dumps({name: value for name, value in header.items() if value is not None}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: array for name, array in found.items() if array is not None})
    return buffer.getvalue()


def changed(name: str, value: float) -> dict:
    """One number of an array of the trace of SCENE, changed."""
    whole = trace(tiny.checkpoint(), SCENE, WORDS, falls=True)
    array = np.array(whole.attention[name.split(".")[1]] if "." in name else getattr(whole, name))
    array[(0,) * array.ndim] = value
    return {name: array}


VD = {"name": "vd", "equation": 9, "over": "regions", "role": "grouping"}
VL = VD | {"name": "vl", "role": "local"}


@pytest.mark.parametrize(
    ("texts", "arrays", "reason"),
    [
        ({"words": ["a"]}, {}, "alternatives do not agree"),
        ({"labels": "abcde"}, {}, "lists"),
        ({"labels": ["a"]}, {}, "regions"),
        ({"labels": ["a" * 201] * 5}, {}, "too long"),
        ({"attributes": ["a", "b", "c", 4]}, {}, "a word is none"),
        ({"checkpoint": None}, {}, "KeyError"),
        ({"checkpoint": ["a"]}, {}, "a word is none"),
        ({"functions": []}, {}, "no region"),
        ({"functions": [VD]}, {}, "no region"),
        ({"functions": [VD, VL]}, {}, "disagree"),
        ({"functions": [VD, VL, VL]}, {}, "not told apart"),
        ({"functions": [VL | {"name": "boxes"}]}, {}, "not told apart"),
        ({"functions": [VL | {"name": "other"}]}, {}, "disagree"),
        ({"functions": [VL | {"over": "things"}]}, {}, "is none"),
        ({"functions": [VL | {"role": None}]}, {}, "is none"),
        ({"functions": [VL | {"equation": "9"}]}, {}, "is none"),
        ({"functions": [VL | {"name": "v" * 201}]}, {}, "is none"),
        ({"functions": [VL | {"more": 1}]}, {}, "TypeError"),
        ({"functions": ["vl"]}, {}, "Type"),
        ({"captioner": 1}, {}, "a word is none"),
        ({"size": [100]}, {}, "size"),
        ({"size": [100.0, 90.0]}, {}, "size"),
        ({"size": [50, 90]}, {}, "on the photograph"),
        ({"extra": 1}, {}, "TypeError"),
        ({"alternatives": [["a"]] * 6}, {}, "shapes disagree"),
        ({"alternatives": [["a"]]}, {}, "alternatives"),
        ({"inputs": ["<bos>", "b", "dog", "runs", "on", "grass"]}, {}, "words do not agree"),
        ({}, {"boxes": np.zeros((4, 4), np.float32)}, "shapes disagree"),
        ({}, {"boxes": np.array("boxes")}, "TypeError"),
        ({}, {"boxes": None}, "KeyError"),
        ({}, {"more": np.zeros(3, np.float32)}, "shapes disagree"),
        ({}, {"attention.vl": None}, "attention disagree"),
        ({}, {"attention.x": np.zeros((2, 6, 5), np.float32)}, "attention disagree"),
        ({}, {"region_falls": np.zeros((3, 5), np.float32)}, "disagree"),
        ({}, {"attribute_falls": np.zeros((0, 4), np.float32)}, "shapes disagree"),
        ({}, {"log_probabilities": np.array(["x"] * 6)}, "no numbers"),
        ({}, {"log_probabilities": np.zeros(6, np.complex64)}, "no numbers"),
        ({}, changed("boxes", np.nan), "boxes is not finite"),
        ({}, changed("boxes", -30), "on the photograph"),
        ({}, changed("boxes", 99), "on the photograph"),
        ({}, changed("log_probabilities", -np.inf), "not finite"),
        ({}, changed("region_falls", np.nan), "not finite"),
        ({}, changed("attribute_falls", 3e38), "not finite"),
        ({}, changed("attribute_scores", 1.5), "probabilities"),
        ({}, changed("attribute_regions", -0.1), "probabilities"),
        ({}, changed("attention.vd", 3e5), "sum to 1"),
        ({}, changed("attention.al", -1), "sum to 1"),
        ({}, {"photograph": np.zeros(3, np.float32)}, "TypeError"),
        ({}, {"attention.x": np.ones((65, 6, 6), np.float32) / 6}, "65 heads, at most 64"),
        ({"attributes": ["a"] * 1001}, {}, "1001 attributes, at most 1000"),
        ({"words": ["a"] * 201, "inputs": ["a"] * 201, "alternatives": [["a"]] * 201}, {}, "201 words, at most 200"),
        ({}, {"boxes": np.zeros((1001, 4), np.float32)}, "1001 regions, at most 1000"),
        ({"functions": [VL] * 51}, {}, "51 functions, at most 50"),
    ],
)
def test_parts_that_do_not_fit_are_refused(texts: dict, arrays: dict, reason: str) -> None:
    data = trace(tiny.checkpoint(), SCENE, WORDS, falls=True).packed()
    assert unpack(repacked(data, {}, {}))[0].text == "a dog runs on grass"
    with pytest.raises(GliedError, match=reason):
        unpack(repacked(data, texts, arrays))


def test_a_zip_bomb_is_not_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(3):
            file.writestr(f"{i}.npy", bytes(30 * 2**20))
    assert len(buffer.getvalue()) < 2**18
    with pytest.raises(GliedError, match=r"90 MB, 64 are allowed"):
        unpack(buffer.getvalue())
    data = trace(tiny.checkpoint(), SCENE, WORDS).packed()
    with pytest.raises(GliedError, match="allowed"):
        unpack(data, most=1000)


def test_a_file_that_lies_about_its_size_is_refused() -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("boxes.npy", head.getvalue() + bytes(64))
    with pytest.raises(GliedError, match="glied-trace-2"):
        unpack(buffer.getvalue())


def test_no_more_is_unpacked_than_a_file_declares() -> None:
    whole = 90 * 2**20
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.npy", bytes(whole))
    data = buffer.getvalue().replace(struct.pack("<I", whole), struct.pack("<I", 1000))
    assert len(data) < 2**17
    tracemalloc.start()
    with pytest.raises(GliedError, match="glied-trace-2"):
        unpack(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("entries", "packing"), [(101, zipfile.ZIP_STORED), (1, zipfile.ZIP_LZMA), (1, zipfile.ZIP_BZIP2)]
)
def test_a_file_packed_in_another_way_is_refused(entries: int, packing: int) -> None:
    """Many small parts take time; LZMA may ask for 4 GB of memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as file:
        for i in range(entries):
            file.writestr(f"{i}.npy", b"")
    with pytest.raises(GliedError, match="packed in another way"):
        unpack(buffer.getvalue())


def test_a_name_that_is_no_text_is_refused() -> None:
    whole = trace(tiny.checkpoint(), tiny.scene(), ("a", "dog"))
    with pytest.raises(GliedError, match="UnicodeEncodeError"):
        unpack(replace(whole, checkpoint="\udfff").packed())
