"""What a phrase says of its box: the head noun, the words for it, and which of them become names."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glied.phrases import JOINING, LEADING, choose_names, parse, singulars


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("A little girl", "little girl"),
        ("A LITTLE GIRL", "little girl"),
        ("dress", "dress"),
        ("three small brown dogs", "small brown dogs"),
        ("his other two dogs", "dogs"),
        # possessors
        ("the man's hat", "hat"),
        ("a man 's red hat", "red hat"),
        ("the dogs' ball", "ball"),
        ("another man 's dog 's leash", "leash"),
        # "of" ends the phrase, unless what is measured follows
        ("the top of the hill", "top"),
        ("the top of a pile of rocks", "top"),
        ("a pink set of stairs", "stairs"),
        ("a group of young men", "young men"),
        ("two pairs of black shoes", "black shoes"),
        ("a lot of people", "people"),
        # joined words
        ("black and white dog", "black white dog"),
        ("a black and white spotted dog", "black white spotted dog"),
        ("a brown , white and black dog", "brown white black dog"),
        ("a man and a dog", "man"),
        ("a man and his dog", "man"),
        ("men and women", "men"),
        ("red and blue", "red"),
        # prepositions
        ("a man in black", "man"),
        ("a young man with a red hat", "young man"),
        ("a girl wearing a pink dress", "girl"),
        ("from the left", "left"),
        # hyphens, digits, and words that come twice
        ("a white t-shirt", "white t-shirt"),
        ("A T-Shirt", "t-shirt"),
        ("a long-sleeved shirt", "long sleeved shirt"),
        ("a 3 year old boy", "year old boy"),
        ("a big big dog", "big dog"),
        ("a rock rock", "rock rock"),
        # no head
        ("", ""),
        ("   ", ""),
        ("a", ""),
        ("several others", ""),
        ("one of them", ""),
        ("a girl's", ""),
        ("104", ""),
        ("of", ""),
    ],
)
def test_head_and_modifiers(phrase: str, expected: str) -> None:
    *modifiers, head = expected.split() or [""]
    assert parse(phrase) == (head, tuple(modifiers))


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("white t-shirts", ("t-shirts", ("white",))),
        ("a series of colored gates", ("gates", ("colored",))),
        ("two bunches of grapes", ("grapes", ())),
        ("a couple of old men", ("men", ("old",))),
        ("a crowd of people of all ages", ("people", ())),
        ("a café", ("café", ())),
        ("a naïve child", ("child", ("naïve",))),
        ("the man’s red hat", ("hat", ("red",))),
    ],
)
def test_head_and_modifiers_of_rarer_phrases(phrase: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert parse(phrase) == expected


@given(st.text(st.sampled_from(string.ascii_letters + " -'.,3é’\n")) | st.text())
def test_any_text_gives_words_of_its_own(text: str) -> None:
    head, modifiers = parse(text)
    assert all(word in text.lower() for word in (head, *modifiers))
    assert not {head, *modifiers} & (LEADING | JOINING)
    assert len(set(modifiers)) == len(modifiers)
    assert head or not modifiers


PLAIN = st.sampled_from(["dog", "black", "little", "t-shirt", "haired", "year"])


@given(st.lists(PLAIN, max_size=4, unique=True), PLAIN, st.sampled_from(["", "a", "The", "two pairs of", "his three"]))
def test_words_before_a_noun_are_its_modifiers(modifiers: list[str], head: str, leading: str) -> None:
    phrase = " ".join([leading, *modifiers, head])
    assert parse(phrase) == parse(phrase.upper()) == (head, tuple(modifiers))


def heads(**counts: int) -> list[tuple[str, tuple[str, ...]]]:
    """So many phrases of each head, without modifiers."""
    return [(head, ()) for head, n in counts.items() for _ in range(n)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"dogs": 4, "dog": 1}, "dog"),
        ({"dogs": 5, "dog": 1}, "dogs"),  # below a quarter
        ({"dogs": 1}, "dogs"),  # nobody says "dog"
        ({"shorts": 20, "short": 2}, "shorts"),
        ({"dress": 2, "dres": 9}, "dress"),
        ({"dresses": 3, "dress": 3}, "dress"),
        ({"benches": 1, "bench": 7}, "bench"),
        ({"bikes": 1, "bike": 7}, "bike"),
        ({"ladies": 2, "lady": 2}, "lady"),
        ({"people": 4, "person": 1}, "person"),
        ({"people": 4, "man": 1}, "people"),
        ({"men": 1, "man": 9}, "man"),
        ({"children": 3, "child": 1}, "child"),
        ({"bus": 3, "bu": 0}, "bus"),
    ],
)
def test_singular_of_the_first(counts: dict[str, int], expected: str) -> None:
    found = singulars([*heads(**counts), ("", ())])
    first, *others = counts
    assert found[first] == expected
    assert found.keys() == {head for head, n in counts.items() if n}
    assert all(found.get(other, other) == other for other in others)


def test_names_are_what_comes_often_enough() -> None:
    phrases = [
        *[("man", ("young",))] * 3,
        *[("men", ("young", "tall"))] * 2,
        *[("dog", ("black",))] * 4,
        *[("cat", ("tall",))] * 4,
        *[("hat", ())] * 2,
        ("hats", ("red",)),
        *[("bird", ())] * 2,
        ("", ("black",)),
    ]
    names, attributes = choose_names(phrases, 3)
    assert names == {"man": "man", "men": "man", "cat": "cat", "dog": "dog", "hat": "hat", "hats": "hat"}
    assert list(dict.fromkeys(names.values())) == ["man", "cat", "dog", "hat"]  # 5, 4, 4 and 3 times
    assert attributes == ("tall", "black", "young")  # 6, 5 and 5 times
    assert choose_names(phrases, 6)[1] == ("tall",)
    assert choose_names(phrases, 7) == ({}, ())
    assert choose_names([], 1) == ({}, ())


@pytest.mark.parametrize(("times", "is_object"), [(5, True), (6, False)])
def test_a_word_three_times_as_frequent_as_a_modifier_is_no_object(times: int, is_object: bool) -> None:
    names, attributes = choose_names([*heads(black=2), *[("dog", ("black",))] * times], 2)
    assert ("black" in names) == is_object
    assert attributes == ("black",)


def test_names_of_flickr30k_entities(shared: Path) -> None:
    """The phrases that the detector is trained on: nearly all have a head, and every label of a region is read
    back as it was composed."""
    entities = json.loads((shared / "data" / "flickr8k" / "entities.json").read_text())
    phrases = [p["phrase"] for e in entities.values() for s in e["sentences"] for p in s["phrases"]]
    known = {phrase: parse(phrase) for phrase in set(phrases)}
    parsed = [known[phrase] for phrase in phrases]
    assert sum(head == "" for head, _ in parsed) < 0.04 * len(parsed)
    names, attributes = choose_names(parsed, 40)
    labels = list(dict.fromkeys(names.values()))
    assert labels[:4] == ["dog", "man", "person", "boy"]
    assert attributes[:3] == ("white", "black", "young")
    assert {"t-shirt", "shorts", "dress", "grass", "glasses", "stairs"} <= set(labels)
    assert [names[plural] for plural in ("dogs", "men", "people", "babies")] == ["dog", "man", "person", "baby"]
    assert not {"white", "black", "young"} & set(labels)
    assert all(names[label] == label for label in labels)
    assert all(parse(f"{a} {l}") == (l, (a,)) for a in attributes for l in labels)
