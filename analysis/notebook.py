"""Readings in a notebook: the components of the app, as a page that a saved notebook holds and as a live widget.

A cell shows HTML that needs no kernel. While a kernel runs, anywidget also keeps a model in the browser, which tells
Python what a person chooses, so that it draws anew. Where no script may run, a picture is shown instead.
"""

import base64
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from analysis.attention import first_step
from analysis.beam import Node, searched
from analysis.components import PHOTO, beam_payload, board_payload, collocations_payload, read_files, words_in
from analysis.paper import Still, drawn
from analysis.stills import beam_still, caption_still, collocations_still
from glied.errors import GliedError
from glied.functions import find
from glied.readings import Reading

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise GliedError(
        "Drawing in notebooks needs the package anywidget, which is not installed; "
        "run `pip install 'glied-studio[notebook]'`."
    ) from error

SIDE = 900  # pixels of the photograph
DPI = 110  # of the picture that is shown where no script may run
EXPORT = "export default function ("  # how the script of a component begins


class View(anywidget.AnyWidget):
    """What `show` returns: a component with its data. The last line of a cell draws it.

    Attributes:
        reading: what is drawn.
        choice: what a person chose last: of `show` step, head and region, of `show_collocations` pivot and head.
        picture: a JPEG file that is shown where no script may run. `alt`: the same in words.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    place = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    forced = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, files: Sequence[str], reading: Reading, data: Mapping[str, Any], still: Still, alt: str) -> None:
        super().__init__(_esm=_script(*files), place=uuid.uuid4().hex[:12], data=data)
        self.reading, self.alt = reading, alt
        self.picture = _jpeg(Image.open(io.BytesIO(drawn(still, "png", dpi=DPI))))

    def html(self) -> str:
        """The component as HTML that needs nothing but a browser."""
        data = json.dumps(self.data).replace("<", "\\u003c")
        return (
            f'<div data-glied="{self.place}"><img src="{_url(self.picture)}" alt="{escape(self.alt)}"></div>\n'
            f'<script type="module">\n{self._esm}\ndrawSaved("{self.place}", {data})\n</script>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        return {"text/plain": self.alt, "text/html": self.html(), "image/jpeg": _base64(self.picture)}, {}


def show(reading: Reading) -> View:
    """The board: the photograph, the words, and the regions and attributes behind each of them, with the groups."""
    trace = reading.trace
    data = _beginning(reading) | {"digest": trace.digest, "trace": json.dumps(board_payload(trace)), "reported": {}}
    still = caption_still(trace, reading.photograph)
    return View(
        (*PHOTO, "matrix", "board"), reading, data, still, f"{_said(reading)}: where it looked before each word"
    )


def show_beam(reading: Reading, head: int = 0) -> View:
    """The tree of beam search, with the attention of a head or the mean (0). While a kernel runs, a word of the tree
    can be set and decoding goes on from it; the view's `reading` is then the new one.

    Raises:
        GliedError: the reading has no beam search behind it.
    """
    view = View((*PHOTO, "tree"), reading, _beam(reading, head), *_tree(reading))
    view.observe(lambda _: _decode_on(view, head), "forced")
    return view


def show_collocations(reading: Reading) -> View:
    """Which attributes each word calls up, head by head.

    Raises:
        GliedError: the captioner has no collocations.
    """
    trace = reading.trace
    if not find(trace.functions, "attributes", "pivot"):
        raise GliedError(
            f"Expected a captioner in which words call up attributes, {trace.captioner} does not; "
            "read the photograph with `glied-rl` or `glied`."
        )
    data = _beginning(reading) | collocations_payload(trace)
    alt = f"{_said(reading)}: which attributes each word calls up"
    return View((*PHOTO, "matrix", "collocations"), reading, data, collocations_still(trace), alt)


def _script(*files: str) -> str:
    """The script of a component, with its style, behind the host of notebooks."""
    css, js = read_files(*files, "notebook")
    assert js.count(EXPORT) == 1
    return f"const STYLE = {json.dumps(css)}\n" + js.replace(EXPORT, "function component(")


def _beginning(reading: Reading) -> dict[str, Any]:
    """The photograph, and what is in view at first."""
    start = {"step": None, "head": 0, "region": None, "count": 0}
    return {"photo": _url(_jpeg(reading.photograph)), "alt": _said(reading), "start": start}


def _said(reading: Reading) -> str:
    name = Path(reading.photograph.info.get("name", "photograph")).name
    return f"{name}, of which {reading.trace.captioner} says “{reading.trace.text}”"


def _nodes(reading: Reading) -> tuple[Node, ...]:
    if not (reading.decoded and reading.outlook):
        raise GliedError(
            "Expected a reading with a search behind it, this one is of given words; read the photograph without them."
        )
    return searched(reading.decoded, reading.outlook, reading.decoding, len(reading.prefix))


def _beam(reading: Reading, head: int) -> dict[str, Any]:
    """What the tree draws, the last word that was set in view, else the first word of content."""
    nodes = _nodes(reading)
    assert reading.outlook
    step = len(reading.prefix) - 1 if reading.prefix else first_step(reading.trace)
    node = next(node for node in nodes if node.best and node.step == step)
    begun = _beginning(reading)
    begun["start"] |= {"step": step, "head": head, "node": node.id, "pinned": False}
    return begun | beam_payload(reading.trace, reading.outlook, nodes, reading.decoding, head)


def _tree(reading: Reading) -> tuple[Still, str]:
    return beam_still(reading.trace, _nodes(reading)), f"{_said(reading)}: the words that beam search weighed"


def _decode_on(view: View, head: int) -> None:
    """Decodes again with the words that were set in the tree; nothing from a browser is trusted."""
    if not (words := words_in(view.forced)):
        return
    view.forced, problem = {}, ""
    try:
        view.reading = view.reading.read_on(words)
        view.data = _beam(view.reading, head)
    except GliedError as error:
        problem = str(error)
    view.problem = problem


def _jpeg(image: Image.Image) -> bytes:
    """The picture as a JPEG file, SIDE pixels at most."""
    copy, buffer = image.convert("RGB"), io.BytesIO()
    copy.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    copy.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{_base64(jpeg)}"
