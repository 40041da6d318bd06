"""Commands that fill the cache of regions: extract, convert."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from glied.cli.options import Attributes, Cache, Crossfit, Data, Sets, Source, app, find_crossfit
from glied.errors import GliedError
from glied.files import SHIPPED
from glied.terminal import say
from glied.workers import Workers, spread


@app.command
def extract(
    data: Sets,
    source: Source = "detector",
    cache: Cache = Path("cache"),
    mirrored: Annotated[bool, arg(help="find those of the mirrored photographs instead; training uses both")] = False,
    workers: OmitArgPrefixes[Workers] = Workers(),
) -> None:
    """Find the regions of every photograph of a data set and keep them; can be stopped and resumed at any time."""
    from glied.data.dataset import load_dataset, report
    from glied.data.features import Batch, FeatureCache, Finding, Sharded
    from glied.regions import Mirrored, open_source

    dataset = load_dataset(data)
    opened = Mirrored(open_source(source)) if mirrored else open_source(source)
    features = FeatureCache(cache.absolute(), opened)

    def share(batches: Sequence[Batch]) -> Iterator[Sharded]:
        yield from spread(Finding(features.folder, source, mirrored), batches, workers, len(batches))

    keys, problems = features.extract([p.path.absolute() for p in dataset.photographs], share=share)
    report([*dataset.problems, *problems])
    if not keys:
        raise GliedError(f"Expected readable photographs in {dataset.name}, found none; see above.")
    say(f"{len(keys)} photographs have their regions in {cache}")


@app.command
def pack(
    data: Sets,
    out: Annotated[Path, arg(help="folder of the pack")],
    attributes: Attributes = None,
    crossfit: Crossfit = None,
    cache: Cache = Path("cache"),
    part: Annotated[float, arg(help="largest size of a file, in MB")] = 60.0,
    bits: Annotated[Literal[8, 16], arg(help="bits per number of a feature; 16 keeps the cache's exactly")] = 8,
    mirrored: Annotated[bool, arg(help="also pack the regions of the mirrored photographs")] = False,
) -> None:
    """Pack what captioners are trained on, without photographs, for another machine; can be stopped and resumed."""
    from glied.training.pack import write_pack

    if not 0.1 <= part <= 1e6:
        raise GliedError(f"part must be between 0.1 and 1000000, got {part:g}; change it.")
    detector = attributes or SHIPPED / "attributes.safetensors"
    files = write_pack(data, cache, detector, find_crossfit(detector, crossfit), out, bits, int(part * 1e6), mirrored)
    size = sum(file.stat().st_size for file in files)
    say(f"{len(files)} files, {size / 1e6:.1f} MB in all; train with --data {out}")


@app.command
def convert(
    stored: Annotated[
        Positional[tuple[Path, ...]], arg(help="Bottom-Up TSV or HDF5 files, or folders of these or of .npz or .npy")
    ],
    data: Data,
    name: Annotated[str, arg(help="what to call these features; other features need another name")],
    cache: Cache = Path("cache"),
) -> None:
    """Put features that others extracted into the cache; can be stopped and resumed at any time."""
    from glied.data.dataset import load_dataset, report
    from glied.data.features import FeatureCache
    from glied.records import shown
    from glied.regions.stored import StoredFiles, check_name

    check_name(name)
    dataset = load_dataset(data)
    source = StoredFiles(name, stored, {p.path: p.place for p in dataset.photographs})
    paths = sorted((p.path for p in dataset.photographs), key=lambda p: source.find_id(str(p)) is None)  # missing last
    keys, problems = FeatureCache(cache, source).extract(paths, check=source.check)
    problems = [*source.problems, *problems]
    if unclaimed := source.unclaimed(map(str, paths)):
        such = ", ".join(map(shown, unclaimed[:5]))
        problems.insert(0, f"{len(unclaimed)} stored image(s) without a photograph: {such}")
    report([*problems, *dataset.problems])
    if not keys:
        raise GliedError(
            f"Expected stored features of photographs such as {paths[0].name}, {len(source.readers)} are stored, under "
            f"ids such as {shown(next(iter(source.readers)))}; name the data set that they were extracted from."
        )
    earlier = sum(source.find_id(str(path)) is None for path in keys)
    kept = f", {earlier} of them only from an earlier conversion" if earlier else ""
    say(f"{len(keys)} of {len(paths)} photographs have regions{kept}; train with --source {source.name}")
