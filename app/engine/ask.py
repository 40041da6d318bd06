"""The one engine of the server, and the questions that pages ask it."""

import gc
import os
from pathlib import Path

import streamlit as st

from app.engine.engine import Answer, Engine, Question
from app.photographs.photograph import Photograph
from glied.errors import GliedError
from glied.files import SHIPPED
from glied.traces import Trace


@st.cache_resource(show_spinner="Waking the captioners …", max_entries=1)
def _engine(folder: Path) -> Engine:
    """The engine. What it loads is frozen for the garbage collector, which Streamlit runs after every page run."""
    loaded = Engine(folder)
    gc.collect()
    gc.freeze()
    return loaded


def engine() -> Engine:
    """The engine of this process; loads it the first time."""
    return _engine(Path(os.environ.get("GLIED_CHECKPOINTS") or SHIPPED))


def name_here(checkpoint: str) -> str | None:
    """The name of the captioner with this digest; None if it does not run here."""
    try:
        return engine().name_of(checkpoint)
    except GliedError:
        return None


def least_sure() -> float:
    """The probability that the surest attribute reaches on 99 in 100 photographs of the detector's validation set. A
    photograph below it is unlike those that the captioners have learned from."""
    return engine().detector_card.get("val_top_score@1%", 0)


def warn_if_unlike(trace: Trace) -> None:
    """Says so when the detector is less sure of the photograph than of 99 in 100 of its validation set."""
    best, least = float(trace.attribute_scores.max()), least_sure()
    if best < least:
        st.info(
            f"This photograph is unlike those the captioners have learned from: its surest attribute has a probability "
            f"of {best:.2f}, where 99 in 100 of their validation photographs reach {least:.2f}. Expect a guess.",
            icon=":material/explore_off:",
        )


def traced(photograph: Photograph, model: str, question: Question = Question()) -> Answer:
    """What `model` answers about the photograph and why."""
    with st.spinner("Looking at the photograph …", show_time=True):
        return engine().read(photograph, model, question)
