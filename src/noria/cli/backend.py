"""`mlflow run --backend noria`: MLflow's projects as jobs. MLflow finds this by the entry point `mlflow.project_backend`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun

from noria.cli.commands.submit import reach
from noria.cli.commands.wait import wait
from noria.cli.local import connect
from noria.client.http import Server
from noria.errors import Invalid, NoriaError
from noria.jobs import clusters
from noria.jobs.say import say
from noria.projects import start
from noria.projects.asks import resources, told
from noria.types import JobState
from noria.wire import experiments, jobs

_OWN = {"on", "cache", "freeze"}
_MLFLOW = {"ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth"}
"""What MLflow adds to each backend's settings."""
_STATES: dict[JobState, str] = {
    "QUEUED": "SCHEDULED", "SUBMITTED": "SCHEDULED", "RUNNING": "RUNNING", "COMPLETED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED",
}  # fmt: skip


class Submitted(SubmittedRun):
    """A project's job, as MLflow waits for it and cancels it."""

    def __init__(self, server: Server, started: start.Started) -> None:
        super().__init__()
        self._server, self._started = server, started

    @property
    def run_id(self) -> str:
        return self._started.run_id

    def wait(self) -> bool:
        return self._started.cached or wait(self._server, self._started.job_id)[0].exit_code == 0

    def get_status(self) -> str:
        if self._started.cached:
            return "FINISHED"
        return _STATES[self._server.call(jobs.GET, jobs.Key(self._started.job_id)).job.state]

    def cancel(self) -> None:
        if not self._started.cached:
            self._server.call(jobs.CANCEL, jobs.Cancel(self._started.job_id))
            self.wait()


class Backend(AbstractBackend):
    """backend_config: {"on": "slurm", "gpus": 1, "time": "2h", …}: the options of `noria submit` by their names, and cache and freeze."""

    def run(
        self, project_uri: str, entry_point: str, params: Mapping[str, Any] | None, version: str | None, backend_config: Mapping[str, Any],
        tracking_uri: str, experiment_id: str
    ) -> Submitted:  # fmt: skip
        try:
            server = _server(tracking_uri)
            experiment = server.call(experiments.GET, experiments.Get(str(experiment_id))).experiment.name
            asked = start.Request(
                project_uri, entry_point, params or {}, version or "", experiment, _resources(backend_config),
                env_manager="local" if backend_config.get("ENV_MANAGER") == "local" else "auto",
                cache=bool(backend_config.get("cache", False)), freeze=bool(backend_config.get("freeze", True)), check=True)  # fmt: skip
            return Submitted(server, start.start(server, asked, say))
        except NoriaError as error:
            raise ExecutionException(error.message) from None


def _server(tracking_uri: str) -> Server:
    """The server that MLflow logs to, which must be one of ours: the job's run is made there."""
    if not tracking_uri.startswith(("http://", "https://")):
        raise Invalid(
            f"MLflow logs to {tracking_uri}, which is no Noria server.", '`eval "$(noria env)"` sets the variables for one.'
        )
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if token:
        return Server(tracking_uri, token)
    ours = connect(start=False)
    return ours if ours.url == tracking_uri.rstrip("/") else Server(tracking_uri)


def _resources(settings: Mapping[str, Any]) -> Any:
    asks = {name: value for name, value in settings.items() if name not in _OWN | _MLFLOW and not name.startswith("_")}
    spec = resources(settings.get("on"), told(asks))
    clusters.must_reach(spec)
    if spec.agent:
        reach(spec.agent)
    return spec


def backend() -> Backend:
    return Backend()
