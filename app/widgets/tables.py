"""Tables that can be sorted, searched and downloaded as CSV."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from analysis.numbers import decimal


def show_table(
    table: pd.DataFrame,
    alt: str,
    file: str,
    columns: Mapping[str, Any] | None = None,
    written: Mapping[str, Callable[[float], str]] | None = None,
) -> None:
    """A table, and the same as a file. `columns`: how columns are shown, if the table has them; `written`: as in
    `as_written`."""
    st.dataframe(
        as_written(table, written) if written else table,
        hide_index=True,
        alt=alt,
        column_config=dict(columns or {}),
        placeholder="–",
    )
    offer_csv(table, file)


def as_written(table: pd.DataFrame, written: Mapping[str, Callable[[float], str]]) -> Styler:
    """The table with the numbers of `written` columns, where it has them, as text; they still sort as numbers."""
    known = {name: write for name, write in written.items() if name in table}
    return table.style.format(known, na_rep="–")  # type: ignore[arg-type]


def offer_csv(table: pd.DataFrame, file: str, label: str = "CSV") -> None:
    """The table as a CSV file, written when it is asked for."""
    st.download_button(
        label,
        lambda: as_csv(table),
        file,
        "text/csv",
        key=f"csv {file}",
        on_click="ignore",
        icon=":material/download:",
        help=file,
    )


def as_csv(table: pd.DataFrame) -> str:
    """The table as text, lists in it separated by blanks."""
    return table.map(lambda cell: " ".join(cell) if isinstance(cell, list | tuple) else cell).to_csv(index=False)


COLUMNS = {
    "p": st.column_config.NumberColumn(format="%.4f"),
    "count": st.column_config.NumberColumn("photographs", format="%d"),
    "removed": st.column_config.NumberColumn(format="%d"),
    "different words": st.column_config.NumberColumn(format="%d"),
}


def show(table: pd.DataFrame, alt: str, name: str, digits: int = 1) -> None:
    """A table of scores, and the same as a file."""
    numbers = [column for column in table.select_dtypes("float") if column not in COLUMNS]
    show_table(table, alt, f"{name}.csv", COLUMNS, dict.fromkeys(numbers, partial(decimal, digits=digits)))
