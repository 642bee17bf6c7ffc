"""What a training script hands to the trainer: steps, optimizers and schedules, as values and factories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.train.data import Batch

Sums = tuple[Tensor, Tensor, dict[str, Tensor]]
Step = Callable[[nn.Module, Batch], Sums]
"""(model, batch) to the summed loss, the weight it is to be divided by (examples or tokens), and summed metrics.

The trainer divides once, by the weight of all ranks: so the gradient is that of the whole batch, however it was cut.
Metrics are divided by the same weight. A step must give an example of weight 0 no part in any sum.
"""
Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""A factory, because an optimizer must be built after the model was moved and wrapped."""
Schedule = Callable[[float], float]
"""The part of the training that is done, 0 to 1, to the factor of the learning rate: a pure function, nothing to save."""


def classification(model: nn.Module, batch: Batch) -> Sums:
    """Cross-entropy in nats, and accuracy. The model gives [b, classes]; targets are int64 [b]."""
    out = model(batch.inputs)
    losses = F.cross_entropy(out, batch.targets, reduction="none")
    right = (out.detach().argmax(1) == batch.targets) * batch.weights
    return (losses * batch.weights).sum(), batch.weights.sum(), {"accuracy": right.sum()}


def adamw(lr: float, weight_decay: float = 0.01) -> Optimizer:
    """Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization."""
    return partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay)


def constant(done: float) -> float:
    return 1.0


def one_cycle(warmup: float = 0.25, first: float = 0.04, last: float = 0.0) -> Schedule:
    """Up from `first` during the part `warmup` of the training, then down to `last`, both along half a cosine.

    Smith and Topin 2018, Super-Convergence; the shape is that of torch.optim.lr_scheduler.OneCycleLR.
    """

    def factor(done: float) -> float:
        low, part = (first, 1 - done / warmup) if done < warmup else (last, (done - warmup) / (1 - warmup))
        return low + (1 - low) * (1 + cos(pi * min(part, 1.0))) / 2

    return factor
