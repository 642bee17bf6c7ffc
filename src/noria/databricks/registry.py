"""Registered models of a workspace: its own registry, which has stages, or Unity Catalog's, which has aliases and takes files by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from noria.databricks import files, names
from noria.databricks.workspace import MLFLOW, Workspace
from noria.errors import AlreadyExists, Invalid, NotFound

_FOLDER = "noria-models"
"""The experiment, in one's own folder, whose runs hold the files of versions that came from here."""


class Found(Struct, frozen=True):
    """One version, as far as a copy needs it."""

    name: str
    version: str
    stage: str = "None"
    description: str = ""
    tags: dict[str, str] = {}
    aliases: list[str] = []


class Registry:
    """Whose models are asked for."""

    def __init__(self, workspace: Workspace, catalog: bool) -> None:
        self._workspace, self.catalog = workspace, catalog
        self._at = f"{MLFLOW}/unity-catalog" if catalog else MLFLOW

    def uri(self, name: str, version: str) -> str:
        return f"{self._workspace.host}/{name}/{version}"

    def model(self, name: str) -> dict[str, Any]:
        """Raises NotFound if there is none."""
        return dict(self._workspace.get(f"{self._at}/registered-models/get", name=name)["registered_model"])

    def versions(self, wanted: names.Version) -> list[Found]:
        """The one that is wanted, or all, the oldest first. Raises NotFound if there is none."""
        model = self.model(wanted.name)
        aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases") or []}
        found = sorted(self._all(wanted.name, aliases), key=lambda each: int(each.version))
        if wanted.alias:
            found = [each for each in found if each.version == aliases.get(wanted.alias)]
        elif wanted.which.isdecimal():
            found = [each for each in found if each.version == wanted.which]
        elif wanted.which:
            found = [each for each in found if wanted.which.lower() in (each.stage.lower(), "latest")][-1:]
        if not found:
            which = f"alias {wanted.alias}" if wanted.alias else f"version {wanted.which}" if wanted.which else "version"
            raise NotFound(f"Model {wanted.name} has no {which} at {self._workspace.host}.", "Look at its versions there.")
        return found

    def _all(self, name: str, aliases: dict[str, str]) -> list[Found]:
        query = {"filter": f"name = '{name}'", "max_results": 100}
        found = self._workspace.pages(f"{self._at}/model-versions/search", "model_versions", get=True, **query)
        return [
            Found(name, str(each["version"]), each.get("current_stage") or "None", each.get("description") or "",
                  {tag["key"]: tag.get("value") or "" for tag in each.get("tags") or []},
                  [alias for alias, version in aliases.items() if version == str(each["version"])])
            for each in found
        ]  # fmt: skip

    def files(self, version: Found) -> files.Root:
        if self.catalog:
            return files.Folder(self._workspace, f"/Models/{version.name.replace('.', '/')}/{version.version}")
        return files.Registered(self._workspace, version.name, version.version)

    # Making.

    def make(self, name: str, description: str, tags: dict[str, str]) -> None:
        """A model of this name, if there is none."""
        more = {"description": description} if description else {}
        try:
            self._workspace.post(f"{self._at}/registered-models/create", name=name, tags=_listed(tags), **more)
        except AlreadyExists:
            pass

    def marked(self, name: str, tag: str, value: str) -> Found | None:
        """The version that has this tag."""
        return next((each for each in self._all(name, {}) if each.tags.get(tag) == value), None)

    def add(self, name: str, folder: Path, paths: list[str], tags: dict[str, str], description: str, mark: str) -> str:
        """A version of these files; its number. mark: the tag that no two versions share. Raises Invalid for a model that is not taken."""
        more = {"description": description} if description else {}
        if self.catalog:
            return self._add_to_catalog(name, folder, paths, {"tags": _listed(tags), **more}, tags[mark], mark)
        source, run_id = self._held(folder, paths, tags[mark], mark)
        return self._made(name, {"source": source, "run_id": run_id, "tags": _listed(tags), **more}, tags[mark], mark)

    def _made(self, name: str, body: dict[str, Any], value: str, mark: str) -> str:
        def there() -> dict[str, Any] | None:
            found = self.marked(name, mark, value)
            return {"model_version": {"version": found.version}} if found else None

        return str(
            self._workspace.once(f"{self._at}/model-versions/create", there, name=name, **body)["model_version"]["version"]
        )

    def _add_to_catalog(self, name: str, folder: Path, paths: list[str], body: dict[str, Any], value: str, mark: str) -> str:
        if "signature:" not in (folder / "MLmodel").read_text():
            raise Invalid("Unity Catalog takes no model without a signature.", "Log it with one, or with an input example.")
        version = self._made(name, {"source": value, **body}, value, mark)
        root = self.files(Found(name, version))
        try:
            for path in paths:
                root.send(path, folder / path)
            self._workspace.post(f"{self._at}/model-versions/finalize", name=name, version=version)
        except BaseException:
            self._workspace.ask("DELETE", f"{self._at}/model-versions/delete", body={"name": name, "version": version})
            raise
        return version

    def _held(self, folder: Path, paths: list[str], value: str, mark: str) -> tuple[str, str]:
        """The files as artifacts of a run of their own, which the workspace's registry makes versions of."""
        from noria.databricks.mlflow import Client

        client, where = Client(self._workspace), f"{self._workspace.home}/{_FOLDER}"
        known = client.get_experiment_by_name(where)
        experiment = known.experiment_id if known else client.create_experiment(where)

        def there() -> dict[str, Any] | None:
            query = {"filter": f"tags.`{mark}` = '{value}'", "max_results": 1}
            found = self._workspace.post(f"{MLFLOW}/runs/search", experiment_ids=[experiment], **query).get("runs")
            return {"run": found[0]} if found else None

        body = {"experiment_id": experiment, "tags": _listed({mark: value}), "run_name": value.rpartition("/models:/")[2]}
        info = (there() or self._workspace.once(f"{MLFLOW}/runs/create", there, **body))["run"]["info"]
        root = files.root(self._workspace, info["artifact_uri"])
        if root is None:
            raise Invalid(f"Files of runs lie at {info['artifact_uri']}, where Noria cannot write.", "Use Unity Catalog.")
        for path in paths:
            root.send(f"model/{path}", folder / path)
        self._workspace.post(f"{MLFLOW}/runs/update", run_id=info["run_id"], status="FINISHED")
        return f"{info['artifact_uri']}/model", info["run_id"]

    # Where a version stands.

    def stage(self, name: str, version: str, stage: str) -> None:
        self._workspace.post(f"{self._at}/model-versions/transition-stage", name=name, version=version, stage=stage, archive_existing_versions=False)  # fmt: skip

    def alias(self, name: str, version: str, alias: str) -> None:
        self._workspace.post(f"{self._at}/registered-models/alias", name=name, alias=alias, version=version)


def _listed(pairs: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in pairs.items()]
