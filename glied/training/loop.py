"""The loop that every training of a captioner runs in: steps, averages, saved states, logs, many processes.

Under `torchrun` each process takes its part of every step's photographs and the gradients are summed, so that a step
is the same however many processes share it; `accumulate` divides it further, to save memory.
"""

import csv
import io
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor, distributed
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from glied.errors import GliedError, within
from glied.files import replacing
from glied.model import Captioner

Precision = Literal["bf16", "fp32"]


def fastest(cuda: bool = False) -> Precision:
    """`bf16` where the device that computes, the CPU or the GPU, multiplies bfloat16 in hardware, else `fp32`: a
    processor that does not is many times slower in `bf16`."""
    if cuda:
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        hardware = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if hardware else "fp32"


@dataclass(frozen=True)
class StepOptions:
    """What every training in steps has; recorded in what it writes.

    Attributes:
        epochs: passes over the photographs.
        images: photographs (or texts) in a step, over all processes.
        rate: peak learning rate, reached after the warm-up, then a cosine down to 0.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
        weight_decay: of AdamW.
        precision: `bf16` computes matrix products in bfloat16, weights stay float32; by default the faster on
            the CPU, which computes.
        seed: of the initial weights and of everything that is drawn at random.
        save_minutes: minutes between two saved states.
    """

    epochs: int = 14
    images: int = 10
    rate: float = 5e-4
    warmup: int = 1000
    clip: float = 1.0
    weight_decay: float = 0.01
    precision: Precision = field(default_factory=fastest)
    seed: int = 0
    save_minutes: float = 5.0

    def __post_init__(self) -> None:
        within(
            self,
            epochs=(1, 10_000),
            images=(1, 10_000),
            rate=(0, 1),
            warmup=(1, 10**7),
            clip=(0, 1e6),
            weight_decay=(0, 1),
            seed=(0, 2**31 - 1),
            save_minutes=(0, 10_000),
        )

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bfloat16."""
        return self.precision == "bf16"


@dataclass(frozen=True)
class LoopOptions(StepOptions):
    """What every training of a captioner has; recorded in its checkpoint.

    Attributes:
        precision: `bf16` computes matrix products in bfloat16, weights stay float32; by default the faster on
            the device that computes: the GPU where there is one, else the CPU.
        ema: decay of the exponential moving average of the weights, which is what is validated and kept; 0 for none.
        patience: epochs without a better val CIDEr before stopping early.
        accumulate: parts into which a process divides its photographs of a step.
    """

    precision: Precision = field(default_factory=lambda: fastest(torch.cuda.is_available()))
    ema: float = 0.999
    patience: int = 5
    accumulate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, ema=(0, 0.999999), patience=(1, 10_000), accumulate=(1, 10_000))


# The loss of `part` of the photographs of a step, as its share of the loss of the `whole` step, and figures to show,
# shares too: summed over the parts they are those of the step.
Objective = Callable[[Captioner, Int[Tensor, " p"], Int[Tensor, " b"]], tuple[Tensor, dict[str, float]]]


def join() -> tuple[torch.device, int, int]:
    """This process's device, its rank and the number of processes; meets the others where torchrun started several."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return device, 0, 1
    if cuda and device.index >= torch.cuda.device_count():
        raise GliedError(
            f"Expected a GPU for each process, got {os.environ['LOCAL_WORLD_SIZE']} processes on "
            f"{torch.cuda.device_count()}; start fewer with --nproc-per-node."
        )
    if cuda:
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        # the others wait while rank 0 finds the regions of a data set, or validates
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=7))
    return device, distributed.get_rank(), distributed.get_world_size()


def refuse_several() -> None:
    """Refuses to be one of several processes, of which each would do the whole work."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise GliedError(
            "Expected one process, which is all that detectors are trained in, torchrun started several; start it with "
            "`python -m glied`."
        )


@contextmanager
def rank_0_first() -> Iterator[None]:
    """Around work that need be done once: the other processes begin when rank 0 is done, and find it so."""
    _, rank, world = join()
    if rank > 0:
        distributed.barrier()
    yield
    if rank == 0 and world > 1:
        distributed.barrier()


def leave() -> None:
    """Parts from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def learning_rate(step: int, steps: int, rate: float, warmup: int) -> float:
    """Linear warm-up to `rate`, then half a cosine down to 0."""
    if step < warmup:
        return rate * (step + 1) / warmup
    past = (step - warmup) / max(1, steps - warmup)
    return rate * 0.5 * (1 + math.cos(math.pi * past))  # Choice (10)


def settings(options: Any) -> dict[str, Any]:
    """The options that a result depends on."""
    return {name: value for name, value in asdict(options).items() if name != "save_minutes"}


def fit(
    title: str,
    run: Path,
    identity: str,
    model: Captioner,
    draw: Callable[[torch.Generator], Int[Tensor, " I"]],
    options: LoopOptions,
    objective: Objective,
    validate: Callable[[Captioner], dict[str, float]],
    keep: Callable[[Captioner, dict[str, Any]], None],
) -> None:
    """Trains `model`; goes on from the state in `run` where there is one.

    The state (weights, their average, optimizer, random states, log) is saved every few minutes; a run that was
    stopped at any moment and resumed ends with exactly the weights of an unbroken one, on the same machine and number
    of threads and processes.

    Args:
        identity: of everything the result depends on; another run's state is refused by it.
        draw: the indices of an epoch's photographs in their order, always as many; `objective` gets parts of them.
        validate: val CIDEr of the averaged weights by data set, after each epoch; their mean chooses the best.
        keep: called with the averaged weights and the row of the log whenever an epoch is the best so far.
    """
    device, rank, world = join()
    torch.manual_seed(options.seed + rank)
    model.to(device)
    average = AveragedModel(model, multi_avg_fn=_moving(options.ema))
    averaged = cast(Captioner, average.module)
    decay = options.weight_decay
    optimizer = torch.optim.AdamW(  # fused: a fifth of a step on a CPU
        model.parameters(), lr=options.rate, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay, fused=True
    )
    per_epoch = math.ceil(len(draw(torch.Generator().manual_seed(0))) / options.images)
    steps = per_epoch * options.epochs
    path = run / "state.pt"
    identity = f"{identity} {device.type} {world}"
    fresh = {"identity": identity, "step": 0, "log": [], "figures": [], "best": -1.0, "epoch": 0, "seconds": 0.0}
    state = resume(path, fresh)
    if state is not fresh:
        model.load_state_dict(state.pop("model"))
        average.load_state_dict(state.pop("average"))
        optimizer.load_state_dict(state.pop("optimizer"))
        _set_random(state.pop("random")[rank], device)
        if rank == 0:
            print(f"resuming {run} at step {state['step']} of {steps}")
    since = time.monotonic()

    def save() -> None:
        nonlocal since
        random = _random(device, world)
        now = time.monotonic()
        state["seconds"], since = state["seconds"] + now - since, now
        if rank == 0:
            weights = {"model": model.state_dict(), "average": average.state_dict(), "random": random}
            with replacing(path) as aside:
                torch.save(state | weights | {"optimizer": optimizer.state_dict()}, aside)

    bar = tqdm(total=steps, initial=state["step"], desc=title, unit="step", dynamic_ncols=True, disable=rank > 0)
    while state["epoch"] < options.epochs and state["epoch"] - _best_epoch(state) < options.patience:
        generator = torch.Generator().manual_seed(options.seed * 10_000 + state["epoch"])
        order = draw(generator).split(options.images)
        for whole in order[state["step"] - state["epoch"] * per_epoch :]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state["step"], steps, options.rate, options.warmup)
            optimizer.zero_grad()
            figures: dict[str, float] = {}
            mine = whole[rank::world]
            count = float(len(mine) > 0)  # the last step of an epoch may have fewer photographs than processes
            for part in (mine if count else whole[:1]).chunk(options.accumulate):
                loss, shares = objective(model, part, whole)
                (count * loss).backward()
                shares = {"loss": loss.item()} | shares
                figures = {name: figures.get(name, 0.0) + count * share for name, share in shares.items()}
            due = rank == 0 and time.monotonic() - since > 60 * options.save_minutes
            if world > 1:
                figures, due = _sum_over_processes(model, figures, due, device)
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            average.update_parameters(model)
            state["step"] += 1
            state["figures"].append(figures)
            recent = _means(state["figures"][-100:])
            bar.update()
            bar.set_postfix(
                {name: f"{value:.3f}" for name, value in recent.items()} | {"CIDEr": f"{state['best']:.3f}"},
                refresh=False,
            )
            if due:
                save()
        state["epoch"] += 1
        cider = torch.zeros(1, dtype=torch.float64, device=device)
        by_set = validate(averaged) if rank == 0 else {}
        if by_set:
            cider += sum(by_set.values()) / len(by_set)
        if world > 1:
            distributed.broadcast(cider, 0)
        rate = learning_rate(state["step"] - 1, steps, options.rate, options.warmup)
        row = {"epoch": state["epoch"], "step": state["step"], **_means(state["figures"]), "val_CIDEr": cider.item()}
        if len(by_set) > 1:
            row |= {f"val_CIDEr {name}": value for name, value in by_set.items()}
        minutes = (state["seconds"] + time.monotonic() - since) / 60
        state["log"].append(row | {"rate": rate})
        state["figures"] = []
        if cider.item() > state["best"]:
            state["best"] = cider.item()
            if rank == 0:
                keep(averaged, row | {"minutes": minutes})
        if rank == 0:
            write_log(run / "log.csv", state["log"])
        save()
        if rank == 0:
            reached = ", ".join(f"{name} {value:.4g}" for name, value in state["log"][-1].items())
            bar.write(f"{title}, {minutes:.0f} min: {reached}")
    bar.close()


def _moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average; the decay rises from 0.2, so that the first weights are soon forgotten."""

    @torch.no_grad()
    def update(averages: Any, weights: Any, updates: Any) -> None:
        n = int(updates)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + n) / (10 + n)))  # Choice (14)

    return update


def _random(device: torch.device, world: int) -> list[list[Tensor]]:
    """The random states of every process."""
    mine = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    if world == 1:
        return [mine]
    everyone: list[Any] = [None] * world
    distributed.all_gather_object(everyone, mine)
    return everyone


def _set_random(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def _sum_over_processes(
    model: Captioner, figures: dict[str, float], due: bool, device: torch.device
) -> tuple[dict[str, float], bool]:
    """Sums the gradients of all processes in place, and their figures; whether any wants to save."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    others = torch.tensor([*figures.values(), float(due)], device=device)
    flat = torch.cat([*(g.flatten() for g in gradients), others])
    distributed.all_reduce(flat)
    *parts, others = flat.split([*(g.numel() for g in gradients), len(others)])
    for parameter, part in zip(model.parameters(), parts, strict=True):
        parameter.grad = part.view_as(parameter)
    *sums, wanted = others.tolist()
    return dict(zip(figures, sums, strict=True)), wanted > 0


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _best_epoch(state: dict[str, Any]) -> int:
    return max(state["log"], key=lambda row: row["val_CIDEr"])["epoch"] if state["log"] else 0


def read_state(path: Path) -> dict[str, Any]:
    """The saved state of a run; nothing but tensors and plain values is unpickled."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise GliedError(f"Expected the state of a run in {path}, it is damaged ({error}); delete it.") from error


def resume(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """The state of a run saved in `path`, or `fresh` where there is none; refuses another run's, by `identity`."""
    if not path.is_file():
        return fresh
    state = read_state(path)
    if state["identity"] != fresh["identity"]:
        raise GliedError(
            f"Expected to resume the run in {path.parent}, but it was started with other options, data or processes; "
            "name another --run or delete that folder."
        )
    return state


def write_log(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The log as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as aside:
        aside.write_text(text.getvalue())
