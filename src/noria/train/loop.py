"""The training loop.

The order of examples, augmentation, dropout and the learning rate are pure functions of (seed, step). So a checkpoint holds
weights, the optimizer's moments and a few numbers, and a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping
from contextlib import closing, nullcontext
from itertools import count
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

import noria.client.fluent as client
from noria.client.checkpoint import Pace, announce
from noria.errors import Invalid, NoriaError
from noria.train import checkpoint, dropout
from noria.train.average import Average, local
from noria.train.data import Arrays, Batch, Source, derived, steps_per_epoch
from noria.train.distributed import World
from noria.train.engine import engine, fed
from noria.train.layout import Layout, automatic, layout
from noria.train.meter import Meter
from noria.train.parallel import gathered, norm_of, recompute, scale
from noria.train.precision import Precision, in_fp8
from noria.train.profile import Profile, asked
from noria.train.results import Progress, Result
from noria.train.thaw import check, ever, phase, thawed
from noria.train.watch import Watch

if TYPE_CHECKING:
    from noria.train.trainer import Trainer


_fits = count(1)


def _default_folder() -> Path | None:
    """The job's folder for checkpoints, and beside it one for each further training of the same script."""
    job, number = client.job_folder(), next(_fits)
    return None if job is None else job / "checkpoints" if number == 1 else job / "checkpoints" / f"fit-{number}"


class Loop:
    """One training, from its layout to its result."""

    def __init__(self, plan: Trainer, world: World, train: Source, validation: Source | None, told: threading.Event) -> None:
        self.plan, self.world, self.told = plan, world, told
        self.train, self.validation = _placed(train, world), _placed(validation, world) if validation is not None else None
        if not len(train):
            raise Invalid("There are no examples to train on.", "Hand in at least one.")
        self.per_epoch = steps_per_epoch(len(train), plan.batch)
        if (plan.epochs is None) == (plan.steps is None):
            raise Invalid("A training needs its length.", "Give Trainer either epochs= or steps=.")
        self.steps = plan.steps if plan.steps is not None else self.per_epoch * (plan.epochs or 0)
        self.epochs = -(-self.steps // self.per_epoch)
        world.arrange(_laid_out(plan, world))
        if world.layout.context > 1 and not getattr(plan.model, "cuts_time", False):
            raise Invalid("This model does not say that its attention can look beyond its own run of tokens.",
                          "Use context.attend in it and set cuts_time = True, as gpt does, or another layout: parallel='shard'.")  # fmt: skip
        self.precision = Precision(plan.precision, world.device)
        self.meter = Meter(plan.model, world, plan.precision)
        self.drops = dropout.name_layers(plan.model)
        if plan.thaw:
            check(plan.model, plan.thaw)
            if world.layout.pipeline > 1:
                raise Invalid("In a pipeline all layers learn from the start.", "Leave thaw out, or use parallel='shard'.")
            if world.size > 1:
                ever(plan.model, plan.thaw)
        # To be filled at the end, if the model is not whole in any process.
        self.empty = (
            copy.deepcopy(plan.model).to("meta") if world.layout.replicas < world.size or world.layout.shard > 1 else None
        )
        self.micro = None if plan.micro == "auto" else plan.micro
        self.engine = engine(
            plan.model.to(world.device), plan.step, world, self.precision, micro=self.micro,
            share=-(-plan.batch // world.layout.batch), styles=plan.styles, compiled=plan.compile, spread=self.prepare,
        )  # fmt: skip
        self.model = self.engine.model
        self.weights = list(self.model.parameters())
        self.average = Average(self.model, plan.ema) if plan.ema else None
        self.optimizer = self.thaw(0, {})
        self.done = self.timed = self.bad = self.best_step = 0
        self.best: dict[str, float] = {}
        self.best_weights: list[Tensor] = []
        self.pending: list[Tensor] = []
        self.every, self.reported = 1, perf_counter()
        self.stop = self.due = False
        self.loss = float("nan")
        self.folder = plan.folder or _default_folder()
        recorded = asked() if plan.profile is None else plan.profile
        self.profile = Profile(recorded, "profile/rank0") if recorded and world.rank == 0 else None
        self.saver = checkpoint.Saver(self.folder, world, plan.keep) if self.folder else None
        self.pace, self.watch = Pace(), Watch()
        self.spent = {"data": 0.0, "compute": 0.0, "communication": 0.0}

    def prepare(self, model: nn.Module) -> None:
        if self.plan.precision == "fp8":
            in_fp8(model)
        if self.plan.recompute:
            recompute(model)

    def thaw(self, epoch: int, known: Mapping[Any, Any]) -> torch.optim.Optimizer:
        """Have the layers learn that are to in this epoch. known: the state that the optimizer had, by weight."""
        self.phase = phase(self.plan.thaw, epoch)
        self.held = thawed(self.model, self.plan.thaw, epoch, laid_out=self.world.size > 1)
        held = {*map(id, self.held)}
        learning = [weight for weight in self.weights if weight.requires_grad and id(weight) not in held]
        if not learning:
            raise Invalid("No weight of this model learns.", "Thaw a layer: transfer.freeze(model, 'its.name').")
        optimizer = self.plan.optimizer(learning)
        optimizer.state.update((weight, known[weight]) for weight in learning if weight in known)
        self.rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def run(self) -> Result:
        if self.folder is not None:
            announce()
        self.restore()
        try:
            while not self.finished and not self.stop:
                self.epoch()
        finally:
            dropout.now.place = None
            if self.saver:
                self.saver.wait()
        if self.stop and not self.finished:
            return Result(self.model, self.done, self.best_step, self.best, "preempted")
        stopped: Literal["done", "patience"] = "done" if self.done == self.steps else "patience"
        return Result(self.whole(), self.done, self.best_step, self.best, stopped, self.watch.findings())

    @property
    def finished(self) -> bool:
        patience = self.plan.patience
        return self.done >= self.steps or (patience is not None and self.bad >= patience)

    def ends(self, step: int) -> bool:
        """Whether an epoch is over after so many steps."""
        return step % self.per_epoch == 0 or step == self.steps

    @property
    def asked(self) -> bool:
        """Whether this process, alone, is told to stop or wants a checkpoint; several agree on it through their rows."""
        return self.world.size == 1 and (self.told.is_set() or self.pace.due)

    def epoch(self) -> None:
        number, started, first = self.done // self.per_epoch, perf_counter(), self.done
        if phase(self.plan.thaw, number) != self.phase:
            self.optimizer = self.thaw(number, self.optimizer.state)
        self.model.train()
        left = perf_counter()
        order = {"seed": self.plan.seed, "epoch": number, "start": first % self.per_epoch, "augment": self.plan.augment}
        with closing(fed(self.train, self.plan.batch, self.world, **order)) as batches:
            for batch in batches:
                began = perf_counter()
                self.spent["data"] += began - left
                self.update(batch, began)
                ends = self.ends(self.done)
                if self.profile and not self.profile.step(last=self.done == self.steps):
                    self.profile = None
                if len(self.pending) >= self.every or ends or self.asked:
                    self.report_steps()
                self.spent["compute"] += perf_counter() - began
                if ends:  # At an epoch's end its validation comes first.
                    break
                if self.stop or self.due:
                    self.save(last=self.stop)
                    if self.stop:
                        return
                left = perf_counter()
        examples = min((self.done - first) * self.plan.batch, len(self.train))
        self.end_epoch(number, self.meter.read(examples / (perf_counter() - started), batch.inputs))
        self.save(last=self.stop and not self.finished)

    def update(self, batch: Batch, began: float) -> None:
        """One optimizer step. All processes call it, or none does."""
        self.seed_dropout()
        # What is compiled would be compiled again for whoever listens.
        watched = self.ends(self.done + 1) and not self.plan.compile
        if watched:
            self.watch.begin(self.model)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.plan.schedule(self.done / self.steps)
        row = self.summed(self.accumulated(batch), began)
        for weight in self.held:
            weight.grad = None
        # Gradients are averaged over the shares of a batch, and are to be divided by the weight of all of them.
        divisor = row[1].clamp(min=1e-12) / self.world.layout.replicas
        if self.precision.scale:
            divisor = divisor * self.precision.scale.value
        factor = 1 / divisor
        good = True
        if self.plan.clip is not None or self.precision.scale:
            norm = norm_of(self.weights, self.world).double() * factor
            if self.plan.clip is not None:
                factor = factor * (self.plan.clip / (norm + 1e-6)).clamp(max=1.0)
            good = not self.precision.scale or self.precision.scale.after(norm)
        if good:
            scale(self.weights, factor)
        if watched:
            self.watch.end()
        if good:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.pending.append(row)
        if self.average is not None:
            self.average.follow(self.done)

    def accumulated(self, batch: Batch) -> Tensor:
        """The gradient in place; the sums. What does not fit into the memory is tried in halves, if that is asked for."""
        while True:
            try:
                return self.engine.accumulate(batch)
            except torch.OutOfMemoryError as error:
                size = self.micro or len(batch.weights)
                if self.plan.micro != "auto" or self.world.size > 1 or size == 1:
                    raise NoriaError(
                        f"{size} examples at a time do not fit into the memory of rank {self.world.rank}.",
                        f"Give Trainer micro={max(1, size // 2)}, recompute=True, or another layout: parallel='shard'.",
                    ) from error
                self.micro = self.engine.micro = size // 2
                self.optimizer.zero_grad(set_to_none=True)
                self.seed_dropout()

    def summed(self, sums: Tensor, began: float) -> Tensor:
        """The row of this step: its loss and weight; with several processes summed over them, and with it how many were told to stop, how
        many want a checkpoint, and the seconds that it took them together."""
        if self.world.size == 1:
            return sums
        asked = perf_counter()
        mine = (float(self.told.is_set()), float(self.pace.due), asked - began)
        row = self.world.sum(torch.cat([sums, torch.tensor(mine, dtype=sums.dtype, device=sums.device)]))
        self.spent["communication"] += perf_counter() - asked
        return row

    def seed_dropout(self) -> None:
        """Random layers draw what they would have drawn without a restart; each share of a batch draws other numbers. Noria's own Dropout knows the example."""
        seed = derived(self.plan.seed, self.done, self.world.share, "step")
        torch.default_generator.manual_seed(seed)
        if self.drops:
            dropout.now.begin(derived(self.plan.seed, self.done, "dropout"), self.world.device)
        if self.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def report_steps(self) -> None:
        """Log the losses of the steps since the last call, and learn whether any process was told to stop, or wants a checkpoint.

        Reading a number off a GPU waits for it, so it is done every 10 steps, or every second where steps are slow; all processes agree
        on which, because they read the same rows.
        """
        rows = torch.stack(self.pending).tolist()
        self.due, seconds = False, 0.0
        for step, (loss_sum, weight, *told) in enumerate(rows, self.done - len(rows)):
            self.loss = loss_sum / weight if weight else 0.0
            if not isfinite(self.loss):
                raise NoriaError(f"The loss of step {step} is {self.loss}.",
                                 "Lower the learning rate, or clip the gradient; the checkpoints before are untouched.")  # fmt: skip
            if told:
                self.stop, self.due = self.stop or told[0] > 0, self.due or told[1] > 0
                seconds += told[2] / self.world.size
            self.watch.loss(self.loss)
            self.say({"loss": self.loss}, step)
        if self.world.size == 1:
            self.stop, self.due = self.told.is_set(), self.pace.due
            seconds = perf_counter() - self.reported
            self.reported += seconds
        self.every = max(1, min(10, int(len(rows) / max(seconds, 1e-3))))
        self.pending.clear()

    def say(self, values: Mapping[str, float], step: int) -> None:
        if self.plan.log and self.world.rank == 0:
            self.plan.log(values, step=step)

    def end_epoch(self, number: int, speed: dict[str, float]) -> None:
        found: dict[str, float] = {}
        if self.validation is not None:
            with self.average.in_place() if self.average else nullcontext():
                found = self.engine.evaluate(
                    self.validation, max(self.plan.batch, 1000) if self.micro is None else self.plan.batch
                )
            self.watch.validated(found["loss"])
        values = {f"val_{name}": value for name, value in found.items()} | {"epoch": float(number + 1), **speed}
        self.judge(values)
        self.say({**values, **self.times()}, self.done - 1)
        if self.plan.progress and self.world.rank == 0:
            self.plan.progress(Progress(self.done, self.steps, number + 1, self.epochs, self.loss, values))

    def judge(self, values: dict[str, float]) -> None:
        """Keep the weights if this epoch is the best so far; without validation the last one is."""
        if self.validation is None:
            self.best, self.best_step = values, self.done
            return
        monitor = self.plan.monitor or ("val_accuracy" if "val_accuracy" in values else "val_loss")
        if monitor not in values:
            raise Invalid(f"There is no metric '{monitor}' to monitor.", f"Use one of: {', '.join(values)}.")
        more = not monitor.endswith("loss") if self.plan.mode is None else self.plan.mode == "max"
        gain = (1 if more else -1) * (values[monitor] - self.best[monitor]) if self.best else 1.0
        self.bad = 0 if gain > 0 else self.bad + 1
        if gain >= 0:  # Of two equal epochs the later one: its learning rate is lower.
            self.best, self.best_step = values, self.done
            self.best_weights = self.judged_now()

    def judged_now(self) -> list[Tensor]:
        """A copy of the weights that are validated, this process's part."""
        with self.average.in_place() if self.average else nullcontext():
            return [local(tensor).detach().clone() for tensor in self.model.state_dict().values()]

    def times(self) -> dict[str, float]:
        """Mean seconds of a step since the last call: waiting for data, computing, and waiting for the other ranks at the step's sum."""
        steps = max(1, self.done - self.timed)
        spent = {**self.spent, "compute": self.spent["compute"] - self.spent["communication"]}
        self.spent, self.timed = dict.fromkeys(self.spent, 0.0), self.done
        return {f"time/{name}": seconds / steps for name, seconds in spent.items() if seconds > 0}

    @property
    def about(self) -> dict[str, int | bool]:
        """What must not change under a checkpoint: else its step would mean other examples."""
        return {"examples": len(self.train), "batch": self.plan.batch, "steps": self.steps, "seed": self.plan.seed,
                "ema": self.average is not None}  # fmt: skip

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint holds, by names that are the same in every layout."""
        options = StateDictOptions(flatten_optimizer_state_dict=True)
        model, optimizer = get_state_dict(self.model, self.optimizer, options=options)
        return {"model": model, "optimizer": optimizer} | ({"average": self.average.kept} if self.average else {})

    def save(self, *, last: bool = False) -> None:
        """last: and leave then."""
        if self.saver is None:
            return
        progress = {"about": self.about, "done": self.done, "bad": self.bad, "best": self.best, "best_step": self.best_step,
                    "phase": self.phase, "watch": self.watch.state(),
                    "scale": self.precision.scale.state() if self.precision.scale else None}  # fmt: skip
        seconds = self.saver.save(self.tensors(), progress, self.done, best=self.best_step, last=last)
        self.pace.spent(seconds)
        if self.done:
            self.say({"time/checkpoint": seconds}, self.done - 1)

    def restore(self) -> None:
        again = int(os.environ.get("NORIA_ATTEMPT") or 1) > 1
        newest = checkpoint.latest(self.folder) if self.folder and self.world.rank == 0 else None
        path = self.world.agreed(newest)
        if path:
            self.load(path)
        if self.plan.rewind and self.world.rank == 0 and (self.done or again):
            # A first try that died before its first checkpoint left points too.
            self.plan.rewind(self.done)

    def load(self, path: Path) -> None:
        progress = checkpoint.progress(path)
        if progress["about"] != self.about:
            raise Invalid(f"The checkpoints in {path.parent} belong to another plan ({progress['about']}, not {self.about}).",
                          "Give this training a folder of its own.")  # fmt: skip
        self.done, self.bad, self.best, self.best_step = (progress[name] for name in ("done", "bad", "best", "best_step"))
        self.timed = self.done
        if progress.get("phase", -1) != self.phase:
            self.optimizer = self.thaw(progress["phase"], {})
        self.watch.restore(progress["watch"])
        if self.precision.scale and progress["scale"]:
            self.precision.scale.restore(progress["scale"])
        if self.best_step and self.validation is not None:
            self.best_weights = self.judged(path if self.best_step == self.done else checkpoint.at(path.parent, self.best_step))
        tensors = self.tensors()
        checkpoint.load(path, tensors, self.world)
        set_state_dict(self.model, self.optimizer, model_state_dict=tensors["model"], optim_state_dict=tensors["optimizer"],
                       options=StateDictOptions(flatten_optimizer_state_dict=True))  # fmt: skip

    def judged(self, path: Path) -> list[Tensor]:
        """The weights that were validated when this checkpoint was made."""
        tensors = self.tensors()
        del tensors["optimizer"]  # Other layers may have learned then.
        checkpoint.load(path, tensors, self.world)
        return [local(tensor).clone() for tensor in ({**tensors["model"], **tensors.get("average", {})}).values()]

    @torch.no_grad()
    def whole(self) -> nn.Module:
        """The model with the best weights."""
        if not self.best_weights:
            self.best_weights = self.judged_now()
        for tensor, best in zip(self.model.state_dict().values(), self.best_weights, strict=True):
            local(tensor).copy_(best)
        model = gathered(self.model, self.empty, self.world) if self.empty is not None else self.model
        return model.eval()


def _placed(data: Source, world: World) -> Source:
    return data.to(world.device) if isinstance(data, Arrays) else data


def _laid_out(plan: Trainer, world: World) -> Layout:
    if plan.parallel != "auto":
        return layout(plan.parallel, world.size)
    memory = torch.cuda.get_device_properties(world.device).total_memory if world.device.type == "cuda" else None
    return automatic(sum(weight.numel() for weight in plan.model.parameters()), world.size, memory)
