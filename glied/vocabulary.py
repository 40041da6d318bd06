"""Words and their ids, and the one tokenizer that captions, attributes and references share."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from glied.errors import GliedError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

# The 14 words that Fang et al. (2015) do not count as attributes.
FUNCTION_WORDS = frozenset(["a", "on", "of", "the", "in", "with", "and", "is", "to", "an", "two", "at", "next", "are"])


# Words that hold a sentence together and show nothing: those 14, and more of their kind.
GRAMMAR_WORDS = FUNCTION_WORDS | {
    "that", "this", "these", "those", "there", "it", "its", "his", "her", "their", "he", "she", "they", "them",
    "him", "who", "which", "what", "one", "some", "several", "many", "another", "other", "others", "each",
    "both", "all", "very", "by", "for", "from", "into", "onto", "out", "off", "over", "under", "up", "down",
    "through", "near", "behind", "between", "around", "along", "across", "against", "above", "below", "beside",
    "besides", "towards", "toward", "inside", "while", "as", "when", "where", "has", "have", "having", "had",
    "be", "being", "been", "was", "were", "can", "or", "but", "not", "n't", "'s", "so", "just", "about",
    "after", "before", "like", "together", "other's", "it's",
}  # fmt: skip

# What the Penn Treebank tokenizer takes for one word in captions: decimals, times, initials, hyphenated and
# apostrophed words, contractions cut off. Punctuation is matched by none of these and so dropped.
_WORD = re.compile(
    r"""(?:[a-z]\.){2,}                                  # u.s.
    | [a-z]+(?=n't\b) | n't\b | '(?:s|re|ve|ll|d|m)\b    # is n't, man 's
    | \d+(?:[.,:/]\d+)+
    | [^\W_]+(?:[-&][^\W_]+)*(?='(?:s|re|ve|ll|d|m)\b)
    | [^\W_]+(?:[-'&_][^\W_]+)*
    | [&#$%@*+=]""",
    re.VERBOSE,
)


def tokenize(caption: str) -> list[str]:
    """Lower-case words as the Penn Treebank tokenizer of coco-caption cuts them, punctuation dropped:
    "A dog's ball, a t-shirt." -> ["a", "dog", "'s", "ball", "a", "t-shirt"].
    """
    return _WORD.findall(caption.lower().replace("\u2019", "'").replace("cannot", "can not"))


@dataclass(frozen=True)
class Vocabulary:
    """Words in id order; the first four are PAD, BOS, EOS and UNK."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL or len(set(self.words)) != len(self.words):
            raise GliedError(
                f"Expected a vocabulary of distinct words that begins with {' '.join(SPECIAL)}, "
                f"got one that begins with {' '.join(self.words[:4]) or 'nothing'}; rebuild it from the captions."
            )

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int = 5) -> "Vocabulary":
        """Every word seen at least `min_count` times, most frequent first, ties in alphabetical order."""
        counts = Counter(word for tokens in captions for word in tokens)
        kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls(SPECIAL + tuple(kept))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word -> id."""
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def check(self, words: Iterable[str]) -> None:
        """Raises GliedError for a word that captions cannot have; the message names the words spelled most like it."""
        for word in words:
            if word not in self or word in SPECIAL:
                near = ", ".join(get_close_matches(word, self.words[len(SPECIAL) :]))
                hint = f"take one that is spelled like it ({near}) or another" if near else "choose another"
                raise GliedError(f"Expected words that the captioner knows, got {word}; {hint}.")

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Ids of the words; an unknown word becomes UNK."""
        return [self.ids.get(word, UNK) for word in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words up to the first EOS; BOS and PAD are left out."""
        words = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.words[i])
        return words
