"""Ways to decode compared: how different the captions of a photograph are, and how likely the captioner finds them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from glied.captions import Caption, DecodeOptions
from glied.checkpoint import Checkpoint
from glied.decode import caption
from glied.scene import Scene

WAYS = {
    "beam search, 6 kept": DecodeOptions(beam=6, n_best=6),
    "3 groups of 2, diversity 0.5": DecodeOptions(beam=6, n_best=6, groups=3),
    "3 groups of 2, diversity 2": DecodeOptions(beam=6, n_best=6, groups=3, diversity=2.0),
    "6 groups of 1, diversity 0.5": DecodeOptions(beam=6, n_best=6, groups=6),
    "nucleus sampling, 0.9": DecodeOptions(method="sample", n_best=6, top_p=0.9),
    "sampling among all words": DecodeOptions(method="sample", n_best=6),
}


def compare_ways(checkpoint: Checkpoint, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Six captions of each photograph in each of the WAYS, seed 0.

    Returns:
        `photographs`; `rows` of `way`, `captions`, `different` captions per photograph, different pairs of neighbouring
        words in a photograph's captions over their number of words (`pairs`; distinct-2, Li et al. 2016), different
        `words` in all captions, and the mean `log_p` of a caption, in nats.
    """
    rows = []
    for way, options in WAYS.items():
        found = [caption(checkpoint, [scene], options)[0].captions for scene in scenes]
        every = [each for captions in found for each in captions]
        rows.append(
            {
                "way": way,
                "captions": len(every),
                "different": sum(len({each.words for each in captions}) for captions in found) / len(found),
                "pairs": sum(map(_distinct, found)) / len(found),
                "words": len({word for each in every for word in each.words}),
                "log_p": sum(each.log_probability for each in every) / len(every),
            }
        )
    return {"photographs": len(scenes), "rows": rows}


def _distinct(captions: Sequence[Caption]) -> float:
    pairs = {pair for each in captions for pair in pairwise(each.words)}
    return len(pairs) / max(1, sum(len(each.words) for each in captions))


def table(result: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [f"{result['photographs']} photographs, six captions of each"]
    lines += [f"{'':28s} {'different':>9s} {'pairs':>6s} {'words':>6s} {'log p':>7s}"]
    lines += [
        f"{r['way']:28s} {r['different']:9.1f} {r['pairs']:6.2f} {r['words']:6d} {r['log_p']:7.2f}"
        for r in result["rows"]
    ]
    return "\n".join(lines)
