"""What a phrase says of its box: the head noun, the words for it, and which of them become names."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glied.data.phrases import (
    COCO_CLASSES,
    JOINING,
    LEADING,
    SYNONYMS,
    VAGUE,
    choose_names,
    label_object,
    name_object,
    parse,
    singulars,
)


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
    assert names == ("man", "cat", "dog", "hat")  # 5, 4, 4 and 3 times
    assert attributes == ("tall", "black", "young")  # 6, 5 and 5 times
    assert choose_names(phrases, 6)[1] == ("tall",)
    assert choose_names(phrases, 7) == ((), ())
    assert choose_names([], 1) == ((), ())


def test_classes_are_names_however_seldom_they_come() -> None:
    phrases = [*heads(dog=3, cat=1, fox=1), *[("hat", ("red",))] * 2, ("person", ())]
    assert choose_names(phrases, 2, ["cat", "hot dog", "dog"]) == (("dog", "hat", "cat", "hot dog"), ("red",))
    assert choose_names(phrases, 9, ["person"])[0] == ("person",)


def test_synonyms_are_counted_together() -> None:
    phrases = [*heads(bike=2, bicycles=1, bicycle=1, sofa=3, people=2), ("bike", ("dirt",)), ("motorbike", ())]
    assert choose_names(phrases, 2)[0] == ("bicycle", "couch", "motorcycle", "person")  # 4, 3, 2 and 2 times
    assert choose_names(phrases, 4)[0] == ("bicycle",)


def test_vague_words_are_no_names() -> None:
    phrases = [*heads(background=9, light=9, dog=2), *[("light", ("traffic",))] * 3, *[("wall", ("side",))] * 2]
    assert choose_names(phrases, 2) == (("traffic light", "dog", "wall"), ("traffic", "side"))
    assert choose_names(phrases, 2, ["light"])[0][0] == "light"  # unless a data set has it as a class


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("a black dog", "dog"),
        ("three dogs", "dog"),
        ("a tennis racket", "tennis racket"),
        ("red tennis rackets", "tennis racket"),
        ("his racquet", "tennis racket"),
        ("a yellow tennis ball", "sports ball"),
        ("a ball", "ball"),
        ("a hot dog", "hot dog"),
        ("a dog", "dog"),
        ("a hot black dog", "dog"),  # only the word before the noun
        ("a red dirt bike", "motorcycle"),
        ("dirt bikes", "motorcycle"),
        ("mountain bikes", "bicycle"),
        ("an old lady", "woman"),
        ("people", "person"),
        ("two kids", "child"),
        ("a man", "man"),  # people are told apart
        ("skis", "skis"),
        ("a ski", "skis"),
        ("several others", ""),
    ],
)
def test_one_name_for_each_object(phrase: str, expected: str) -> None:
    singular = {"dogs": "dog", "rackets": "racket", "bikes": "bike", "kids": "kid", "people": "people", "skis": "ski"}
    assert name_object(parse(phrase), singular) == expected


def test_plurals_without_a_singular_in_the_data_are_their_own_name() -> None:
    assert name_object(("dogs", ()), {}) == "dogs"
    assert name_object(("people", ()), {}) == "person"
    assert name_object(("people", ()), {"people": "person"}) == "person"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("red shirt", "shirt"),
        ("black cell phone", "cell phone"),
        ("cell phone", "cell phone"),
        ("phone", "phone"),
        ("hot dog", "hot dog"),
        ("big hot dog", "hot dog"),
        ("hot", "hot"),
        ("red tennis racket", "tennis racket"),
        ("skis", "skis"),
        ("long skis", "skis"),
        ("scissors", "scissors"),
        ("brown sofa", "couch"),
        ("white t-shirt", "t-shirt"),
        ("red traffic light", "traffic light"),
        ("", ""),
    ],
)
def test_the_object_of_a_label(label: str, expected: str) -> None:
    assert label_object(label, {"skis": "ski", "scissors": "scissor"}) == expected


@pytest.mark.parametrize("name", [name for name in COCO_CLASSES if name != "scissors"])
def test_a_class_is_read_back_from_phrases_and_labels(name: str) -> None:
    """Of a class, of a phrase and of a label with an attribute: one and the same name."""
    singular = singulars([parse(name), (name, ())])
    assert name_object((name, ()), singular) == name
    assert name_object(parse(f"a green {name}"), singular) == name
    assert label_object(name, singular) == label_object(f"green {name}", singular) == name


def test_the_vocabulary_agrees_with_itself() -> None:
    assert len(set(COCO_CLASSES)) == 80
    assert not SYNONYMS.keys() & set(SYNONYMS.values()), "a synonym of a synonym"
    assert not SYNONYMS.keys() & set(COCO_CLASSES)
    assert not VAGUE & {*SYNONYMS, *SYNONYMS.values(), *COCO_CLASSES}


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
    labels, attributes = choose_names(parsed, 40)
    assert labels[:5] == ("dog", "man", "person", "woman", "boy")  # with every "lady", more women than boys
    assert attributes[:3] == ("white", "black", "young")
    assert {"t-shirt", "shorts", "dress", "grass", "glasses", "stairs"} <= set(labels)
    singular = singulars(parsed)
    plurals = ("dogs", "men", "people", "babies", "bikes", "kids")
    assert [name_object((p, ()), singular) for p in plurals] == ["dog", "man", "person", "baby", "bicycle", "child"]
    assert not ({"white", "black", "young", "bike", "sofa"} | VAGUE) & set(labels)
    assert all(label_object(label, singular) == label for label in labels)
    together = {(a, l) for a in attributes for l in labels if label_object(f"{a} {l}", singular) != l}
    assert all(SYNONYMS.get(f"{a} {l}", f"{a} {l}") in {*COCO_CLASSES, *SYNONYMS.values()} for a, l in together)
