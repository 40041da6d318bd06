"""What a noun phrase of Flickr30k Entities says of its box: an object and its attributes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

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
IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot"}


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
    if word.endswith("s") and not word.endswith("ss"):
        stems = (word[:-1], word[:-2] if word.endswith("es") else "", word[:-3] + "y" if word.endswith("ies") else "")
    return next((s for s in stems if heads[s] and heads[s] >= heads[word] / 4), word)


def choose_names(phrases: Iterable[Parsed], least: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Head noun -> object label, and the attributes: what comes at least `least` times, most frequent first.

    A label is a singular noun; a word three times as frequent as a modifier is no object ("a man in black").
    """
    phrases = list(phrases)
    singular = singulars(phrases)
    nouns = Counter(singular[head] for head, _ in phrases if head)
    modifiers = Counter(word for _, words in phrases for word in words)
    labels = [w for w in nouns if nouns[w] >= least and modifiers[w] < 3 * nouns[w]]
    labels.sort(key=lambda w: (-nouns[w], w))
    attributes = sorted((w for w, n in modifiers.items() if n >= least), key=lambda w: (-modifiers[w], w))
    return {head: label for label in labels for head in sorted(singular) if singular[head] == label}, tuple(attributes)
