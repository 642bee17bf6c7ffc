"""Where the time of a step goes: by what the run says of it, or else by what its machine does. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from noria.jobs.why.answer import Why
from noria.types import Job

TIMES = {
    "data": "time/data", "compute": "time/compute", "communication": "time/communication", "checkpoint": "time/checkpoint",
}  # fmt: skip
"""Metrics of a run in seconds per step, but for a checkpoint's: its seconds stand at the step that was saved."""
_CPU = re.compile(r"system/(?:node_\d+/)?cpu_utilization_percentage")
_GPU = re.compile(r"system/(?:node_\d+/)?gpu_\d+_utilization_percentage")
_MEMORY = re.compile(r"system/(?:node_\d+/)?system_memory_usage_percentage")
MACHINE = (_CPU, _GPU, _MEMORY)
"""What is asked of a machine where a run logs no times."""
Points = Sequence[tuple[int, float]]
"""(step, value), the last ones of a metric."""
_CURES = {
    "data": "Load ahead in more processes, with as many --cpus, or copy the data to the node's disk with --stage.",
    "communication": "Fewer, larger nodes, larger batches, or gradients in bf16; `noria cluster network` measures what lies between the nodes.",
    "checkpoint": "Save less often, or to the node's own disk first.",
    "compute": "",
}
_SAYS = {"data": "waiting for data", "compute": "computing", "communication": "communicating", "checkpoint": "saving checkpoints"}
_HALF, _MUCH = 0.5, 0.25


def explain(job: Job, metrics: Mapping[str, Points], began: int = 0) -> Why | None:
    """metrics: those of TIMES and MACHINE that its run has. began: its first step. None if they say nothing."""
    finite = {key: [(step, value) for step, value in points if math.isfinite(value)] for key, points in metrics.items()}
    means = {key: fmean(value for _, value in points) for key, points in finite.items() if points}
    spent = {what: means[key] for what, key in TIMES.items() if means.get(key, 0) > 0}
    if "checkpoint" in spent:
        spent["checkpoint"] /= _apart([step for step, _ in finite[TIMES["checkpoint"]]], began)
    known = spent.keys() - {"checkpoint"}  # Which `noria.checkpoint` logs, also where nothing says how long a step takes.
    return _timed(spent) if known else _machine(job, means)


def _apart(steps: Sequence[int], began: int) -> float:
    """Steps from one save to the next: a save is paid for by all of them."""
    return fmean(max(1, later - step) for step, later in pairwise([began, *steps] if len(steps) == 1 else steps))


def _timed(spent: Mapping[str, float]) -> Why:
    whole = sum(spent.values())
    shares = {what: seconds / whole for what, seconds in sorted(spent.items(), key=lambda pair: -pair[1])}
    lines = [f"{TIMES[what]}: {spent[what]:.3g} s of a step, {share:.0%}" for what, share in shares.items()]
    worst = next((what for what in shares if what != "compute"), "compute")
    if shares[worst] < _MUCH or worst == "compute":
        return Why(
            "running",
            f"{shares.get('compute', 0):.0%} of a step is computing: it is as fast as its GPU or CPU.",
            evidence=lines,
            shares=shares,
        )
    says = f"{shares[worst]:.0%} of a step goes to {_SAYS[worst]}, and {shares.get('compute', 0):.0%} to computing."
    return Why("slow", says, _CURES[worst], evidence=lines, shares=shares)


def _machine(job: Job, means: Mapping[str, float]) -> Why | None:
    """A guess by how busy things are; a GPU that waits is what costs."""
    cpu, gpu, mem = _of(means, _CPU), _of(means, _GPU), _of(means, _MEMORY)
    if cpu is None:
        return None
    busy = {"GPUs are": gpu, "CPUs are": cpu, "memory is": mem}
    lines = [
        f"{what} {value:.0f}% {'full' if what == 'memory is' else 'busy'}" for what, value in busy.items() if value is not None
    ]
    if gpu is not None and gpu >= 70:
        return Why("running", f"Its GPUs are busy {gpu:.0f}% of the time: it is computing.", evidence=lines)
    if gpu is not None and cpu >= 80:
        return Why("slow", "The GPUs wait while the CPUs are busy: it prepares data as fast as its CPUs can.",
                   f"Ask for more than --cpus {job.spec.cpus}, and let as many processes load ahead.", evidence=lines)  # fmt: skip
    if gpu is not None and gpu < 40:
        return Why("slow", "Neither its GPUs nor its CPUs are busy: it waits for a disk, a network, or another rank.",
                   "Read from the node's disk with --stage, and log time/data and time/communication to see which it is.", evidence=lines)  # fmt: skip
    if gpu is None and job.spec.gpus == 0 and cpu >= 80:
        return Why(
            "running",
            f"Its CPUs are busy {cpu:.0f}% of the time: it is computing.",
            "More --cpus may make it faster.",
            evidence=lines,
        )
    if gpu is None and cpu < 20:
        return Why("slow", f"Its CPUs are busy {cpu:.0f}% of the time: it waits for something, such as a disk or a network.",
                   "Log time/data and time/compute, in seconds a step, to see where it waits.", evidence=lines)  # fmt: skip
    return Why("running", "Nothing says that it waits for anything.", evidence=lines)


def _of(means: Mapping[str, float], pattern: re.Pattern[str]) -> float | None:
    found = [value for key, value in means.items() if pattern.fullmatch(key)]
    return fmean(found) if found else None
