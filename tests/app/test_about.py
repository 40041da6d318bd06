"""About: every equation stands beside its code."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from app.engine.ask import engine
from glied.equations import EQUATIONS, code_lines

Open = Callable[..., AppTest]


def test_every_equation_has_code(root: Path):
    found = code_lines()
    assert found.keys() == EQUATIONS.keys()
    for number, lines in found.items():
        assert lines, number
        for line in lines:
            written = (root / line.file).read_text().splitlines()[line.number - 1]
            assert written.strip().startswith(line.source)
            assert f"# Eq. ({number})" in written
            assert "#" not in line.source


def test_lines_say_what_they_stand_in():
    assert code_lines()[8][0].inside == "Base.forward"
    assert code_lines()[13][0].inside == "Glied.forward"
    assert code_lines()[1][0].inside == "explicit"
    assert "I_tilde" in code_lines()[9][0].source


def test_the_page_shows_equations_beside_lines_of_code(open_app: Open):
    app = open_app().switch_page("views/about.py").run()
    assert not app.exception
    assert not app.error
    assert [part.value for part in app.code] == [line.source for lines in code_lines().values() for line in lines]
    assert [part.value.strip("$\n ") for part in app.latex] == list(EQUATIONS.values())
    assert any("glied/model.py, line" in part.value for part in app.caption)


def test_cards_keys_and_terms(open_app: Open):
    app = open_app().switch_page("views/about.py").run()
    assert {*engine().titles.values(), "Attribute detector"} <= {part.label for part in app.expander}
    text = " ".join(part.value for part in app.markdown)
    for said in ("Attribute collocation", "Region grouping", "beam tree", "slider of words", "Esc"):
        assert said in text
    assert "Measured on" not in text  # no report lies beside these checkpoints
