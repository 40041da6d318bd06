"""Readings of a photograph -> one HTML page that needs nothing but a browser: no script, no network."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import numpy as np
import pandas as pd
from PIL import Image

from analysis.attention import attention_table, looked, senses, spoken, weights_of
from analysis.beam import Node, finished_table, title_of
from analysis.collocations import lift_table
from analysis.groups import ALIKE, cluster_regions, groupings, in_words
from analysis.numbers import decimal, percent, signed, times
from analysis.paper import Still, drawn
from analysis.stills import (
    OUTLINED,
    beam_still,
    collocations_still,
    groups_still,
    heat_of,
    strongest,
    tags,
    tinted,
)
from glied.captions import DecodeOptions
from glied.traces import Trace

MOST = 6  # regions, and attributes, of each word
NOTES = (
    "Attention says where a value was read, not that the word depends on it. Beside each share stands the fall: how "
    "far the word's log-probability falls when that region or attribute is taken away.",
    "Regions overlap: what is taken away with one may still be seen in another, so falls can be small everywhere.",
    "Attention comes before the new word is chosen: all candidates of a step share it.",
    "A region's group is what it gathers, not an object. Collocations are the attributes that the word just read calls "
    "up.",
    "Shares are the mean over heads, which hides heads that disagree. Names of regions are their detector's guesses.",
)
STYLE = """
:root { color-scheme: light dark; --text: #1d2327; --ground: #fcfbf8; --line: #c9c5bb; --link: #0b5a5a }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e6e1; --ground: #14181a; --line: #454b4e; --link: #7fd0d0 } }
body { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; color: var(--text); background: var(--ground);
  font: 1rem/1.55 system-ui, sans-serif }
h1, h2, h3 { line-height: 1.25 } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem }
a { color: var(--link) } img { max-width: 100%; border-radius: 6px }
figure { margin: 1rem 0 } figcaption, .note { font-size: .875rem }
nav ul { columns: 2; margin: .3rem 0; padding-left: 1.2rem }
summary { cursor: pointer; font-size: .875rem }
.wide { overflow-x: auto } .shown { max-width: 34rem }
.said { font-size: 1.35rem; margin: .3rem 0 } .said small { font-size: .9rem }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .4rem 0 }
th, td { padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere }
.words { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }
.words figure { margin: .3rem 0 } .words h4 { margin: .8rem 0 0; font-size: 1.1rem } .words small { font-weight: 400 }
svg { display: block; width: 100%; max-height: 30rem; border-radius: 6px }
@media print { section { break-inside: avoid } }
"""
HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style>"""
END = "</main></body></html>"


@dataclass(frozen=True, eq=False)
class Account:
    """One captioner's part of the report.

    Attributes:
        trace: of its best caption. `nodes`: of the search, as `analysis.beam.beam_nodes` gives them.
        decoding: how it searched.
    """

    trace: Trace
    nodes: tuple[Node, ...]
    decoding: DecodeOptions = field(default_factory=DecodeOptions)


def page(title: str, alt: str, credit: str, address: str, photograph: bytes, accounts: Mapping[str, Account]) -> str:
    """The report of a photograph as HTML.

    Args:
        alt: what it shows. `credit`: whose it is, if known. `address`: where the app opens it again, if anywhere.
        photograph: its JPEG file.
        accounts: name of each captioner -> what it said.
    """
    trace = next(iter(accounts.values())).trace
    told = [_account(f"c{i}", name, account) for i, (name, account) in enumerate(accounts.items(), 1)]
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<div class="shown">',
        _drawing(trace, alt, f'<image id="photograph" href="{_url(photograph, "jpeg")}" {_whole(trace)}/>', credit),
        "</div>",
        *(_said(name, account.trace) for name, account in accounts.items()),
        _address(address),
        _contents(accounts),
        '<h2 id="read">How to read this</h2><ul>',
        *(f"<li>{escape(note)}</li>" for note in NOTES),
        "</ul>",
        *(part for parts in told for part in parts),
        _attributes(trace),
        '<h2 id="sources">Where this comes from</h2>',
        _table(_sources(accounts), "Checkpoints: the first digits of the SHA-256 of their files"),
    ]
    return HEAD + f"<title>GLIED Studio: {escape(title)}</title></head><body><main>" + "\n".join(parts) + END


def _said(name: str, trace: Trace) -> str:
    total = float(trace.log_probabilities.sum())
    return f'<p class="said"><b>{escape(name)}:</b> {escape(trace.text)} <small>(log p {decimal(total)})</small></p>'


def _address(address: str) -> str:
    if not address:
        return '<p class="note">The photograph is a person\'s own; no address opens it again.</p>'
    return f'<p class="note">In the app that made this page: <a href="{escape(address)}">{escape(address)}</a></p>'


def _contents(accounts: Mapping[str, Account]) -> str:
    """Links to the sections of the page."""
    links = [("read", "How to read this")]
    for i, (name, account) in enumerate(accounts.items(), 1):
        links += [(f"c{i}-{part}", f"{name}: {title}") for part, title in _parts(account.trace).items()]
    links += [("attributes", "The attributes of the photograph"), ("sources", "Where this comes from")]
    items = "".join(f'<li><a href="#{id}">{escape(title)}</a></li>' for id, title in links)
    return f'<nav aria-label="Contents"><b>Contents</b><ul>{items}</ul></nav>'


def _parts(trace: Trace) -> dict[str, str]:
    """The sections about a captioner: the end of the section's id -> its title."""
    parts = {"words": "where it looked, word by word"} if list(senses(trace)) else {}
    parts |= {"beam": "how its caption was found"}
    parts |= {"groups": "region groups"} if groupings(trace) is not None else {}
    pivots = weights_of(trace, "attributes", "pivot") is not None
    return parts | ({"collocations": "attribute collocations"} if pivots else {})


def _account(id: str, name: str, account: Account) -> list[str]:
    """All about one captioner."""
    trace = account.trace
    titles = {part: f'<h3 id="{id}-{part}">{title.capitalize()}</h3>' for part, title in _parts(trace).items()}
    words = [_word(name, trace, step) for step in range(len(trace.words))]
    parts = [
        f"<h2>{escape(name)}: {escape(trace.text)}</h2>",
        *([titles["words"], '<div class="words">', *words, "</div>"] if "words" in titles else []),
        titles["beam"],
        _table(finished_table(account.nodes), "The captions that finished; the ranking allows for length"),
        _still(
            beam_still(trace, account.nodes, decoding=account.decoding),
            f"{title_of(account.decoding)} as a tree: {_beam_in_words(account)}",
        ),
    ]
    if (shares := groupings(trace)) is not None:
        members = cluster_regions(shares).members
        names = trace.labels or ("region",) * len(trace.boxes)
        parts += [
            titles["groups"],
            _still(
                groups_still(trace), "Heat map of the group of each region; those that gather alike follow as a list"
            ),
            f"<p>Regions that gather alike (mean correlation {ALIKE} or more, our threshold):</p><ul>",
            *(f"<li>{escape(in_words(names, each))}</li>" for each in members),
            "</ul>",
        ]
    if "collocations" in titles:
        parts += [
            titles["collocations"],
            _still(collocations_still(trace), "Heat map of collocations; the strongest follow as a table"),
            _table(_strongest(trace), "What each input word calls up most, as multiples of the even share"),
        ]
    return parts


def _word(name: str, trace: Trace, step: int) -> str:
    """One word: the photograph as it saw it, its regions and attributes with shares and falls."""
    word, p = spoken(trace.words[step]), percent(np.exp(trace.log_probabilities[step]))
    found = attention_table(trace, step)
    tables = []
    for kind, *_ in senses(trace):
        rows = found.loc[found["kind"] == kind, ["region", "name", "attention", "fall"]].head(MOST)
        if kind == "region":
            rows["name"] = rows["region"].astype(str) + " " + rows["name"]
        del rows["region"]
        rows["attention"] = rows["attention"].map(percent)
        rows["fall"] = rows["fall"].map(lambda fall: signed(fall, 3))
        tables.append(_table(rows.rename(columns={"name": kind}), f"{kind}s".capitalize()))
    top = found[found["kind"] == "region"].head(3)
    seen = ", ".join(f"{each} {percent(share)}" for each, share in zip(top["name"], top["attention"], strict=True))
    return (
        f"<section><h4>{step + 1}. {escape(word)} <small>({p})</small></h4>"
        f"{_seen(trace, step, f'Where {name} looked for “{word}”: {seen}')}"
        f"{_folded('Regions and attributes', ''.join(tables))}</section>"
    )


def _seen(trace: Trace, step: int, alt: str) -> str:
    """The photograph under the heat of a word, its most attended regions outlined; it refers to the one image of the
    photograph in the page. Empty for a captioner that attends to no region."""
    if (every := looked(trace)) is None:
        return ""
    weights = every[step]
    heat = heat_of(trace, weights)
    buffer = io.BytesIO()
    Image.fromarray((255 * tinted(heat, heat.max())).astype(np.uint8)).save(buffer, "PNG")
    size = 0.034 * trace.size[0]
    drawn = [
        '<use href="#photograph"/>',
        f'<image href="{_url(buffer.getvalue(), "png")}" {_whole(trace)}/>',
    ]
    for i in reversed(strongest(weights, OUTLINED)):
        x1, y1, x2, y2 = trace.boxes[i].tolist()
        share = weights[i] / weights.max()
        for colour, extra in (("#000", 2), ("#fff", 0)):
            drawn.append(
                f'<rect x="{x1:.0f}" y="{y1:.0f}" width="{x2 - x1:.0f}" height="{y2 - y1:.0f}" fill="none" '
                f'stroke="{colour}" stroke-width="{1 + 2 * share + extra:.1f}" '
                f'stroke-opacity="{0.4 + 0.6 * share:.2f}" vector-effect="non-scaling-stroke"/>'
            )
    for tag in tags(trace, weights, 3, size):
        drawn.append(
            f'<rect x="{tag.x:.0f}" y="{tag.y:.0f}" width="{tag.wide:.0f}" height="{tag.tall:.0f}"/>'
            f'<text x="{tag.x + 0.35 * size:.0f}" y="{tag.y + 1.1 * size:.0f}" font-size="{size:.1f}" fill="#fff">'
            f"{escape(tag.text)}</text>"
        )
    scale = f"Warm: up to {times(max(2.0, heat.max()))} the even share; dark: below it."
    return _drawing(trace, alt, "".join(drawn), scale)


def _drawing(trace: Trace, alt: str, inside: str, caption: str) -> str:
    """A figure in pixels of the photograph. `inside`: SVG; the rest is text."""
    width, height = trace.size
    head = f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="xMinYMin" role="img" aria-label="{escape(alt)}">'
    return f"<figure>{head}{inside}</svg><figcaption>{escape(caption)}</figcaption></figure>"


def _whole(trace: Trace) -> str:
    return f'width="{trace.size[0]}" height="{trace.size[1]}" preserveAspectRatio="none"'


def _beam_in_words(account: Account) -> str:
    kinds = pd.Series([node.status for node in account.nodes]).value_counts()
    return ", ".join(f"{count} words {kind}" for kind, count in kinds.items())


def _strongest(trace: Trace) -> pd.DataFrame:
    rows = []
    for pivot, lifts in lift_table(trace, {}).iterrows():
        best = lifts.sort_values(ascending=False, kind="stable").head(5)
        rows.append((pivot, ", ".join(f"{word} {times(value)}" for word, value in best.items())))
    return pd.DataFrame(rows, columns=["input word", "attributes"])


def _attributes(trace: Trace) -> str:
    table = pd.DataFrame({"attribute": trace.attributes, "probability": trace.attribute_scores.astype(float)})
    table["probability"] = table["probability"].map(percent)
    found = _table(table, "What their detector found, the likeliest first")
    title = f"All {len(table)}: {', '.join(map(escape, trace.attributes[:8]))} …"
    return '<h2 id="attributes">The attributes of the photograph</h2>' + _folded(title, found)


def _folded(title: str, inside: str) -> str:
    """HTML that opens when its title is chosen."""
    return f"<details><summary>{title}</summary>{inside}</details>"


def _sources(accounts: Mapping[str, Account]) -> pd.DataFrame:
    traces = {name: account.trace for name, account in accounts.items()}
    return pd.DataFrame(
        {
            "captioner": list(traces),
            "checkpoint": [trace.checkpoint for trace in traces.values()],
            "regions": [f"{len(trace.boxes)} of {trace.source}" for trace in traces.values()],
        }
    )


def _table(table: pd.DataFrame, title: str) -> str:
    """Every cell escaped; numbers with two decimals, what is unknown as a dash."""
    cells = table.to_html(
        index=False, border=0, justify="left", escape=True, na_rep="–", float_format=decimal, classes=[]
    )
    return f'<div class="wide">{cells.replace(">", f"><caption>{escape(title)}</caption>", 1)}</div>'


def _still(still: Still, alt: str) -> str:
    """A picture over its caption, as wide as the page at most."""
    url = _url(drawn(still, "svg"), "svg+xml")
    caption = f"<figcaption>{escape(still.caption)}</figcaption>"
    return f'<figure><img src="{url}" alt="{escape(alt)}">{caption}</figure>'


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
