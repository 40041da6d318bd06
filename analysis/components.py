"""The components that pages and notebooks draw with: their files, and the data of a trace that they draw, for JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.attention import agreements, cited, first_step, key_shares, pooled, region_names, senses, spoken
from analysis.beam import Node, revisits, title_of
from analysis.collocations import cluster, lift_table
from analysis.groups import ALIKE, cluster_regions, described, groupings
from glied.captions import DecodeOptions
from glied.functions import AttentionFunction, feeding, find
from glied.traces import Outlook, Trace

FILES = Path(__file__).parents[1] / "app" / "components"
PHOTO = ("rove", "photo")  # put before a component that shows a photograph
MOST, LONGEST = 100, 40  # words to begin with, characters of a word


def read_files(*names: str) -> tuple[str, str]:
    """The styles and the scripts of these components, joined; the last one is drawn, the others are its parts."""
    files = {kind: [FILES / f"{name}.{kind}" for name in names] for kind in ("css", "js")}
    css, js = ("".join(file.read_text("utf-8") for file in files[kind] if file.is_file()) for kind in ("css", "js"))
    return css, js


def has_attributes(trace: Trace) -> bool:
    """Whether the captioner was given attributes. The trace of one without has <unk> as its only attribute."""
    return trace.attributes != ("<unk>",) or feeding(trace.functions, "attributes") is not None


def regions_of(trace: Trace) -> dict[str, Any]:
    """What is drawn on the photograph."""
    return {
        "size": trace.size,
        "boxes": rounded(trace.boxes, 1),
        "names": region_names(trace),
        "labels": trace.labels,
        "attributes": [spoken(word) for word in trace.attributes] if has_attributes(trace) else [],
    }


def caption_of(trace: Trace) -> dict[str, Any]:
    """The regions and attributes of a trace, and its words with their probabilities."""
    return regions_of(trace) | {
        "digest": trace.digest,
        "scores": rounded(trace.attribute_scores) if has_attributes(trace) else [],
        "seen": rounded(trace.attribute_regions) if has_attributes(trace) else [],
        "words": [spoken(word) for word in trace.words],
        "log_probabilities": rounded(trace.log_probabilities),
        "alternatives": [[spoken(word) for word in words] for words in trace.alternatives],
        "alternative_log_probabilities": rounded(trace.alternative_log_probabilities),
        "heads": trace.heads,
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
    }


def rounded(array: np.ndarray, digits: int = 5) -> list:
    """Nested lists that JSON can hold: NaN becomes None. More digits than are shown, so that two views of a number
    round alike."""
    values = array.astype(float).round(digits).astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def board_functions(trace: Trace) -> dict[str, AttentionFunction | None]:
    """The attention functions that the board draws, by its names for them."""
    groups, coarse = (find(trace.functions, "regions", role) for role in ("grouping", "global"))
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse, context = (None if coarse == fine else coarse), find(trace.functions, "words", "context")
    return {"groups": groups, "coarse": coarse, "fine": fine, "read": read, "context": context}


def board_payload(trace: Trace) -> dict[str, Any]:
    """All that the board draws on the photograph, for every word, head and region."""
    drawn, shares = board_functions(trace), key_shares(trace)
    return caption_of(trace) | {
        "total": round(float(trace.log_probabilities.sum()), 2),
        "cited": {name: cited(trace, function) for name, function in drawn.items()},
        **{name: rounded(trace.attention[function.name]) if function else None for name, function in drawn.items()},
        "key_shares": {
            name: None if np.isnan(shares[f.name]) else round(shares[f.name], 2)
            for name, f in drawn.items()
            if f and f.name in shares
        },
        "alike": _alike(trace),
        "agreement": rounded(agreements(trace), 2),
        "senses": [f"{sense.kind}s" for sense in senses(trace)],
        "first": first_step(trace),
    }


def _alike(trace: Trace) -> dict[str, Any] | None:
    """Which regions gather alike, by the mean over heads and by each head: the order of the regions, the joints of
    their tree, where each cluster ends, and a description of each. None for a captioner without groupings."""
    names, found = region_names(trace), []
    for head in range(trace.heads + 1):
        if (shares := groupings(trace, head)) is None:
            return None
        known = cluster_regions(shares)
        ends = np.cumsum([len(members) for members in known.members]).tolist()
        forks = rounded(known.tree.forks, 3)
        found.append(
            {"order": known.tree.order.tolist(), "forks": forks, "ends": ends, "told": described(shares, known, names)}
        )
    return {"heads": found, "cut": 1 - ALIKE, "from": ALIKE}


def beam_payload(
    trace: Trace, outlook: Outlook, nodes: tuple[Node, ...], decoding: DecodeOptions, head: int = 0
) -> dict[str, Any]:
    """All that the tree of a search draws, except the photograph: its nodes, and the attention at each, of a head or
    the mean (0)."""
    fine, read = (feeding(trace.functions, over) for over in ("regions", "attributes"))
    coarse = find(trace.functions, "regions", "global")

    def steered(n: Node) -> tuple[int, int, list[int], int]:
        return n.group, n.taken, [decoding.require.index(word) for word in n.met], n.drawn

    found: dict[str, Any] = regions_of(trace) | {
        "trace": trace.digest,
        "nodes": [
            [n.parent, n.step, n.word, round(n.total, 4), round(n.own, 4), n.status, n.outlook, *steered(n)]
            for n in nodes
        ],
        "title": title_of(decoding),
        "groups": decoding.groups,
        "diversity": decoding.diversity,
        "require": decoding.require,
        "samples": decoding.n_best if decoding.method == "sample" else 0,
        "best": [n.id for n in nodes if n.best],
        "forced": len({n.step for n in nodes if n.forced}),
        "cited": {"coarse": cited(trace, coarse), "fine": cited(trace, fine)},
        "alternatives": outlook.alternatives,
        "alternative_log_probabilities": rounded(outlook.alternative_log_probabilities),
        "region_falls": rounded(trace.region_falls),
        "attribute_falls": rounded(trace.attribute_falls),
    }
    regions = pooled(outlook.attention[fine.name], head) if fine else None
    seen: dict[str, Any] = {
        "head": head,
        "fine": None if regions is None else rounded(regions),
        "read": rounded(pooled(outlook.attention[read.name], head)) if read else None,
        "coarse": None,
        "revisits": None,
    }
    if coarse and coarse != fine and regions is not None:
        groups = pooled(outlook.attention[coarse.name], head)
        moved, gained, lost = revisits(groups, regions)
        seen["coarse"] = rounded(groups)
        seen["revisits"] = list(zip(rounded(moved), gained.tolist(), lost.tolist(), strict=True))
    return found | seen | {"tree": _digest(found), "digest": _digest(found | seen)}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def collocations_payload(trace: Trace) -> dict[str, Any]:
    """Which attributes each input word calls up, for the mean over heads and every head: lifts, the order of the
    attributes by likeness with the joints of their tree. Of a captioner with pivots."""
    tables = [lift_table(trace, {}, head) for head in range(trace.heads + 1)]
    trees = [cluster(table.T) for table in tables]
    return {
        "digest": trace.digest,
        "inputs": [spoken(word) for word in trace.inputs],
        "words": [spoken(word) for word in trace.words],
        "attributes": [spoken(word) for word in trace.attributes],
        "heads": trace.heads,
        "lifts": [rounded(table.to_numpy()) for table in tables],
        "trees": [{"order": tree.order.tolist(), "forks": rounded(tree.forks, 3)} for tree in trees],
        "falls": rounded(trace.attribute_falls),
        "cited": cited(trace, find(trace.functions, "attributes", "pivot")),
        "first": first_step(trace) + 1,
    }


def words_in(sent: object) -> tuple[str, ...]:
    """The words to begin with that a browser sent; empty if they are not valid. A captioner may still not know them."""
    match sent:
        case {"prefix": list(words)} if len(words) <= MOST and all(map(_is_word, words)):
            return tuple(words)
    return ()


def _is_word(text: object) -> bool:
    return isinstance(text, str) and text.split() == [text] and len(text) <= LONGEST
