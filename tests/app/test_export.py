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
import tiny
from conftest import HOSTILE
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_stills import beam
from test_uploads import encoded

from analysis.page import Account, page
from app.engine import ask
from app.engine import engine as services
from app.engine.engine import Question
from app.photographs.gallery import entries, open_entry
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


def test_everything_is_offered(open_app: Open):
    app = explore(open_app)
    expected = ["PNG", "SVG", "PDF"] * 6 + [
        "The word (CSV)",
        "Trace (.npz)",
        "Trace (JSON)",
        "Report of the photograph (HTML)",
    ]
    assert offered(app) == expected
    app.segmented_control(key="model").set_value("base").run()
    assert offered(app).count("SVG") == 3  # Base has neither groups nor collocations


def test_every_download_is_what_its_name_says(open_app: Open, offers: dict[str, Callable]):
    explore(open_app)
    assert len(offers) == 22
    for name, make in offers.items():
        assert re.fullmatch(r"grace_hopper(-glied)?[A-Za-z0-9_-]*\.(png|svg|pdf|csv|npz|json|html)", name), name
        if name.endswith((".png", ".svg", ".pdf")):
            continue  # test_stills draws them
        made = make()
        if name.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(made)))
            assert {row["kind"] for row in rows} == {"region", "attribute"}
            assert sum(float(row["attention"]) for row in rows) == pytest.approx(2, abs=1e-4)
        elif name.endswith(".json"):
            assert json.loads(made)["format"] == "glied-trace-2"
        elif name.endswith(".npz"):
            shared = shared_from(made)
            assert max(shared.photograph.image.size) <= 900
            assert shared.trace.inputs[0] == "<bos>"
        else:
            read = Reader(made)
            assert ("a", {"href": "/explore?photo=grace_hopper"}) in read.elements
            for digest in (model.digest for model in ask.engine().models.values()):
                assert digest in read.text
    assert offers["grace_hopper-glied-beam.png"]().startswith(b"\x89PNG")
    assert b"<svg" in offers["grace_hopper-glied-words.svg"]()


def test_the_report_is_of_the_caption_in_view(open_app: Open, offers: dict[str, Callable]):
    app = open_app(opened=["export"], prefix="dog dog", beam="2").switch_page("views/decoding.py").run()
    assert not app.exception
    told = Reader(offers["grace_hopper.html"]()).text
    for model, name in (("glied", "GLIED"), ("base", "Base")):
        free, forced = (
            ask.engine().read(open_entry(entries()[0][0]), model, question).trace.text
            for question in (Question(beam=2), Question(beam=2, prefix=("dog", "dog")))
        )
        assert f"{name}, made to begin with “dog dog”, beam 2: {forced} (log p" in told
        assert f": {free} (log p" not in told


def test_a_report_waits_its_turn_where_a_page_says_that_the_queue_is_full(open_app: Open, offers: dict[str, Callable]):
    explore(open_app)
    engine = ask.engine()
    engine.results |= {("waiting", i): Future() for i in range(services.WAITING)}
    with pytest.raises(GliedError, match="queue"):
        engine.read(open_entry(entries()[0][0]), "base", Question(beam=2))
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
    assert [a["href"] for a in read.all("a")] == ["http://host/?photo=a&b"]
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
    for title in ("Region groupings", "Attribute collocations", "Beam search", "word by word", "attributes of the"):
        assert title in read.text
    assert "fall" in read.text
    assert "Attention says where a value was read" in read.text
    words = sum(len(beam(name)[0].words) for name in ("base", "glied"))
    assert len(read.all("use")) == words
    assert "Region groupings" not in Reader(report("base")).text


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
        (lambda seen: replace(seen, labels=("x" * 10**5,) * 5).packed(JPEG), "a word is none, or too long"),
        (lambda seen: replace(seen, boxes=seen.boxes + 500).packed(JPEG), "boxes do not lie on the photograph"),
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


def test_a_bad_shared_trace_leaves_the_page_as_it_is(open_app: Open):
    app = explore(open_app)
    boards = len(app.get("bidi_component"))
    app.file_uploader(key="shared_file").upload("a.npz", b"PK\x03\x04 nothing", "application/octet-stream").run()
    assert not app.exception
    assert len(app.error) == 1
    assert "BadZipFile" in app.error[0].value
    assert len(app.get("bidi_component")) == boards
