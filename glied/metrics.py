"""References and captions -> scores, by pycocoevalcap's own scorers over one tokenizer (glied/vocabulary.py)."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from glied.errors import GliedError
from glied.vocabulary import FUNCTION_WORDS, tokenize


@dataclass(frozen=True)
class Scores:
    """`corpus` maps a metric to its score, `images` an image to its scores; keys as pycocoevalcap names them."""

    corpus: dict[str, float]
    images: dict[str, dict[str, float]]


def score(references: Mapping[str, Sequence[str]], captions: Mapping[str, str], names: Sequence[str] = ()) -> Scores:
    """Bleu_1..4, ROUGE_L and CIDEr (all, or those in `names`) of one caption per image.

    CIDEr weighs words by their document frequency in `references`: it is a score of a whole split, and 0 for
    a single image.
    """
    if not captions or references.keys() != captions.keys():
        raise GliedError(
            f"Expected captions for exactly the {len(references)} images with references and at least "
            f"one, got {len(captions)}; caption the same images."
        )
    bare = [id for id, texts in references.items() if not texts]
    if bare:
        raise GliedError(f"Expected a reference for every image, {bare[0]} has none; leave it out.")
    gts = {id: [" ".join(tokenize(c)) for c in texts] for id, texts in references.items()}
    res = {id: [" ".join(tokenize(text))] for id, text in captions.items()}
    corpus: dict[str, float] = {}
    images: dict[str, dict[str, float]] = {id: {} for id in gts}
    for keys, scorer in (
        (("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"), Bleu(4)),
        (("ROUGE_L",), Rouge()),
        (("CIDEr",), Cider()),
    ):
        if names and not set(keys) & set(names):
            continue
        with redirect_stdout(StringIO()):
            total, each = scorer.compute_score(gts, res)
        if len(keys) == 1:
            total, each = [total], [each]
        for key, value, values in zip(keys, total, each, strict=True):
            corpus[key] = float(value)
            for id, v in zip(gts, values, strict=True):
                images[id][key] = float(v)
    return Scores(corpus, images)


def habits(captions: Iterable[str]) -> dict[str, float]:
    """How captions are written: mean `length` in words, number of distinct `words`, and the shares that end in a
    function word ("... with a") or say a content word twice ("a hat and a hat")."""
    spoken = [tokenize(caption) for caption in captions]
    last = [words[-1] for words in spoken if words]
    content = [[word for word in words if word not in FUNCTION_WORDS] for words in spoken]
    return {
        "length": sum(map(len, spoken)) / len(spoken),
        "words": len({word for words in spoken for word in words}),
        "ends_in_function_word": sum(word in FUNCTION_WORDS for word in last) / len(spoken),
        "repeats_content_word": sum(len(set(words)) < len(words) for words in content) / len(spoken),
    }
