"""The captioners of docs/examples run, and the pages open the traces that they write."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.attention import spoken
from analysis.components import board_payload
from app.widgets.shared import shared_from
from glied.traces import find_faults

CAPTIONS = {"show_attend_tell": "a cat looks at the camera", "transformer": "a cup of coffee on a wooden table"}


@pytest.mark.parametrize(("example", "heads", "regions"), [("show_attend_tell", 1, 49), ("transformer", 4, 36)])
def test_an_example_learns_its_caption_and_its_trace_is_opened(
    root: Path, example: str, heads: int, regions: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = tmp_path / "trace.npz"
    monkeypatch.setattr(sys, "argv", [example, str(out)])
    runpy.run_path(str(root / "docs" / "examples" / f"{example}.py"))
    assert find_faults(out.read_bytes()) == []
    shared = shared_from(out.read_bytes())
    assert shared.trace.text == capsys.readouterr().out.strip() == CAPTIONS[example]
    drawn = json.loads(json.dumps(board_payload(shared.trace)))
    assert np.array(drawn["fine"]).shape == (heads, len(shared.trace.words), regions)
    told = [spoken(word) for word in shared.trace.attributes] if shared.trace.attributes != ("<unk>",) else []
    assert drawn["attributes"] == told  # no unknown attribute where there is none
    assert len(drawn["scores"]) == len(drawn["seen"]) == len(told)
    assert (drawn["groups"], drawn["read"]) == (None, None), "it has neither"
    assert shared.trace.region_falls.shape == (len(shared.trace.words), regions)
    assert shared.trace.region_falls.any()
    assert len(shared.trace.labels) == (36 if regions == 36 else 0)
    assert shared.trace.size == shared.photograph.image.size
