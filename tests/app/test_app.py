"""Every view draws, nothing but a new photograph runs a model, and every error is a sentence."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_uploads import PHOTOGRAPH, encoded
from tiny import HOSTILE

from analysis.attention import first_step
from analysis.components import board_payload
from app import state
from app.components import history
from app.engine import ask
from app.engine import engine as services
from app.engine.engine import Engine
from app.photographs.gallery import entries
from app.photographs.photograph import own_photograph
from app.state import Choice
from app.texts import plain
from glied.equations import EQUATIONS
from glied.errors import GliedError
from glied.traces import Trace

Open = Callable[..., AppTest]
TABLES = ("word.csv", "regions.csv")


@pytest.fixture
def explore(open_app: Open) -> Open:
    """The page, its address given as keywords."""
    return lambda **address: open_app(opened=TABLES, **address).switch_page("views/explore.py").run()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every answer of a captioner that a page shows: none goes without a trace."""
    found: list[str] = []
    real = services.trace
    monkeypatch.setattr(services, "trace", lambda *a, **k: (found.append("trace"), real(*a, **k))[1])
    return found


def board(app: AppTest, at: int = 2) -> dict:
    """What the browser gets of a board; the history and the gallery's strip come first."""
    sent = json.loads(app.get("bidi_component")[at].proto.json)
    return sent | json.loads(sent["trace"])


def captioners(app: AppTest) -> list[str]:
    """What Compare calls its two sides; the board of both names them so."""
    sent = [json.loads(part.proto.json) for part in app.get("bidi_component") if part.proto.json]
    return next(data["titles"] for data in sent if "traces" in data)


def fine(app: AppTest) -> bool:
    return not app.exception and not app.error


def test_explore_shows_the_board_with_its_groups_and_the_tables(explore: Open):
    app = explore()
    assert fine(app)
    assert len(app.get("bidi_component")) == 3
    assert app.selectbox(key="photo").value == "grace_hopper"
    word, regions = (table.value for table in app.dataframe)
    assert set(word["kind"]) == {"region", "attribute"}
    assert len(regions) == len(board(app)["boxes"]) == (word["kind"] == "region").sum()
    for each in board(app)["alike"]["heads"]:
        numbers = re.findall(r"\d+(?=(?:, \d+)*\))", " ".join(each["told"]))
        assert sorted(map(int, numbers)) == regions["region"].tolist()
    assert any("All regions seek some" in text.value for text in app.caption)


def test_base_says_that_it_has_no_groups(explore: Open):
    app = explore(model="Base")
    assert fine(app)
    assert any("Base has no region groups or collocations." in text.value for text in app.caption)
    assert board(app)["alike"] is None
    assert "group partners" not in app.dataframe[1].value


def test_compare_shows_both(open_app: Open):
    app = open_app().switch_page("views/compare.py").run()
    assert fine(app)
    assert captioners(app) == ["Base", "GLIED"]
    assert len(app.get("bidi_component")) == 3  # the history, the strip and both captions
    ended = [table.value for table in app.dataframe if "ranked by" in table.value]
    assert [len(table) for table in ended] == [3, 3]
    assert ended[0]["ranked by"].is_monotonic_decreasing


def test_about_shows_every_equation_and_checkpoint(open_app: Open):
    app = open_app().switch_page("views/about.py").run()
    assert fine(app)
    assert len(app.latex) == len(EQUATIONS)
    assert len(app.table) == 3


def test_word_head_and_page_never_run_a_model(explore: Open, runs: list[str]):
    app = explore()
    assert len(runs) == 2  # of the Gallery's diagram, and of this page
    for step, head in ((0, 0), (1, 2), (2, 1)):
        app.session_state["choice"] = Choice(app.session_state["choice"].trace, step, head)
        assert fine(app.run())
    app.switch_page("views/about.py").run()
    app.switch_page("views/explore.py").run()
    assert len(runs) == 2
    app.switch_page("views/compare.py").run()
    compared = len(runs)
    app.switch_page("views/explore.py").run()
    app.segmented_control(key="model").set_value("base").run()
    assert len(runs) == compared > 2
    app.selectbox(key="photo").select("coffee").run()
    assert len(runs) == compared + 1


def test_the_table_follows_the_chosen_word(explore: Open):
    app = explore(photo="chelsea")  # of which the tiny captioner says enough
    before = app.dataframe[0].value
    app.session_state["choice"] = Choice(app.session_state["choice"].trace, 3, 1)
    assert not app.run().dataframe[0].value.equals(before)
    assert (app.query_params["step"], app.query_params["head"]) == ("3", "1")


def test_photograph_and_captioner_stay_from_page_to_page(explore: Open):
    app = explore(photo="coffee", model="Base")
    app.switch_page("views/compare.py").run()
    assert app.selectbox(key="photo").value == "coffee"
    app.switch_page("views/explore.py").run()
    assert app.selectbox(key="photo").value == "coffee"
    assert any("Base has no region groups or collocations." in text.value for text in app.caption)


@pytest.mark.parametrize(
    ("address", "toasts"),
    [
        ({"photo": "nowhere"}, 1),
        ({"step": "two"}, 1),
        ({"step": "-1", "head": "1e9"}, 2),
        ({"step": "99"}, 1),
        ({"head": "9"}, 1),
        ({"model": "Nobody"}, 1),
        ({"model": "Base"}, 0),
        ({"region": "99"}, 1),
        ({"region": "x"}, 1),
        ({"region": "0"}, 1),
        ({"step": "1", "head": "2", "photo": "rocket"}, 0),
    ],
)
def test_an_address_that_makes_no_sense_falls_back_with_a_toast(explore: Open, address: dict, toasts: int):
    app = explore(**address)
    assert fine(app)
    assert len(app.toast) == toasts


def test_an_address_opens_the_word_and_head_it_names(explore: Open):
    app = explore(photo="chelsea", step="2", head="1", region="3")
    assert board(app)["start"] == {"step": 2, "head": 1, "region": 2, "count": 1}
    choice = app.session_state["choice"]
    assert (choice.step, choice.head, choice.region) == (2, 1, 2)
    assert app.query_params["region"] == "3"


def test_the_address_names_the_pinned_region_while_it_is_pinned(explore: Open):
    app = explore(photo="chelsea")
    assert "region" not in app.query_params
    digest = app.session_state["choice"].trace
    app.session_state["choice"] = Choice(digest, 1, 0, 4)
    assert app.run().query_params["region"] == "5"
    app.session_state["choice"] = Choice(digest, 1, 0, None)
    assert "region" not in app.run().query_params


def test_word_and_head_come_along_to_pages_without_a_board(explore: Open):
    app = explore(photo="chelsea", step="3", head="2")
    for page in ("decoding", "collocations"):
        app.switch_page(f"views/{page}.py").run()
        assert fine(app)
        assert (app.query_params["step"], app.query_params["head"]) == ("3", "2")
        assert app.selectbox(key="head_chosen").value == 2
    assert app.pills[0].value == 4  # the word itself is the input of the next
    app.selectbox(key="head_chosen").set_value(1).run()
    assert app.session_state["choice"].head == 1
    assert app.switch_page("views/explore.py").run().query_params["head"] == "1"


def test_a_value_that_is_not_offered_is_told(open_app: Open):
    app = open_app(scope="zzz").switch_page("views/collocations.py").run()
    assert fine(app)
    assert [toast.value for toast in app.toast] == [
        "The address asked for the scope “zzz”, which is not here; the usual one is shown."
    ]


def test_an_address_to_which_the_browser_goes_back_wins_over_the_session(
    explore: Open, monkeypatch: pytest.MonkeyPatch
):
    app = explore(photo="chelsea", step="2")
    app.session_state["choice"] = Choice(app.session_state["choice"].trace, 0, 1)
    app.query_params["step"] = "3"
    assert app.run().query_params["step"] == "0"
    for module in (state, history):
        monkeypatch.setattr(module, "travelled", lambda: True)
    app.query_params.update(step="3", head="2", region="2")
    app.run()
    assert fine(app)
    assert board(app)["start"] == {"step": 3, "head": 2, "region": 1, "count": 2}
    assert (app.session_state["choice"].step, app.session_state["choice"].head) == (3, 2)


def test_an_upload_is_shown_and_nothing_of_it_is_in_the_address(explore: Open):
    app = explore()
    app.file_uploader[0].upload("<b>me</b>.png", encoded(PHOTOGRAPH, "PNG"), "image/png").run()
    assert fine(app)
    assert app.selectbox(key="photo").value == "yours"
    assert app.query_params["photo"] == "yours"
    assert board(app)["size"] == [64, 48]
    assert "<b>me" not in json.dumps(board(app))
    app.switch_page("views/compare.py").run()
    assert app.selectbox(key="photo").value == "yours"


def test_compare_shows_what_people_wrote(open_app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "images").mkdir()
    PHOTOGRAPH.save(tmp_path / "images" / "a.png")
    record = {"filename": "a.png", "split": "val", "sentences": [{"raw": "A *dog* <b>runs</b>."}]}
    (tmp_path / "captions.json").write_text(json.dumps({"images": [record]}))
    monkeypatch.setenv("GLIED_IMAGES", str(tmp_path))
    app = open_app().switch_page("views/compare.py").run()
    assert fine(app)
    assert [text.value for text in app.text] == ["A *dog* <b>runs</b>."]


def test_a_bad_upload_gets_a_sentence_and_leaves_the_view(explore: Open):
    app = explore()
    app.file_uploader[0].upload("a.jpg", b"xx", "image/jpeg").run()
    assert not app.exception
    assert "Expected a JPEG" in app.error[0].value
    assert app.selectbox(key="photo").value == "grace_hopper"


def test_garbage_is_not_looked_for_in_what_stays_loaded(open_app: Open):
    gc.unfreeze()
    assert fine(open_app())
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())
    gc.unfreeze()


def test_missing_checkpoints_get_one_sentence(open_app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLIED_CHECKPOINTS", str(tmp_path))
    app = open_app()
    assert not app.exception
    assert len(app.error) == 1
    assert plain("glied.safetensors") in app.error[0].value
    assert str(tmp_path) not in app.error[0].value.replace("\\", "")


def test_a_folder_of_ones_own(explore: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    PHOTOGRAPH.save(tmp_path / "<script>alert(1)<script>.png")
    (tmp_path / "truncated.jpg").write_bytes(encoded(PHOTOGRAPH.resize((400, 400)), "JPEG")[:2000])
    monkeypatch.setenv("GLIED_IMAGES", str(tmp_path))
    app = explore()
    assert fine(app)
    assert app.selectbox(key="photo").value == "<script>alert(1)<script>.png"
    app.selectbox(key="photo").select("truncated.jpg").run()
    assert not app.exception
    assert "damaged" in app.error[0].value


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {},
        {"trace": 3, "step": 1, "head": 1},
        {"trace": "t", "step": -1, "head": 0},
        {"trace": "t", "step": "1", "head": 0},
        {"trace": "t", "step": 10**9, "head": 0},
    ],
)
def test_what_a_browser_sends_is_checked(sent: object):
    def script():
        from app.state import BOARD, choose

        choose(BOARD)

    app = AppTest.from_function(script)
    app.session_state["board"] = {"choice": sent}
    app.session_state["choice"] = "before"
    assert app.run().session_state["choice"] == "before"
    app.session_state["board"] = {"choice": {"trace": "t", "step": 4, "head": 2}}
    assert app.run().session_state["choice"] == Choice("t", 4, 2)


def test_payload_is_a_function_of_its_arguments(traces: dict[str, Trace]):
    for name, trace in traces.items():
        found = board_payload(trace)
        assert json.dumps(found, allow_nan=False) == json.dumps(board_payload(trace))
        assert found["first"] == first_step(trace)
        assert np.array(found["context"]).shape == (trace.heads, len(trace.words), len(trace.words))
        assert (
            found["key_shares"].keys()
            == {
                "base": {"fine", "read"},
                "glied": {"groups", "coarse", "fine", "read"},
            }[name]
        )
        assert found["read"][1][2] == pytest.approx(
            trace.attention[{"base": "a", "glied": "al"}[name]][1, 2].tolist(), abs=1e-4
        )
    base = board_payload(traces["base"])
    assert base["groups"] is None
    assert base["alike"] is None


def test_a_lone_region_has_no_fall(traces: dict[str, Trace]):
    import tiny

    from glied.replay import trace

    lone = trace(tiny.checkpoint(), tiny.scene(1, 1), ["dog"], falls=True)
    found = board_payload(lone)
    assert found["region_falls"] == [[None], [None]]
    assert json.dumps(found, allow_nan=False)


def test_texts_are_never_markup(root: Path):
    scripts = [file.read_text() for file in (root / "app").rglob("*.js")]
    assert scripts
    markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|createContextual|\beval\b|Function\("
    )
    assert not [found for text in scripts for found in markup.findall(text)]
    assert not [file for file in (root / "app").rglob("*.py") if "unsafe_allow_html" in file.read_text()]
    scripted = [file.name for file in (root / "app").rglob("*.py") if "unsafe_allow" in file.read_text()]
    assert scripted == ["main.py"]  # a script of ours, components/menu.js


def test_a_hostile_word_reaches_the_board_as_it_is(explore: Open):
    assert HOSTILE in board(explore())["attributes"]


def test_views_leave_torch_and_plotly_alone(root: Path):
    for file in [*(root / "app" / "views").glob("*.py"), *(root / "analysis").glob("*.py")]:
        names = set(re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(), re.M))
        forbidden = {"torch", "streamlit"} if "analysis" in file.parts else {"torch"}
        assert not names & (forbidden | ({"plotly"} if file.name != "figures.py" else set())), file


def test_the_app_finds_the_repository_from_anywhere(root: Path, tmp_path: Path):
    script = f"""from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(root / "app" / "main.py")!r}, default_timeout=60).run()
print([error.value for error in app.error], list(app.exception))"""
    environment = os.environ | {"GLIED_CHECKPOINTS": str(tmp_path)}
    run = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment, capture_output=True)
    assert run.stdout.decode().replace("\\", "").startswith('["Expected attributes.safetensors'), run.stderr.decode()
    assert run.stdout.decode().endswith("[]\n")


def test_a_full_queue_is_refused_and_a_waiting_photograph_asked_for_twice_runs_once(checkpoints: Path):
    engine, gate, seen = Engine(checkpoints), threading.Event(), []
    engine._read = lambda photograph, model, question: (gate.wait(30), seen.append(photograph.key))  # type: ignore[method-assign]
    asked = [own_photograph(encoded(Image.new("RGB", (16, 16), (i, 0, 0)), "PNG")) for i in range(services.WAITING + 1)]
    threads = [threading.Thread(target=engine.read, args=(p, "glied")) for p in [asked[0], *asked[: services.WAITING]]]
    for thread in threads:
        thread.start()
    while len(engine.results) < services.WAITING:
        pass
    with pytest.raises(GliedError, match="try again in a few seconds"):
        engine.read(asked[-1], "glied")
    gate.set()
    for thread in threads:
        thread.join()
    assert len(seen) == services.WAITING
    engine.read(asked[-1], "glied")


def test_memory_is_bounded_and_failures_are_tried_again(checkpoints: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(services, "KEPT", 2)
    engine, answers = Engine(checkpoints), iter([GliedError("once"), 1, 2, 3, 4])

    def answer(photograph, model, question):
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    engine._read = answer  # type: ignore[method-assign]
    photographs = [own_photograph(encoded(Image.new("RGB", (16, 16), (i, 9, 0)), "PNG")) for i in range(3)]
    with pytest.raises(GliedError, match="once"):
        engine.read(photographs[0], "glied")
    assert [engine.read(p, "glied") for p in photographs] == [1, 2, 3]
    assert len(engine.results) == 2
    assert engine.read(photographs[2], "glied") == 3
    assert engine.read(photographs[0], "glied") == 4  # the oldest was forgotten


def test_gallery_names_are_distinct():
    ids = [entry.id for entry in entries()[0]]
    assert len(ids) == len(set(ids))


def test_a_photograph_unlike_those_learned_from_is_called_so(explore: Open, monkeypatch: pytest.MonkeyPatch):
    app = explore()
    assert not app.info
    monkeypatch.setitem(ask.engine().detector_card, "val_top_score@1%", 0.99)
    for view in ("explore", "compare"):
        app.switch_page(f"views/{view}.py").run()
        assert "unlike those the captioners have learned from" in app.info[0].value


def test_what_is_empty_in_the_address_is_the_usual_and_goes(explore: Open, open_app: Open):
    app = explore(model="", step="", photo="")
    assert fine(app)
    assert board(app)["alike"]
    assert set(app.query_params) == {"photo", "step", "head"}
    app = open_app(beam="", prefix="").switch_page("views/decoding.py").run()
    assert fine(app)
    assert set(app.query_params) == {"photo", "step", "head"}
    assert not open_app(page="", search="").query_params.get("page")


def test_checkpoints_after_self_critical_training_come_first(explore: Open, checkpoints: Path, tmp_path: Path):
    assert list(explore().segmented_control(key="model").options) == ["GLIED", "Base"]
    folder = Path(shutil.copytree(checkpoints, tmp_path / "both"))
    for name in ("glied", "base"):
        shutil.copy(folder / f"{name}.safetensors", folder / f"{name}-rl.safetensors")
    os.environ["GLIED_CHECKPOINTS"] = str(folder)  # the fixture puts it back
    app = explore()
    control = app.segmented_control(key="model")
    assert list(control.options) == ["GLIED", "GLIED before RL", "Base", "Base before RL"]
    assert control.value == "glied-rl"
    app.switch_page("views/compare.py").run()
    assert fine(app)
    assert captioners(app) == ["Base", "GLIED"]


def test_components_share_one_script_and_declare_no_name_twice(root: Path):
    """photo.js stands before every other script of a component: a name in both is an error in the browser alone."""
    scripts = {file.name: file.read_text() for file in (root / "app" / "components").glob("*.js")}
    declared = {
        name: set(re.findall(r"^(?:const|let|function) (\w+)", text, re.MULTILINE)) for name, text in scripts.items()
    }
    shared = declared.pop("photo.js")
    assert len(shared) > 10
    for name, own in declared.items():
        assert not shared & own, name
