"""How to train a model, on any layout of processes; one process takes the same path without a process group.

Trainer(model, step, epochs=10, batch=64, optimizer=adamw(3e-3)).fit(train, validation)
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

import noria.client.fluent as client
from noria.train.data import Augment, Joint, Source
from noria.train.distributed import World, flagged
from noria.train.engine import Whole
from noria.train.loop import Loop
from noria.train.optimizers import Optimizer, adamw
from noria.train.parallel import Styles
from noria.train.precision import Name, Precision
from noria.train.results import Log, Progress, Result, tell
from noria.train.schedules import Schedule, constant
from noria.train.steps import Step, classification
from noria.train.thaw import Thaw
from noria.types import SAVED


@dataclass(frozen=True)
class Trainer:
    """How to train a model.

    step: what is summed for a batch (see `steps.Step`). optimizer: a factory, called with the weights once they are where they stay.
    epochs or steps: how long. batch: examples per step over all processes. micro: examples that go through the model at a time, on one
    process; "auto" halves them whenever they do not fit into the memory. schedule: the factor of the learning rate.

    parallel: the layout of the processes (`layout.Layout`), as in "data=2,tensor=2"; "auto" takes copies of the model if they fit, else
    shards. styles: by name of a layer, how tensor parallelism cuts it. precision: fp32, tf32, bf16, fp16 or fp8. compile: by torch.compile.
    recompute: keep less of each layer for the way back. clip: the largest norm of the gradient. ema: the decay of an average of the
    weights, which is then what is validated and returned. augment: a change of the inputs, on the device. thaw: which layers learn from which epoch on.

    profile: record so many steps, after the first few, with torch's profiler; rank 0's trace is an artifact of the run.
    Without a number, NORIA_PROFILE says how many, by default none.

    patience: stop after so many epochs without a better `monitor`, by default val_accuracy, or val_loss where there is none; mode says
    whether more is better. folder: where checkpoints go, in a job by default its own; a training that finds some there goes on from the
    newest. There is one per epoch, and more often if that is what costs least. keep: how many stay.

    log, rewind, progress: called on rank 0 only; None for silence. log: `loss` once for every step, and val_loss, val_accuracy (and what
    else the step measures), epoch, examples_per_s, tflops (of the model, by `count.py`), mfu (these beside the GPUs' peak, where that is
    known) and memory_peak_bytes (of rank 0's GPU) at the last step of every epoch. rewind: called with the first step to come when
    the training goes on from a checkpoint, or is tried again (NORIA_ATTEMPT).
    """

    model: nn.Module
    step: Step = classification
    optimizer: Optimizer = field(default_factory=lambda: adamw(1e-3))
    epochs: int | None = None
    steps: int | None = None
    batch: int = 64
    micro: int | Literal["auto"] | None = None
    schedule: Schedule = constant
    seed: int = 0
    parallel: str = "auto"
    styles: Styles | None = None
    precision: Name = "fp32"
    compile: bool = False
    recompute: bool = False
    clip: float | None = None
    ema: float | None = None
    augment: Augment | Joint | None = None
    thaw: Thaw = field(default_factory=dict)
    profile: int | None = None
    patience: int | None = None
    monitor: str | None = None
    mode: Literal["max", "min"] | None = None
    folder: Path | None = None
    keep: int = 2
    log: Log | None = client.log
    rewind: Callable[[int], None] | None = client.rewind
    progress: Callable[[Progress], None] | None = tell

    def fit(self, train: Source, validation: Source | None = None) -> Result:
        """Train, and return the best epoch's model.

        After SIGTERM all processes finish the same step and save, and SystemExit(75) is raised. Raises NoriaError if the loss is no
        longer a number or a batch does not fit into the memory, Invalid if the checkpoints belong to another plan or the layout
        does not suit the model or the number of processes. With several processes an error ends them.
        """
        with flagged(signal.SIGTERM) as told, World() as world:
            # Nothing may refer to the loop, and so to the group, when the world is left: see World.__exit__.
            result = Loop(self, world, train, validation, told).run()
        if result.stopped == "preempted":
            raise SystemExit(SAVED)
        return result


def evaluate(model: nn.Module, step: Step, data: Source, batch: int = 1000) -> dict[str, float]:
    """The weighted means of the loss and of the step's metrics over all of `data`, in this process alone."""
    alone = World(alone=True)
    return Whole(model, step, alone, Precision("fp32", alone.device)).evaluate(data, batch)
