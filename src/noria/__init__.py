"""Noria: the deep-learning platform that lives in the queue.

`import noria` costs about a millisecond: names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module

from noria.version import __version__ as __version__

TYPE_CHECKING = False  # Type checkers take it for true; importing typing for it would cost ten times the rest.
if TYPE_CHECKING:
    from typing import Any

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

_FLUENT = (
    "ActiveRun", "active_run", "end_run", "job_folder", "log", "log_artifact", "log_artifacts", "log_dataset", "log_metric",
    "log_metrics", "log_param", "log_params", "rewind", "run_id", "set_tag", "set_tags", "start_run")  # fmt: skip
__all__ = sorted([*_FLUENT, "log_model"])

if not TYPE_CHECKING:

    def log_model(*args, **options):
        """`noria.models.log_model`, imported when it is called."""
        return import_module("noria.models").log_model(*args, **options)


def __getattr__(name: str) -> Any:
    """Finds the names of `noria.client.fluent` at the first use of one, and goes: CPython looks up the attributes of a module
    that has a __getattr__ the slow way, 60 ns for each `noria.log`."""
    if name in _FLUENT:
        fluent = import_module("noria.client.fluent")
        globals().update({each: getattr(fluent, each) for each in _FLUENT})
        globals().pop("__getattr__", None)
        return globals()[name]
    raise AttributeError(f"module 'noria' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
