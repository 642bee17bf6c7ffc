"""How the learning rate changes over a training: pure functions, nothing to save."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]
"""The part of the training that is done, 0 to 1, to the factor of the learning rate: a pure function, nothing to save."""


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


def cosine(warmup: float = 0.05, last: float = 0.1) -> Schedule:
    """Up along a line during the part `warmup`, then down to `last` along half a cosine (Loshchilov and Hutter 2017, SGDR)."""

    def factor(done: float) -> float:
        if done < warmup:
            return done / warmup
        return last + (1 - last) * (1 + cos(pi * min((done - warmup) / (1 - warmup), 1.0))) / 2

    return factor


def warmup_stable_decay(warmup: float = 0.05, decay: float = 0.2) -> Schedule:
    """Up along a line, level, and down to 0 along a line in the last part `decay` (Hu et al. 2024, MiniCPM): how long it will be level need
    not be known before."""

    def factor(done: float) -> float:
        return min(done / warmup if warmup else 1.0, 1.0, (1 - done) / decay if decay else 1.0)

    return factor
