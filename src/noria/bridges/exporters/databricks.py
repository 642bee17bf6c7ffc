"""To a Databricks workspace: `databricks://PROFILE`, or `databricks://PROFILE/Shared/team` for another folder than one's own. An experiment
`x` is the path FOLDER/x there; a name that is a path already stays as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from noria.bridges.recorder import Recorder
from noria.bridges.send import Sink
from noria.client.http import Server
from noria.databricks import names
from noria.databricks.mlflow import Client
from noria.databricks.workspace import Workspace
from noria.errors import AlreadyExists, Invalid, NotFound, Unsupported
from noria.types import Dataset, DatasetInput, Metric, ModelOutput, Param, RegisteredModel, Tag, number

_ENTITIES = SimpleNamespace(
    Metric=lambda key, value, timestamp, step: Metric(key, number(float(value)), timestamp, step), Param=Param, RunTag=Tag, InputTag=Tag,
    Dataset=lambda name, digest, kind, source, schema, profile: Dataset(name, digest, kind, source, schema or "", profile or ""),
    DatasetInput=DatasetInput, LoggedModelOutput=ModelOutput,
    LoggedModelStatus=SimpleNamespace(READY="LOGGED_MODEL_READY", FAILED="LOGGED_MODEL_UPLOAD_FAILED"),
)  # fmt: skip
"""What MLflow's client takes, as the types that go over the wire anyway."""


def open(target: str, server: Server) -> Sink:
    place = names.place(target)
    if place.catalog:
        raise Invalid(
            f"'{target}' is a registry.", "Export runs to databricks://PROFILE, and models with `noria models copy --to`."
        )
    workspace = Workspace(place.profile)
    return Databricks(workspace, names.Names(f"/{place.path}" if place.path else workspace.home), server)


class Databricks(Recorder):
    """One workspace."""

    what = "Databricks"

    def __init__(self, workspace: Workspace, named: names.Names, server: Server) -> None:
        super().__init__(server, Client(workspace), _ENTITIES)
        self._names = named

    def there(self, experiment: str) -> str:
        return self._names.there(experiment)

    def found(self, run_id: str) -> Any:
        try:
            return self.client.get_run(run_id)
        except NotFound:
            return None

    def made(self, model: RegisteredModel) -> None:
        try:
            self.client.create_registered_model(
                model.name, {each.key: each.value for each in model.tags}, model.description or None
            )
        except AlreadyExists:
            pass

    def alias(self, name: str, alias: str, version: str) -> None:
        try:
            super().alias(name, alias, version)
        except (NotFound, Invalid, Unsupported):
            self.note(f"Aliases of model '{name}' stayed behind: this workspace's registry takes none.")
