"""What computes networks over photographs on the CPU: OpenVINO, about twice as fast, or torch, which always works."""

import hashlib
import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from glied.errors import GliedError
from glied.files import replacing
from glied.regions import Engine
from glied.scene import BF16

NAMES = "GLIED_ENGINE"  # the environment variable that names an engine
Begin = Callable[[Tensor], Callable[[], list[Tensor]]]  # begins a computation; what comes back waits for its end


def choose(engine: Engine) -> tuple[Engine, bool]:
    """The engine that `fastest` stands for, and whether it may compute in bfloat16: as the environment variable
    GLIED_ENGINE says, else OpenVINO where it is installed, else torch, in float32.

    Raises:
        GliedError: no such engine, or OpenVINO is wanted and not installed.
    """
    installed = find_spec("openvino") is not None
    said = os.environ.get(NAMES, "")
    wanted = said.removesuffix(BF16) or "fastest"
    if wanted not in get_args(Engine):
        known = ", ".join(get_args(Engine))
        raise GliedError(f"Expected {NAMES} to be {known}, or one of these with {BF16}, got {said}; correct it.")
    if engine == "fastest":
        engine = wanted  # type: ignore[assignment]
    if engine == "openvino" and not installed:
        raise GliedError("OpenVINO is not installed; run pip install openvino, or choose the engine torch.")
    if engine == "fastest":
        engine = "openvino" if installed else "torch"
    return engine, said.endswith(BF16)


def prepare(engine: Engine, module: nn.Module, example: Tensor, free: str, bf16: bool, digest: str) -> Begin:
    """A network ready to compute with an engine; its outputs are float32 whatever it computes in.

    Args:
        module: in evaluation mode; it takes one tensor and returns several.
        example: an input. free: the dimensions, out of "NCHW", whose size may differ from the example's.
        bf16: whether matrix products may be computed in bfloat16.
        digest: of the weights, which names the file in which the converted network is kept.
    """
    if engine == "torch":
        return _in_torch(module, bf16)
    shape = [-1 if name in free else size for name, size in zip("NCHW", example.shape, strict=True)]
    return _in_openvino(module, example, shape, bf16, digest)


def _in_torch(module: nn.Module, bf16: bool) -> Begin:
    def begin(x: Tensor) -> Callable[[], list[Tensor]]:
        def end() -> list[Tensor]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return [y.float() for y in module(x)]

        return end

    return begin


def _in_openvino(module: nn.Module, example: Tensor, shape: list[int], bf16: bool, digest: str) -> Begin:
    """Half of torch's threads for each of two networks, which run side by side; one after another on one thread."""
    import openvino

    threads = torch.get_num_threads()
    core = openvino.Core()
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": max(1, threads // 2),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    path = _kept(f"{openvino.__version__} {torch.__version__} {digest} {shape} {config}")
    compiled = _read(core, path, config)
    if compiled is None:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # OpenVINO reads what torch traces, which torch calls old
            traced = torch.jit.trace(module, example, check_trace=False)
            compiled = core.compile_model(
                openvino.convert_model(traced, example_input=example, input=shape), "CPU", config
            )
        _write(path, compiled.export_model().getvalue())

    def begin(x: Tensor) -> Callable[[], list[Tensor]]:
        request = compiled.create_infer_request()
        given = x.contiguous().numpy()
        if threads > 1:
            request.start_async([given], share_inputs=True)

        def end() -> list[Tensor]:
            if threads > 1:
                request.wait()
            else:
                request.infer([given], share_inputs=True)
            return [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(len(compiled.outputs))]

        return end

    return begin


def _kept(key: str) -> Path:
    """Where the converted network is kept: conversion takes seconds."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "glied"
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return folder / f"{hashlib.sha256(key.encode() + code).hexdigest()[:16]}.openvino"


def _read(core: Any, path: Path, config: dict[str, Any]) -> Any:
    """The network in a file; None if it is missing or damaged (checked here: OpenVINO does not notice all damage)."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return core.import_model(content[32:], "CPU", config)
    except (OSError, RuntimeError):
        pass
    return None


def _write(path: Path, content: bytes) -> None:
    """Keeps a network for the next time, if its folder can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.write_bytes(hashlib.sha256(content).digest() + content)
    except (OSError, GliedError):
        pass
