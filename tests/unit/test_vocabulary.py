"""The tokenizer against examples and against coco-caption's own, and the vocabulary's order and round trip."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.tokenizer import ptbtokenizer

from glied.errors import GliedError
from glied.vocabulary import BOS, EOS, FUNCTION_WORDS, PAD, SPECIAL, UNK, Vocabulary, tokenize

word = st.text("abcdefgé'-7", min_size=1, max_size=6)


@given(st.lists(word, unique=True), st.data())
def test_round_trip(words: list[str], data: st.DataObject) -> None:
    vocabulary = Vocabulary(SPECIAL + tuple(words))
    caption = data.draw(st.lists(st.sampled_from(words))) if words else []
    ids = vocabulary.encode(caption)
    assert vocabulary.decode(ids) == caption
    assert vocabulary.decode([BOS, *ids, EOS, *ids, PAD]) == caption
    assert [vocabulary.words[i] for i in ids] == caption
    assert all(w in vocabulary for w in caption)
    assert len(vocabulary) == 4 + len(words)


@given(st.lists(word, max_size=8))
def test_unknown_words_become_unk(words: list[str]) -> None:
    vocabulary = Vocabulary((*SPECIAL, "dog"))
    expected = [w if w == "dog" else "<unk>" for w in words]
    assert vocabulary.decode(vocabulary.encode(words)) == expected
    assert vocabulary.encode(["zebra"]) == [UNK]
    assert "zebra" not in vocabulary


def test_words_seen_five_times_ordered_by_count_then_alphabet() -> None:
    captions = [["b", "a", "c"]] * 5 + [["c", "d"]] * 4 + [["e", "e"]] * 2 + [["e"]]
    assert Vocabulary.build(captions).words == (*SPECIAL, "c", "a", "b", "e")
    assert Vocabulary.build(captions, min_count=4).words == (*SPECIAL, "c", "a", "b", "e", "d")
    assert Vocabulary.build([]).words == SPECIAL


@pytest.mark.parametrize("words", [(), ("a", "b"), (*SPECIAL, "a", "a"), (*SPECIAL[::-1], "a"), (*SPECIAL, "<pad>")])
def test_wrong_vocabulary_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(GliedError, match="distinct"):
        Vocabulary(words)


def test_function_words_are_fangs_fourteen() -> None:
    assert len(FUNCTION_WORDS) == 14
    assert {"a", "of", "next", "are"} < FUNCTION_WORDS
    assert not {"her", "it", "down"} & FUNCTION_WORDS


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("", ""),
        ("  . , !?\n", ""),
        ("A dog's ball, a t-shirt.", "a dog 's ball a t-shirt"),
        ("A man isn't walking", "a man is n't walking"),
        ("they can't, I'm here; we've gone", "they ca n't i 'm here we 've gone"),
        ("You cannot see it", "you can not see it"),
        ("The dogs' ball", "the dogs ball"),
        ("A dog\u2019s bone", "a dog 's bone"),
        ("A MAN IN A U.S. Army uniform.", "a man in a u.s. army uniform"),
        ("black-and-white photo", "black-and-white photo"),
        ("5 men at 10:30 with 1,000 balls 2.5 m", "5 men at 10:30 with 1,000 balls 2.5 m"),
        ("A café in the piñata", "a café in the piñata"),
        ('a sign saying "STOP" (red)', "a sign saying stop red"),
        ("a dog .a cat", "a dog a cat"),
        ("two\tmen\n on   bikes", "two men on bikes"),
        ("H&M store & shop", "h&m store & shop"),
    ],
)
def test_tokenize_examples(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@given(st.text(max_size=60))
def test_tokenize_takes_any_text(caption: str) -> None:
    words = tokenize(caption)
    assert all(w and not w.isspace() and w == w.lower() for w in words)
    assert not {".", ",", "!", "?", ";", ":", "-", '"', "(", ")"} & set(words)


def java_tokens(captions: list[str], folder: Path) -> list[list[str]]:
    """The words of coco-caption's tokenizer; all white space is made blank, or lines would shift."""
    lines = folder / "captions.txt"
    lines.write_text("\n".join(" ".join(c.split()) for c in captions), encoding="utf-8")
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = [
        "java",
        "-Dfile.encoding=UTF-8",
        "-cp",
        jar,
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        lines,
    ]
    out = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    dropped = {p.lower() for p in ptbtokenizer.PUNCTUATIONS} | set(ptbtokenizer.PUNCTUATIONS)
    return [[w for w in line.split() if w not in dropped] for line in out.rstrip("\n").split("\n")]


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java, which is not on PATH")
def test_agrees_with_coco_captions_tokenizer(shared: Path, tmp_path: Path) -> None:
    karpathy = json.loads((shared / "data" / "flickr8k" / "captions.json").read_text())
    captions = [s["raw"] for image in karpathy["images"] for s in image["sentences"]]
    coco = json.loads((shared / "data" / "coco_demo" / "fakecap_refs_1000.json").read_text())
    captions += [a["caption"] for a in coco["annotations"]]
    java = java_tokens(captions, tmp_path)
    assert len(java) == len(captions) > 35_000
    different = [c for c, words in zip(captions, java, strict=True) if tokenize(c) != words]
    assert len(different) <= 0.001 * len(captions), different[:10]
