"""Ways to decode compared: how different the captions of a photograph are, and how likely the captioner finds them."""

from collections.abc import Sequence
from typing import Any

from glied.captions import DecodeOptions
from glied.checkpoint import Checkpoint
from glied.decode import caption
from glied.scene import Scene

WAYS = {
    "beam search, 6 kept": DecodeOptions(beam=6, n_best=6),
    "diverse, 3 groups of 2": DecodeOptions(beam=6, n_best=6, groups=3),
    "diverse, 6 groups of 1": DecodeOptions(beam=6, n_best=6, groups=6),
    "nucleus sampling, 0.9": DecodeOptions(method="sample", n_best=6, top_p=0.9),
    "sampling among all words": DecodeOptions(method="sample", n_best=6),
}


def compare_ways(checkpoint: Checkpoint, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Six captions of each photograph in each of the WAYS, seed 0.

    Returns:
        `photographs`; `rows` of `way`, `captions`, `different` captions per photograph, different `words` in all
        captions, and the mean `log_p` of a caption, in nats.
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
                "words": len({word for each in every for word in each.words}),
                "log_p": sum(each.log_probability for each in every) / len(every),
            }
        )
    return {"photographs": len(scenes), "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [f"{result['photographs']} photographs, six captions of each", f"{'':26s} different  words  mean log p"]
    lines += [f"{r['way']:26s} {r['different']:9.1f} {r['words']:6d} {r['log_p']:11.2f}" for r in result["rows"]]
    return "\n".join(lines)
