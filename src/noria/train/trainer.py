"""The training loop, data-parallel over the ranks of the launcher; one process takes the same path without a process group.

The order of examples, augmentation, dropout and the learning rate are pure functions of (seed, step). So a checkpoint holds
weights, the optimizer's moments and one integer, and a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from noria.errors import Invalid, NoriaError
from noria.train import checkpoint
from noria.train.data import Arrays, Augment, Batch, batches, derived, steps_per_epoch
from noria.train.distributed import World, flagged
from noria.train.recipes import Optimizer, Schedule, Step, constant

PREEMPTED = 75
"""The exit code of a run that was told to stop and saved itself (EX_TEMPFAIL of sysexits.h): start it again and it goes on."""


class Log(Protocol):
    """Takes the values of one step; `noria.log` is one."""

    def __call__(self, values: Mapping[str, float], /, *, step: int) -> None: ...


class Progress(NamedTuple):
    """Where a run stands after an epoch: `step` of at most `steps` are done; `values` is what was logged for the epoch."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    values: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """How to train.

    batch: examples per step over all ranks. clip: the largest norm of the gradient. ema: the decay of an average of the
    weights, which is then what is validated and returned. patience: stop after so many epochs without a better `monitor`.
    folder: where checkpoints go, one per epoch; a run that finds some there goes on from the newest. keep: how many stay.
    """

    epochs: int
    batch: int
    optimizer: Optimizer
    schedule: Schedule = constant
    seed: int = 0
    augment: Augment | None = None
    clip: float | None = None
    ema: float | None = None
    patience: int | None = None
    monitor: str = "val_accuracy"
    mode: Literal["max", "min"] = "max"
    folder: Path | None = None
    keep: int = 2


@dataclass(frozen=True)
class Result:
    """`model` holds the weights of the best epoch, in eval mode, on every rank; `values` are that epoch's."""

    model: nn.Module
    steps: int
    best_step: int
    values: dict[str, float]
    stopped: Literal["done", "patience", "preempted"]


def fit(
    model: nn.Module,
    step: Step,
    train: Arrays,
    validation: Arrays,
    plan: Plan,
    *,
    log: Log | None = None,
    rewind: Callable[[int], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train, and return the best epoch's model.

    The callables are called on rank 0 only. log: `loss` once for every step, and val_loss, val_accuracy (and what else the
    step measures), epoch and images_per_s at the last step of every epoch. rewind: called with the first step to come
    when the run goes on from a checkpoint, or is tried again (NORIA_ATTEMPT).

    After SIGTERM all ranks finish the same step, rank 0 saves, and SystemExit(75) is raised. Raises NoriaError if the loss
    is no longer a number, Invalid if the checkpoints belong to another plan. With several ranks an error ends the process.
    """
    with flagged(signal.SIGTERM) as told, World() as world:
        # Nothing may refer to the loop, and so to the group, when the world is left: see World.__exit__.
        ears = _Ears(log, rewind, progress) if world.rank == 0 else _Ears()
        result = _Loop(world, model, step, train, validation, plan, told, ears).run()
    if result.stopped == "preempted":
        raise SystemExit(PREEMPTED)
    return result


@torch.no_grad()
def evaluate(model: nn.Module, step: Step, data: Arrays, world: World | None = None, batch: int = 1000) -> dict[str, float]:
    """The weighted means of the loss and of the step's metrics over all of `data`, which every rank is given whole."""
    rank, size = (world.rank, world.size) if world else (0, 1)
    was_training = model.training
    model.eval()
    names: list[str] = []
    total: Tensor | None = None
    for part in batches(data, batch, rank=rank, world=size):
        loss, weight, metrics = step(model, part)
        names = list(metrics)
        sums = torch.stack([weight, loss, *metrics.values()]).double()
        total = sums if total is None else total + sums
    model.train(was_training)
    if total is None:
        raise Invalid("There are no examples to evaluate on.", "Hand in at least one.")
    weight_sum, *others = (world.sum(total) if world else total).tolist()
    return {name: value / weight_sum for name, value in zip(["loss", *names], others, strict=True)}


class _Ears(NamedTuple):
    """The caller's callables; all None on every rank but the first."""

    log: Log | None = None
    rewind: Callable[[int], None] | None = None
    progress: Callable[[Progress], None] | None = None


class _Loop:
    def __init__(
        self, world: World, model: nn.Module, step: Step, train: Arrays, validation: Arrays, plan: Plan,
        told: threading.Event, ears: _Ears,
    ) -> None:  # fmt: skip
        self.world, self.step, self.plan, self.told, self.ears = world, step, plan, told, ears
        self.train, self.validation = train.to(world.device), validation.to(world.device)
        self.model = model.to(world.device)
        self.wrapped = world.wrap(self.model)
        self.average = copy.deepcopy(self.model).requires_grad_(False) if plan.ema else None
        self.optimizer = plan.optimizer(self.model.parameters())
        self.rates: list[float] = [group["lr"] for group in self.optimizer.param_groups]
        self.per_epoch = steps_per_epoch(train.size, plan.batch)
        self.steps = self.per_epoch * plan.epochs
        self.done = self.bad = self.best_step = 0
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}
        # Reading a number off a GPU waits for it; on the CPU it costs nothing.
        self.every = 1 if world.device.type == "cpu" else 10
        self.pending: list[Tensor] = []
        self.stop = False
        self.loss = float("nan")

    def run(self) -> Result:
        self.restore()
        while not self.finished:
            epoch, started, first = self.done // self.per_epoch, perf_counter(), self.done
            self.wrapped.train()
            for batch in batches(self.train, self.plan.batch, rank=self.world.rank, world=self.world.size, seed=self.plan.seed,
                                 epoch=epoch, start=first % self.per_epoch, augment=self.plan.augment):  # fmt: skip
                self.update(batch)
                if self.done % self.every == 0:
                    self.report_steps()
                if self.stop and self.done % self.per_epoch:  # At an epoch's end its validation comes first.
                    self.save()
                    return self.result("preempted")
            self.report_steps()
            examples = min((self.done - first) * self.plan.batch, self.train.size)
            self.end_epoch(epoch, examples / (perf_counter() - started))
            self.save()
            if self.stop and not self.finished:
                return self.result("preempted")
        return self.result("done" if self.done == self.steps else "patience")

    @property
    def finished(self) -> bool:
        patience = self.plan.patience
        return self.done >= self.steps or (patience is not None and self.bad >= patience)

    def update(self, batch: Batch) -> None:
        """One optimizer step. All ranks call it, or none does."""
        self.seed_dropout()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.plan.schedule(self.done / self.steps)
        loss, weight, _ = self.step(self.wrapped, batch)
        told = torch.tensor(float(self.told.is_set()), device=loss.device)
        sums = self.world.sum(torch.stack([loss.detach(), weight.to(loss.dtype), told]).double())
        # Gradients are averaged over ranks, so each rank's sum is scaled up by their number before it is divided.
        (loss * (self.world.size / sums[1].clamp(min=1e-12)).to(loss.dtype)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self.plan.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.pending.append(sums)
        if self.average is not None and self.plan.ema is not None:
            _follow(self.average, self.model, min(self.plan.ema, (1 + self.done) / (10 + self.done)))

    def seed_dropout(self) -> None:
        """Random layers draw what they would have drawn without a restart; each rank draws other numbers."""
        seed = derived(self.plan.seed, self.done, self.world.rank, "step")
        torch.default_generator.manual_seed(seed)
        if self.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def report_steps(self) -> None:
        """Log the losses of the steps since the last call, and learn whether any rank was told to stop."""
        if not self.pending:
            return
        first = self.done - len(self.pending)
        for step, (loss_sum, weight, told) in enumerate(torch.stack(self.pending).tolist(), first):
            self.loss = loss_sum / weight if weight else 0.0
            self.stop = self.stop or told > 0
            if not isfinite(self.loss):
                raise NoriaError(f"The loss of step {step} is {self.loss}.", "Lower the learning rate, or clip the gradient.")
            if self.ears.log:
                self.ears.log({"loss": self.loss}, step=step)
        self.pending.clear()

    def end_epoch(self, epoch: int, speed: float) -> None:
        judged = self.average if self.average is not None else self.model
        found = evaluate(judged, self.step, self.validation, self.world)
        values = {f"val_{name}": value for name, value in found.items()} | {"epoch": float(epoch + 1), "images_per_s": speed}
        if self.plan.monitor not in values:
            raise Invalid(f"There is no metric '{self.plan.monitor}' to monitor.", f"Use one of: {', '.join(values)}.")
        sign = 1 if self.plan.mode == "max" else -1
        gain = sign * (values[self.plan.monitor] - self.best[self.plan.monitor]) if self.best else 1.0
        self.bad = 0 if gain > 0 else self.bad + 1
        if gain >= 0:  # Of two equal epochs the later one: its learning rate is lower.
            self.best, self.best_step = values, self.done
            self.best_weights = {name: tensor.detach().clone() for name, tensor in judged.state_dict().items()}
        if self.ears.log:
            self.ears.log(values, step=self.done - 1)
        if self.ears.progress:
            self.ears.progress(Progress(self.done, self.steps, epoch + 1, self.plan.epochs, self.loss, values))

    @property
    def about(self) -> dict[str, int]:
        """What must not change under a checkpoint: else its step would mean other examples."""
        return {"examples": self.train.size, "batch": self.plan.batch, "epochs": self.plan.epochs, "seed": self.plan.seed}

    def save(self) -> None:
        if self.plan.folder is None or self.world.rank:
            return
        state: dict[str, Any] = {
            "about": self.about, "done": self.done, "bad": self.bad, "best": self.best, "best_step": self.best_step,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
        }  # fmt: skip
        checkpoint.save(state, self.plan.folder, self.done, keep=self.plan.keep, best=self.best_step)

    def restore(self) -> None:
        again = int(os.environ.get("NORIA_ATTEMPT") or 1) > 1
        if self.plan.folder is not None:
            self.load(self.plan.folder)
        if self.ears.rewind and (self.done or again):  # A first try that died before its first checkpoint left points too.
            self.ears.rewind(self.done)

    def load(self, folder: Path) -> None:
        newest = checkpoint.latest(folder) if self.world.rank == 0 else None
        path = self.world.agreed(str(newest or ""))
        if not path:
            return
        state = checkpoint.load(Path(path))
        if state["about"] != self.about:
            raise Invalid(f"The checkpoints in {folder} belong to another plan ({state['about']}, not {self.about}).",
                          "Give this run a folder of its own.")  # fmt: skip
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.done, self.bad, self.best, self.best_step = state["done"], state["bad"], state["best"], state["best_step"]
        if self.best_step:
            best = state if self.best_step == self.done else checkpoint.load(checkpoint.at(folder, self.best_step))
            self.best_weights = best["model"] if self.average is None else best["average"]

    def result(self, stopped: Literal["done", "patience", "preempted"]) -> Result:
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        return Result(self.model.eval(), self.done, self.best_step, self.best, stopped)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * model; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
