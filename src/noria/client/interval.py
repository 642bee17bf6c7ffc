"""How often a job that may fail should save: J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
dumps", Future Generation Computer Systems 22 (2006), 303-312. All times in seconds."""

from __future__ import annotations

import math

MTBF = "NORIA_MTBF"
"""The variable by which a job's launcher says its mean time between failures."""


def interval(cost: float, mtbf: float) -> float:
    """Seconds of work between the end of one checkpoint and the beginning of the next, so that most is left of the time.

    cost: how long work stands still for a checkpoint. mtbf: the mean time between failures of the whole job, of all its nodes
    together. This is Daly's equation 37; the restart does not enter into it. A checkpoint that costs nothing can be saved all
    the time (0), and where nothing fails none is needed (inf). One that costs more than two mean times between failures is
    saved once in each: such a job hardly gets on, whatever it does.
    """
    if mtbf <= 0 or cost <= 0:
        return 0.0
    if math.isinf(mtbf):
        return math.inf
    if cost >= 2 * mtbf:
        return mtbf
    ratio = cost / (2 * mtbf)
    return math.sqrt(2 * cost * mtbf) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost


def efficiency(interval: float, cost: float, restart: float, mtbf: float) -> float:
    """The expected share of the time that is work which stays, between 0 and 1, with checkpoints every `interval` seconds of work.

    The model (Daly's equation 20): failures are a Poisson process of rate 1/mtbf that goes on through work, checkpoints and
    restarts. One costs the work since the last whole checkpoint, and `restart` seconds before work goes on from there. Then
    an interval takes on average mtbf * exp(restart / mtbf) * (exp((interval + cost) / mtbf) - 1). Only the first start, which
    is paid once, is not counted.
    """
    if mtbf <= 0:
        return 0.0
    if math.isinf(mtbf):
        return interval / (interval + cost) if math.isfinite(interval) and interval + cost > 0 else 1.0
    span = (interval + cost) / mtbf
    if span <= 0:
        return math.exp(-restart / mtbf)
    if span + restart / mtbf > _FAR:
        return 0.0
    return interval / mtbf / math.expm1(span) * math.exp(-restart / mtbf)


def estimate(guess: float, elapsed: float, failures: int) -> float:
    """The mean time between failures of a job that has run for `elapsed` seconds and failed so often meanwhile.

    guess: what one would say before, worth as much as one failure that was seen: the mean under a gamma prior of that weight.
    A guess ten times too large or too small is made good by some ten failures.
    """
    return (guess + elapsed) / (1 + failures)


FIRST = 30.0
"""Seconds until the first checkpoint of a try, which tells what one costs."""
_LEAST, _MOST, _SHARE = 10.0, 1800.0, 50


def pause(cost: float, mtbf: float) -> float:
    """`interval`, but at least 10 s and at most half an hour, or what makes checkpoints cost a fiftieth of the time: nobody knows
    both figures well enough for more or less."""
    return min(max(interval(cost, mtbf), _LEAST), max(_MOST, _SHARE * cost))


_FAR = 700.0
"""Exponents beyond which a float is none any more: nobody waits that long."""
