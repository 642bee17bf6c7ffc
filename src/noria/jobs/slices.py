"""How long the next slice of a long run should be, on a queue that gives nobody all the time that it needs. Pure.

A longer slice loses less to starting and saving; a shorter one may wait less, because schedulers fill gaps with short jobs. What a
length is worth is the useful part of the whole rest of the run, cut into slices of this length, over the time that they take and wait.
How long each waits is learned from what was asked for and waited before: the average of what is alike, drawn towards the average of all
as long as there is little, and never less for a longer slice than for a shorter one. So without evidence the answer is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from noria.jobs.dialect import Queue
from noria.types import Job, JobSpec

Wait = tuple[float, float]
"""Seconds that a job asked for, and seconds that it waited."""
_ALIKE = 0.25
"""How far two requests are apart, as a logarithm of their ratio, that say less of each other: times that differ by a quarter."""
_DOUBT = 3.0
"""What all waits together count among those that are alike, in observations: so many are needed before these are believed."""
_BETTER = 1.1
"""How much more a shorter slice must be worth than the longest one, by what is guessed, for it to be asked for."""
_LITTLE = 1e-6
"""What a length counts that nothing was seen of: it waits as long as its neighbours do."""
_LENGTHS = 48
"""Lengths that are compared, spread evenly over their logarithms, so that neighbours differ by a tenth at most."""


def slice_time(limit: int, remaining: int, checkpoint_cost: float, start_cost: float, waits: Sequence[Wait]) -> int:
    """Seconds to ask for now: at least 1, at most `limit` (0: there is none) and `remaining`.

    remaining: seconds that the run has left, over all its slices to come. checkpoint_cost, start_cost: seconds of each slice in which
    nothing is learned, at its end and its beginning. waits: as `waits_of` has them, of whatever lengths, in any order.
    """
    most = max(1, min(limit or remaining, remaining))
    lost = checkpoint_cost + start_cost
    if lost >= most / 2 or not waits:
        return most
    lengths = _lengths(math.ceil(2 * lost) or 1, most)
    waited = _waited(lengths, waits)
    best = max(lengths, key=lambda length: (worth(length, remaining, lost, waited), length))
    return best if worth(best, remaining, lost, waited) > _BETTER * worth(most, remaining, lost, waited) else most


def limit(queues: Sequence[Queue], name: str) -> int:
    """The longest time that this queue gives, or the one that is taken if none is named; 0 if it says nothing of it."""
    chosen = [each for each in queues if each.name == name] or [each for each in queues if each.is_default] or list(queues)
    return max((each.limit or 0 for each in chosen), default=0)


def waits_of(jobs: Iterable[Job], like: JobSpec, limit: int, now: int) -> list[Wait]:
    """What is known of the queue that this job goes to: of jobs with as many nodes and GPUs there, which waited for nothing but their turn.

    limit: what one that names no time gets, in seconds. now: milliseconds since 1970. One that waits still counts by what it has waited so far: else long waits are not heard of.
    """
    found = []
    for job in jobs:
        spec = job.spec
        alike = (spec.place, spec.queue, spec.nodes, spec.gpus) == (like.place, like.queue, like.nodes, like.gpus)
        free = not (spec.after or spec.at_once or spec.begin or spec.total or job.hold) and job.tries <= 1
        until = job.started if job.started is not None else now if job.state == "SUBMITTED" else None
        asked = spec.time or limit
        if alike and free and asked and until is not None:
            found.append((float(asked), max(0.0, (until - job.created) / 1000)))
    return found


def worth(length: int, remaining: int, lost: float, waited: Callable[[float], float]) -> float:
    """Useful seconds for each second until the end, if the rest is cut into slices of this length and what is left over."""
    whole, rest = divmod(remaining, length)
    useful, took = whole * (length - lost), whole * (length + waited(length))
    if rest > lost:
        useful, took = useful + rest - lost, took + rest + waited(rest)
    return useful / took


def _lengths(least: int, most: int) -> list[int]:
    step = math.log(most / least) / (_LENGTHS - 1) if most > least else 0.0
    return sorted({most, *(min(most, round(least * math.exp(step * number))) for number in range(_LENGTHS))})


def _waited(lengths: Sequence[int], waits: Sequence[Wait]) -> Callable[[float], float]:
    """How long a slice waits, by its length: a step function over these lengths that nowhere falls."""
    average = sum(waited for _, waited in waits) / len(waits)
    guesses = []
    for length in lengths:
        near = [math.exp(-((math.log(length / max(1.0, asked)) / _ALIKE) ** 2) / 2) for asked, _ in waits]
        known = sum(weight * waited for weight, (_, waited) in zip(near, waits, strict=True))
        guesses.append(((known + _DOUBT * average) / (sum(near) + _DOUBT), sum(near) + _LITTLE))
    rising = _rising(guesses)
    return lambda length: rising[max(0, sum(each <= length for each in lengths) - 1)]


def _rising(guesses: Sequence[tuple[float, float]]) -> list[float]:
    """The values next to these that nowhere fall, by weighted squares: neighbours that do are put together (Ayer and others, 1955)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in guesses:
        size = 1
        while blocks and blocks[-1][0] > value:
            before, heavy, many = blocks.pop()
            value, weight, size = (value * weight + before * heavy) / (weight + heavy), weight + heavy, size + many
        blocks.append((value, weight, size))
    return [value for value, _, size in blocks for _ in range(size)]
