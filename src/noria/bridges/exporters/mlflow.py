"""Back to MLflow: a server (http://…), a database (sqlite:///…, postgresql://…) or a folder `mlruns`, through MLflow's own client."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from noria.bridges.recorder import Recorder
from noria.bridges.send import Sink, State
from noria.client.http import Server
from noria.errors import Invalid, Unavailable
from noria.types import RegisteredModel
from noria.wire.imports import Run

F = TypeVar("F", bound=Callable[..., Any])


def open(target: str, server: Server) -> Sink:
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise Invalid("An export to MLflow needs the package mlflow, which is not installed.", "pip install mlflow") from None
    return Mlflow(_uri(target), server)


def _uri(target: str) -> str:
    if "://" in target:
        return target.replace("postgresql://", "postgresql+psycopg://")
    path = Path(target).absolute()
    if path.suffix in (".db", ".sqlite"):
        return f"sqlite:///{path}"
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 wants to hear that somebody means it.
    return path.as_uri()


def _ours(method: F) -> F:
    """MLflow's errors as ours: one sentence."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return method(*args, **kwargs)
        except MlflowException as error:
            words = str(error.message).splitlines()[0]
            gone = "Max retries" in words or "Connection" in words
            raise (Unavailable if gone else Invalid)(f"MLflow refused it: {words[:500]}") from None

    return call  # type: ignore[return-value]


class Mlflow(Recorder):
    """One tracking store."""

    @_ours
    def __init__(self, uri: str, server: Server) -> None:
        from mlflow import MlflowClient, entities

        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        super().__init__(server, MlflowClient(uri, registry_uri=uri), entities)
        self.client.search_experiments(max_results=1)  # Whether it is there at all.

    @_ours
    def run(self, run: Run) -> State:
        return super().run(run)

    @_ours
    def finish(self) -> None:
        super().finish()

    def found(self, run_id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def made(self, model: RegisteredModel) -> None:
        from mlflow.exceptions import MlflowException

        tags = {each.key: each.value for each in model.tags}
        try:
            self.client.create_registered_model(model.name, tags, model.description or None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
