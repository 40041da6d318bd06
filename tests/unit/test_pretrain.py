"""Training on text: what counts as a text, what it borrows, and that a captioner can go on from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glied.data.texts import read_texts
from glied.errors import GliedError
from glied.training.cross_entropy import TrainOptions, train_captioner
from glied.training.material import Places, prepare
from glied.training.text import NEAREST, TextOptions, borrow, fit_texts, train_on_text
from glied.vocabulary import BOS, EOS, PAD

TEXTS = {
    "1": ["A red wall in the sun.", "The red wall."],
    "2": ["The wall is green."],
    "3": ["A purple elephant."],  # words that the data set does not have
    "4": ["The wall is white.", "A purple wall."],
    "5": ["is the in a"],
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(TEXTS))
    return file


def test_texts_are_read_in_three_layouts(tmp_path: Path, texts: Path) -> None:
    assert read_texts(texts).captions == TEXTS
    coco = tmp_path / "coco.json"
    pairs = [{"image_id": int(id), "caption": c} for id, captions in TEXTS.items() for c in captions]
    coco.write_text(json.dumps({"images": [], "annotations": pairs}))
    assert read_texts(coco).captions == TEXTS
    karpathy = tmp_path / "karpathy.json"
    images = [{"filename": f"{id}.jpg", "sentences": [{"raw": c} for c in captions]} for id, captions in TEXTS.items()]
    karpathy.write_text(json.dumps({"dataset": "x", "images": images}))
    assert read_texts(karpathy).captions == {f"{id}.jpg": captions for id, captions in TEXTS.items()}
    karpathy.write_text(json.dumps({"images": [image | {"cocoid": int(image["filename"][0])} for image in images]}))
    assert read_texts(karpathy).captions == TEXTS


def test_all_of_coco_comes_inside_pycocoevalcap() -> None:
    found = read_texts("coco").captions
    assert len(found) == 123_287
    assert sum(map(len, found.values())) == 616_767


OTHERS = [
    "[1, 2]",
    '{"7": {"caption": "a dog"}}',
    "3",
    "null",
    '{"1": 2}',
    '{"1": [2]}',
    '{"images": [{"filename": "x"}]}',
    "no JSON",
]


@pytest.mark.parametrize("content", [*OTHERS, '{"annotations": [{"caption": "a"}]}'])
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(GliedError, match=r"x\.json"):
        read_texts(tmp_path / "x.json")
    with pytest.raises(GliedError, match="missing"):
        read_texts(tmp_path / "missing.json")


def test_texts_keep_known_captions_and_find_photographs_like_them(places: Places, texts: Path) -> None:
    material = prepare(places, False, 1)
    fitted = fit_texts(list(read_texts(texts).captions.values()), material, 20, 3)
    words = material.vocabulary
    spoken = [{" ".join(words.decode(ids)) for ids in text.tolist() if ids[1] != PAD} for text in fitted.tokens]
    assert {"the wall is white"} in spoken  # the purple wall is left out
    assert not any("elephant" in caption for captions in spoken for caption in captions)
    assert (fitted.tokens[:, :, 0] == BOS).all()
    assert ((fitted.tokens == EOS).sum((1, 2)) == torch.tensor([len(captions) for captions in spoken])).all()
    assert (fitted.similarity.diff() <= 0).all()
    assert fitted.nearest.shape[1] == NEAREST
    for captions, photographs in zip(spoken, fitted.nearest.tolist(), strict=True):
        for colour in {"red", "green", "white"} & set(material.detector.words):
            if any(colour in caption for caption in captions):
                assert all(colour in material.train.photographs[i].captions[0] for i in photographs[:1])


def test_photographs_of_val_are_no_texts(places: Places) -> None:
    """Two captions in common: a text of the very photograph; one may be chance."""
    material = prepare(places, False, 1)
    [photograph] = [p for p in material.val.photographs if "red" in p.captions[0]][:1]
    one = [photograph.captions[0], "The red wall."]
    fitted = fit_texts([list(photograph.captions), one], material, 20, 9)
    assert len(fitted.tokens) == 1
    assert (fitted.tokens == EOS).sum() == 2


def test_words_that_the_photograph_lacks_are_put_among_its_attributes(places: Places, texts: Path) -> None:
    material = prepare(places, False, 1)
    fitted = fit_texts(list(read_texts(texts).captions.values()), material, 20, 3)
    attributes = material.attributes
    photographs, found = borrow(fitted, torch.arange(3), attributes, 0.0)
    assert torch.equal(found, attributes[photographs])
    one = attributes[:, :1]  # a detector that found one word
    absent = torch.full_like(one, material.vocabulary.ids["sun"])  # which only the first text says
    _, found = borrow(fitted, torch.arange(3), absent, 1.0)
    assert all(row[0] in own for row, own in zip(found, fitted.words, strict=True))
    assert not torch.equal(found, absent)
    assert torch.equal(one, attributes[:, :1]), "the data set's own attributes stay as they are"


def test_no_usable_text_is_said(places: Places) -> None:
    with pytest.raises(GliedError, match="found none in the texts"):
        fit_texts([["purple elephants"]], prepare(places, False, 1), 20, 3)


def test_a_captioner_goes_on_from_text(places: Places, texts: Path, tmp_path: Path) -> None:
    options = TextOptions(epochs=4, images=2, warmup=2, rate=2e-3, min_count=1)
    first = train_on_text("glied", [texts], places, options)
    assert first.provenance["texts"] == {"files": ["texts.json"], "captions": 5}
    again = replace(places, run=tmp_path / "again")
    second = train_captioner("glied", again, TrainOptions(epochs=1, images=4, warmup=4), places.best)
    assert second.provenance["initial"]["command"] == "train text glied"
    assert second.vocabulary == first.vocabulary


def test_the_vocabulary_of_coco() -> None:
    """Words that come five times in all 616,767 captions: near the paper's 9,567 (whose split lacks val and test)."""
    from glied.vocabulary import Vocabulary, tokenize

    counted = Vocabulary.build((tokenize(c) for text in read_texts("coco").captions.values() for c in text), 5)
    assert 9_000 < len(counted) < 12_000
