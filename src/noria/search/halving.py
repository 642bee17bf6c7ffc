"""Asynchronous successive halving: stop a trial as soon as it is not among the best of those that came as far.

Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning; the variant that stops and never resumes, because a
trial here is a job that holds a place in a queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Literal

from noria.errors import Invalid
from noria.search.space import Direction

Decision = Literal["continue", "stop"]


def rungs(least: int, most: int, eta: int = 3) -> list[int]:
    """The lengths at which trials are compared, such as 1, 3, 9 of at most 27 epochs; the last length is no comparison."""
    if least < 1 or most < least or eta < 2:
        raise Invalid(f"There are no rungs from {least} to {most} by factors of {eta}.", "Take 1 <= least <= most and eta >= 2.")
    found = [least]
    while found[-1] * eta < most:
        found.append(found[-1] * eta)
    return [rung for rung in found if rung < most]


def decide(
    curve: Sequence[float],
    others: Sequence[Sequence[float]],
    rungs: Sequence[int],
    *,
    eta: int = 3,
    direction: Direction = "minimize",
) -> Decision:
    """Whether a trial goes on, given what it and all other trials have reached; asked each time that its curve grows.

    curve: the trial's values, one per unit of length (epoch); others: the curves of the other trials, running, stopped and
    done. It is judged where `len(curve)` is a rung: it goes on if it is among the best 1/eta of all that reached this rung, and
    always while fewer than eta have. A value that is not a number stops the trial.
    """
    length = len(curve)
    if length and isnan(curve[-1]):
        return "stop"
    if length not in rungs:
        return "continue"
    sign = -1 if direction == "maximize" else 1
    mine = sign * curve[-1]
    seen = [sign * other[length - 1] for other in others if len(other) >= length]
    if len(seen) + 1 < eta:
        return "continue"
    better = sum(value < mine for value in seen)
    return "continue" if better * eta < len(seen) + 1 else "stop"
