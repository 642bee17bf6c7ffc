"""Which differences come first: those that most likely changed the results. Pure.

Each kind has a prior, how often a difference of that kind changes what a training comes to where nothing else differs; some of a kind weigh less
(`_LESS`): a comment is code, and changes nothing. What the results show is the evidence: where they part by rounding alone, what computes otherwise
(hardware, drivers, libraries, the number of threads) comes before what learns otherwise (seeds, data, code), which parts them plainly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from noria.projects.capsule_diff import Change
from noria.projects.capsule_effect import Effect

_PRIOR = {
    "seed": 0.99, "code": 0.98, "parameter": 0.97, "data": 0.96, "package": 0.75, "resources": 0.6, "python": 0.55, "command": 0.5, "variable": 0.3,
    "driver": 0.45, "hardware": 0.4, "system": 0.1,
}  # fmt: skip
_LESS = {
    "": 1.0, "imported": 1.25, "config": 0.9, "library": 0.95, "source": 0.9, "rebuilt": 0.6, "missing": 0.5, "beside": 0.4, "unreached": 0.3, "tool": 0.1,
    "comment": 0.05, "output": 0.04,
}  # fmt: skip
_NAMED = {
    "resources": {"nodes": 1.5, "tasks_per_node": 1.5, "gpus": 1.2, "gpu_type": 1.0, "cpus": 0.8},
    "hardware": {"gpus": 1.3, "cpu": 1.0, "machine": 1.2, "cpus": 0.7, "memory": 0.1, "host": 0.05},
    "seed": {"PYTHONHASHSEED": 0.5},
}
_OTHERWISE = 0.1
"""For names of these kinds that are not listed."""
_THREADS = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR|KMP)_.*|CUBLAS_.*|CUDNN_.*|TF_.*|XLA_.*|NVIDIA_TF32.*|TORCH_.*|PYTHONHASHSEED|LD_PRELOAD"
)
_COMPUTES = {"hardware", "driver", "variable", "system", "resources", "python", "package"}
ROUNDING = 1e-5
"""Differences below it, relative to the values, look like another order of the same sums."""


def ranked(changes: Sequence[Change], effect: Effect | None = None) -> list[Change]:
    """The likeliest cause first. effect: what the results show; None if they are not known."""
    return sorted(changes, key=lambda change: (-weight(change, effect), change.kind, change.name, change.where))


def weight(change: Change, effect: Effect | None = None) -> float:
    """How likely it is that this changed the results; above 0, and to be compared alone."""
    found = _PRIOR[change.kind] * _LESS[change.why]
    if change.kind in _NAMED:
        found *= _NAMED[change.kind].get(change.name, 1.0 if change.kind == "seed" else _OTHERWISE)
    if change.kind == "variable" and _THREADS.fullmatch(change.name):
        found *= 1.8
    if effect is not None and not effect.same and 0 < effect.relative < ROUNDING and change.kind in _COMPUTES:
        found *= 1.5
    return found


def matters(change: Change) -> bool:
    """Whether it is worth a look at all: clocks, hosts and comments differ between any two runs."""
    return weight(change) >= 0.06
