"""Noun phrases -> the object and the attributes that they name; one name for each object in all data sets."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

Parsed = tuple[str, tuple[str, ...]]

# words that only lead to the noun: articles, possessives, quantities (of the group, not of the one in the box)
LEADING = {
    "a", "an", "the", "his", "her", "its", "their", "my", "our", "your", "this", "that", "these", "those", "another",
    "other", "others", "each", "both", "all", "every", "any", "no", "some", "several", "many", "few", "various",
    "multiple", "numerous", "more", "most", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "dozen", "couple", "half", "who", "which", "him", "it", "they", "them", "she", "he", "himself", "herself",
    "themselves", "what", "very",
}  # fmt: skip
JOINING = {
    "and", "or", "with", "in", "on", "at", "from", "for", "by", "to", "that", "near", "behind", "wearing", "holding",
}  # fmt: skip
MEASURES = {
    "group", "set", "pair", "bunch", "piece", "crowd", "line", "row", "pack", "herd", "team", "series", "body",
    "bodies", "stack", "pile", "lot",
}  # fmt: skip

# The 80 classes of COCO (Lin et al. 2014).
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
# Words for the same object. What people distinguish stays apart: man, woman and child are not "person".
SYNONYMS = {
    "bike": "bicycle", "people": "person", "motorbike": "motorcycle", "dirt bike": "motorcycle",
    "motor bike": "motorcycle", "plane": "airplane", "aeroplane": "airplane", "sofa": "couch", "television": "tv",
    "cellphone": "cell phone", "ski": "skis", "doughnut": "donut", "fridge": "refrigerator", "purse": "handbag",
    "hotdog": "hot dog", "racket": "tennis racket", "racquet": "tennis racket", "tennis racquet": "tennis racket",
    "soccer ball": "sports ball", "tennis ball": "sports ball", "necktie": "tie", "kid": "child", "guy": "man",
    "lady": "woman", "gentleman": "man",
}  # fmt: skip
# What else an object of a class may be called: COCO says "person" where people say "man".
KINDS = {
    "person": {
        "man", "woman", "boy", "girl", "child", "baby", "toddler", "teenager", "adult", "male", "female", "player",
        "team", "crowd", "family", "surfer", "skier", "snowboarder", "skateboarder", "skater", "rider", "biker",
        "cyclist", "bicyclist", "motorcyclist", "hiker", "climber", "racer", "runner", "wrestler", "spectators",
        "spectator", "batter", "catcher", "umpire", "jockey", "driver", "pedestrian", "officer", "worker", "chef",
        "bride", "groom", "friend", "mother", "father",
    },
    "dog": {"puppy", "greyhound", "poodle", "shepherd"},
    "cat": {"kitten"},
    "cow": {"calf"},
    "sheep": {"lamb"},
    "car": {"taxi"},
    "bird": {"duck"},
    "boat": {"raft", "canoe", "kayak"},
    "dining table": {"table"},
    "potted plant": {"plant", "flowers"},
    "sports ball": {"ball", "football", "baseball", "basketball", "soccer"},
    "teddy bear": {"bear", "toy"},
    "baseball glove": {"glove"},
    "baseball bat": {"bat"},
    "cell phone": {"phone"},
    "surfboard": {"board"},
    "skateboard": {"board"},
    "snowboard": {"board"},
    "handbag": {"bag"},
    "backpack": {"bag"},
    "cup": {"drink"},
    "chair": {"seat"},
}  # fmt: skip
NOUNS = {name.split()[-1] for name in (*COCO_CLASSES, *SYNONYMS, *chain.from_iterable(KINDS.values()))}
COMPOUNDS = {name for name in (*COCO_CLASSES, *SYNONYMS) if " " in name}

# Nouns that are no object one could point at.
VAGUE = {
    "something", "someone", "there", "end", "middle", "way", "turn", "left", "distance", "outside", "outdoors", "edge",
    "lot", "top", "side", "back", "midair", "air", "trick", "object", "closeup", "event", "view", "shot", "day",
    "night", "background", "foreground", "light", "corner", "line",
}  # fmt: skip

IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "knives": "knife",
    "skies": "sky",
}  # fmt: skip


def parse(phrase: str) -> Parsed:
    """Head noun and modifiers of a noun phrase, in lower case: "A little girl" -> ("girl", ("little",)).

    The head is the last word before a preposition or conjunction, "of" included, unless what is measured follows
    ("a set of stairs" -> "stairs"). Modifiers stand before it, after any possessor ("the man's hat" -> "hat"); two may
    be joined ("black and white dog"). The head is "" where a phrase has none ("several others").
    """
    owned = re.sub(r"^.*['’]s?(?= |$)", "", phrase.lower())
    words = re.findall(r"t-shirts?|[^\W\d_]+", owned)
    while "of" in words:
        cut = words.index("of")
        measure = words[cut - 1] if cut else ""
        measured = {measure, measure.removesuffix("s"), measure.removesuffix("es")} & MEASURES
        words = words[cut + 1 :] if measured or measure in LEADING else words[:cut]
    found: list[str] = []
    for i, word in enumerate(words):
        if word in JOINING and found:
            rest = words[i + 1 : i + 3]
            if word != "and" or len(rest) < 2 or set(rest) & (LEADING | JOINING):
                break  # "a man and a dog"; but not "black and white dog"
        elif word not in LEADING | JOINING:
            found.append(word)
    return (found[-1], tuple(dict.fromkeys(found[:-1]))) if found else ("", ())


def singulars(phrases: Iterable[Parsed]) -> dict[str, str]:
    """Head noun -> its singular, where that is at least a quarter as frequent ("dogs" -> "dog", yet "shorts")."""
    heads = Counter(head for head, _ in phrases if head)
    return {head: _singular(head, heads) for head in heads}


def _singular(word: str, heads: Counter[str]) -> str:
    stems: Sequence[str] = (IRREGULAR.get(word, ""),)
    if word.endswith("s") and not word.endswith("ss") and word not in IRREGULAR:
        stems = (word[:-1], word[:-2] if word.endswith("es") else "", word[:-3] + "y" if word.endswith("ies") else "")
    return next((s for s in stems if heads[s] and heads[s] >= heads[word] / 4), word)


def name_object(phrase: Parsed, singular: Mapping[str, str]) -> str:
    """The object that a phrase names: its noun in the singular, with the word before it where the two are one name
    ("tennis racket"), and one word for synonyms. "" where the phrase has no noun."""
    head, modifiers = phrase
    noun = singular.get(head, head)
    compound = f"{modifiers[-1]} {noun}" if modifiers else ""
    name = compound if compound in COMPOUNDS else noun
    return SYNONYMS.get(name, name)


def find_classes(words: Sequence[str], classes: Collection[str]) -> dict[int, str]:
    """Position of every word of a caption that names one of `classes` -> that class. A plural, a synonym or a kind
    of a class ("men": person) names it too; a class of two words ("traffic light") is named by its last word, right
    after the first."""
    singular = singulars((word, ()) for word in {*words, *NOUNS})
    names = [name_object((word, tuple(words[:t][-1:])), singular) for t, word in enumerate(words)]
    found = [
        next((c for c in (name, *sorted(classes)) if c in classes and name in {c} | KINDS.get(c, set())), None)
        for name in names
    ]
    return {t: name for t, name in enumerate(found) if name is not None}


def label_object(label: str, singular: Mapping[str, str]) -> str:
    """The object in a region's label, such as "red shirt" or "black cell phone"."""
    return label if label in COCO_CLASSES else name_object(parse(label), singular)


def choose_names(
    phrases: Iterable[Parsed], least: int, classes: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Object labels and attributes: the words that occur at least `least` times in the phrases, most frequent first.

    A word three times as frequent as a modifier is no object ("a man in black"), nor are VAGUE words.

    Args:
        classes: names that are labels however seldom they occur.
    """
    phrases = list(phrases)
    singular = singulars(phrases)
    objects = Counter(name for phrase in phrases if (name := name_object(phrase, singular)))
    modifiers = Counter(word for _, words in phrases for word in words)
    frequent = {name for name, n in objects.items() if n >= least and modifiers[name] < 3 * n} - VAGUE
    labels = sorted(frequent | set(classes), key=lambda name: (-objects[name], name))
    attributes = sorted((w for w, n in modifiers.items() if n >= least), key=lambda w: (-modifiers[w], w))
    return tuple(labels), tuple(attributes)
