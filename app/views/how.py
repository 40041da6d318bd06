"""How it works: the attention functions of a captioner, and how one word passes through them."""

from functools import partial

import streamlit as st

from app.components.flow import NEXT, boxes, flow, function_of, title_of
from app.engine.ask import engine, traced, warn_if_unlike
from app.photographs.photograph import Photograph
from app.state import FLOW, choose, chosen, travelled
from app.texts import plain
from app.widgets.equations import draw_equation, fit_equations
from app.widgets.pick import lacks, pick_model, pick_photograph, show_credit
from glied.equations import EQUATIONS
from glied.functions import feeding
from glied.traces import Trace

PARTS = {  # what is no function: what it is, its equations, the view that shows it
    "regions": ("The boxes that the region detector finds, each with a feature.", (4,), "explore"),
    "attributes": ("Words that the attribute detector finds over the regions; embedded like words.", (17, 5), "whatif"),
    "words": ("The word just read, with its position in the caption, starts here.", (5, 6), "decoding"),
    NEXT: ("What was gathered on the way is compared with every word of the vocabulary.", (14,), "decoding"),
}
ROLES = {
    "grouping": "Before any word, each of these gathers from all of them. Shown is the group of the one that the word "
    "reads most: what that one gathers most beyond the usual.",
    "pivot": "The word just read calls up the attributes that go with it.",
    "context": "The word looks back at the words so far and at itself.",
    "global": "With that, it looks over the photograph for the first time.",
    "local": "Last, it looks for what the exact word needs.",
}
VIEWS = {
    "explore": ("Explore: on the photograph", ":material/travel_explore:"),
    "collocations": ("Collocations: of every word", ":material/grid_on:"),
    "decoding": ("Decoding: all that it weighed", ":material/account_tree:"),
    "whatif": ("What if: take them away, add others", ":material/experiment:"),
}


def chosen_box(trace: Trace) -> str:
    """The box that was chosen in this diagram, else that of the address, else the last function over regions."""
    sent = (FLOW.get() or {}).get("choice") or {}
    asked = st.query_params.get("box", "")
    wanted = asked if travelled() or sent.get("trace") != trace.digest else str(sent.get("box"))
    last = feeding(trace.functions, "regions") or feeding(trace.functions, "attributes")
    box = wanted if wanted in boxes(trace.functions) else last.name if last else NEXT
    if wanted not in ("", box):
        shown = f"its last look at the {last.over}" if last else "the next word"
        st.toast(f"{plain(trace.captioner)} has no part “{plain(wanted[:20])}”; {shown} is shown.")
    st.query_params["box"] = box
    return box


@st.fragment
def draw_way(trace: Trace, photograph: Photograph, model: str) -> None:
    """The diagram, and below it the box that is chosen: what it does, its equations, its code and its view."""
    step, head = chosen(trace)
    box = chosen_box(trace)
    flow(trace, photograph, step, head, box, on_choice=partial(choose, FLOW))
    function = function_of(box, trace.functions)
    if function:
        said, view = ROLES[function.role], "collocations" if function.role == "pivot" else "explore"
        equations = tuple(number for number in (function.equation,) if number in EQUATIONS)
    else:
        said, equations, view = PARTS[box]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{title_of(box, trace.functions)}.** {said}", width="content")
        label, icon = VIEWS[view]
        at = {"photo": photograph.id, "model": engine().titles[model], "step": str(step), "head": str(head)}
        st.page_link(f"views/{view}.py", label=label, icon=icon, query_params=at)
    for number in equations:
        draw_equation(number)


fit_equations()
with st.container(horizontal=True, vertical_alignment="center"):
    photograph = pick_photograph()
    model = pick_model()
st.caption(
    "The way of one word through the captioner: full lines carry the word, dashed ones what it attends to. Choose a "
    "word of the caption, a head, or a part."
)
reading = traced(photograph, model)
if lacking := lacks(reading.trace.captioner, reading.trace.functions):
    st.caption(lacking)
warn_if_unlike(reading.trace)
draw_way(reading.trace, photograph, model)
st.page_link("views/about.py", label="All equations and their code", icon=":material/menu_book:")
show_credit(photograph)
