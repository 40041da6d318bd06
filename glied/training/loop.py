"""The loop that every training runs in: steps, learning rate, averages, saved states, logs, many processes.

Under `torchrun` each process takes its part of every step's photographs and the gradients are summed, so that a step
is the same however many processes share it; `accumulate` divides it further, to save memory.
"""

import atexit
import csv
import io
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel

from glied.errors import GliedError
from glied.files import as_text, replacing
from glied.terminal import say, track
from glied.training.options import StepOptions

Options = TypeVar("Options", bound=StepOptions)
# (number of the step, a part of its photographs, all of its photographs) -> the part's share of the loss of the step
# and of the figures to show; summed over the parts, shares give the loss and the figures of the step.
Objective = Callable[[int, Int[Tensor, " p"], Int[Tensor, " b"]], tuple[Tensor, dict[str, float]]]
Plan = Sequence[Sequence[Int[Tensor, " _"]]]  # for each epoch, the photographs of each step


SETTLE = 25  # steps after which figures are read from the GPU, which waits meanwhile


class OutOfTimeError(GliedError):
    """The minutes of a training are over; its state is saved."""


@dataclass(frozen=True, eq=False)
class Validation:
    """How the epochs of a captioner are compared, so that the best is kept.

    Attributes:
        ema: decay of the moving average of the weights, which is what is measured and kept; 0 for none.
        patience: epochs without a better one before the training stops.
        measure: val CIDEr of a model by data set; their mean is compared.
        keep: called with the model and the row of the log whenever an epoch is the best so far.
    """

    ema: float
    patience: int
    measure: Callable[[Any], dict[str, float]]
    keep: Callable[[Any, dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Training:
    """A training: the model, its data, its loss, and where its state is saved.

    Attributes:
        title: shown while it runs.
        run: folder of `state.pt` and `log.csv`.
        identity: digest of everything that the result depends on; the state of another training is refused by it.
        model: on the device that computes.
        optimizer: of the model's parameters. A group with a "peak" has this peak learning rate, the others have
            that of the options.
        plan: of each epoch the photographs of each step, as numbers that `objective` understands.
        objective: the loss of a part of a step.
        accumulate: parts into which a process divides its photographs of a step.
        validation: how the best epoch is found; None if the weights after the last epoch are the result.
    """

    title: str
    run: Path
    identity: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan
    objective: Objective
    options: StepOptions
    accumulate: int = 1
    validation: Validation | None = None


def fastest(cuda: bool = False) -> Literal["bf16", "fp32"]:
    """`bf16` where the device that computes, the CPU or the GPU, multiplies bfloat16 in hardware; else `fp32`, because
    `bf16` would be many times slower."""
    if cuda:
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        hardware = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if hardware else "fp32"


def resolve(options: Options, device: torch.device = torch.device("cpu")) -> Options:
    """The options with the precision that `fastest` stands for on the device that computes."""
    if options.precision != "fastest":
        return options
    return replace(options, precision=fastest(device.type == "cuda"))


def join() -> tuple[torch.device, int, int]:
    """This process's device, its rank and the number of processes; meets the others where torchrun started several.

    Raises:
        GliedError: there are more processes than GPUs.
    """
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
        atexit.register(distributed.destroy_process_group)
    return device, distributed.get_rank(), distributed.get_world_size()


def refuse_several() -> None:
    """Raises GliedError in each of several processes, which would all do the whole work."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise GliedError(
            "Detectors are trained in one process, but torchrun started several; start the training with "
            "`python -m glied`."
        )


@contextmanager
def rank_0_first() -> Iterator[None]:
    """For work that need be done only once: the other processes begin after rank 0 has finished, and find it done."""
    _, rank, world = join()
    if rank > 0:
        distributed.barrier()
    yield
    if rank == 0 and world > 1:
        distributed.barrier()


def learning_rate(step: int, steps: int, rate: float, warmup: int) -> float:
    """Linear warm-up to `rate`, then half a cosine down to 0."""
    if step < warmup:
        return rate * (step + 1) / warmup
    past = (step - warmup) / max(1, steps - warmup)
    return rate * 0.5 * (1 + math.cos(math.pi * past))  # Choice (10)


def settings(options: StepOptions) -> dict[str, Any]:
    """The options that a result depends on."""
    return {name: value for name, value in asdict(options).items() if name not in ("save_minutes", "minutes")}


def plan_steps(options: StepOptions, draw: Callable[[torch.Generator], Int[Tensor, " I"]]) -> Plan:
    """Steps of `options.images` photographs, in the order that `draw` gives to each epoch."""
    seeds = (options.seed * 10_000 + epoch for epoch in range(options.epochs))
    return [draw(torch.Generator().manual_seed(seed)).split(options.images) for seed in seeds]


def fit(training: Training) -> None:
    """Trains the model in place; goes on from the state in the run's folder where there is one.

    The state (weights, their average, optimizer, random states, log) is saved every few minutes and after every epoch.
    A run that was stopped at any moment and resumed ends with exactly the weights of an unbroken one, on the same
    machine and number of threads and processes.

    Raises:
        GliedError: the state is damaged or another training's.
        OutOfTimeError: the minutes of the options are over.
    """
    options, validation, plan = training.options, training.validation, training.plan
    model, optimizer = training.model, training.optimizer
    device, (_, rank, world) = next(model.parameters()).device, join()
    torch.manual_seed(options.seed + rank)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer}  # of the state, beside plain values
    if validation is not None:
        parts["average"] = AveragedModel(model)
    steps, path = sum(map(len, plan)), training.run / "state.pt"
    identity = f"{training.identity} {device.type} {world}"
    fresh = {"identity": identity, "step": 0, "log": [], "figures": [], "best": -1.0, "epoch": 0, "seconds": 0.0}
    state = _resume(path, fresh)
    if state is not fresh:
        for name, part in parts.items():
            part.load_state_dict(state.pop(name))
        _set_random(state.pop("random")[rank], device)
        if rank == 0:
            say(f"resuming {training.run} at step {state['step']} of {steps}")
    since = time.monotonic()
    until = since + 60 * options.minutes if options.minutes else math.inf
    settle = 1 if device.type == "cpu" else SETTLE

    def save() -> None:
        nonlocal since
        _settle(state["figures"])
        random, now = _random(device, world), time.monotonic()
        state["seconds"], since = state["seconds"] + now - since, now
        if rank == 0:
            weights = {name: part.state_dict() for name, part in parts.items()}
            with replacing(path) as aside, open(aside, "wb") as file:  # torch would not say why it cannot write
                torch.save(state | weights | {"random": random}, file)

    hidden = {"disable": True} if rank > 0 else {}
    bar = track(total=steps, initial=state["step"], desc=training.title, unit="step", dynamic_ncols=True, **hidden)
    for epoch in range(state["epoch"], options.epochs):
        if validation is not None and epoch - _best_epoch(state["log"]) >= validation.patience:
            break
        for whole in plan[epoch][state["step"] - sum(map(len, plan[:epoch])) :]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state["step"], steps, group.get("peak", options.rate), options.warmup)
            optimizer.zero_grad()
            figures = _gradients(training, state["step"], whole, rank, world)
            now = time.monotonic()
            over = now > until
            due = float(rank == 0 and (over or now - since > 60 * options.save_minutes)) * (1 + over)
            if world > 1:
                _settle([figures])
                figures, due = _sum_over_processes(model, figures, due, device)
            if options.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimizer.step()
            if validation is not None:
                _follow(parts["average"], model, validation.ema)
            state["step"] += 1
            state["figures"].append(figures)
            bar.update()
            if state["step"] % settle == 0:
                _settle(state["figures"])
                shown = _means(state["figures"][-100:])
                if validation is not None:
                    shown["CIDEr"] = state["best"]
                bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
            if due:
                save()
            if due > 1:
                bar.close()
                raise OutOfTimeError(
                    f"The {options.minutes:.3g} minutes are over, {training.run} is saved at step "
                    f"{state['step']} of {steps}; the same command goes on from there."
                )
        _settle(state["figures"])
        row = {"epoch": epoch + 1, "step": state["step"], **_means(state["figures"])}
        if validation is not None:
            row |= _validate(validation, parts["average"].module, rank, world, device)
        minutes = (state["seconds"] + time.monotonic() - since) / 60
        if validation is not None and row["val_CIDEr"] > state["best"]:
            state["best"] = row["val_CIDEr"]
            if rank == 0:
                validation.keep(parts["average"].module, row | {"minutes": minutes})
        last = optimizer.param_groups[0]["lr"]
        state |= {"epoch": epoch + 1, "figures": [], "log": [*state["log"], row | {"rate": last}]}
        if rank == 0:
            _write_log(training.run / "log.csv", state["log"])
        save()
        if rank == 0:
            reached = ", ".join(f"{name} {value:.4g}" for name, value in state["log"][-1].items())
            bar.clear()
            say(f"{training.title}, {minutes:.0f} min: {reached}")
            bar.refresh()
    bar.close()


def _gradients(training: Training, step: int, whole: Int[Tensor, " b"], rank: int, world: int) -> dict[str, list[Any]]:
    """Adds the gradients of this process's photographs of a step. Returns for each part its share of the loss and of
    the figures of the step, still as tensors: reading a number would wait for the GPU."""
    figures: dict[str, list[Any]] = {}
    mine = whole[rank::world]
    count = float(len(mine) > 0)  # the last step of an epoch may have fewer photographs than processes
    for part in (mine if count else whole[:1]).chunk(training.accumulate):
        loss, shares = training.objective(step, part, whole)
        (count * loss).backward()
        own: dict[str, Any] = {"loss": loss.detach(), **shares}
        for name, share in own.items():
            figures.setdefault(name, []).append(count * share)
    return figures


def _settle(rows: Sequence[dict[str, Any]]) -> None:
    """Sums the figures of each step over its parts, in place: lists of tensors become numbers. Only the latest rows may
    still hold lists."""
    for row in reversed(rows):
        for name, shares in row.items():
            if not isinstance(shares, list):
                return
            row[name] = sum(map(float, shares))


def _validate(
    validation: Validation, model: nn.Module, rank: int, world: int, device: torch.device
) -> dict[str, float]:
    """Mean val CIDEr, the same in every process, and that of each data set where there are several."""
    by_set = validation.measure(model) if rank == 0 else {}
    mean = torch.zeros(1, dtype=torch.float64, device=device)
    if by_set:
        mean += sum(by_set.values()) / len(by_set)
    if world > 1:
        distributed.broadcast(mean, 0)
    several = {f"val_CIDEr {name}": value for name, value in by_set.items()} if len(by_set) > 1 else {}
    return {"val_CIDEr": mean.item(), **several}


@torch.no_grad()
def _follow(average: AveragedModel, model: nn.Module, decay: float) -> None:
    """Exponential moving average; the decay rises from 0.2, so that the first weights are soon forgotten. As
    `AveragedModel.update_parameters`, without waiting for the GPU."""
    n = int(average.n_averaged)  # lies on the CPU
    share = 1 - min(decay, (1 + n) / (10 + n)) if n else 1.0
    torch._foreach_lerp_(list(average.module.parameters()), list(model.parameters()), share)  # Choice (14)
    average.n_averaged += 1


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
    model: nn.Module, figures: dict[str, Any], due: float, device: torch.device
) -> tuple[dict[str, Any], float]:
    """Sums the gradients of all processes in place, their figures, and whether to save or to stop."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    others = torch.tensor([*figures.values(), due], device=device)
    flat = torch.cat([*(g.flatten() for g in gradients), others])
    distributed.all_reduce(flat)
    *parts, others = flat.split([*(g.numel() for g in gradients), len(others)])
    for parameter, part in zip(model.parameters(), parts, strict=True):
        parameter.grad = part.view_as(parameter)
    *sums, due = others.tolist()
    return dict(zip(figures, sums, strict=True)), due


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _best_epoch(log: Sequence[dict[str, Any]]) -> int:
    return max(log, key=lambda row: row["val_CIDEr"])["epoch"] if log else 0


def _resume(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """The state of a run saved in `path`, or `fresh` where there is none. Only tensors and plain values are unpickled;
    the state of another run is refused by its `identity`."""
    if not path.is_file():
        return fresh
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise GliedError(f"Expected the state of a run in {path}, it is damaged ({error}); delete it.") from error
    if state["identity"] != fresh["identity"]:
        raise GliedError(
            f"Expected to resume the run in {path.parent}, but it was started with other options, data or processes; "
            "name another --run or delete that folder."
        )
    return state


def _write_log(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The log as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as aside:
        aside.write_text(as_text(text.getvalue()), encoding="utf-8")
