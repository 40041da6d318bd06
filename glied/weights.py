"""One safetensors file holds everything a model needs: weights, configuration, words, provenance."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glied.errors import GliedError
from glied.files import replacing, to_json
from glied.records import reason, shown

FORMAT = "glied-1"


def write_weights(path: Path, module: nn.Module, header: dict[str, Any]) -> None:
    """The parameters as float16 and `header` in one file, written whole or not at all."""
    tensors = {name: p.detach().half().contiguous() for name, p in module.named_parameters()}
    # one entry: safetensors writes several in a random order, and the same content is to be the same file
    with replacing(path) as aside:
        aside.write_bytes(save(tensors, {"glied": to_json({"format": FORMAT, **header})}))


def read_weights(path: Path, kind: str | None) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
    """Header, tensors (float32) and digest of a file of this `kind` (None: any). Nothing is unpickled."""
    return _read(Path(path), kind, weights=True)


def read_header(path: Path, kind: str) -> tuple[dict[str, Any], str]:
    """Header and digest as `read_weights` gives them; the weights are not loaded."""
    header, _, digest = _read(Path(path), kind, weights=False)
    return header, digest


def _read(path: Path, kind: str | None, weights: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
    if not path.is_file():
        raise GliedError(f"Expected a checkpoint at {path}, found no such file; train one or name another.")
    try:
        with safe_open(path, "pt") as file:
            header = dict(json.loads((file.metadata() or {}).get("glied", "{}")))
            tensors = {name: file.get_tensor(name).float() for name in file.keys() if weights}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise GliedError(
            f"Expected a safetensors checkpoint of this project in {path}, it is damaged or of another "
            f"kind ({reason(error)}); pickled weights are never loaded."
        ) from error
    if header.get("format") != FORMAT or (kind and header.get("kind") != kind):
        found = header.get("kind") or header.get("format") or "weights without a description"
        known = {None: "a checkpoint", "attributes": "an attribute detector", "detector": "a region detector"}
        wanted = known.get(kind, f"a {kind}")
        raise GliedError(f"Expected {wanted} ({FORMAT}) in {path}, found {shown(found)}; choose another file.")
    return header, tensors, hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@contextmanager
def described(path: Path) -> Iterator[None]:
    """Turns the error of a missing, unknown or impossible entry in a header into one sentence about the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise GliedError(
            f"Expected a description of the model in {path} that this version reads, it does not fit "
            f"({reason(error)}); the file was made by another version, train or fetch it again."
        ) from error


class Unfilled(TorchFunctionMode):
    """Within it, modules are made without drawing their first weights, which takes longer than to `fill` them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leaves a tensor as memory has it where torch would initialise it."""
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.uniform_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copies `tensors` into the parameters of the same name; shared parameters are stored once."""
    parameters = dict(module.named_parameters())
    wrong = [
        n
        for n in parameters.keys() | tensors.keys()
        if n not in tensors
        or n not in parameters
        or parameters[n].shape != tensors[n].shape
        or not tensors[n].isfinite().all()
    ]
    if wrong:
        raise GliedError(
            f"Expected finite weights that fit the configuration inside {path}, {len(wrong)} differ "
            f"({sorted(wrong)[0]} first); the file was made by another version, train or fetch it again."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
