"""About: the equations, the checkpoints, and what attention does not tell."""

import pandas as pd
import streamlit as st

from app.services import engine
from glied.equations import EQUATIONS
from glied.regions.detector import Detector

PARTS = {
    "Shared by Base and GLIED": range(1, 7),
    "Base": range(7, 9),
    "GLIED: distil, attend, revisit": range(9, 14),
    "The next word": (14,),
    "Attributes: noisy-OR over regions": range(15, 19),
    "Training: cross-entropy, then the samples' own rewards": range(19, 22),
}


def draw_card(title: str, facts: dict) -> None:
    """What a checkpoint says about itself."""
    st.markdown(f"**{title}**")
    flat: dict[str, object] = {}
    for name, value in facts.items():
        flat |= {f"{name}: {part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    values = pd.DataFrame({"value": [str(value) for value in flat.values()]}, index=list(flat))
    st.table(values, border="horizontal", hide_header=True, alt=f"What the checkpoint of {title} says about itself")


st.title("What you are looking at")
st.markdown(
    "A captioner reads a photograph as **regions** and **attributes** (words found in it) and writes one word after "
    "another. **Base** attends to both directly. **GLIED** (*Exploring and Distilling Cross-Modal Information for "
    "Image Captioning*, IJCAI 2019) first distils them: regions into groups that belong together, attributes into "
    "collocations of the word just read; then, with that global view, it revisits single regions and attributes."
)
st.subheader("What attention does not tell")
st.markdown(
    "- A weight says where a value was read, not that the word depends on it. Beside each weight stands the **fall**: "
    "how far the word's log-probability drops when that region or attribute is taken away.\n"
    "- Regions overlap: what is taken away with one may still be seen in another, so falls can be small everywhere.\n"
    "- Attention comes before the new word is chosen, from the words so far: all candidates of a step share it.\n"
    "- A group is what the model mixes, not an object; a collocation is what goes together in its training captions.\n"
    "- The mean over heads hides heads that disagree; look at them one by one."
)
st.subheader("The equations")
for part, numbers in PARTS.items():
    st.markdown(f"**{part}**")
    for number in numbers:
        st.latex(EQUATIONS[number] + rf"\qquad\text{{({number})}}")
st.subheader("The checkpoints")
running = engine()
for name, title in running.titles.items():
    model = running.models[name]
    facts = {"digest": model.digest, "regions": model.source, "words": len(model.vocabulary), **model.provenance}
    draw_card(title, facts)
draw_card(
    "Attribute detector",
    {"regions": running.source.name, "words": len(running.detector.words), **running.detector_card},
)
if isinstance(running.source, Detector):
    net = running.source.net
    draw_card("Region detector", {"objects": len(net.labels), "attributes": len(net.attributes), **running.source.card})
st.subheader("Keys")
st.markdown(
    "On the photograph: arrow keys visit regions, **+** and **−** the larger and smaller one, **Enter** pins, "
    "**Esc** clears. On the slider: arrow keys move from word to word."
)
