"""What `reading` reads, collected beside a training: losses in a curve that stays short, and looks into the model that last a step or a few."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum, isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from noria.train.reading import Finding, read

POINTS = 1000
ENOUGH = 32
"""Answers below which a unit's silence says nothing."""
_SILENT = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardsigmoid)


class Curve:
    """The course of any number of values in at most `POINTS`: each is the mean of so many neighbours, twice as many whenever it is full."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self.part: list[float] = []
        self.each = 1

    def add(self, value: float) -> None:
        self.part.append(value)
        if len(self.part) == self.each:
            self.points.append(fsum(self.part) / self.each)
            self.part = []
        if len(self.points) == POINTS:
            self.points = [(one + other) / 2 for one, other in zip(self.points[::2], self.points[1::2], strict=True)]
            self.each *= 2


class Watch:
    """One training as it goes: `loss` after each step, `validated` after each epoch, and a few steps of each between `begin` and `end`."""

    def __init__(self) -> None:
        self.losses, self.since = Curve(), [0.0, 0.0]
        self.train: list[float] = []
        self.validation: list[float] = []
        self.gradients: dict[str, list[float]] = {}
        self.dead: dict[str, float] = {}
        self._hooks: list[RemovableHandle] = []
        self._units: dict[str, _Units] = {}
        self._model: nn.Module | None = None

    def loss(self, value: float) -> None:
        self.losses.add(value)
        self.since = [self.since[0] + value, self.since[1] + 1]

    def validated(self, loss: float) -> None:
        """The loss on validation after an epoch; beside it goes the mean of what was handed to `loss` since the last call."""
        self.train.append(self.since[0] / max(self.since[1], 1))
        self.validation.append(loss)
        self.since = [0.0, 0.0]

    def begin(self, model: nn.Module) -> None:
        """Listen to units that can be silent, until `end`. A layer that was compiled before is not heard."""
        self._model, self._units = model, {}
        for name, layer in model.named_modules():
            if isinstance(layer, _SILENT):
                units = self._units[name] = _Units()
                self._hooks.append(layer.register_forward_hook(units.hear))

    def end(self) -> tuple[dict[str, float], dict[str, float]]:
        """The norm of each layer's gradient as it is now, and the part of each layer's units that answered 0 since `begin` to everything.

        To be called before gradients are cleared, and by all processes together. Numbers are read off the device here, once.
        """
        assert self._model is not None, "end() without begin()"
        for hook in self._hooks:
            hook.remove()
        named = dict(_norms(self._model))
        gradients = dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True)) if named else {}
        dead = {name: units.dead() for name, units in self._units.items() if units.answers >= ENOUGH}
        for name, norm in gradients.items():
            if isfinite(norm):
                self.gradients.setdefault(name, []).append(norm)
        self.dead = dead or self.dead
        self._hooks, self._units, self._model = [], {}, None
        return gradients, dead

    def findings(self) -> list[Finding]:
        points = self.losses.points
        return read(points, self.validation, train=self.train, gradients=self.gradients, dead=self.dead)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: plain values."""
        curve = self.losses
        return {"points": curve.points, "part": curve.part, "each": curve.each, "since": self.since, "train": self.train,
                "validation": self.validation, "gradients": self.gradients, "dead": self.dead}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        curve = self.losses
        curve.points, curve.part, curve.each = list(state["points"]), list(state["part"]), state["each"]
        self.since, self.train, self.validation = list(state["since"]), list(state["train"]), list(state["validation"])
        self.gradients = {name: list(norms) for name, norms in state["gradients"].items()}
        self.dead = dict(state["dead"])


class _Units:
    """Which units of a layer have answered anything else than 0."""

    def __init__(self) -> None:
        self.alive: Tensor | None = None
        self.answers = 0

    def hear(self, layer: nn.Module, given: object, out: Tensor) -> None:
        """A unit is a channel of [b, channels, height, width], and else a place along the last dimension."""
        maps = out.detach().movedim(1, -1) if out.dim() >= 4 else out.detach()
        answers = maps.reshape(-1, maps.shape[-1]) != 0
        alive = answers.any(0)
        if self.alive is not None and len(self.alive) == len(alive):
            alive = alive | self.alive
        self.alive, self.answers = alive, self.answers + len(answers)

    def dead(self) -> float:
        assert self.alive is not None
        return 1 - self.alive.float().mean().item()


def _norms(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Of the matrices of each layer, first layer first: biases and scales are too few to be compared with them."""
    for name, layer in model.named_modules():
        gradients = [weight.grad for weight in layer.parameters(recurse=False) if weight.dim() > 1 and weight.grad is not None]
        if gradients:
            norm = nn.utils.get_total_norm(gradients)
            yield name, (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()
