"""What a job did with what it was given: from its tries, what its program says of its steps, and what the machine was seen doing.

A program that logs `time/data`, `time/compute`, `time/communication` (seconds of a step; a point stands for all steps since the one
before) and `time/checkpoint` (seconds, at the step that was saved) says most of it; of any other, GPUs tell busy from idle. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Literal, NamedTuple

import numpy as np

from noria.store.chunks import NONE, Ints, Points, join, ordered
from noria.types import Job, Try
from noria.wire.receipts import Needs, Receipt, Spent

Series = Mapping[str, Points]
"""Metrics by name, each in the order of time."""

IDLE = 5.0
"""Percent of utilisation under which a GPU, or the CPUs of a job without, are idle."""
_OPENED = 1.0
"""Percent of a GPU's memory that no process leaves free: what the libraries alone take is more."""
_IN_PLACE = 60.0
"""Seconds between two tries of one allocation, at most; longer ones were spent in the queue."""
_BRIDGED = 5
"""Intervals between samples over which power is taken for steady."""
_NEAR, _NEAR_STEPS = 30.0, 5
"""Seconds, or usual pauses between points, before its end in which a try that was asked to stop saves all that it has."""
_OWN_END = ("done", "cancelled", "")
_SAVES_FIRST = (*_OWN_END, "preempted", "time_limit")
_CLASSES = ("data", "compute", "communication")
_GPU = re.compile(r"system/(?:node_(\d+)/)?gpu_(\d+)_(utilization_percentage|memory_usage_percentage|power_usage_watts)")
_RANK = re.compile(r"system/rank_(\d+)/(cpu_utilization_percentage|memory_usage_megabytes)")


class Span(NamedTuple):
    """A try, in seconds since 1970. ready: when its tasks were started; what was before is staging and unpacking. cause: as Try has it, ""
    while it lasts. saved: whether it left a checkpoint behind."""

    begin: float
    end: float
    ready: float
    cause: str
    saved: bool


class Parts(NamedTuple):
    """Seconds of a try, by what its program says; `rest` is what it says nothing of."""

    startup: float
    data: float
    compute: float
    communication: float
    checkpoint: float
    lost: float
    rest: float


def receipt(job: Job, tries: Sequence[Try], series: Series, experiment: str, now: float) -> Receipt:
    """now: seconds since 1970, up to which a job that runs is counted."""
    found, gpus, spec = spans(job, tries, series, now), job.spec.nodes * job.spec.gpus, job.spec
    counts: Literal["GPU", "CPU"] = "GPU" if gpus else "CPU"
    devices = gpus or spec.nodes * spec.tasks_per_node * spec.cpus
    spent = Spent(queue=_waited(job, found, now) * devices)
    for place, span in enumerate(found):
        spent = _sum(spent, _spent(span, found[place + 1 :], series, devices, bool(gpus)))
    joules, metered = energy(series, found, gpus)
    seconds, opened = sum(span.end - span.begin for span in found), spent.given - spent.unused
    needed = seconds * (1 - spent.lost / opened) if opened else seconds
    return Receipt(
        job.id, job.run_id, spec.name or " ".join(spec.command)[:40], job.user, experiment, job.state, counts, devices, seconds,
        len(found), spent, any(f"time/{name}" in series for name in _CLASSES), Needs(spec.time, spec.mem, spec.gpus, spec.cpus),
        _used(job, series, found, needed), joules, metered, found[-1].cause if found else "", spent.effective)  # fmt: skip


def _sum(a: Spent, b: Spent) -> Spent:
    return Spent(*(getattr(a, name) + getattr(b, name) for name in Spent.__struct_fields__))


def total(receipts: Sequence[Receipt]) -> Spent:
    spent = Spent()
    for each in receipts:
        spent = _sum(spent, each.spent)
    return spent


# When it had its devices.


def spans(job: Job, tries: Sequence[Try], series: Series, now: float) -> list[Span]:
    """The tries that began, and what goes on now. One begins with its launcher, which is there before tasks are: with the first
    that is heard of the machine."""
    found: list[Span] = []
    for span in _told(job, tries, round(now * 1000)):
        after = found[-1].end if found else job.created / 1000
        since = min(span.begin, _heard(series, after, span.end)) if span.begin > after else span.begin
        if found and since - after <= _IN_PLACE:
            since = after
        found.append(span._replace(begin=since))
    return found


def _heard(series: Series, after: float, until: float) -> float:
    """When the first is heard of the machine between two moments; the second if nothing is."""
    system = [each.times for key, each in series.items() if key.startswith("system/")]
    inside = (times[(times > after * 1000) & (times < until * 1000)] for times in system)
    return min((float(times.min()) / 1000 for times in inside if times.size), default=until)


def _told(job: Job, tries: Sequence[Try], now: int) -> list[Span]:
    """What is told of when it ran. A try without an end, 0, goes on, or the next one began in its place."""
    begun = sorted(((each.started, each) for each in tries if each.started is not None), key=lambda pair: pair[0])
    if not begun and job.started is not None:
        begun = [(job.started, Try(1, "unknown", 0))]
    if not begun:
        return []
    last = job.ended if job.ended is not None else now if job.state == "RUNNING" else 0
    ends = [*(started for started, _ in begun[1:]), last]
    found = [_span(started, each.ended or end, each.cause, each.saved) for (started, each), end in zip(begun, ends, strict=True)]
    if not begun[-1][1].ended:
        cause = {"COMPLETED": "done", "CANCELLED": "cancelled", "FAILED": "unknown"}.get(job.state, "")
        found[-1] = found[-1]._replace(cause=cause)
    return found


def _span(begin: int, end: int, cause: str, saved: bool) -> Span:
    """Of milliseconds; clocks of two machines differ."""
    return Span(begin / 1000, max(begin, end) / 1000, begin / 1000, cause, saved)


def _waited(job: Job, found: Sequence[Span], now: float) -> float:
    """Seconds in queues: before the first try, between tries, and since then if it has to wait again."""
    ends = [job.created / 1000, *(span.end for span in found)]
    begins = [span.begin for span in found]
    if job.state in ("QUEUED", "SUBMITTED"):
        begins.append(now)
    elif not found:
        begins.append(job.ended / 1000 if job.ended is not None else now)
    return sum(max(0.0, begin - end) for begin, end in zip(begins, ends, strict=False))


# What it did with them.


def _spent(span: Span, later: Sequence[Span], series: Series, devices: int, gpus: bool) -> Spent:
    """Device-seconds of one try."""
    parts = _parts(span, later, series)
    window = span._replace(begin=span.begin + parts.startup, end=span.end - parts.lost)
    seen = _seen(span, window, series) if gpus else {}
    unused = min(devices, sum(not opened for opened, _ in seen.values()))
    quiet = [idle for opened, idle in seen.values() if opened] if gpus else _quiet_cpus(window, series)
    share = float(np.mean(quiet)) if quiet else 0.0
    working = span.end - span.begin - parts.startup - parts.lost
    idle = min(parts.rest, max(0.0, share * working - parts.data - parts.checkpoint))
    here = Spent(
        0.0, parts.startup, parts.data, parts.compute + parts.rest - idle, parts.communication, parts.checkpoint, parts.lost, idle
    )
    values = {name: getattr(here, name) * (devices - unused) for name in Spent.__struct_fields__}
    return Spent(**{**values, "unused": (span.end - span.begin) * unused})


def _parts(span: Span, later: Sequence[Span], series: Series) -> Parts:
    """What the program says of one try. What it says nothing of is rest, but for what was lost."""
    own = {name: _during(series.get(f"time/{name}", NONE), span) for name in _CLASSES}
    saves = _during(series.get("time/checkpoint", NONE), span)
    logged = [each for each in own.values() if each.size]
    points = ordered(join(logged)) if logged else NONE
    whole, startup = span.end - span.begin, span.ready - span.begin
    if points.size:
        first = float(points.times[0])
        one = sum(max(0.0, float(each.values[0] * _stands(each)[0])) for each in logged if each.times[0] == first)
        startup = min(max(startup, first / 1000 - one - span.begin), whole)
    kept = _kept(span, later, series, saves, points)
    lost = 0.0 if kept is None else max(0.0, span.end - max(kept, span.begin + startup))
    until = span.end - lost
    sums = [_weighed(own[name], until) for name in _CLASSES]
    sums.append(float(np.nansum(np.maximum(saves.values[saves.times <= until * 1000], 0.0))))
    room = max(0.0, whole - startup - lost)
    scale = min(1.0, room / sum(sums)) if sum(sums) > 0 else 0.0
    data, compute, communication, checkpoint = (each * scale for each in sums)
    return Parts(startup, data, compute, communication, checkpoint, lost, max(0.0, room - sum(sums) * scale))


def _during(points: Points, span: Span) -> Points:
    """What was measured meanwhile: a point says what was before it."""
    return points.take((points.times > span.begin * 1000) & (points.times <= span.end * 1000))


def _kept(span: Span, later: Sequence[Span], series: Series, saves: Points, points: Points) -> float | None:
    """When the work was done that stays last; None if all stays.

    Where a later try goes on, it stays up to the step with which that begins: points from there on were taken back, or are there
    twice. Where none does, it stays up to the last checkpoint.
    """
    again = [each for one in later for each in [_first_step(one, series)] if each is not None]
    if again and points.size:
        stays = points.times[points.steps < min(again)]
        done = float(stays[-1]) / 1000 if stays.size else span.begin
        saved = saves.times[-1] / 1000 if saves.size else 0.0
        near = span.end - max(done, saved) <= max(_NEAR, _NEAR_STEPS * _pause(points))
        return None if near and stays.size == points.size and span.cause in _SAVES_FIRST else done
    if span.cause in _OWN_END:
        return None
    saved = saves.times[saves.values > 0]
    if saved.size:
        return float(saved[-1]) / 1000
    return None if span.saved else span.begin


def _pause(points: Points) -> float:
    """Seconds from one point to the next, usually."""
    return float(np.median(np.diff(points.times))) / 1000 if points.size > 1 else 0.0


def _first_step(span: Span, series: Series) -> int | None:
    steps = [int(part.steps.min()) for name in _CLASSES if (part := _during(series.get(f"time/{name}", NONE), span)).size]
    return min(steps, default=None)


def _weighed(points: Points, until: float) -> float:
    """Seconds in all of the points up to a moment."""
    seconds = np.maximum(points.values, 0.0) * _stands(points)
    return float(np.nansum(seconds[points.times <= until * 1000]))


def _stands(points: Points) -> Ints:
    """For how many steps each point stands: those since the point before; the first for as many as is usual."""
    steps = np.maximum(np.diff(points.steps), 1)
    usual = int(np.median(steps)) if steps.size else 1
    return np.concatenate(([usual], steps))[: points.size]


def _seen(span: Span, window: Span, series: Series) -> dict[tuple[str, str], tuple[bool, float]]:
    """Of each GPU that was watched during a try: whether a process opened it, and the share of the window that it was idle."""
    found: dict[tuple[str, str], dict[str, Points]] = {}
    for key, points in series.items():
        match = _GPU.fullmatch(key)
        if match and (part := _during(points, span)).size:
            found.setdefault((match[1] or "0", match[2]), {})[match[3]] = part
    return {gpu: (_opened(own), _idle_share(own["utilization_percentage"], window)) for gpu, own in found.items()
            if "utilization_percentage" in own}  # fmt: skip


def _opened(own: Mapping[str, Points]) -> bool:
    memory = own.get("memory_usage_percentage")
    return memory is None or bool((memory.values >= _OPENED).any() or (own["utilization_percentage"].values >= IDLE).any())


def _idle_share(points: Points, window: Span) -> float:
    inside = _during(points, window).values
    return float(np.mean(inside < IDLE)) if inside.size else 0.0


def _quiet_cpus(span: Span, series: Series) -> list[float]:
    keys = [
        key for key in series if key.startswith("system/") and key.endswith("cpu_utilization_percentage") and "/rank_" not in key
    ]
    return [_idle_share(series[key], span) for key in keys]


def energy(series: Series, found: Sequence[Span], gpus: int) -> tuple[float | None, float]:
    """Joules of all GPUs that told their power, by the trapezoidal rule, and the share of the GPUs' time that these are of."""
    joules = covered = 0.0
    told = False
    for key, points in series.items():
        if not key.endswith("power_usage_watts") or not _GPU.fullmatch(key):
            continue
        told = True
        for span in found:
            part = _during(points, span)
            seconds = np.diff(part.times) / 1000
            near = seconds <= _BRIDGED * np.median(seconds) if seconds.size else np.zeros(0, bool)
            joules += float(np.sum((seconds * (part.values[1:] + part.values[:-1]) / 2)[near]))
            covered += float(np.sum(seconds[near]))
    given = gpus * sum(span.end - span.begin for span in found)
    return (joules, min(1.0, covered / given)) if told and given else (None, 0.0)


# What it needed.


def _used(job: Job, series: Series, found: Sequence[Span], time: float) -> Needs:
    """The time without what was lost, the most memory of the tasks of a node, the GPUs that were opened on any node, and the CPUs that the busiest
    task kept busy in all but a twentieth of the time."""
    seen = [gpu for span in found for gpu, (opened, _) in _seen(span, span, series).items() if opened]
    nodes = [len({index for node, index in seen if node == name}) for name in {node for node, _ in seen}]
    cpus = [
        float(np.percentile(series[key].values, 95)) / 100
        for key in series
        if (match := _RANK.fullmatch(key)) and match[2][0] == "c"
    ]
    return Needs(time, _memory(job, series), max(nodes, default=0), max(cpus, default=0.0))


def _memory(job: Job, series: Series) -> int:
    """Bytes: samples of the ranks of one node that were taken at one moment belong together."""
    nodes: dict[int, list[Points]] = {}
    for key, points in series.items():
        match = _RANK.fullmatch(key)
        if match and match[2] == "memory_usage_megabytes":
            nodes.setdefault(int(match[1]) // job.spec.tasks_per_node, []).append(points)
    return max((int(_together(own) * 1e6) for own in nodes.values()), default=0)


def _together(parts: Sequence[Points]) -> float:
    times: Ints = np.concatenate([each.times for each in parts])
    _, moments = np.unique(times, return_inverse=True)
    return float(np.bincount(moments, np.concatenate([each.values for each in parts])).max())


def proposed(done: Receipt) -> dict[str, str]:
    """What to ask for next time, as options of `noria submit`: where it differs from what was asked for by a tenth or more."""
    asked, used = done.asked, done.used
    found: dict[str, str] = {}
    time, mem = _time(done), _mem(done)
    if time and abs(time - asked.time) > asked.time / 10:
        found["--time"] = _hours(time)
    if mem and abs(mem - asked.mem) > asked.mem / 10:
        found["--mem"] = f"{ceil(mem / 2**30)}G"
    if 0 < used.gpus < asked.gpus:
        found["--gpus"] = str(used.gpus)
    if used.cpus and (cpus := max(1, ceil(used.cpus * 1.1))) < asked.cpus:
        found["--cpus"] = str(cpus)
    return found


def _time(done: Receipt) -> float:
    """A quarter more than it took, in steps that people write; half more than was asked for if that was too little."""
    if done.last == "time_limit":
        return _round(done.asked.time * 1.5)
    return _round(done.used.time * 1.25) if done.state == "COMPLETED" else 0.0


def _mem(done: Receipt) -> int:
    if done.last == "out_of_memory":
        return int(max(done.asked.mem, done.used.mem) * 1.5)
    return ceil(done.used.mem * 1.2 / 2**30) * 2**30 if done.state == "COMPLETED" else 0


def _round(seconds: float) -> float:
    step = 300 if seconds < 3600 else 1800 if seconds < 12 * 3600 else 3600
    return max(1, ceil(seconds / step)) * step if seconds else 0


def _hours(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes}m" if hours and minutes else f"{hours}h" if hours else f"{minutes}m"


# While it runs.

_LATE = 180.0
"""Seconds without a sample after which nothing is said of a GPU."""


def idling(job: Job, series: Series, now: float, least: float = 600.0) -> str:
    """A sentence, if GPUs of a running job have been idle for `least` seconds and still are; otherwise ""."""
    seconds = [each for key, points in series.items() if key.endswith("utilization_percentage") and _GPU.fullmatch(key)
               if (each := _idle_for(points, now)) >= least]  # fmt: skip
    if not seconds:
        return ""
    gpus, count = job.spec.nodes * job.spec.gpus, len(seconds)
    which = (
        ("Its GPU has" if gpus == 1 else f"Its {gpus} GPUs have")
        if count >= gpus
        else f"{count} of its {gpus} GPUs {'has' if count == 1 else 'have'}"
    )
    return f"{which} been idle for {int(min(seconds) // 60)} minutes (under {IDLE:.0f} %)."


def _idle_for(points: Points, now: float) -> float:
    """Seconds from the last sample that was not idle, or the first, to the last one."""
    if not points.size or now - points.times[-1] / 1000 > _LATE:
        return 0.0
    busy = points.times[points.values >= IDLE]
    return float(points.times[-1] - (busy[-1] if busy.size else points.times[0])) / 1000
