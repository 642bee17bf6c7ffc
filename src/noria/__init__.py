"""Noria: the deep-learning platform that lives in the queue.

`import noria` costs about a millisecond: names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from os.path import exists

from noria.version import __version__ as __version__

TYPE_CHECKING = False  # Type checkers take it for true; importing typing for it would cost ten times the rest.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from noria.cli.notebook import get_run as get_run
    from noria.cli.notebook import register_model as register_model
    from noria.cli.notebook import search_runs as search_runs
    from noria.cli.notebook import set_experiment as set_experiment
    from noria.cli.projects import run as run
    from noria.client.checkpoint import checkpoint as checkpoint
    from noria.client.checkpoint import resume as resume
    from noria.client.checkpoint import stopping as stopping
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
    from noria.client.keras import keras_callback as keras_callback
    from noria.client.made import log_dict as log_dict
    from noria.client.made import log_figure as log_figure
    from noria.client.made import log_text as log_text
    from noria.models import log_model as log_model

_FLUENT = (
    "ActiveRun", "active_run", "end_run", "job_folder", "log", "log_artifact", "log_artifacts", "log_dataset", "log_metric",
    "log_metrics", "log_param", "log_params", "rewind", "run_id", "set_tag", "set_tags", "start_run")  # fmt: skip
_LATE = {
    "noria.cli.notebook": ("get_run", "register_model", "search_runs", "set_experiment"),
    "noria.cli.projects": ("run",),
    "noria.client.checkpoint": ("checkpoint", "resume", "stopping"),
    "noria.client.keras": ("keras_callback",),
    "noria.client.made": ("log_dict", "log_figure", "log_text"),
    "noria.models": ("log_model",),
}
_LOOPED = ("noria.client.checkpoint",)
"""What is called in every step is looked for once."""
__all__ = sorted([*_FLUENT, *(name for names in _LATE.values() for name in names)])


def _late(home: str, name: str) -> Callable[..., Any]:
    """A function that is imported when it is called, and says how it is called when it is called wrongly."""

    def call(*args: Any, **options: Any) -> Any:
        function = getattr(import_module(home), name)
        import_module("noria.cli.habits").check(function, args, options)
        if home in _LOOPED:
            globals()[name] = function
        return function(*args, **options)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{home}.{name}`, imported when it is called."
    return call


if not TYPE_CHECKING:
    # No work for __getattr__, which goes with the first use of a fluent name.
    globals().update({name: _late(home, name) for home, names in _LATE.items() for name in names})


def __getattr__(name: str) -> Any:
    """Finds the names of `noria.client.fluent` at the first use of one, and goes: CPython looks up the attributes of a module
    that has a __getattr__ the slow way, 60 ns for each `noria.log`."""
    if name in _FLUENT:
        fluent = import_module("noria.client.fluent")
        globals().update({each: getattr(fluent, each) for each in _FLUENT})
        globals().pop("__getattr__", None)
        return globals()[name]
    # Names with underscores are asked for by tools, and modules by `from noria import …` before it imports them: neither reads what is said.
    is_asked = not name.startswith("_") and not any(exists(f"{folder}/{name}.py") for folder in __path__)
    cure = f". {import_module('noria.cli.habits').cure(name, __all__)}" if is_asked else ""
    raise AttributeError(f"module 'noria' has no attribute '{name}'{cure}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
