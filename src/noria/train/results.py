"""What a training tells: where it stands, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import nn

from noria.train.reading import Finding


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


def tell(progress: Progress) -> None:
    """Print a line about an epoch."""
    judged = "".join(f"  {name} {value:.4f}" for name, value in progress.values.items() if name.startswith("val_"))
    print(f"epoch {progress.epoch}/{progress.epochs}  step {progress.step}/{progress.steps}  loss {progress.loss:.4f}{judged}  "
          f"{progress.values['examples_per_s']:,.0f} examples/s", flush=True)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """`model` is whole, on the CPU or where it was trained, with the weights of the best epoch (of the last one, without validation), in
    eval mode: on every rank if each trained the whole model, else on rank 0, and on the others without weights (torch's meta device).
    `values` are that epoch's. `findings`: what the curves, gradients and activations of the training say, on rank 0."""

    model: nn.Module
    steps: int
    best_step: int
    values: dict[str, float]
    stopped: Literal["done", "patience", "preempted"]
    findings: list[Finding] = field(default_factory=list)
