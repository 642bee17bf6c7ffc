"""When a job would start: planned from the jobs that run and wait, and corrected by how such plans have turned out. Pure.

A plan alone is wrong in a way that repeats itself: people ask for more time than they need, jobs of others are not seen, priorities
are not known. So each job of the record is planned again as it stood when it was submitted, and what became of those whose plan, size
and time were like the one that is asked about says what to expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, log, log1p
from statistics import median

from msgspec import Struct

from noria.jobs.dialect import Other
from noria.types import Job

_LATEST = 1000
"""Jobs of the record that are planned again."""
_LIKE = 40.0
"""Jobs that a guess is made of, as many as their weights are together: fewer say little, and of more the last ones are too unlike."""
_USUAL = 0.5
"""The share of its time limit that a job takes, as long as none has ended."""


class Past(Struct, frozen=True):
    """A job of the record, in seconds: when it was submitted, started and ended (None: not yet), its devices and its time limit. queued:
    whether the queue was all that it waited for."""

    submitted: float
    started: float | None
    ended: float | None
    devices: int
    limit: float
    queued: bool = True


class Seen(Struct, frozen=True):
    """What was planned for a job when it was submitted, and how long it waited."""

    planned: float
    waited: float
    devices: int
    limit: float
    started: float


class Guess(Struct, frozen=True):
    """Seconds: as likely later as earlier, and the range in which it starts four times of five. `like` is how many jobs say so; 0: none
    does, and it is the plan alone."""

    median: float
    low: float
    high: float
    planned: float
    like: int


def past(job: Job, longest: float) -> Past:
    """longest: the limit of a job that has none."""
    spec = job.spec
    devices = spec.nodes * (spec.gpus or spec.tasks_per_node * spec.cpus)
    started, ended = (each / 1000 if each is not None else None for each in (job.started, job.ended))
    queued = not (spec.after or spec.begin or spec.at_once or job.hold)
    return Past(job.created / 1000, started, ended, devices, spec.time or longest, queued)


def plan(
    capacity: int, running: Sequence[tuple[float, int]], waiting: Sequence[tuple[int, float]], devices: int, seconds: float
) -> float:
    """Seconds until so many devices are free for so long, if each job that waits is given, in its turn, the first place where it fits.

    running: when each ends, in seconds from now, and its devices. waiting: devices and seconds of each, in their order.
    """
    times, free = _profile(capacity, running)
    for size, length in waiting:
        if size <= capacity:
            _take(times, free, _place(times, free, size, length), size, length)
    return times[_place(times, free, min(devices, capacity), seconds)]


def _profile(capacity: int, running: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """From when on how many devices are free."""
    times, free = [0.0], [capacity - sum(size for _, size in running)]
    for end, size in sorted(running):
        if end > times[-1]:
            times.append(end)
            free.append(free[-1])
        free[-1] += size
    return times, free


def _place(times: list[float], free: list[int], size: int, length: float) -> int:
    """The first step from which on so many are free for so long."""
    first = 0
    for step in range(len(times)):
        if step > first and times[step] >= times[first] + length:
            break
        if free[step] < size:
            first = step + 1
    return min(first, len(times) - 1)


def _take(times: list[float], free: list[int], first: int, size: int, length: float) -> None:
    end, last = times[first] + length, first
    while last + 1 < len(times) and times[last + 1] < end:
        last += 1
    if last + 1 == len(times) or times[last + 1] > end:
        times.insert(last + 1, end)
        free.insert(last + 1, free[last])
    for step in range(first, last + 1):
        free[step] -= size


def planned(record: Sequence[Past], capacity: int, at: float, devices: int, limit: float, share: float) -> float:
    """What is planned at a moment for a job that comes then, after all jobs of the record. share: of their limits that jobs take."""
    running, waiting = [], []
    for each in record:
        if each.ended is not None and each.ended <= at:
            continue
        if each.started is not None and each.started <= at:
            running.append((_left(each, at, share), each.devices))
        else:
            waiting.append((each.devices, each.limit * share))
    return plan(capacity, running, waiting, devices, limit * share)


def among(others: Sequence[Other], free: int, wish: tuple[int, float], share: float, longest: float, *, gpus: bool) -> float:
    """What is planned now for a wish (devices, time limit) among all jobs that a scheduler shows, running ones first, then those that
    wait in their order. gpus: these are the devices, otherwise CPUs. longest: the limit of a job that tells none, and when devices may be had
    of which nothing is known."""
    sized = [
        (each, each.gpus if gpus else each.cpus, (each.left if each.left is not None else longest) * share) for each in others
    ]
    running = [(max(1.0, seconds), devices) for each, devices, seconds in sized if each.is_running and devices]
    waiting = [(devices, max(1.0, seconds)) for each, devices, seconds in sized if not each.is_running and devices]
    unknown = wish[0] - free - sum(devices for _, devices in running)
    if unknown > 0:
        running.append((longest * share, unknown))
    return plan(free + sum(devices for _, devices in running), running, waiting, wish[0], wish[1] * share)


def _left(each: Past, at: float, share: float) -> float:
    """Seconds that a running job still takes: one that is longer there than usual will be so for half of what it may."""
    ran = at - (each.started or at)
    usual = each.limit * share - ran
    return usual if usual > 0 else max(1.0, (each.limit - ran) / 2)


def replayed(record: Sequence[Past], capacity: int) -> Iterator[tuple[Past, float]]:
    """Each job that has waited for the queue alone and started, with what was planned for it when it was submitted, by what was known then.
    record: in the order of submission."""
    alive: list[Past] = []
    for place, each in enumerate(record):
        alive = [one for one in alive if one.ended is None or one.ended > each.submitted]
        if place % 50 == 0:
            share = usual_share(record[max(0, place - _LATEST) : place], each.submitted)
        if each.started is not None and each.queued:
            yield each, planned(alive, capacity, each.submitted, each.devices, each.limit, share)
        alive.append(each)


def usual_share(record: Sequence[Past], at: float) -> float:
    """Of their time limits that jobs take which have ended by then: the one in the middle."""
    found = [min(1.0, (each.ended - each.started) / each.limit) for each in record
             if each.started is not None and each.ended is not None and each.ended <= at]  # fmt: skip
    return max(0.01, median(found)) if found else _USUAL


def history(record: Sequence[Past], capacity: int) -> list[Seen]:
    """The latest jobs of the record, each planned again as it stood then."""
    return [Seen(plan, each.started - each.submitted, each.devices, each.limit, each.started)
            for each, plan in replayed(record[-_LATEST:], capacity) if each.started is not None]  # fmt: skip


def accuracy(known: Sequence[Seen]) -> tuple[float, float, int]:
    """Had the last hundred jobs been asked about: the share that started in the range, the error in the middle in seconds, and how many
    could have been asked about."""
    hits, errors = 0, []
    for place in range(max(0, len(known) - 100), len(known)):
        each = known[place]
        before = [one for one in known[:place] if one.started <= each.started - each.waited]
        said = guess(before, each.planned, each.devices, each.limit)
        if said.like:
            hits += said.low - 30 <= each.waited <= said.high + 30
            errors.append(abs(each.waited - said.median))
    return (hits / len(errors), median(errors), len(errors)) if errors else (0.0, 0.0, 0)


def guess(known: Sequence[Seen], plan: float, devices: int, limit: float) -> Guess:
    """known: in the order of submission."""
    weights = sorted(
        ((_alike(each, age, plan, devices, limit), each.waited) for age, each in enumerate(reversed(known))), reverse=True
    )
    near: list[tuple[float, float]] = []
    whole = 0.0
    for weight, waited in weights:
        if whole >= _LIKE or weight < 1e-3:
            break
        near.append((waited, weight))
        whole += weight
    if len(near) < 5:
        return Guess(plan, 0.0, max(2 * plan, plan + limit), plan, 0)
    near.sort()
    low, middle, high = (_quantile(near, part * whole) for part in (0.1, 0.5, 0.9))
    return Guess(middle, low, high, plan, len(near))


def _alike(each: Seen, age: int, plan: float, devices: int, limit: float) -> float:
    """How much a job of the record says, between 0 and 1: less if it was planned, sized or limited otherwise, or is long ago."""
    distance = (
        ((log1p(each.planned / 60) - log1p(plan / 60)) / 0.5) ** 2
        + (log(each.devices / devices) / 0.7) ** 2
        + log(each.limit / limit) ** 2
    )
    return exp(-distance / 2 - age / 700)


def _quantile(near: Sequence[tuple[float, float]], weight: float) -> float:
    for value, each in near:
        weight -= each
        if weight <= 0:
            return value
    return near[-1][0]
