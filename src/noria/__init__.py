"""Noria: the deep-learning platform that lives in the queue.

`import noria` costs about a millisecond: names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noria.version import __version__ as __version__

if TYPE_CHECKING:
    from noria.client.fluent import ActiveRun as ActiveRun
    from noria.client.fluent import active_run as active_run
    from noria.client.fluent import end_run as end_run
    from noria.client.fluent import job_folder as job_folder
    from noria.client.fluent import log as log
    from noria.client.fluent import log_artifact as log_artifact
    from noria.client.fluent import log_artifacts as log_artifacts
    from noria.client.fluent import log_dataset as log_dataset
    from noria.client.fluent import log_metric as log_metric
    from noria.client.fluent import log_metrics as log_metrics
    from noria.client.fluent import log_param as log_param
    from noria.client.fluent import log_params as log_params
    from noria.client.fluent import rewind as rewind
    from noria.client.fluent import run_id as run_id
    from noria.client.fluent import set_tag as set_tag
    from noria.client.fluent import set_tags as set_tags
    from noria.client.fluent import start_run as start_run
    from noria.models import log_model as log_model

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
