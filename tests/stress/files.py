"""Mutated files through every reader: a value or a sentence, in bounded time and memory."""

import json
import os
import random
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import tiny
from PIL import Image

from glied.attributes import AttributeDetector
from glied.checkpoint import load, load_attribute_detector, save_attribute_detector
from glied.data.annotations import read_boxes
from glied.data.dataset import load_dataset
from glied.data.features import FeatureCache
from glied.data.pack import open_pack
from glied.data.texts import read_texts
from glied.errors import GliedError
from glied.evaluation.report import read_report
from glied.images import open_image
from glied.regions.stored import StoredFiles
from glied.replay import trace
from glied.states import Archive
from glied.traces import unpack
from glied.training.material import read_crossfit
from stress.forks import Task, fork, run
from stress.report import Found
from stress.world import make_world

SECONDS = 20  # for one file
MEMORY = 3 * 2**30  # bytes of address space beyond what the process already has
BATCH = 100  # files of one fork
Reader = Callable[[Path], object]  # reads the data in a folder
MUTANT = "mutant"


def kinds(world: Path, tasks: Mapping[str, Task]) -> dict[str, tuple[Path, str, Reader]]:
    """Every kind of file: a folder of good files, the file among them that is mutated, and its reader."""
    made: dict[str, tuple[Path, str, Reader]] = {}

    def kind(name: str, file: str, read: Reader, data: Path | None = None) -> Path:
        folder = world / "good" / name.replace(" ", "-")
        if data is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(data, folder)
        made[name] = (folder, file, read)
        return folder

    def written(name: str) -> Path:
        """What a command writes."""
        folder = world / name
        folder.mkdir()
        ended = run(tasks[name], folder)
        assert ended.status == 0, f"{name}: {ended.errors}"
        return folder

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    for format in ("jpeg", "png", "webp", "gif", "bmp", "tiff"):
        folder = kind(f"{format} photograph", f"a.{format}", lambda p, f=format: open_image(p / f"a.{f}"))
        picture.save(folder / f"a.{format}")
    folder = kind("trace", "a.npz", lambda p: unpack((p / "a.npz").read_bytes()))
    captioner = tiny.checkpoint()
    trace(captioner, tiny.scene(), ["a", "dog"]).save(folder / "a.npz")
    folder = kind("captioner", "a.safetensors", lambda p: load(p / "a.safetensors"))
    captioner.save(folder / "a.safetensors")
    folder = kind("attribute detector", "a.safetensors", lambda p: load_attribute_detector(p / "a.safetensors"))
    save_attribute_detector(folder / "a.safetensors", AttributeDetector(tiny.WORDS, tiny.WIDTH, "tiny-1", 4), {})

    def boxes_of(folder: Path) -> object:
        dataset = load_dataset(folder)
        return read_boxes(dataset, dataset.photographs)

    data = world / "data"
    kind("Karpathy's captions", "captions.json", load_dataset, data)
    kind("entities.json", "entities.json", boxes_of, world / "boxes")
    classed = [("train", "human", (40, 40), [((2.0, 2.0, 20.0, 20.0), "dog", 1.0)])] * 3
    tiny.classed(world / "classed", *classed)  # type: ignore[arg-type]
    kind("boxes.json", "boxes.json", boxes_of, world / "classed")
    coco(world / "coco", data)
    kind("COCO's captions", "annotations/captions_train2017.json", load_dataset, world / "coco")
    kind("COCO's instances", "annotations/instances_train2017.json", boxes_of, world / "coco")
    folder = kind("results", "a.json", lambda p: read_texts(p / "a.json"))
    results = [{"image_id": i, "caption": f"a dog number {i}"} for i in range(9)]
    (folder / "a.json").write_text(json.dumps(results))
    folder = kind("report", "a.json", lambda p: read_report(p / "a.json"))
    shutil.copy(Path(__file__).resolve().parents[2] / "checkpoints" / "base-rl.coco.json", folder / "a.json")

    lines = written("caption")
    kind("lines of caption --json", "out.jsonl", lambda p: read_texts(p / "out.jsonl"), lines)
    photographs = load_dataset(data).photographs
    crossfit = "attributes.crossfit.json"
    folder = kind("crossfit", crossfit, lambda p: read_crossfit(p / crossfit, photographs))
    shutil.copy(world / crossfit, folder)
    kind("states", "out.safetensors", lambda p: Archive.load(p / "out.safetensors"), written("states"))

    def stored(folder: Path) -> object:
        source = StoredFiles("tiny", (folder / "a.tsv",) if (folder / "a.tsv").exists() else _stored_files(folder))
        return [source.find_regions(open_image(path)) for path in sorted((data / "images").iterdir())[:2]]

    kind("features as .npz", "0.npz", stored, world / "stored")
    folder = kind("features as HDF5", "a.h5", stored)
    rows = {path.stem: np.load(path) for path in sorted((world / "stored").iterdir())}
    with h5py.File(folder / "a.h5", "w") as file:
        for id, row in rows.items():
            file[f"{id}/features"], file[f"{id}/boxes"] = row["features"], row["bbox"]
    folder = kind("features as TSV", "a.tsv", stored)
    (folder / "a.tsv").write_text("".join(tsv_row(id, row) for id, row in rows.items()))

    def cached(folder: Path) -> object:
        cache = FeatureCache(folder, StoredFiles("tiny", (world / "stored",)))
        return [list(cache.read([key])) for key in cache.index]

    (shard,) = (world / "cache").glob("*/*.h5")
    folder = kind("cached regions", f"{shard.parent.name}/{shard.name}", cached)
    shutil.copytree(shard.parent, folder / shard.parent.name)

    def packed(folder: Path) -> object:
        return [cached(folder), open_pack(folder), load_dataset(folder)]

    pack = written("pack") / "pack"
    (part,) = pack.glob("*/*.h5")
    kind("list of a pack", "pack.json", packed, pack)
    kind("part of a pack", f"{part.parent.name}/{part.name}", packed, pack)
    return made


def _stored_files(folder: Path) -> tuple[Path, ...]:
    return (folder / "a.h5",) if (folder / "a.h5").exists() else (folder,)


def tsv_row(id: str, row: np.lib.npyio.NpzFile) -> str:
    """A row of Bottom-Up Attention's TSV."""
    import base64

    boxes, features = (base64.b64encode(row[name].tobytes()).decode() for name in ("bbox", "features"))
    return f"{id}\t16\t16\t{len(row['bbox'])}\t{boxes}\t{features}\n"


def coco(folder: Path, data: Path) -> None:
    """The data set in COCO's layout, with boxes."""
    (folder / "annotations").mkdir(parents=True)
    names = sorted(path.name for path in (data / "images").iterdir())
    shutil.copytree(data / "images", folder / "images")
    images = [{"id": i, "file_name": name, "width": 16, "height": 16} for i, name in enumerate(names)]
    captions = [{"image_id": i, "id": i, "caption": "a red wall"} for i in range(len(names))]
    boxes = [{"image_id": i, "id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0} for i in range(len(names))]
    for name, annotations in (("captions", captions), ("instances", boxes)):
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
        (folder / "annotations" / f"{name}_train2017.json").write_text(json.dumps(content))


VALUES = (
    None,
    True,
    0,
    -1,
    1e308,
    float("nan"),
    float("inf"),
    10**40,
    "",
    "\ud800",
    "a\n\tb",
    [],
    {},
    [[]],
    "x" * 10**5,
)


def mutated(data: bytes, chance: random.Random, suffix: str) -> bytes:
    """The file with something wrong in it."""
    if suffix in (".json", ".jsonl") and chance.random() < 0.6:
        return _mutated_json(data, chance, suffix == ".jsonl")
    spoiled = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        a, b = sorted((chance.randrange(len(spoiled) + 1), chance.randrange(len(spoiled) + 1)))
        b = min(b, a + chance.choice((1, 4, 64, 4096)))
        match chance.randrange(6):
            case 0:
                spoiled[a:b] = chance.randbytes(b - a)
            case 1:
                del spoiled[a:b]
            case 2:
                del spoiled[a:]
            case 3:
                spoiled[a:a] = spoiled[a:b]
            case 4:
                spoiled[a:b] = bytes([chance.choice((0, 255))]) * (b - a)
            case _:
                for i in range(a, min(b, a + 8)):
                    spoiled[i] ^= 1 << chance.randrange(8)
        if not spoiled:
            break
    return bytes(spoiled)


def _mutated_json(data: bytes, chance: random.Random, lines: bool) -> bytes:
    """JSON (or JSON Lines) in which some values are others, or missing, or in another encoding, or nested without
    end."""
    content = [json.loads(line) for line in data.splitlines()] if lines else json.loads(data)
    for _ in range(chance.choice((1, 1, 3))):
        places = list(_places(content))
        holder, key = chance.choice(places)
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                holder.pop(key, None)
            case 1 if isinstance(holder, list):
                holder.append(holder[key])
            case 2:
                holder[key] = json.loads("[" * 50 + "]" * 50)
            case _:
                holder[key] = chance.choice(VALUES)
    ascii = chance.random() < 0.5
    text = "\n".join(json.dumps(each, ensure_ascii=ascii) for each in (content if lines else [content]))
    if chance.random() < 0.02:
        text = text[: chance.randrange(len(text))] + chance.choice("[{") * 100_000
    return text.encode(chance.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16")), "surrogatepass")


def _places(value: object) -> Iterator[tuple[dict | list, object]]:
    """Every place of a JSON value that holds a value (of long lists only some)."""
    if not isinstance(value, dict | list):
        return
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, each in pairs[:40]:
        yield value, key
        yield from _places(each)


def mutate(count: int, seed: int) -> Found:
    """`count` mutated files, as many of every kind."""
    failures: list[str] = []
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        world = Path(place)
        made = kinds(world, make_world(world))
        for n, (name, (folder, file, read)) in enumerate(made.items()):
            read(folder)  # the good one is read
            share = count // len(made) + (n < count % len(made))
            tried = dict.fromkeys(("read", "refused"), 0)
            for start in range(0, share, BATCH):
                size = min(BATCH, share - start)
                outcomes = _try(world, folder, file, read, [f"{seed} {name} {start + i}" for i in range(size)])
                for number, outcome in outcomes.items():
                    if outcome in tried:
                        tried[outcome] += 1
                    else:
                        failures.append(f"{name} {number}: {outcome}")
            figures[name] = f"{tried['read']} read, {tried['refused']} refused in a sentence"
            print(f"{name}: {share} files, {len(failures)} failures so far", flush=True)
    promise = f"read, or refused in one sentence, within {SECONDS} s and {MEMORY / 2**30:.0f} GB, and no other error"
    return Found("Mutated files through every reader", promise, count, failures, figures)


def _try(world: Path, folder: Path, file: str, read: Reader, seeds: list[str]) -> dict[str, str]:
    """What became of each mutant: `read`, `refused`, or what is wrong. A fork that dies is followed by another."""
    outcomes: dict[str, str] = {}
    told = world / "outcomes"
    while len(outcomes) < len(seeds):
        told.write_text("")
        left = [seed for seed in seeds if seed not in outcomes]
        ended = fork(lambda left=left: _read_all(world, folder, file, read, left, told), world / "log")
        before = len(outcomes)
        for line in told.read_text().splitlines():
            outcome = json.loads(line)
            outcomes[outcome[0]] = outcome[1]
        if ended.status != 0:
            outcomes[left[len(outcomes) - before]] = f"the process ended with {ended.status}: {ended.errors[-300:]}"
    return outcomes


def _read_all(world: Path, folder: Path, file: str, read: Reader, seeds: list[str], told: Path) -> int:
    """Reads mutants in this fork; every outcome is written at once."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)
    good = (folder / file).read_bytes()
    with told.open("a") as out, tempfile.TemporaryDirectory(dir=world) as place:
        copy = Path(place, MUTANT)
        shutil.copytree(folder, copy)
        for seed in seeds:
            (copy / file).write_bytes(mutated(good, random.Random(seed), Path(file).suffix))
            signal.alarm(SECONDS)
            try:
                read(copy)
                outcome = "read"
            except GliedError as error:
                outcome = "refused" if sound(str(error)) else f"a sentence that is none: {str(error)[:300]!r}"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {str(error)[:200]}"
            signal.alarm(0)
            print(json.dumps([seed, outcome]), file=out, flush=True)
    return 0


def sound(sentence: str) -> bool:
    """Whether a refusal is one line that says something, and no more than a person reads."""
    return 20 < len(sentence) < 1500 and "()" not in sentence and "\n" not in sentence


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")
