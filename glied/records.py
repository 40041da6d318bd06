"""Files that people bring: one reader of JSON, what a file is by its first bytes, and ids of photographs as text."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any

from glied.errors import GliedError
from glied.terminal import show

PICKLE = "a pickle, which can run code; save it as .npz or HDF5"
# how files of other kinds begin
MAGIC = {
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"PK\x03\x04": "a ZIP archive (or one .npz; name its folder); unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ\0": "an xz archive; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "one .npy; name its folder",
    b"SQLite format 3": "an SQLite database (LMDB and such are not read); save it as .npz or HDF5",
    b"version https://git-lfs": "only a pointer of Git LFS; fetch the file itself (git lfs pull)",
}
TAR = 257  # where a tar archive says that it is one
PICKLES = re.compile(  # of protocol 2 to 5, 1 and 0
    rb"\x80[\x02-\x05]|[\]})]q|\([dl]p\d|c(?:copy_reg|numpy|torch|collections|builtins|__builtin__)[\w.]*\n"
)
# how names of image files end
IMAGE = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
NUMBER = re.compile(r"(?i:coco_(?:[a-z]+\d{4}_)?)?0*(\d+)(?:\.0+)?")
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = 60
# what reading a record of a strange layout may raise
DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError)


def shown(value: object, longest: int = 120) -> str:
    """A name or value from a file, for use in a sentence: on one line, at most `longest` characters."""
    text = value if isinstance(value, str) else SHORT.repr(value)
    text = show(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def reason(error: BaseException) -> str:
    """Why something failed, in words: never empty, on one line."""
    if isinstance(error, KeyError):
        return f"no {shown(error.args[0])} in it" if error.args else "something is not in it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = re.sub(r"(?<=\w)\(\)", "", str(error))  # how Python calls its functions
    return shown(said, 200) or type(error).__name__


def kind_of(head: bytes) -> str | None:
    """What a file is that begins with `head` (300 bytes), and what to do; None if it is of a kind that we read."""
    if head[TAR : TAR + 5] == b"ustar":
        return "a tar archive; unpack it first"
    if PICKLES.match(head):
        return PICKLE
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def decode(data: bytes) -> str:
    """Text in UTF-8, UTF-16 or UTF-32, with a byte order mark or without."""
    try:
        return data.decode(json.detect_encoding(data), "surrogatepass").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError("it is neither UTF-8 nor UTF-16; save it as UTF-8") from error


def refuse(what: str, path: Path, why: str, advice: str) -> GliedError:
    """The error that says that `path` holds something else than `what`."""
    return GliedError(f"Expected {what} in {shown(str(path), 300)}, could not read them ({why}); {advice}.")


def read_json(path: Path, what: str, advice: str = "correct the file") -> tuple[Any, list[str]]:
    """What a JSON file holds, or a list of what its lines hold (JSON Lines), and a sentence for each thing in it that
    is lost: a key that comes twice in an object, a line that is cut.

    Raises:
        GliedError: it cannot be read; the sentence says that `what` was expected, and ends with `advice`.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise refuse(what, path, reason(error), "check the path") from error
    if kind := kind_of(data[:300]):
        raise refuse(what, path, f"it is {kind.partition('; ')[0]}", kind.partition("; ")[2] or advice)
    again: Counter[str] = Counter()

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            again.update(dict(Counter(key for key, _ in pairs) - Counter(found.keys())))
        return found

    problems: list[str] = []
    try:
        text = decode(data)
        if not text.strip():
            raise ValueError("it is empty")
        try:
            content = json.loads(text, object_pairs_hook=collect)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            content = _read_lines(text, collect, problems, path.name)
            if not content:
                raise
    except RecursionError as error:
        raise refuse(what, path, "its brackets are nested too deep", advice) from error
    except ValueError as error:
        why = f"damaged JSON: {reason(error)}" if isinstance(error, json.JSONDecodeError) else reason(error)
        why = "a number in it has too many digits" if "int_max_str_digits" in why else why
        raise refuse(what, path, why, advice) from error
    problems += [
        f"{shown(path.name)}: the key {shown(key)} comes {count + 1} times in one object, its last value counts"
        if count < 2
        else f"{shown(path.name)}: the key {shown(key)} comes again {count} times, the last value in an object counts"
        for key, count in again.items()
    ]
    return content, problems


def _read_lines(text: str, collect: Any, problems: list[str], name: str) -> list[Any]:
    """The records of JSON Lines; none where the first line is not one."""
    found = []
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line, object_pairs_hook=collect))
        except ValueError:
            if not found:
                return []
            problems.append(f"{shown(name)}: line {n} is cut or damaged, left out: {shown(line, 60)}")
    return found


def as_id(value: object) -> str:
    """An id as text: 42, 42.0 and "42" alike.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{shown(value)} is no id")


def same_name(name: str) -> str:
    """One form for a name in its Unicode forms (NFC, NFD) and with its separators / or \\."""
    return unicodedata.normalize("NFC", name.strip()).replace("\\", "/").removeprefix("./")


class Names:
    """Names of photographs, found by what other files call them.

    An id means the name that is the same text; else the one of the same path, or of the same end of a path ("1.jpg"
    and "val/1.jpg", not "train/1.jpg" and "val/1.jpg"); else the one that differs by the ending of an image; else the
    one of the same number ("42", "000000000042", "COCO_val2014_000000000042.jpg"). It means none where it could mean
    two.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = names if isinstance(names, Mapping) else dict.fromkeys(names)
        self.index: dict[str, str | list[str]] = {}  # each form of a name -> the name, or names; there may be 100,000
        for name in self.names:
            for key in {*_forms(name)[1]} - {""}:
                known = self.index.get(key)
                if known is None:
                    self.index[key] = name
                elif isinstance(known, str):
                    self.index[key] = [known, name]
                else:
                    known.append(name)

    def find(self, id: str) -> str | None:
        """The name that `id` means, if it can mean one alone."""
        if id in self.names:
            return id
        own, keys, bare = _forms(id)
        for rank, key in enumerate(keys):
            known = self.index.get(key, []) if key else []
            fitting = []
            for name in [known] if isinstance(known, str) else known:
                folders, forms, image = _forms(name)
                # of names that differ by their ending alone, one must have none
                same = forms[1] == keys[1] or image != bare or (rank == 3 and forms[2] != keys[2])
                if forms[rank] == key and same and _agree(folders, own):
                    fitting.append(((folders == own, min(len(folders), len(own))), name))
            closest = max((nearness for nearness, _ in fitting), default=None)
            found = [name for nearness, name in fitting if nearness == closest]
            if found:
                return found[0] if len(found) == 1 else None
        return None


class Images:
    """Finds images by their ids, or by other names such as those of their files.

    Args:
        ids: of the images. `also`: another name -> the id.
    """

    def __init__(self, ids: Iterable[str], also: Mapping[str, str]) -> None:
        self.ids, self.also, self.named = Names(ids), also, Names(also)

    def find(self, id: str) -> str | None:
        """The id of the image that `id` means: its exact id or name, else the only one that it can mean (`Names`)."""
        if id in self.ids.names or id in self.also:
            return id if id in self.ids.names else self.also[id]
        called = self.named.find(id)
        found = {self.ids.find(id), None if called is None else self.also[called]} - {None}
        return found.pop() if len(found) == 1 else None


def _forms(name: str) -> tuple[list[str], tuple[str, str, str, str], bool]:
    """Of a name: its folders; its forms (the path without an image's ending, the last part, the stem of the last part,
    the number in it); and whether it ends as images do."""
    *folders, last = same_name(name).split("/")
    stem = IMAGE.sub("", last)
    number = NUMBER.fullmatch(stem)
    return folders, ("/".join([*folders, stem]), last, stem, number[1] if number else ""), stem != last


def _agree(folders: Sequence[str], others: Sequence[str]) -> bool:
    """Whether one of two paths is the end of the other."""
    shared = min(len(folders), len(others))
    return not shared or folders[-shared:] == others[-shared:]


def match_names(names: Iterable[str], ids: Names) -> tuple[dict[str, str], list[str]]:
    """Name -> the id that means it, and a sentence for each id that could mean several names. Such an id means none of
    them, unless it is exactly the name of one."""
    claims: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        if (id := ids.find(name)) is not None:
            claims[id].append(name)
    found, doubts = {}, []
    for id, claimants in claims.items():
        exact = [name for name in claimants if same_name(name) == same_name(id)]
        if len(claimants) == 1 or len(exact) == 1:
            found[(exact or claimants)[0]] = id
        else:
            doubts.append(f"{shown(id)}: left out, it could mean {' or '.join(map(shown, claimants[:3]))}")
    return found, doubts


def tell_strangers(what: str, strangers: Sequence[str], ours: Iterable[str]) -> list[str]:
    """One sentence about ids that mean no name of ours, if there are any: how many, and what both look like."""
    if not strangers:
        return []
    such = ", ".join(map(shown, strangers[:3]))
    example = next(map(shown, ours), "none")
    return [f"{len(strangers)} {what}: their ids look like {such}, ours like {example}"]


def list_of(content: Any, key: str) -> list[Any]:
    """The list called `key` in an object."""
    if not isinstance(content, Mapping) or not isinstance(content.get(key), list):
        raise ValueError(f"no list called {key} in it")
    return content[key]
