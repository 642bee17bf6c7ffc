"""Noria: the deep-learning platform that lives in the queue.

`import noria` costs about a millisecond: names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.client.fluent import (  # noqa: F401
        ActiveRun, active_run, end_run, job_folder, log, log_artifact, log_artifacts, log_dataset, log_metric, log_metrics,
        log_param, log_params, rewind, run_id, set_tag, set_tags, start_run)  # fmt: skip
    from noria.models import log_model  # noqa: F401

__version__ = "0.1.0"

_HOMES = {
    "noria.client.fluent": (
        "ActiveRun", "active_run", "end_run", "job_folder", "log", "log_artifact", "log_artifacts", "log_dataset", "log_metric",
        "log_metrics", "log_param", "log_params", "rewind", "run_id", "set_tag", "set_tags", "start_run"),
    "noria.models": ("log_model",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'noria' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
