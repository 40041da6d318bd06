"""What the page Data set draws of grounding."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis import scores
from analysis.figures import fall_curves, mean_bars
from app.texts import plain
from app.widgets.pick import figure_config, pick_one
from app.widgets.tables import offer_csv, show
from glied.evaluation.report import KEY_SHARE, say_partners


def draw_grounding(grounded: dict[str, Mapping[str, Any]], without: list[str]) -> None:
    """Is the attention true? Pointing, groups and falls, each with a sentence of what its numbers say."""
    st.header("Is the attention true?")
    if without:
        st.info(
            f"Reports made without `--grounding`, which measures attention: {', '.join(without)}.",
            icon=":material/info:",
        )
    if not grounded:
        return
    first = next(iter(grounded.values()))
    of = f" of {plain(first['data'])}" if "data" in first else ""
    st.markdown(
        f"Measured on {first['photographs']:,} photographs{of} in which people drew the boxes; attention is the mean "
        "over heads. Bars and points carry 95 % intervals over photographs."
    )
    draw_pointing(grounded)
    draw_groups(grounded)
    draw_key_shares(grounded)
    draw_falls(grounded)


def each_says(table: pd.DataFrame, say: Callable[[pd.DataFrame], str]) -> None:
    """A sentence for each captioner."""
    st.markdown("\n".join(f"- **{title}**: {say(rows)}" for title, rows in table.groupby("captioner", sort=False)))


@st.fragment
def draw_pointing(grounded: dict[str, Mapping[str, Any]]) -> None:
    """Does the most attended region cover the object that the word names?"""
    st.markdown("**Does attention point at the object?**")
    kinds = {"human": "people’s captions", "generated": "the captioner’s own"}
    kind = pick_one("Object words of", kinds, "kind", format_func=kinds.__getitem__)
    table = scores.pointing_table(grounded, kind)
    if table.empty:
        st.info("No object word of these captions has a box.", icon=":material/info:")
        return
    title = "share of object words"
    st.plotly_chart(
        mean_bars(table, "pointed by", scores.SEEN, title),
        key="pointing",
        config=figure_config(),
        alt="How often the most attended region covers the object, beside chance, centre and the best region",
    )
    each_says(table, scores.say_pointing)
    offer_csv(table, f"pointing_{kind}.csv")


def draw_groups(grounded: dict[str, Mapping[str, Any]]) -> None:
    """Do region groups keep to one entity?"""
    table = scores.group_table(grounded)
    if table.empty:
        return
    st.markdown("**Do groups keep to one thing?**")
    st.plotly_chart(
        mean_bars(table, "regions", scores.GROUPED | scores.BEYOND, "lift (1 = even or usual)", even=1.0),
        key="groups",
        config=figure_config(),
        alt="Lift of a region's group on regions of the same entity, of others, and near ones of none",
    )
    each_says(table, scores.say_groups)
    offer_csv(table, "groups.csv")


def draw_key_shares(grounded: dict[str, Mapping[str, Any]]) -> None:
    """Does attention depend on the query?"""
    table = scores.key_share_table(grounded)
    if table.empty:
        return
    st.markdown("**Does attention depend on the query, or on the key alone?**")
    show(table, "Key share of each attention function, with 95 % intervals", "key_share", digits=2)
    st.caption(f"{KEY_SHARE} Measured head by head.")
    partners = {title: found["top_partners"] for title, found in grounded.items() if "top_partners" in found}
    if partners:
        st.markdown("\n".join(f"- **{title}**: {say_partners(mean)}" for title, mean in partners.items()))


def draw_falls(grounded: dict[str, Mapping[str, Any]]) -> None:
    """How far does the word fall when what it attends to is removed?"""
    table = scores.fall_table(grounded)
    if table.empty:
        return
    st.markdown("**Does the word need what it attends to?**")
    st.caption(f"Over {table['count'].max():,} photographs.")
    for side, sense in zip(st.columns(2, gap="large"), table["sense"].unique(), strict=False):
        with side:
            st.plotly_chart(
                fall_curves(table, sense),
                key=f"falls {sense}",
                config=figure_config(),
                alt=f"Fall of log p when the most attended {sense} are taken away, and when random ones are",
            )
            each_says(table[table["sense"] == sense], scores.say_falls)
    offer_csv(table, "falls.csv")
