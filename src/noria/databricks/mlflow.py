"""What MLflow's client does, as far as an export needs it, asked of a workspace: its methods by their names, without its package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from noria.databricks import files
from noria.databricks.workspace import MLFLOW, Workspace
from noria.errors import AlreadyExists, NotFound
from noria.types import DatasetInput, Metric, ModelOutput, Param, Tag

_LARGEST = 900_000
"""Bytes of one batch; Databricks takes no more than 1 MB."""


class Page(list[Any]):
    """Some of what was searched, and the token of what follows."""

    token: str | None = None


def _page(entries: Sequence[Any], found: dict[str, Any]) -> Page:
    page = Page(entries)
    page.token = found.get("next_page_token") or None
    return page


def _pairs(entries: Any) -> dict[str, Any]:
    return {each["key"]: each.get("value", "") for each in entries or []}


def _listed(pairs: dict[str, str] | None) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in (pairs or {}).items()]


class Client:
    """One workspace. All calls raise errors of ours."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._roots: dict[str, files.Root | None] = {}

    def _post(self, verb: str, **body: Any) -> dict[str, Any]:
        return self._workspace.post(f"{MLFLOW}/{verb}", **body)

    # Experiments and runs.

    def get_experiment_by_name(self, name: str) -> Any:
        try:
            return SimpleNamespace(**self._workspace.get(f"{MLFLOW}/experiments/get-by-name", experiment_name=name)["experiment"])
        except NotFound:
            return None

    def create_experiment(self, name: str) -> str:
        folder = name.rpartition("/")[0]
        if folder != self._workspace.home:
            self._workspace.post("/api/2.0/workspace/mkdirs", path=folder)
        try:
            return str(self._post("experiments/create", name=name)["experiment_id"])
        except AlreadyExists:  # By a call whose answer was lost, or by somebody else since.
            if (found := self.get_experiment_by_name(name)) is None:
                raise
            return str(found.experiment_id)

    def search_runs(self, ids: list[str], text: str, view: int, most: int, page_token: str | None = None) -> Page:
        kind = {1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}[view]
        more = {"page_token": page_token} if page_token else {}
        found = self._post("runs/search", experiment_ids=ids, filter=text, run_view_type=kind, max_results=most, **more)
        return _page([_run(each) for each in found.get("runs") or []], found)

    def get_run(self, run_id: str) -> Any:
        return _run(self._workspace.get(f"{MLFLOW}/runs/get", run_id=run_id)["run"])

    def create_run(self, experiment_id: str, start: int, tags: dict[str, str], name: str) -> Any:
        def there() -> dict[str, Any] | None:
            text = f"tags.`noria.run_id` = '{tags['noria.run_id']}'"
            found = self._post("runs/search", experiment_ids=[experiment_id], filter=text, max_results=1).get("runs")
            return {"run": found[0]} if found else None

        made = self._workspace.once(f"{MLFLOW}/runs/create", there, experiment_id=experiment_id, start_time=start, tags=_listed(tags), run_name=name)  # fmt: skip
        return _run(made["run"])

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[Tag] = ()
    ) -> None:
        body = {"metrics": msgspec.to_builtins(metrics), "params": msgspec.to_builtins(params), "tags": msgspec.to_builtins(tags)}
        if len(json.dumps(body)) > _LARGEST and len(metrics) + len(params) + len(tags) > 1:
            half = len(metrics) // 2, len(params) // 2, len(tags) // 2
            self.log_batch(run_id, metrics[: half[0]], params[: half[1]], tags[: half[2]])
            self.log_batch(run_id, metrics[half[0] :], params[half[1] :], tags[half[2] :])
            return
        self._post("runs/log-batch", run_id=run_id, **body)

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        query = {"run_id": run_id, "metric_key": key, "max_results": 25_000}
        found = self._workspace.pages(f"{MLFLOW}/metrics/get-history", "metrics", get=True, **query)
        return [SimpleNamespace(value=float(each["value"]), timestamp=int(each["timestamp"]), step=int(each.get("step") or 0)) for each in found]  # fmt: skip

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        self._post("runs/log-inputs", run_id=run_id, datasets=msgspec.to_builtins(inputs))

    def set_terminated(self, run_id: str, status: str, end: int | None) -> None:
        self._post("runs/update", run_id=run_id, status=status, **({} if end is None else {"end_time": end}))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._post("runs/set-tag", run_id=run_id, key=key, value=value)

    # Files.

    def _root(self, own_id: str) -> files.Root | None:
        """Where the files of a run, or of a logged model, lie there."""
        if own_id not in self._roots:
            at = (
                self.get_logged_model(own_id).artifact_location
                if own_id.startswith("m-")
                else self.get_run(own_id).info.artifact_uri
            )
            self._roots = {own_id: files.root(self._workspace, at)}
        return self._roots[own_id]

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[Any]:
        """All files of a run at once; there are no folders among them."""
        root = self._root(run_id)
        return [SimpleNamespace(path=each, is_dir=False, file_size=size) for each, size in root.files()] if root else []

    def log_artifact(self, own_id: str, source: str, folder: str | None) -> None:
        if (root := self._root(own_id)) is None:
            raise NotFound(
                f"Files of {own_id} lie outside of Databricks, where this export cannot write.", "Copy them there yourself."
            )
        name = Path(source).name
        root.send(f"{folder}/{name}" if folder else name, Path(source))

    # Logged models.

    def get_logged_model(self, model_id: str) -> Any:
        return _model(self._workspace.get(f"{MLFLOW}/logged-models/{model_id}")["model"])

    def search_logged_models(self, ids: list[str], max_results: int, page_token: str | None = None) -> Page:
        more = {"page_token": page_token} if page_token else {}
        try:
            found = self._post("logged-models/search", experiment_ids=ids, max_results=max_results, **more)
        except NotFound:  # A workspace that has none yet.
            return Page()
        return _page([_model(each) for each in found.get("models") or []], found)

    def create_logged_model(
        self, experiment_id: str, name: str, run_id: str, tags: dict[str, str], params: dict[str, str], kind: str | None
    ) -> Any:
        def there() -> dict[str, Any] | None:
            token: str | None = None
            while True:
                page = self.search_logged_models([experiment_id], 100, token)
                for each in page:
                    if each.tags.get("noria.model_id") == tags["noria.model_id"]:
                        return self._workspace.get(f"{MLFLOW}/logged-models/{each.model_id}")
                if not (token := page.token):
                    return None

        body = {
            "experiment_id": experiment_id,
            "name": name,
            "source_run_id": run_id,
            "tags": _listed(tags),
            "params": _listed(params),
        }
        return _model(
            self._workspace.once(f"{MLFLOW}/logged-models", there, **body, **({"model_type": kind} if kind else {}))["model"]
        )

    def finalize_logged_model(self, model_id: str, status: str) -> None:
        self._workspace.ask("PATCH", f"{MLFLOW}/logged-models/{model_id}", body={"model_id": model_id, "status": status})

    def log_model_artifacts(self, model_id: str, folder: str) -> None:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                parent = path.relative_to(folder).parent.as_posix()
                self.log_artifact(model_id, str(path), "" if parent == "." else parent)

    def log_outputs(self, run_id: str, models: Sequence[ModelOutput]) -> None:
        self._post("runs/outputs", run_id=run_id, models=msgspec.to_builtins(models))

    # The registry.

    def create_registered_model(self, name: str, tags: dict[str, str], description: str | None) -> None:
        self._post(
            "registered-models/create", name=name, tags=_listed(tags), **({"description": description} if description else {})
        )

    def search_model_versions(self, text: str) -> list[Any]:
        found = self._workspace.pages(
            f"{MLFLOW}/model-versions/search", "model_versions", get=True, filter=text, max_results=1000
        )
        return [SimpleNamespace(version=each["version"]) for each in found]

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None,
        tags: dict[str, str],
        description: str | None,
        model_id: str | None = None,
    ) -> Any:
        quoted = f"name = '{name}'"
        before = {each.version for each in self.search_model_versions(quoted)}

        def there() -> dict[str, Any] | None:
            fresh = {each.version for each in self.search_model_versions(quoted)} - before
            return {"model_version": {"version": max(fresh, key=int)}} if fresh else None

        more = {"run_id": run_id, "description": description, "model_id": model_id}
        body = {"name": name, "source": source, "tags": _listed(tags), **{key: value for key, value in more.items() if value}}
        return SimpleNamespace(**self._workspace.once(f"{MLFLOW}/model-versions/create", there, **body)["model_version"])

    def delete_model_version(self, name: str, version: str) -> None:
        self._workspace.ask("DELETE", f"{MLFLOW}/model-versions/delete", body={"name": name, "version": version})

    def transition_model_version_stage(self, name: str, version: str, stage: str) -> None:
        self._post("model-versions/transition-stage", name=name, version=version, stage=stage, archive_existing_versions=False)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._post("registered-models/alias", name=name, alias=alias, version=version)


def _run(found: dict[str, Any]) -> Any:
    data = found.get("data") or {}
    outputs = [SimpleNamespace(model_id=each["model_id"]) for each in (found.get("outputs") or {}).get("model_outputs") or []]
    return SimpleNamespace(
        info=SimpleNamespace(**found["info"]),
        data=SimpleNamespace(
            tags=_pairs(data.get("tags")), params=_pairs(data.get("params")), metrics=_pairs(data.get("metrics"))
        ),
        outputs=SimpleNamespace(model_outputs=outputs),
    )


def _model(found: dict[str, Any]) -> Any:
    own = found["info"]
    return SimpleNamespace(
        model_id=own["model_id"], tags=_pairs(own.get("tags")), artifact_location=own.get("artifact_uri") or ""
    )
