"""The states of `python -m glied states` that lie beside the checkpoints."""

from functools import lru_cache
from pathlib import Path

from app.engine.ask import engine
from glied.errors import GliedError
from glied.states import Archive


def archive_or_why(checkpoint: str) -> Archive | str:
    """The states of the captioner of this digest, NAME.states.safetensors beside it; where there are none, a sentence
    that says why and what to do."""
    running = engine()
    name = running.name_of(checkpoint)
    if name is None:
        return "The captioner of this trace does not run here, so its states over other photographs are not known."
    file = running.folder / f"{name}.states.safetensors"
    place = running.folder.name
    command = (
        f"`python -m glied states --data DIR --split val --checkpoint {place}/{name}.safetensors "
        f"--out {place}/{file.name}`"
    )
    if not file.is_file():
        return f"There is no file of states of {running.titles[name]} over other photographs. {command} writes one."
    try:
        archive = _read(file, file.stat().st_mtime_ns)
    except GliedError:
        return f"The states in {file.name} could not be read. {command} writes them again."
    if archive.checkpoint != checkpoint:
        return (
            f"The states in {file.name} are of another checkpoint ({archive.checkpoint}, this one is {checkpoint}). "
            f"{command} writes them again."
        )
    return archive


@lru_cache(maxsize=4)
def _read(file: Path, _changed: int) -> Archive:
    return Archive.load(file)
