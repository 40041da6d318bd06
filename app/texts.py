"""Words and numbers as a page writes them: words come from files and people, so they are never markup."""

import re

import pandas as pd

SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=^@/])")


def plain(text: str) -> str:
    """The text with every sign escaped that Markdown, its directives or its formulas would read."""
    return SIGNS.sub(r"\\\1", " ".join(text.split()))


def without_minus_zero(table: pd.DataFrame) -> pd.DataFrame:
    """The table, in which no number that two digits write as 0.00 is negative."""
    numbers = table.select_dtypes("number")
    return table.assign(**numbers.mask((numbers < 0) & (numbers > -0.005), 0.0))
