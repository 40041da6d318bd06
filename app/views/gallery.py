"""Gallery: every photograph with what two captioners say of it; search, order, a photograph of one's own, a tour."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

import streamlit as st

from analysis.numbers import percent, signed
from app.components.flow import small_flow
from app.components.tiles import tile, tiles
from app.engine.ask import engine, traced
from app.engine.catalogue import Catalogue, Record, catalogue, gains, matches, terms
from app.engine.engine import FIRST
from app.photographs.gallery import MOST, Entry, entries, folder, open_entry
from app.state import BESIDE, BY, FOLLOWED, PAGE
from app.texts import plain
from app.widgets import tour
from app.widgets.pick import PER_PAGE, ask_upload, forget_empty, pick_two, say_refused
from glied.errors import GliedError

GALLERY, CONFIDENCE, GAIN = "Gallery order", "Lowest confidence first", "Biggest gain first"
ATTRIBUTES = 4  # shown on a tile
SHOWN = "kitten"  # in the diagram: both captioners describe it well


def draw_gallery(known: Catalogue, gain: Mapping[str, float], watching: bool) -> None:
    """Search, filters and the photographs; redraws itself while captions are still to come."""
    if watching and known.complete:
        st.rerun()  # for the last time: what is drawn now no longer watches
    by = engine().titles[known.pair[0]], engine().titles[known.pair[1]]
    query, differing, order = pick_order(by, bool(gain))
    progress, pages = st.empty(), st.empty()  # a fragment must keep its layout while it redraws itself
    with progress:
        draw_progress(known)
    found = chosen(known, query, differing, order, gain)
    with pages:
        page = pick_page(len(found))
    known.wanted = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    draw_tiles(known.wanted, known, by, query, order, gain)
    if not found:
        st.info(nothing_found(known, by, query, differing), icon=":material/search_off:")
    draw_failures(known)


def pick_order(by: tuple[str, str], gain_known: bool) -> tuple[str, bool, str]:
    """What to search for, whether the captions `by` two captioners must differ, and the order."""
    orders = [GALLERY, CONFIDENCE] + ([GAIN] if gain_known else [])
    with st.container(horizontal=True, vertical_alignment="center"):
        query = st.text_input(
            "Search",
            type="search",
            placeholder="Search titles, captions, attributes",
            label_visibility="collapsed",
            max_chars=100,
            live=True,
            key="search",
            bind="query-params",
            on_change=_turn_to_first,
            width=300,
        )
        order = st.selectbox(
            "Order",
            orders,
            key="sort",
            bind="query-params",
            on_change=_turn_to_first,
            label_visibility="collapsed",
            width=230,
            help=f"Confidence is the mean log-probability of the words of {by[0]}’s caption. Gain is the CIDEr of "
            f"{by[0]}’s caption minus that of {by[1]}’s, times 100, in the evaluation reports beside the checkpoints.",
        )
        differing = st.toggle(
            f"{by[1]} and {by[0]} differ", key="differ", bind="query-params", on_change=_turn_to_first
        )
    return query or "", differing, order


def _turn_to_first() -> None:
    PAGE.keep(1)


def chosen(known: Catalogue, query: str, differing: bool, order: str, gain: Mapping[str, float]) -> list[Entry]:
    """The photographs to show, in order; those that could not be read are not among them."""

    def rank(entry: Entry) -> float:
        if order == GAIN:
            return -gain.get(entry.id, -math.inf)
        record = recorded(known, entry)
        return record.confidence if record else math.inf

    found = []
    for entry in known.gallery:
        record = recorded(known, entry)
        if isinstance(known.records.get(entry), str) or not matches(query, entry, record):
            continue
        if not differing or (record and record.differs):
            found.append(entry)
    return sorted(found, key=(lambda entry: is_unlike(known, entry)) if order == GALLERY else rank)


def recorded(known: Catalogue, entry: Entry) -> Record | None:
    """What is known of a photograph so far."""
    record = known.records.get(entry)
    return None if isinstance(record, str) else record


def is_unlike(known: Catalogue, entry: Entry) -> bool:
    """Whether a photograph is known to be unlike those that the captioners have learned from."""
    record = recorded(known, entry)
    return bool(record and record.unlike)


def draw_progress(known: Catalogue) -> None:
    """How many photographs were looked at."""
    done, all_ = len(known.records), len(known.gallery)
    if done < all_:
        st.progress(done / all_, f"Captions of {done} of {all_} photographs; the others join as they are read.")


def nothing_found(known: Catalogue, by: tuple[str, str], query: str, differing: bool) -> str:
    """Why there is nothing to show, and what to do."""
    if not query and not differing:
        return "None of the photographs could be read; see below."
    wanted = f"has “{plain(query)}” in its title, captions or attributes" if query else "is described differently"
    wanted += f" and is described differently by {by[1]} and {by[0]}" if query and differing else ""
    return f"No photograph {wanted}. " + (
        "Try another word, or fewer." if known.complete else "Not all captions are there yet: wait, or try another."
    )


def pick_page(count: int) -> int:
    """The chosen page of `count` photographs."""
    pages = -(-count // PER_PAGE)
    forget_empty(PAGE.name)
    return st.pagination(pages, key=PAGE.name, bind="query-params") if pages > 1 else 1


def draw_tiles(
    shown: Sequence[Entry],
    known: Catalogue,
    by: tuple[str, str],
    query: str,
    order: str,
    gain: Mapping[str, float],
) -> None:
    """Some photographs; one that is opened is shown on Explore."""
    drawn = []
    for entry in shown:
        record = recorded(known, entry)
        with suppress(GliedError):  # damaged, as the catalogue will say when it comes to it
            drawn.append(tile(entry, record, by, notes(entry, record, by[1], query, order, gain)))
    opened = tiles(drawn)
    if opened in [entry.id for entry in known.gallery]:
        st.switch_page("views/explore.py", query_params={"photo": opened})


def notes(
    entry: Entry, record: Record | None, second: str, query: str, order: str, gain: Mapping[str, float]
) -> list[str]:
    """The lines below the captions of a tile: attributes (those of the search first), and the value that orders it."""
    lines = [] if record else ["Caption to come"]
    if record and record.attributes:
        asked = tuple(terms(query))
        first = sorted(record.attributes, key=lambda word: not (asked and word.startswith(asked)))[:ATTRIBUTES]
        told = [f"{word} {percent(record.attributes[word])}".replace(" ", "\xa0") for word in first]  # whole in a line
        lines.append(", ".join(told))
    if record and order == CONFIDENCE:
        lines.append(f"log p per word {signed(record.confidence)}")
    if order == GAIN:
        lines.append(
            f"CIDEr {signed(gain[entry.id], 0)} against {second}" if entry.id in gain else "in no evaluation report"
        )
    return lines


def draw_failures(known: Catalogue) -> None:
    """The photographs that are left out, and why."""
    failed = {entry.title: why for entry, why in known.records.copy().items() if isinstance(why, str)}
    if failed:
        with st.expander(f"Could not be read and left out: {len(failed)}"):
            for title, why in failed.items():
                st.text(f"{title}: {why}")


def introduce() -> None:
    """What GLIED and Base are, what they were taught, and how one of them works, on one photograph."""
    best, running = engine().pair[0], engine()
    card = running.models[best].provenance
    count = (card.get("splits") or {}).get("train")
    taught = f"{f'{count:,} photographs' if count else 'photographs'} ({plain(str(card.get('data')))})"
    kinds = dict.fromkeys(card.title for card in running.models.values())
    others = [plain(kind) for kind in kinds if kind not in FIRST]
    here = "**GLIED** and **Base** are two captioners: they look" if running.pairs else "Captioners look"
    st.markdown(
        f"{here} at the regions of a photograph and at words found in it, and write a sentence word by word; GLIED "
        f"first gathers regions and words that go together. {'Both' if running.pairs else 'Those here'} learned from "
        f"{taught} with people’s captions, and guess where a photograph shows something else."
        + (f" Also here: {', '.join(others)}." if others else "")
    )
    say_refused()
    shown = open_entry(next(entry for entry in entries()[0] if entry.id == SHOWN))
    opened = small_flow(traced(shown, best).trace, shown)
    if opened:
        box, step = opened
        FOLLOWED.forget()
        st.switch_page("views/how.py", query_params={"photo": SHOWN, "box": box, "step": str(step)})


st.title("See how an image captioner thinks")
introduce()
with st.container(horizontal=True, vertical_alignment="center"):
    if st.button("Take the tour", icon=":material/tour:", key="take_tour"):
        tour.go(0)
    if ask_upload():
        st.switch_page("views/explore.py", query_params={})
    st.caption("Open a part, or a photograph. Underlined: where the two captions differ.", width="content")
_, skipped = entries(folder())
if skipped:
    st.caption(
        f"{skipped} file(s) of the folder were left out: unreadable, too small or large, or past the first {MOST}."
    )
usual = engine().pair
if len(engine().titles) > len(set(usual)):
    with st.container(horizontal=True, vertical_alignment="center"):
        usual = pick_two(usual, ("of the first captions", "of the second captions"), (BY, BESIDE))
known = catalogue(usual)
watching = not known.complete
st.fragment(draw_gallery, run_every="2s" if watching else None)(known, gains(usual), watching)
