"""What a person takes away is whole and harmless, and what someone else has sent is checked before it is shown."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import streamlit as st
import tiny
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_stills import beam
from test_uploads import encoded
from tiny import HOSTILE

from analysis.numbers import percent
from analysis.page import Account, page
from analysis.paper import ONE, TWO
from app.components.tree import nodes_of
from app.engine import ask
from app.engine import engine as services
from app.engine.engine import Question, beam_of
from app.photographs.gallery import entries, open_entry
from app.texts import plain
from app.widgets import export
from app.widgets.shared import shared_from
from glied.errors import GliedError
from glied.replay import trace
from glied.traces import Trace, unpack

Open = Callable[..., AppTest]
JPEG = encoded(Image.linear_gradient("L").convert("RGB").resize((100, 90)), "JPEG")  # as large as a tiny scene
VOID = {"meta", "img", "image", "use", "rect"}


class Reader(HTMLParser):
    """Reads a page as a browser does: which elements it has, their addresses, the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable]:
    """File name -> what makes it, of every download that the page offers."""
    found: dict[str, Callable] = {}
    real = export._offer
    monkeypatch.setattr(export, "_offer", lambda *a: (found.__setitem__(a[1], a[3]), real(*a)))
    return found


def offered(app: AppTest) -> list[str]:
    return [each.proto.label for each in app.get("download_button") if "export" in each.proto.id]


def explore(open_app: Open, **address: str) -> AppTest:
    app = open_app(opened=["export"], **address).switch_page("views/explore.py").run()
    assert not app.exception
    assert not app.error
    return app


def kinds(app: AppTest) -> list[str]:
    """The pictures that the page offers, by what they are called inside."""
    (box,) = (box for box in app.selectbox if box.label == "Picture")
    return box.proto.id.split("picture of ")[1].split()


def pick(app: AppTest, kind: str) -> AppTest:
    """The page with another picture chosen."""
    return next(box for box in app.selectbox if box.label == "Picture").set_value(kind).run()


def told(app: AppTest) -> str:
    """The caption offered for the picture in view."""
    (found,) = app.code
    return found.value


def test_everything_is_offered(open_app: Open):
    app = explore(open_app)
    assert offered(app) == [
        "PNG",
        "SVG",
        "PDF",
        "The word (CSV)",
        "Trace (.npz)",
        "Trace (JSON)",
        "Report of the photograph (HTML)",
    ]
    assert kinds(app) == ["word", "words", "group", "groups", "collocations", "beam"]
    app.segmented_control(key="model").set_value("base").run()
    assert kinds(app) == ["word", "words", "beam"]  # Base has neither groups nor collocations


def test_every_picture_has_files_of_both_widths_and_a_caption_to_copy(open_app: Open, offers: dict[str, Callable]):
    app = explore(open_app, head="1")
    captions = set()
    for kind in kinds(app):
        app = pick(app, kind)
        assert not app.exception
        assert ask.engine().models["glied"].digest in told(app)
        assert "head 1" in told(app) or kind == "beam"
        captions.add(told(app))
    assert len(captions) == 6
    next(each for each in app.segmented_control if each.label == "Width on paper").set_value("one column").run()
    inches = {
        name: Image.open(io.BytesIO(offers[name]())).width / 300 for name in offers if "beam" in name and "png" in name
    }
    assert inches == {
        "grace_hopper-glied-beam.png": pytest.approx(TWO, abs=0.01),
        "grace_hopper-glied-beam-one-column.png": pytest.approx(ONE, abs=0.01),
    }


def test_every_download_is_what_its_name_says(open_app: Open, offers: dict[str, Callable]):
    explore(open_app)
    assert len(offers) == 7
    for name, make in offers.items():
        assert re.fullmatch(r"grace_hopper(-glied)?[A-Za-z0-9_-]*\.(png|svg|pdf|csv|npz|json|html)", name), name
        made = make()
        if name.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(made)))
            assert {row["kind"] for row in rows} == {"region", "attribute"}
            assert sum(float(row["attention"]) for row in rows) == pytest.approx(2, abs=1e-4)
            numbers = [row["region"] for row in rows if row["kind"] == "region"]
            assert sorted(map(int, numbers)) == list(range(1, len(numbers) + 1))
            assert all(row["left"] for row in rows if row["kind"] == "region")
        elif name.endswith(".json"):
            assert json.loads(made)["format"] == "glied-trace-2"
        elif name.endswith(".npz"):
            shared = shared_from(made)
            assert max(shared.photograph.image.size) <= 900
            assert shared.trace.inputs[0] == "<bos>"
        elif name.endswith(".html"):
            read = Reader(made)
            assert ("a", {"href": "/explore?photo=grace_hopper"}) in read.elements
            for digest in (model.digest for model in ask.engine().models.values()):
                assert digest in read.text
        else:
            begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[name.rsplit(".", 1)[1]]
            assert made.startswith(begins)


def test_decoding_exports_the_beam_as_it_stands_and_the_word_that_is_pinned(
    open_app: Open, offers: dict[str, Callable]
):
    open_app()
    answer = ask.engine().read(open_entry(entries()[0][0]), "glied", Question(beam_of(2), ("a", "dog")))
    node = next(node for node in nodes_of(answer) if not node.best and node.step == 3 and node.word != "<eos>")
    app = open_app(opened=["export"], prefix="a dog", beam="2", head="2", pin=" ".join(node.words))
    app = app.switch_page("views/decoding.py").run()
    assert not app.exception
    assert not app.error
    assert kinds(app)[0] == "beam"
    assert "Beam search, 2 hypotheses kept, of GLIED, made to begin with “a dog”" in told(app)
    assert "the pinned word is framed" in told(app)
    app = pick(app, "word")
    assert f"before it said “{node.word}”" in told(app)
    assert "head 2" in told(app)
    made = next(make for name, make in offers.items() if name.startswith("grace_hopper-glied-4-") and "csv" in name)()
    rows = [row for row in csv.DictReader(io.StringIO(made)) if row["kind"] == "region"]
    assert answer.outlook
    weights = answer.outlook.attention["vl"][1, node.outlook]
    for row in rows:
        assert float(row["attention"]) == pytest.approx(weights[int(row["region"]) - 1], abs=1e-4)
        assert row["fall"]
    tree = list(csv.DictReader(io.StringIO(offers["grace_hopper-glied-beam.csv"]())))
    assert len(tree) == len(nodes_of(answer))


def test_collocations_export_the_map_and_the_pivot_in_view(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"], ask="red", order="by score", least="0.5")
    app = app.switch_page("views/collocations.py").run()
    assert not app.exception
    assert not app.error
    assert kinds(app) == ["map", "pivot"]
    assert "+ marks words asked" in told(app)
    assert "below 0.5× are left empty" in told(app)
    assert "side by side" not in told(app)
    table = list(csv.DictReader(io.StringIO(offers["grace_hopper-glied-collocations.csv"]())))
    assert [row["pivot"] for row in table][-1] == "+ red"
    app = pick(app, "pivot")
    assert "“red” calls up" in told(app)
    assert offers["grace_hopper-glied-pivot-red.svg"]().startswith(b"<?xml")
    lifts = list(csv.DictReader(io.StringIO(offers["grace_hopper-glied-pivot-red.csv"]())))
    found = {row["attribute"]: float(row["lift"]) for row in lifts}
    assert found == pytest.approx({name: float(value) for name, value in table[-1].items() if name != "pivot"})


def test_a_data_set_exports_its_map_and_one_pivot(offers: dict[str, Callable]):
    def script():
        import pandas as pd

        from app.widgets.export import draw_lifts_export, draw_pivot_export

        report = {"title": "GLIED", "checkpoint": "abc", "data": "flickr8k", "split": "val"}
        report["grounding"] = {"photographs": 1000}
        lifts = pd.DataFrame([[3.0, None], [0.5, 2.0], [2.9, 0.9]], ["dog", "man", "cat"], ["grass", "red"])
        draw_lifts_export(report, lifts)
        draw_pivot_export(report, "dog", pd.DataFrame({"attribute": ["grass", "red"], "lift": [3.0, None]}))

    app = AppTest.from_function(script)
    for key in ("export map", "export pivot"):
        app.session_state[key] = True
    app.run()
    assert not app.exception
    over, one = (code.value for code in app.code)
    assert "hatched" in over
    for caption in (over, one):
        assert "GLIED, checkpoint abc, Eq. (10), means over 1,000 photographs of flickr8k val and all heads" in caption
    rows = list(csv.DictReader(io.StringIO(offers["flickr8k-collocations.csv"]())))
    assert {row["pivot"] for row in rows} == {"dog", "man", "cat"}
    assert [row["grass"] for row in rows] != ["3.0", "0.5", "2.9"]  # those alike side by side
    assert "grass,3.0" in offers["flickr8k-pivot-dog.csv"]()
    assert offers["flickr8k-pivot-dog-bars.pdf"]().startswith(b"%PDF")


def test_compare_exports_both_sides_and_the_words_that_differ(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"], head="2").switch_page("views/compare.py").run()
    assert not app.exception
    assert not app.error
    for model in ask.engine().models.values():
        assert model.digest in told(app)
    assert "head 2" in told(app)
    name = "grace_hopper-base-grace_hopper-glied"
    assert offers[next(file for file in offers if file.startswith(name) and file.endswith(".pdf"))]().startswith(
        b"%PDF"
    )
    rows = list(csv.DictReader(io.StringIO(offers[f"{name}-The-words-that-differ.csv"]())))
    assert {"left", "right", "left_own"} <= set(rows[0])
    word = list(csv.DictReader(io.StringIO(offers[f"{name}-Base-word.csv"]())))
    assert next(row for row in word if row["region"] == "1")["right"]  # its box


def test_what_if_exports_the_change_and_the_curve(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"], out="1,2").switch_page("views/whatif.py").run()
    assert not app.exception
    assert not app.error
    assert kinds(app) == ["change", "curve"]
    assert "without region 1" in told(app)
    assert re.search("The log p of the first caption (falls|rises) by [0-9.]+;", told(app))
    change = list(csv.DictReader(io.StringIO(offers["grace_hopper-glied-what-if.csv"]())))
    assert {"word", "before", "after"} <= set(change[0])
    assert offers["grace_hopper-glied-what-if-change.png"]().startswith(b"\x89PNG")
    app = pick(app, "curve")
    assert "taken away one after another" in told(app)
    curve = next(make for file, make in offers.items() if "curve" in file and file.endswith(".csv"))()
    counts = [int(row["regions taken away"]) for row in csv.DictReader(io.StringIO(curve))]
    assert counts == list(range(len(counts)))
    whole = open_app(opened=["export"]).switch_page("views/whatif.py").run()
    assert "Picture" not in [box.label for box in whole.selectbox]  # nothing has changed: the curve alone
    assert "taken away one after another" in told(whole)


def test_the_report_is_of_the_caption_in_view(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"], prefix="dog dog", beam="2").switch_page("views/decoding.py").run()
    assert not app.exception
    told = Reader(offers["grace_hopper.html"]()).text
    for model, name in (("glied", "GLIED"), ("base", "Base")):
        free, forced = (
            ask.engine().read(open_entry(entries()[0][0]), model, question).trace.text
            for question in (Question(beam_of(2)), Question(beam_of(2), ("dog", "dog")))
        )
        assert f"{name}, made to begin with “dog dog”, beam search, 2 hypotheses kept: {forced} (log p" in told
        assert f": {free} (log p" not in told


def test_a_report_waits_its_turn_where_a_page_says_that_the_queue_is_full(open_app: Open, offers: dict[str, Callable]):
    explore(open_app)
    engine = ask.engine()
    engine.results |= {("waiting", i): Future() for i in range(services.WAITING)}
    with pytest.raises(GliedError, match="queue"):
        engine.read(open_entry(entries()[0][0]), "base", Question(beam_of(2)))
    assert Reader(offers["grace_hopper.html"]()).all("svg")  # also by Base, which nobody has asked yet


def test_files_are_never_named_by_strangers(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"])
    upload = encoded(Image.linear_gradient("L").convert("RGB").resize((64, 48)), "JPEG", comment=b"at home")
    app.file_uploader(key="upload").upload("../../secret plan.jpg", upload, "image/jpeg").run()
    app = app.switch_page("views/explore.py").run()
    assert not app.exception
    assert app.selectbox(key="photo").value == "yours"
    assert {name[:5] for name in offers} >= {"yours"}
    last = {name: make for name, make in offers.items() if name.startswith("yours")}
    assert not any("secret" in name or "/" in name for name in offers)
    assert "no address opens it again" in Reader(last["yours.html"]()).text
    packed = last["yours-glied.npz"]()
    assert b"at home" not in unpack(packed)[1]


def report(*names: str) -> str:
    accounts = {name.upper(): Account(*beam(name)) for name in names}
    for name, account in accounts.items():
        seen = account.trace
        hostile = replace(seen, attributes=(HOSTILE, *seen.attributes[1:]), labels=(HOSTILE,) * 5, checkpoint=HOSTILE)
        accounts[name] = Account(replace(hostile, words=(HOSTILE, *seen.words[1:])), account.nodes)
    return page(HOSTILE, '"><script>alert(1)</script>', HOSTILE, "http://host/?photo=a&b", JPEG, accounts)


def test_the_report_is_one_page_without_scripts_or_network():
    text = report("base", "glied")
    read = Reader(text)
    assert not read.open
    assert HOSTILE in read.text
    assert HOSTILE not in text
    assert not read.all("script", "link", "iframe", "object", "style")[1:]  # its own style alone
    for attributes in read.all("img", "image"):
        assert re.match(r"data:image/(png|jpeg|svg\+xml);base64,", attributes.get("src") or attributes["href"])
    assert all(attributes["alt"] for attributes in read.all("img"))
    assert all(attributes["aria-label"] for attributes in read.all("svg"))
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    links = [a["href"] for a in read.all("a")]
    assert [href for href in links if not href.startswith("#")] == ["http://host/?photo=a&b"]
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = {href[1:] for href in links if href.startswith("#")}
    assert inner == set(ids) - {"photograph"}  # the contents name every part
    assert len(inner) == 9
    assert {attributes["href"] for attributes in read.all("use")} == {"#photograph"}
    assert len([a for a in read.all("image") if a.get("id") == "photograph"]) == 1
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert len(text) < 5 * 2**20


def test_the_report_tells_all():
    read = Reader(report("base", "glied"))
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for title in ("Region groups", "Attribute collocations", "Beam search", "word by word", "attributes of the"):
        assert title in read.text
    assert "fall" in read.text
    assert "Attention says where a value was read" in read.text
    words = sum(len(beam(name)[0].words) for name in ("base", "glied"))
    assert len(read.all("use")) == words
    assert "Region groups" not in Reader(report("base")).text
    assert "-0." not in read.text
    assert "log p −" in read.text


@pytest.fixture
def seen() -> Trace:
    return trace(tiny.checkpoint(), tiny.scene(), ("a", "dog", "runs"), falls=True)


def test_a_shared_trace_comes_back_with_its_photograph(seen: Trace):
    shared = shared_from(seen.packed(JPEG))
    assert shared.trace == seen
    assert shared.photograph.image.size == (100, 90)
    assert shared.photograph.url.startswith("data:image/jpeg;base64,")
    slender = replace(seen, size=(700, 90)).packed(encoded(Image.new("RGB", (700, 90)), "JPEG"))
    assert shared_from(slender).photograph.image.size == (700, 90)  # more so than an upload may be


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("boxes.npy", bytes(20 * 2**20))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda seen: np.random.default_rng(0).bytes(5000), "another kind"),
        (lambda seen: b"", "another kind"),
        (lambda seen: bytes(9 * 2**20), "at most 8 MB"),
        (lambda seen: bomb(), "unpack to 20 MB"),
        (lambda seen: seen.packed(), "none; use Export"),
        (lambda seen: seen.packed(b"GIF89a"), "JPEG, PNG or WebP"),
        (lambda seen: seen.packed(encoded(Image.new("RGB", (100, 40)), "JPEG")), "100 x 90"),
        (lambda seen: replace(seen, labels=("x" * 10**5,) * 5).packed(JPEG), "labels must be a list of words"),
        (lambda seen: replace(seen, boxes=seen.boxes + 500).packed(JPEG), "boxes must lie on the photograph"),
    ],
)
def test_a_bad_file_is_one_sentence(seen: Trace, make: Callable[[Trace], bytes], reason: str):
    with pytest.raises(GliedError, match=reason) as error:
        shared_from(make(seen))
    assert str(error.value).startswith("Expected ")
    assert len(str(error.value)) < 300


def test_a_shared_trace_opens_without_a_model(open_app: Open, seen: Trace, monkeypatch: pytest.MonkeyPatch):
    app = explore(open_app)
    boards = len(app.get("bidi_component"))
    monkeypatch.setattr(services, "trace", None)
    monkeypatch.setattr(services, "caption", None)
    app.file_uploader(key="shared_file").upload("a.npz", seen.packed(JPEG), "application/octet-stream").run()
    assert not app.exception
    assert not app.error
    assert len(app.get("bidi_component")) == boards + 1
    shown = json.loads(app.get("bidi_component")[-1].proto.json)
    assert (shown["digest"], json.loads(shown["trace"])["words"]) == (seen.digest, ["a", "dog", "runs", "(end)"])
    assert any("tiny" in caption.value and "none of those that run here" in caption.value for caption in app.caption)
    ours = replace(seen, checkpoint=ask.engine().models["base"].digest)
    app.file_uploader(key="shared_file").set_value(("b.npz", ours.packed(JPEG), "application/octet-stream")).run()
    assert any("the one that runs here as Base" in caption.value for caption in app.caption)
    unnamed = replace(seen, checkpoint="unknown").packed(JPEG)
    app.file_uploader(key="shared_file").set_value(("c.npz", unnamed, "application/octet-stream")).run()
    assert any("does not name its checkpoint" in caption.value for caption in app.caption)
    app.file_uploader(key="shared_file").set_value([]).run()
    assert len(app.get("bidi_component")) == boards


def test_several_shared_traces_stand_side_by_side_without_a_model(open_app: Open, monkeypatch: pytest.MonkeyPatch):
    """One of ours, and two of captioners that are not ours, of the same photograph; one file is damaged."""
    ours = trace(tiny.checkpoint("base"), tiny.scene(), ("a", "dog", "runs"), falls=True)
    theirs = trace(tiny.checkpoint("softatt"), tiny.scene(), ("a", "red", "cat"))
    theirs = replace(theirs, captioner="Theirs", checkpoint="elsewhere", architecture="theirs/1", labels=())
    bare = replace(trace(tiny.checkpoint("lstm"), tiny.scene(), ("a", "cat", "runs")), captioner="Theirs")
    files = {"ours.npz": ours, "theirs.npz": theirs, "bare.npz": bare}
    sent = [(name, made.packed(JPEG), "application/octet-stream") for name, made in files.items()]
    monkeypatch.setenv("GLIED_CHECKPOINTS", "nowhere")  # no captioner runs
    app = open_app().switch_page("views/explore.py").run()
    monkeypatch.setenv("GLIED_CHECKPOINTS", "nowhere")
    st.cache_resource.clear()
    app.run()
    app.file_uploader(key="shared_file").set_value([*sent, ("bad.npz", b"PK", "application/octet-stream")]).run()
    assert not app.exception
    assert any("in bad.npz" in plain(error.value).replace("\\", "") for error in app.error)
    titles = ["Base", "Theirs (theirs.npz)", "Theirs (bare.npz)"]
    assert list(app.segmented_control(key="shared_one").options) == [plain(title) for title in titles]
    app.segmented_control(key="shared_one").set_value(titles[2]).run()
    assert json.loads(json.loads(app.get("bidi_component")[-1].proto.json)["trace"])["fine"] is None
    app.query_params["kind"] = "Two shared traces"
    app.switch_page("views/compare.py").run()
    assert not app.exception
    assert all("bad" in error.value for error in app.error)
    pair = json.loads(app.get("bidi_component")[-1].proto.json)
    assert pair["titles"] == titles[:2]
    assert (len(pair["photos"]), pair["same"]) == (1, {"regions": True, "attributes": True})
    said = ["".join(text for text, _ in sentence) for sentence in pair["sentences"]]
    p = [percent(float(np.exp(made.log_probabilities[1]))) for made in (ours, theirs)]
    assert said[0].startswith("Theirs (theirs.npz) says red (")
    assert "would" not in " ".join(said)
    assert all(number in said[0] for number in p)
    app.selectbox(key="shared_left").select(titles[2]).run()
    assert not app.exception
    assert json.loads(app.get("bidi_component")[-1].proto.json)["titles"][0] == titles[2]
    app.button(key="close").click().run()
    assert not app.exception
    assert "Open two shared traces" in app.info[0].value
    assert "close" not in [button.key for button in app.button]


def test_a_bad_shared_trace_leaves_the_page_as_it_is(open_app: Open):
    app = explore(open_app)
    boards = len(app.get("bidi_component"))
    app.file_uploader(key="shared_file").upload("a.npz", b"PK\x03\x04 nothing", "application/octet-stream").run()
    assert not app.exception
    assert len(app.error) == 1
    assert "BadZipFile" in app.error[0].value
    assert len(app.get("bidi_component")) == boards
