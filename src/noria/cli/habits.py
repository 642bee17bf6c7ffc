"""What people write from habit who come from `mlflow`, and what to write here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import Parameter, Signature, signature
from typing import Any

_CLIENT = 'mlflow itself, which works here unchanged: `eval "$(noria env)"`, then import mlflow'
_INSTEAD = {
    "autolog": _CLIENT,
    "MlflowClient": _CLIENT,
    "client": _CLIENT,
    "tracking": _CLIENT,
    "pyfunc": _CLIENT,
    "sklearn": _CLIENT,
    "pytorch": _CLIENT,
    "keras": f"noria.keras_callback() among the callbacks of fit, or {_CLIENT}",
    "KerasCallback": "noria.keras_callback()",
    "tensorflow": _CLIENT,
    "transformers": _CLIENT,
    "lightning": _CLIENT,
    "xgboost": _CLIENT,
    "data": "noria.log_dataset(data, name)",
    "log_input": "noria.log_dataset(data, name)",
    "log_image": "noria.log_artifact(path) of an image file, or noria.log_figure",
    "log_table": "noria.log_artifact(path) of a csv file",
    "set_tracking_uri": "nothing: what is logged lies in a spool, which the server ships; NORIA_SERVER names another server",
    "create_experiment": "noria.set_experiment(name), or `noria experiments create NAME`",
    "search_experiments": "`noria experiments list`",
    "delete_run": "`noria runs delete RUN`",
    "delete_experiment": "`noria experiments delete NAME`",
    "projects": "noria.run(folder, entry_point, parameters), or `noria run FOLDER`",
    "load_model": "noria.models.load(uri)",
    "trace": "nothing: traces are not kept here",
}


def cure(name: str, names: Iterable[str]) -> str:
    """What to write for an attribute that noria has not."""
    if name in _INSTEAD:
        return f"Write {_INSTEAD[name]}."
    if name.isidentifier() and find_spec(f"noria.{name}"):
        return f"Write `import noria.{name}` first."
    close = get_close_matches(name, list(names), 1)
    return f"Did you mean noria.{close[0]}?" if close else "help(noria) lists what there is."


_LOG_MODEL = (
    "The name of the model's folder is artifact_path; a version is registered afterwards, "
    "with noria.register_model('runs:/RUN/model', 'NAME') or `noria models register`."
)


def check(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """TypeError, with how the function is called, for a call that cannot be meant for it."""
    known = signature(function)
    try:
        known.bind(*args, **options)
    except TypeError as error:
        bare = [each.replace(annotation=Parameter.empty) for each in known.parameters.values()]
        shown = f"noria.{function.__name__}{known.replace(parameters=bare, return_annotation=Signature.empty)}"
        hint = f" {_LOG_MODEL}" if function.__name__ == "log_model" else ""
        raise TypeError(f"{str(error).capitalize()}: it is called as {shown}.{hint}") from None
