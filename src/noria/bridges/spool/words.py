"""What the stores of `noria-spool:` have in common: their folder, and mlflow's words for what is wrong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from noria.client.fluent import spool_folder
from noria.errors import NoriaError, Unsupported

SCHEME = "noria-spool"
PLACE = re.compile(r"(.*?)/(runs|models)/([\w\-]+)/artifacts(?:/(.*))?")
"""Where artifacts lie in a path: the folder, runs or models, the id, and the rest."""
C = TypeVar("C", bound=type)


def in_its_words(kind: C) -> C:
    """A class whose methods raise our errors as mlflow's."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("__"):
            setattr(kind, name, _translated(method))
    return kind


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except NoriaError as error:
            code = error.code if error.code in ErrorCode.keys() else "INTERNAL_ERROR"  # noqa: SIM118 (no mapping)
            raise MlflowException(error.message, ErrorCode.Value(code)) from None

    return call


def folder_of(uri: str) -> Path:
    """The folder that a tracking URI names; without one, where Noria's own client would write."""
    parts = urlsplit(uri)
    if parts.netloc:
        raise MlflowException.invalid_parameter_value(
            f"'{uri}' has '{parts.netloc}' where a host would be. Write the folder with three slashes: {SCHEME}:///{parts.netloc}{parts.path}."
        )
    path = unquote(parts.path).rstrip("/")
    return Path(path) if path else spool_folder()


def offline(what: str) -> Unsupported:
    return Unsupported(f"{what} is not possible on a node without a network.", "Do it where the server can be reached.")


def pairs(given: Iterable[Any] | None) -> dict[str, str]:
    return {each.key: str(each.value) for each in given or ()}
