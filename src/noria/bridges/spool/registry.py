"""mlflow's model registry for `noria-spool:`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.entities import model_registry
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from msgspec import structs

from noria.bridges.spool.journal import PENDING, Journal, journal
from noria.bridges.spool.words import PLACE, SCHEME, folder_of, in_its_words, offline, pairs
from noria.client.spool import now
from noria.errors import AlreadyExists, Invalid
from noria.wire import spools as wire


def _refused(what: str) -> Callable[..., Any]:
    def refuse(self: object, *args: Any, **kwargs: Any) -> Any:
        raise offline(what)

    return refuse


@in_its_words
class SpoolRegistry(AbstractRegistry):
    """mlflow's model registry, as far as a node can know it: models can be registered, and what was is labelled.

    The number of a version is the server's to give; here it is 0.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        self._folder = folder_of(store_uri)
        self._models: dict[str, Any] = {}
        self._versions: dict[str, tuple[wire.Register, Any]] = {}

    @property
    def journal(self) -> Journal:
        return journal(self._folder)

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: Any = None
    ) -> Any:
        if not name.strip() or "/" in name or ":" in name or len(name) > 256:
            raise Invalid(
                f"Invalid name: '{name[:80]}'. Registered model name cannot be empty, over 256 characters or contain '/' or ':'."
            )
        if name in self._models:
            raise AlreadyExists(f"Registered Model (name={name}) already exists.", "Add a version to it instead.")
        self.journal.shared(wire.Register(name, description or "", pairs(tags), "", "", "", {}))
        time = now()
        self._models[name] = model_registry.RegisteredModel(name, time, time, description, [], list(tags or ()))
        return self._models[name]

    def get_registered_model(self, name: str) -> Any:
        if name not in self._models:
            raise offline(f"Reading registered model '{name}'")
        return self._models[name]

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        place, run = self._source(source), run_id or ""
        record = wire.Register(name, "", {}, place, run, description or "", pairs(tags))
        self._register(record)
        time = now()
        version = model_registry.ModelVersion(
            name, PENDING, time, time, description, None, "None", place, run_id, tags=list(tags or ()), run_link=run_link
        )
        self._versions[name] = (record, version)
        return version

    def _source(self, source: str) -> str:
        """The source as the server will know it."""
        found = PLACE.fullmatch(unquote(urlsplit(source).path)) if source.startswith(f"{SCHEME}:") else None
        if found is None:
            return source
        below = f"/{found[4]}" if found[4] else ""
        return f"{found[2]}:/{found[3]}{below}"

    def _register(self, record: wire.Register) -> None:
        """It goes behind the records of its source, so that the source is there when it is read."""
        if record.source.startswith("models:/m-"):
            model = self.journal.model(record.source.removeprefix("models:/").partition("/")[0])
            run_id = model.run_id
        else:
            run_id = record.run_id
        if run_id:
            self.journal.log(run_id, record)
        else:
            self.journal.shared(record)

    def _pending(self, name: str, version: str) -> tuple[wire.Register, Any]:
        if str(version) != PENDING or name not in self._versions:
            raise offline(f"Reading or changing version {version} of registered model '{name}'")
        return self._versions[name]

    def _label(self, name: str, version: str, **labels: Any) -> Any:
        record, known = self._pending(name, version)
        labels = {"version_tags": {}, "alias": "", "stage": "", "archive": False, **labels}
        self._register(structs.replace(record, **labels))
        return known

    def get_model_version(self, name: str, version: str) -> Any:
        return self._pending(name, version)[1]

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return str(self._pending(name, version)[1].source)

    def set_model_version_tag(self, name: str, version: str, tag: Any) -> None:
        self._label(name, version, version_tags={tag.key: str(tag.value)})

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._label(name, version, alias=alias)

    def transition_model_version_stage(self, name: str, version: str, stage: str, archive_existing_versions: bool) -> Any:
        return self._label(name, version, stage=stage, archive=archive_existing_versions)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        self.journal.shared(wire.Register(name, "", {tag.key: str(tag.value)}, "", "", "", {}))

    update_registered_model = _refused("Changing a registered model")
    rename_registered_model = _refused("Renaming a registered model")
    delete_registered_model = _refused("Deleting a registered model")
    search_registered_models = _refused("Searching the model registry")
    get_latest_versions = _refused("Reading the model registry")
    delete_registered_model_tag = _refused("Deleting a tag of a registered model")
    update_model_version = _refused("Changing the version of a registered model")
    delete_model_version = _refused("Deleting the version of a registered model")
    search_model_versions = _refused("Searching the model registry")
    delete_model_version_tag = _refused("Deleting a tag of a registered model")
    delete_registered_model_alias = _refused("Deleting an alias")
    get_model_version_by_alias = _refused("Reading an alias")
