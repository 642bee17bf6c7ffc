"""A learning rate and a batch size, tried on a copy of the model: the trainer's own is left as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from math import exp, isfinite, log
from typing import NamedTuple

import torch

from noria.errors import Invalid, NoriaError
from noria.train.data import Arrays, Batch, Source, batches
from noria.train.distributed import World
from noria.train.precision import Precision
from noria.train.trainer import Trainer

_WORSE, _FALL = 3.0, 0.02
"""A loss of so many times the least one ends the search; one that falls by less than this part does not fall."""


class Rates(NamedTuple):
    """best: the proposal. tried, losses: each rate and the smoothed loss there, to look at."""

    best: float
    tried: list[float]
    losses: list[float]


def find_lr(trainer: Trainer, data: Source, *, low: float = 1e-6, high: float = 3.0, steps: int = 120) -> Rates:
    """The learning rate at which the loss falls fastest, for a schedule to go down from.

    Each step multiplies the rate, from `low` to `high`, until the loss has risen (Smith 2017, Cyclical Learning Rates); the proposal is
    the steepest point of the smoothed curve over the logarithm of the rate. One process. Raises NoriaError if no rate lowers the loss.
    """
    world = World(alone=True)
    model, precision = copy.deepcopy(trainer.model).to(world.device).train(), Precision(trainer.precision, world.device)
    optimizer = trainer.optimizer(weight for weight in model.parameters() if weight.requires_grad)
    ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]
    tried, losses, mean = list[float](), list[float](), 0.0
    for number, batch in zip(range(steps), _forever(data, trainer, world), strict=False):
        rate = low * exp(number / (steps - 1) * log(high / low))
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        with precision.computing():
            loss, weight, *_ = trainer.step(model, batch)
        loss = loss / weight
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        mean = 0.8 * mean + 0.2 * float(loss.detach())
        smooth = mean / (1 - 0.8 ** (number + 1))
        if not isfinite(smooth) or (losses and smooth > _WORSE * min(losses)):
            break
        tried.append(rate)
        losses.append(smooth)
    return Rates(_steepest(tried, losses), tried, losses)


def _steepest(rates: list[float], losses: list[float]) -> float:
    """The rate where the curve falls fastest, before its lowest point; a slope is taken over several steps."""
    lowest = min(range(len(losses)), key=losses.__getitem__, default=0)
    reach = max(2, len(losses) // 20)
    slopes = {
        place: losses[place + reach] - losses[place - reach] for place in range(reach, min(lowest, len(losses) - reach - 1) + 1)
    }
    if not slopes or losses[0] - losses[lowest] < _FALL * abs(losses[0]):
        raise NoriaError("The loss fell at no learning rate that was tried.", "Check that inputs and targets belong together.")
    return rates[min(slopes, key=slopes.__getitem__)]


def find_micro(trainer: Trainer, data: Source, *, most: int = 4096) -> int:
    """The largest power of two of examples, up to `most`, whose forward and backward pass fit into the memory of this process's device.

    For `micro=` of a trainer: a batch keeps its size and its meaning. Raises NoriaError if one example does not fit.
    """
    world = World(alone=True)
    model, precision = copy.deepcopy(trainer.model).to(world.device).train(), Precision(trainer.precision, world.device)
    fits = 0
    for size in (2**power for power in range(most.bit_length())):
        batch = next(batches(data, size, device=world.device)) if size <= len(data) else None
        if batch is None:
            break
        try:
            with precision.computing():
                loss, *_ = trainer.step(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        except torch.OutOfMemoryError:
            break
        fits = size
    if not fits:
        raise NoriaError(
            "One example alone does not fit into the memory.", "Use recompute=True, or parallel='shard' on more processes."
        )
    return fits


def _forever(data: Source, trainer: Trainer, world: World) -> Iterator[Batch]:
    if not len(data):
        raise Invalid("There are no examples to try learning rates on.", "Hand in the training data.")
    placed = data.to(world.device) if isinstance(data, Arrays) else data
    for epoch in count():
        yield from batches(placed, trainer.batch, seed=trainer.seed, epoch=epoch, augment=trainer.augment, device=world.device)
