"""An equation, and beside it the lines of the running code that compute it."""

import streamlit as st

from glied.equations import EQUATIONS, code_lines

# equations shrink with their column, so that the longest fits
FITTING = """<style>
.stMarkdown:has(.katex-display) { container-type: inline-size }
.stMarkdown .katex-display { font-size: min(1em, 3.6cqi); margin: 0; padding: 4px 0 }
.stMarkdown :is(.katex-display, :has(.katex-display)) { overflow: visible }
</style>"""


def fit_equations() -> None:
    """Once a page that has equations: they fit their columns."""
    st.html(FITTING)


def draw_equation(number: int) -> None:
    """An equation, and beside it the lines of code that compute it."""
    left, right = st.columns(2, gap="medium", vertical_alignment="center")
    left.latex(EQUATIONS[number])
    for line in code_lines()[number]:
        right.caption(f"Eq. ({number}): {line.file}, line {line.number}, in `{line.inside}`")
        right.code(line.source, language="python", wrap_lines=True)
