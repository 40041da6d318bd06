"""Session state is what app/state.py registers, each key once."""

import ast
from pathlib import Path

import pytest

from app import state


def test_other_modules_name_no_key_of_the_session(root: Path):
    keys = [value for value in vars(state).values() if isinstance(value, state.Key)]
    names = {key.name for key in keys}
    assert len(names) == len(keys) > 30
    for file in (root / "app").rglob("*.py"):
        if file.name == "state.py":
            continue
        nodes = list(ast.walk(ast.parse(file.read_text())))
        assert not [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "session_state"], file
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "container":
                continue  # its key is a class of CSS
            given = [word.value for word in call.keywords if word.arg == "key"]
            assert not {value.value for value in given if isinstance(value, ast.Constant)} & names, file


def test_a_key_is_usual_until_kept_and_again_once_forgotten(monkeypatch: pytest.MonkeyPatch):
    session: dict = {}
    monkeypatch.setattr(state.st, "session_state", session)
    assert state.PAGE.get() == 1
    state.PAGE.keep(3)
    assert (state.PAGE.get(), session) == (3, {"page": 3})
    state.PAGE.forget()
    state.PAGE.forget()
    assert state.PAGE.get() == 1
