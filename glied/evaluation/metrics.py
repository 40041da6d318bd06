"""References and captions -> scores, by pycocoevalcap's own scorers, each by itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from glied.errors import GliedError
from glied.evaluation.java import Unavailable, meteor, ptb_tokenize, spice
from glied.records import reason
from glied.vocabulary import FUNCTION_WORDS, tokenize

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")


@dataclass(frozen=True)
class Scores:
    """What captions score.

    Attributes:
        corpus: metric -> score; None if it cannot be computed. Keys as pycocoevalcap names them; its CIDEr is CIDEr-D.
        images: image -> metric -> score, for the metrics that have one for each image.
        missing: metric -> why it is None: `java_missing`, `java_failed`, `spice_models_missing`, `timeout` or
            `scorer_failed`, and a sentence.
        tokenizer: `ptb` (coco-caption's, in Java) or `python` (ours, which cuts 99.9 percent of captions alike).
    """

    corpus: dict[str, float | None]
    images: dict[str, dict[str, float]]
    missing: dict[str, tuple[str, str]]
    tokenizer: str


def score(
    references: Mapping[str, Sequence[str]],
    captions: Mapping[str, str],
    names: Sequence[str] = METRICS,
    ptb: bool = True,
    timeout: float | None = None,
) -> Scores:
    """Scores one caption per image against its references, each metric by itself.

    CIDEr weighs words by their document frequency in `references`: it is a score of a whole split, and 0 for
    a single image.

    Args:
        names: which of METRICS.
        ptb: cut words as coco-caption does, where there is a Java; training does without.
        timeout: seconds that a Java program may take; its usual time many times over by default.
    """
    from pycocoevalcap.bleu.bleu import Bleu  # of the extra `evaluate`: what else is here, the app needs too
    from pycocoevalcap.rouge.rouge import Rouge

    if not captions or references.keys() != captions.keys():
        raise GliedError(
            f"Expected captions for exactly the {len(references)} images with references and at least "
            f"one, got {len(captions)}{_example(references, captions)}; caption the same images."
        )
    bare = [id for id, texts in references.items() if not texts]
    if bare:
        raise GliedError(f"Expected a reference for every image, {bare[0]} has none; leave it out.")
    ids = list(references)
    flat = [text for id in ids for text in (*references[id], captions[id])]
    limit = {} if timeout is None else {"timeout": timeout}
    words, tokenizer = None, "python"
    if ptb:
        with suppress(Unavailable, OSError):
            words, tokenizer = ptb_tokenize(flat, **limit), "ptb"
    cut = map(" ".join, words or map(tokenize, flat))
    gts, res = {}, {}
    for id in ids:
        gts[id] = [next(cut) for _ in references[id]]
        res[id] = [next(cut)]
    texts, told = list(gts.values()), [text for (text,) in res.values()]
    scorers: dict[tuple[str, ...], Callable[[], list[tuple[float, Sequence[float]]]]] = {
        METRICS[:4]: lambda: list(zip(*_silent(Bleu(4), gts, res), strict=True)),
        ("METEOR",): lambda: [meteor(texts, told, **limit)],
        ("ROUGE_L",): lambda: [_silent(Rouge(), gts, res)],
        ("CIDEr",): lambda: [_cider(gts, res)],
        ("SPICE",): lambda: [(spice(texts, told, **limit), ())],
    }
    found = Scores({}, {id: {} for id in ids}, {}, tokenizer)
    for keys, compute in scorers.items():
        if not set(keys) & set(names):
            continue
        try:
            columns = compute()
        except (Unavailable, OSError, MemoryError) as error:  # these stop one metric; a bug of ours stops all
            found.corpus.update(dict.fromkeys(keys))
            found.missing.update(dict.fromkeys(keys, _why(error)))
            continue
        for key, (value, values) in zip(keys, columns, strict=True):
            found.corpus[key] = float(value)
            for id, v in zip(ids, values, strict=False):  # SPICE has none for each image
                found.images[id][key] = float(v)
    return found


def _why(error: Exception) -> tuple[str, str]:
    """Why a metric is missing: a word for programs, and a sentence."""
    if isinstance(error, Unavailable):
        return error.reason, str(error)
    said = "there was not enough memory" if isinstance(error, MemoryError) else reason(error)
    place = " in the temporary folder (TMPDIR)" if isinstance(error, OSError) else ""
    return "scorer_failed", f"It could not be computed for want of room{place}: {said}."


def doubt(images: int) -> list[str]:
    """A sentence if CIDEr means nothing because it is of one image."""
    said = "CIDEr means nothing here: it weighs words by how many images they come in, and there is one"
    return [said] if images == 1 else []


def _silent(scorer: Any, gts: dict, res: dict) -> tuple[Any, Any]:
    """A scorer's answer; what it prints is discarded."""
    with redirect_stdout(StringIO()):
        return scorer.compute_score(gts, res)


def _cider(gts: dict, res: dict) -> tuple[Any, Any]:
    """CIDEr-D, which has no document frequencies where no reference has a word."""
    from pycocoevalcap.cider.cider import Cider

    if not any(map(any, gts.values())):
        raise Unavailable("scorer_failed", "Expected words in the references, got none.")
    return _silent(Cider(), gts, res)


def _example(references: Mapping[str, Any], captions: Mapping[str, Any]) -> str:
    """The first image that only one side has."""
    for name, ids in (("references", references.keys() - captions.keys()), ("a caption", captions.keys() - references)):
        if ids:
            return f" ({min(ids)} has only {name})"
    return ""


def habits(captions: Iterable[str], known: Iterable[str] = ()) -> dict[str, float]:
    """How captions are written: mean `length` in words, number of distinct `words`, and the shares of captions that end
    in a function word ("... with a"), have a content word twice ("a hat and a hat"), or, given `known` captions, are
    none of these (`novel`)."""
    spoken = [tokenize(caption) for caption in captions]
    heard = {tuple(tokenize(caption)) for caption in known}
    last = [words[-1] for words in spoken if words]
    content = [[word for word in words if word not in FUNCTION_WORDS] for words in spoken]
    found = {
        "length": sum(map(len, spoken)) / len(spoken),
        "words": len({word for words in spoken for word in words}),
        "ends_in_function_word": sum(word in FUNCTION_WORDS for word in last) / len(spoken),
        "repeats_content_word": sum(len(set(words)) < len(words) for words in content) / len(spoken),
    }
    return found | ({"novel": sum(tuple(words) not in heard for words in spoken) / len(spoken)} if heard else {})


def bootstrap(scores: Float[np.ndarray, " I"]) -> Float[np.ndarray, " resamples"]:
    """10,000 means over images drawn with replacement, the same draws for every call (Efron 1979)."""
    random = np.random.default_rng(0)
    return np.array([random.choice(scores, len(scores)).mean() for _ in range(10_000)])


def interval(scores: Float[np.ndarray, " I"]) -> tuple[float, float]:
    """95 percent bootstrap interval of the mean over images."""
    low, high = np.quantile(bootstrap(scores), [0.025, 0.975])
    return float(low), float(high)


def paired(first: Float[np.ndarray, " I"], second: Float[np.ndarray, " I"]) -> dict[str, float]:
    """How much `first` exceeds `second` on the same images: mean difference, its 95 percent bootstrap interval, and
    the two-sided p-value: twice the share of resamples on the other side of 0 (Koehn 2004)."""
    means = bootstrap(first - second)
    low, high = np.quantile(means, [0.025, 0.975])
    p = 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (1 + len(means))
    difference = (first - second).mean()
    return {"difference": float(difference), "low": float(low), "high": float(high), "p": min(1.0, float(p))}


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Spearman's, ties at their mean rank; NaN where either is constant, empty or unknown."""
    ranks = [pd.Series(values).rank().to_numpy() for values in (x, y)]
    if not len(x) or np.isnan(ranks).any() or min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
