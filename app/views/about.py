"""About: the equations beside their code, the checkpoints, and what attention does not tell."""

import pandas as pd
import streamlit as st

from analysis import scores
from app.engine.ask import engine
from app.engine.reports import reports
from app.texts import plain
from app.widgets.equations import draw_equation, fit_equations
from app.widgets.pick import say_refused
from glied.regions.detector import Detector

PARTS = {
    "Shared by Base and GLIED": range(1, 7),
    "Base": range(7, 9),
    "GLIED: distil, attend, revisit": range(9, 14),
    "The next word": (14,),
    "Attributes: noisy-OR over regions": range(15, 19),
    "Training: cross-entropy, then the samples' own rewards": range(19, 22),
}
KEYS = """
| where | key | what it does |
|---|---|---|
| photograph | arrows | visit the regions |
| | + and − | the next larger and smaller region |
| | Enter | pins the region, and lets go of it |
| | Esc | clears |
| photograph of What if | Enter | strikes the region out |
| slider of words | arrows | from word to word |
| beam tree | arrows | to the parent, the first child, the siblings |
| | Enter | pins the word |
| | Esc | lets go |
"""
TERMS = """
- **Region**: a box of the photograph with a feature, found by the region detector.
- **Attribute**: a word that the attribute detector finds in the photograph: things, colours, doings alike.
- **Region grouping**: the regions that one region gathers by attention to all of them, Eq. (9).
- **Attribute collocation**: the attributes that an input word, the **pivot**, gathers, Eq. (10).
- **Global distilling**: grouping and collocating. **Local distilling**: going back to single regions and attributes for
  the exact word, Eq. (13).
- **Head**: one of several attentions side by side. **Lift**: attention as a multiple of the even share.
- **Log p**: the natural logarithm of a probability; 0.7 less is half as probable. **Fall**: how far log p of a word
  falls when something is taken away.
- **Beam**: how many unfinished captions are kept at each step of the search.
- **Cross-entropy** (before RL): training on people's captions, word by word. **Self-critical** (after RL): then on the
  captioner's own captions, rewarded by CIDEr-D.
- **BLEU, METEOR, ROUGE-L, CIDEr**: how much of a caption people's captions share; CIDEr weighs rare words more.
"""


def draw_card(title: str, facts: dict) -> None:
    """The card of a checkpoint."""
    flat: dict[str, object] = {}
    for name, value in facts.items():
        flat |= {f"{name}: {part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    values = pd.DataFrame({"value": [str(value) for value in flat.values()]}, index=list(flat))
    with st.expander(title):
        st.table(values, border="horizontal", hide_header=True, alt=f"What the checkpoint of {title} says about itself")


def draw_measured() -> None:
    """How often attention was found to point at the object, where the reports of the best pair say."""
    best = engine().pair
    found = {name: report for name, report in reports(engine().folder).items() if name in best}
    grounded = {engine().titles[n]: report["grounding"] for n, report in found.items() if "grounding" in report}
    table = scores.pointing_table(grounded, "human")
    if table.empty:
        return
    some = next(iter(found.values()))
    st.markdown(
        f"**Measured on {plain(some['data'])} {plain(some['split'])}, on the object words of people's captions**"
    )
    said = table.groupby("captioner", sort=False)
    st.markdown("\n".join(f"- **{title}**: {scores.say_pointing(rows)}" for title, rows in said))
    st.page_link("views/dataset.py", label="All that was measured", icon=":material/analytics:")


fit_equations()
st.title("What you are looking at")
st.markdown(
    "A captioner reads a photograph as **regions** and **attributes** (words found in it) and writes one word after "
    "another. **Base** attends to both directly. **GLIED** (*Exploring and Distilling Cross-Modal Information for "
    "Image Captioning*, IJCAI 2019) first distils them. Others attend to regions alone, to attributes alone, or to "
    "nothing; each page says what the captioner in view lacks."
)
st.page_link("views/how.py", label="The way of one word through either, step by step", icon=":material/schema:")
st.header("What attention does not tell")
st.markdown(
    "- A weight says where a value was read, not that the word depends on it. Beside each weight stands the **fall**: "
    "how far the word's log-probability falls when that region or attribute is taken away.\n"
    "- Regions overlap: what is taken away with one may still be seen in another, so falls can be small everywhere.\n"
    "- Attention comes before the new word is chosen, from the words so far: all candidates of a step share it.\n"
    "- A group is what the model mixes, not an object; a collocation is what the word just read gathers.\n"
    "- The mean over heads hides heads that disagree; look at them one by one."
)
draw_measured()
st.header("Keys")
st.markdown(KEYS)
st.header("Terms")
st.markdown(TERMS)
st.header("The equations and their code")
st.caption(
    "Each line of code on the right is read from the package that runs here; tests check it against the equation on "
    "its left, written out in loops. The lines above it in its file define its symbols."
)
for part, numbers in PARTS.items():
    st.markdown(f"**{part}**")
    for number in numbers:
        draw_equation(number)
st.header("The checkpoints")
running = engine()
for name, title in running.titles.items():
    model = running.models[name]
    attends = "; ".join(function.title for function in model.functions) or "no attention"
    facts = {"digest": model.digest, "regions": model.source, "words": len(model.vocabulary), "attends to": attends}
    draw_card(title, facts | model.provenance)
say_refused()
draw_card(
    "Attribute detector",
    {"regions": running.source.name, "words": len(running.detector.words), **running.detector_card},
)
if isinstance(running.source, Detector):
    net = running.source.net
    draw_card("Region detector", {"objects": len(net.labels), "attributes": len(net.attributes), **running.source.card})
