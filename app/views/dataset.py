"""Data set: the captioners' reports of `evaluate` as a page."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st

from analysis import scores
from analysis.figures import score_scatter, training_curve
from analysis.numbers import decimal, signed
from analysis.scores import Report
from app.engine.ask import engine
from app.engine.reports import report_or_why
from app.panels.grounding import draw_grounding
from app.photographs.gallery import MOST, entries, folder, human_captions, open_entry
from app.state import POINT, SCATTER, choose_point, rows_of
from app.texts import plain
from app.widgets.pick import figure_config, pick_figure_file, pick_one, pick_report_set, pick_two
from app.widgets.tables import as_written, offer_csv, show
from glied.errors import GliedError
from glied.files import STUDIO

CURVES = STUDIO / "docs" / "curves.csv"
TRAINED = {"val_CIDEr": "Val CIDEr, beam 3", "loss": "Training loss", "reward": "Reward (CIDEr-D) of samples"}
BUSY = "Drawing samples of the photographs …"
LISTED = 10  # wins, and losses
LINES = 52  # pixels of a row in which a caption breaks into two lines
DIFFERENCE = {"difference": partial(signed, digits=1)}
Both = Mapping[str, Report]  # title of each of two captioners -> its report


@st.cache_data(max_entries=8, show_spinner=BUSY)
def score_table(stamps: tuple[str, ...], _reports: Mapping[str, Report]) -> pd.DataFrame:
    """The table of scores, cached because it is bootstrapped; `stamps` identify the reports."""
    return scores.score_table(_reports)


@st.cache_data(max_entries=8, show_spinner=BUSY)
def difference_table(stamps: tuple[str, ...], _both: Both) -> pd.DataFrame:
    """The table of differences, second minus first, cached likewise."""
    return scores.difference_table(_both)


def stamp(report: Report) -> str:
    """What identifies a report."""
    return str([report[name] for name in ("checkpoint", "data", "split", "scores")])


def find_reports(kind: str) -> dict[str, Report]:
    """The reports that are comparable, those of the usual pair first. Draws a sentence for each report that is left
    out, and one for all captioners without a report."""
    found: dict[str, Report] = {}
    titles, without = engine().titles, []
    for name in dict.fromkeys([*engine().pair, *titles]):
        title, report = titles[name], report_or_why(engine().folder, name, kind)
        if not (engine().folder / f"{name}{kind}.json").is_file():
            without.append(name)
        elif isinstance(report, str):
            st.info(report, icon=":material/info:")
        elif found and not scores.are_comparable(report, next(iter(found.values()))):
            st.info(
                f"The report of {title} ({plain(report['data'])} {plain(report['split'])}) is left out: its "
                "photographs or its tokenizer differ from those of the reports below."
            )
        else:
            found[name] = report
    if without:
        *others, last = (plain(titles[name]) for name in without)
        have = f"{', '.join(others)} and {last} have" if others else f"{last} has"
        st.info(
            f"{have} no report{' of this data set' if kind else ' yet'}. {command_for('val', kind)} writes one.",
            icon=":material/info:",
        )
    return {name: found[name] for name in titles if name in found}


def command_for(split: str, kind: str = "", mark: str = "`") -> str:
    """The command that makes the report of a captioner, NAME."""
    place = engine().folder.name
    return (
        f"{mark}python -m glied evaluate --data DIR --split {split} --checkpoint {place}/NAME.safetensors "
        f"--grounding --json {place}/NAME{kind}.json{mark}"
    )


def draw_origin(report: Report) -> None:
    """Of which photographs the reports are, and how to make them again."""
    beam = report["options"].get("beam")
    st.markdown(
        f"**{len(report['images']):,} photographs**, the split **{plain(report['split'])}** of the data set "
        f"**{plain(report['data'])}**. Each captioner wrote one caption of each (beam {beam}), scored against what "
        "people wrote. Every score is times 100; an interval is where the mean would lie in 95 of 100 draws of as many "
        "photographs from these (10,000 resamples). It says nothing about another training run."
    )
    with st.expander("The command that makes such a report", icon=":material/terminal:"):
        st.code(command_for(report["split"], mark=""), language="bash", wrap_lines=True)
        st.caption(
            "DIR holds images/ and captions.json, and for --grounding entities.json or boxes.json; NAME is one of "
            f"these: {', '.join(engine().models)}."
        )


def draw_scores(found: dict[str, Report]) -> None:
    """Every captioner's scores with intervals."""
    st.header("Scores")
    titled = {engine().titles[name]: report for name, report in found.items()}
    table = score_table(tuple(title + stamp(report) for title, report in titled.items()), titled)
    show(table, "Scores of each captioner, with 95 % intervals", "scores")
    for metric, sentence in sorted({(m, why) for r in found.values() for m, (_, why) in r["missing"].items()}):
        st.caption(f"{plain(metric)} was not measured. {plain(sentence)}")
    st.caption(
        "Low and high are the ends of the interval of the score before them. BLEU and METEOR are those of the whole "
        "split, not means over photographs: they have none here."
    )


def draw_differences(both: Both) -> None:
    """The second minus the first on the same photographs."""
    first, second = both
    st.header(f"{plain(second)} minus {plain(first)}")
    table = difference_table(tuple(title + stamp(report) for title, report in both.items()), both)
    said = (scores.say_difference(row, plain(first), plain(second)) for row in table.to_dict("records"))
    st.markdown("\n".join(f"- {sentence}" for sentence in said))
    show(table, f"{second} minus {first} by metric, with interval and p", "difference", digits=2)
    st.caption(
        "Means over photographs of their own scores, a paired bootstrap; p is two-sided. METEOR of a whole split, as "
        "in the table of scores, is not the mean of its photographs’."
    )


@st.fragment
def draw_photographs(both: Both) -> None:
    """Both captioners photograph by photograph: a chart and two lists to choose from, and the one that is chosen."""
    st.header("Photograph by photograph")
    metrics = scores.shared_metrics(both.values())
    if not metrics:
        st.info("These reports have no score for single photographs.", icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = pick_one("Metric", metrics, "metric", bind="query-params")
        table = scores.photograph_table(both, metric)
        chosen = st.selectbox(
            "Photograph of the data set",
            table["id"],
            index=None,
            placeholder="Type a part of its name",
            key=POINT.name,
            bind="query-params",
            width=320,
        )
    left, right = st.columns([3, 2], gap="large")
    with left:
        draw_choices(table, metric, chosen)
    with right:
        draw_photograph(chosen, both, metrics)


def draw_choices(table: pd.DataFrame, metric: str, chosen: str | None) -> None:
    """The scatter, wins and losses; each sets which photograph is chosen."""
    _, first, second, *_ = table
    every, wins, losses = st.tabs(["All", f"{plain(second)} gains most", f"{plain(second)} loses most"])
    ids = set(table["id"])
    with every:
        st.plotly_chart(
            score_scatter(table, metric, chosen),
            key=SCATTER.name,
            on_select=lambda: choose_point(POINT, ids),
            selection_mode="points",
            config=figure_config(),
            alt=f"{metric} of each photograph: {first} across, {second} upwards",
        )
        above, below = (table["difference"] > 0).sum(), (table["difference"] < 0).sum()
        st.caption(
            f"A marker is a photograph; above the line {plain(second)} scores more ({above}), below it {plain(first)} "
            f"({below}), on it they tie ({len(table) - above - below}). Choose one to see it."
        )
        offer_csv(table, f"photographs_{metric}.csv")
    largest = table.sort_values(["difference", "id"], ascending=False)
    for tab, name, rows in (
        (wins, "wins", largest[largest["difference"] > 0].head(LISTED)),
        (losses, "losses", largest[largest["difference"] < 0].tail(LISTED)[::-1]),
    ):
        with tab:
            draw_list(rows.reset_index(drop=True), (first, second), name, chosen)


def draw_list(rows: pd.DataFrame, titles: tuple[str, str], name: str, chosen: str | None) -> None:
    """A list of photographs to choose from; the chosen one is marked."""
    key = f"{name} {chosen}"  # a new table for each choice, so that it marks this one only
    captions = [f"{title} caption" for title in reversed(titles)]
    st.caption("Chosen for being extreme: look at them to learn, not to judge.")
    st.dataframe(
        as_written(rows[["difference", *captions]], DIFFERENCE),
        hide_index=True,
        row_height=LINES,
        height="content",
        key=key,
        on_select=lambda: take_row(key, list(rows["id"])),
        selection_mode="single-row",
        selection_default={
            "selection": {"rows": rows.index[rows["id"] == chosen].tolist(), "columns": [], "cells": []}
        },
        column_config={"difference": st.column_config.NumberColumn(width="small")}
        | dict.fromkeys(captions, st.column_config.TextColumn(width=250)),
        alt=f"{titles[1]}'s {len(rows)} largest {name} against {titles[0]}",
    )


def take_row(key: str, ids: list[str]) -> None:
    """The photograph of the row."""
    for row in rows_of(key).get().selection.rows:
        if 0 <= row < len(ids):
            POINT.keep(ids[row])


def draw_photograph(id: str | None, both: Both, metrics: list[str]) -> None:
    """One photograph: itself where the gallery has it, both captions, what people wrote, scores, and where to go on."""
    if id is None:
        st.info("Choose a marker, a row or a name: both captions come up here.", icon=":material/touch_app:")
        return
    st.markdown("**The photograph**")
    entry = next((entry for entry in entries(folder())[0] if entry.id == id), None)
    if entry:
        try:
            st.image(open_entry(entry).image, alt=entry.alt, width=320)
        except GliedError as error:
            st.error(str(error), icon=":material/error:")
    for name, report in both.items():
        st.caption(plain(name))
        st.text(report["images"][id]["caption"])
    if written := human_captions(folder()).get(id):
        st.caption("People")
        st.text("\n".join(written))
    own = {name: [100 * report["images"][id][m] for m in metrics] for name, report in both.items()}
    first, second = own
    table = pd.DataFrame({"metric": metrics, **own}).assign(difference=lambda t: t[second] - t[first])
    st.dataframe(
        as_written(table, DIFFERENCE | dict.fromkeys(own, partial(decimal, digits=1))),
        hide_index=True,
        alt="Scores of both captions of this photograph",
    )
    if not entry:
        st.caption(
            f"This app shows no photograph {plain(id)}: it knows the first {MOST} of the folder that "
            "`make app IMAGES=DIR` names."
        )
        return
    with st.container(horizontal=True):
        for page, title, icon in (("explore", "Explore", "travel_explore"), ("compare", "Compare", "compare")):
            st.page_link(f"views/{page}.py", label=title, icon=f":material/{icon}:", query_params={"photo": id})


def draw_habits(found: dict[str, Report]) -> None:
    """Length, variety, repetition and novelty."""
    st.header("How captions are written")
    table = scores.habit_table({engine().titles[name]: report for name, report in found.items()})
    show(table, "How each captioner and people write", "habits")
    st.caption(
        "Different words: how many over the whole split. Repeat: the same content word twice in a caption. Perplexity: "
        "how surprised the captioner is by people's captions, the lower the better."
    )


def draw_curves() -> None:
    """The trainings of the shipped captioners."""
    st.header("Learning curves")
    table = pd.read_csv(CURVES)
    for tab, (column, title) in zip(st.tabs(list(TRAINED.values())), TRAINED.items(), strict=True):
        with tab:
            figure = training_curve(table, column)
            st.plotly_chart(figure, key=column, config=figure_config(), alt=f"{title} by epoch, of Base and of GLIED")
    st.caption(
        "How the captioners that come with GLIED Studio were trained: cross-entropy (dotted), then self-critical "
        "training. CIDEr is the mean of those on Flickr8k val and on COCO val. The logs of these runs are gone, so the "
        "numbers were read off a picture of them: to 0.01 in loss and 0.001 in reward and CIDEr. "
        "`python -m glied curves` draws the logs of other runs."
    )


def draw_paper() -> None:
    """The paper's own numbers, apart."""
    with st.expander("The paper’s Table 1: MSCOCO, other photographs, not to be compared with the scores above"):
        table = scores.paper_table()
        st.dataframe(table, hide_index=True, alt="Table 1 of the paper, on MSCOCO, Karpathy's test split")
        st.caption("* an ensemble; – means that the paper gives none.")


def pick_compared() -> list[str]:
    """Two captioners whose reports are compared; one where the same was chosen twice, which is said."""
    second, first = engine().pair
    if len(engine().titles) > 2:
        with st.container(horizontal=True, vertical_alignment="center"):
            first, second = pick_two((first, second), ("to compare with", "to compare"))
    if first == second:
        st.info("Choose two captioners to compare their reports.", icon=":material/compare:")
    return list(dict.fromkeys((first, second)))


st.title("How well do they caption?")
found = find_reports(pick_report_set())
if found:
    draw_origin(next(iter(found.values())))
    draw_scores(found)
    pair, titles = pick_compared(), engine().titles
    if len(set(pair)) == 2 and set(pair) <= found.keys():
        both = {titles[name]: found[name] for name in pair}
        draw_differences(both)
        draw_photographs(both)
    draw_habits(found)
    pair = [n for n in pair if n in found]
    draw_grounding(
        {titles[n]: found[n]["grounding"] for n in pair if "grounding" in found[n]},
        [titles[n] for n in pair if "grounding" not in found[n]],
    )
    pick_figure_file()
draw_curves()
draw_paper()
