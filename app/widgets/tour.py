"""A guided tour for a first visit: six steps, each on the page that it is about."""

from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

from app.state import TOUR


@dataclass(frozen=True)
class Step:
    """One stop: the page it is on, what to look at, what to try, and what not to conclude."""

    page: str
    title: str
    look: str
    try_: str
    beware: str


STEPS = (
    Step(
        "explore",
        "Where it looked for each word",
        "The regions with most attention just before the chosen word was said are filled: the stronger the "
        "colour, the more.",
        "Choose another word of the caption, by mouse or with the arrow keys.",
        "Attention does not tell why a word was said. The *fall* beside it is what the word's log-probability loses "
        "without that region or attribute; the two often disagree.",
    ),
    Step(
        "explore",
        "Region groups",
        "Before any word, GLIED lets every region gather what it needs from the others: its group. The page shows what "
        "it gathers beyond the usual. Base has no groups.",
        "Choose *Region groups* under the caption, and move over the photograph.",
        "A group is what GLIED takes together. It need not be one object, nor be what a word depends on.",
    ),
    Step(
        "collocations",
        "Attribute collocations",
        "The word just said calls up the attributes that go with it. 1× is an even share; what is called up more than "
        "that stands out.",
        "Choose another pivot word and see which attributes it calls up most.",
        "Words that are called up together may merely be frequent together in captions.",
    ),
    Step(
        "decoding",
        "How the caption was chosen",
        "Beam search keeps a few beginnings of a caption and extends them all by a word, again and again.",
        "Choose a word of a branch that was dropped, and *Decode on from here*.",
        "A dropped branch was less probable to the captioner. That does not make it a worse caption.",
    ),
    Step(
        "compare",
        "Base beside GLIED",
        "The same photograph through both captioners. The words in which they differ are underlined, and the sentences "
        "below say how likely each finds them.",
        "Choose a word that differs: see where each of them looked, and which attention function moves the word.",
        "One photograph says nothing about which captioner is better; the page *Data set* compares them over many.",
    ),
    Step(
        "whatif",
        "What if it had not seen that?",
        "Take regions or attributes away, add an attribute or change the caption, and let the captioner look again.",
        "Choose a word, and take away the regions that it attends to most. Is it still said?",
        "This is the surest test here of what a word depends on, and still only of this caption of this photograph.",
    ),
)


# it lies on the bottom of the window, so that the photograph stays where it is
SHEET = """
.st-key-tour { position: fixed; inset: auto 0 0; z-index: 100; max-height: 42vh; overflow: auto; padding: .6rem 1rem; }
.st-key-tour p { font-size: .875rem; }
.stMainBlockContainer:has(.st-key-tour) { padding-bottom: 45vh; }
"""


def go(at: int) -> NoReturn:
    """To a step of the tour, on its page."""
    TOUR.keep(at)
    st.switch_page(f"views/{STEPS[at].page}.py", query_params={})  # without: refused where a widget owns one


def draw(page: st.Page) -> None:
    """The step in hand, at the foot of the window; nothing where no tour was begun."""
    at = TOUR.get()
    if at is None:
        return
    step = STEPS[at]
    ground = ", ".join(str(st.get_option(f"theme.{scheme}.backgroundColor")) for scheme in ("light", "dark"))
    with st.container(border=True, key="tour"):
        st.html(f"<style>{SHEET} .st-key-tour {{ background: light-dark({ground}); }}</style>")
        look, try_, beware = st.columns(3)
        look.markdown(f"**Tour, {at + 1} of {len(STEPS)}: {step.title}**  \n{step.look}")
        try_.markdown(f"**Try:** {step.try_}")
        beware.markdown(f"**Mind:** {step.beware}")
        with st.container(horizontal=True):
            if st.button("Back", icon=":material/arrow_back:", key="tour_back", disabled=at == 0):
                go(at - 1)
            if st.button("Next", icon=":material/arrow_forward:", key="tour_next", disabled=at + 1 == len(STEPS)):
                go(at + 1)
            st.button("End the tour", icon=":material/close:", key="tour_end", on_click=TOUR.forget)
            if page.url_path != step.page and st.button("To the page of this step", key="tour_here"):
                go(at)
