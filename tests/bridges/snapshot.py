"""All that mlflow's own client can read of a tracking server or store, as values to compare."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

Tree = dict[str, Any]


def snapshot(uri: str, experiments: list[str] | None = None, *, contents: bool = True) -> Tree:
    """By experiment's name and run id; experiments: all of them by default."""
    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_experiments(view_type=ViewType.ALL, max_results=1000)
    chosen = [each for each in found if experiments is None or each.name in experiments]
    return {
        each.name: {
            "stage": each.lifecycle_stage,
            "tags": dict(each.tags),
            "runs": {run.info.run_id: _run(client, uri, run, contents) for run in _runs(client, each.experiment_id)},
            "models": {model.model_id: _model(client, uri, model, contents) for model in _models(client, each.experiment_id)},
        }
        for each in chosen
    }


def _runs(client: MlflowClient, experiment_id: str) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_runs([experiment_id], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _models(client: MlflowClient, experiment_id: str) -> list[Any]:
    return list(client.search_logged_models([experiment_id], max_results=100))


def _number(value: float) -> object:
    """MLflow's databases have the largest double for infinity; its files have infinity, and equal points twice, in any order."""
    return "NaN" if math.isnan(value) else math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def _run(client: MlflowClient, uri: str, run: Any, contents: bool) -> Tree:
    info, data = run.info, run.data
    return {
        "info": (info.run_name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage),
        "params": dict(data.params),
        "tags": {key: value for key, value in data.tags.items() if key != "mlflow.log-model.history"},
        "latest": {key: _number(value) for key, value in data.metrics.items()},
        "history": {
            key: sorted({(each.timestamp, each.step, _number(each.value)) for each in client.get_metric_history(info.run_id, key)}, key=str)
            for key in sorted(data.metrics)
        },
        "inputs": sorted(
            (
                each.dataset.name, each.dataset.digest, each.dataset.source_type, each.dataset.source, each.dataset.schema or "",
                each.dataset.profile or "", tuple(sorted((tag.key, tag.value) for tag in each.tags)),
            )
            for each in (run.inputs.dataset_inputs if run.inputs else [])
        ),
        "outputs": sorted((each.model_id, each.step) for each in (run.outputs.model_outputs if run.outputs else [])),
        "files": _files(uri, info.artifact_uri) if contents else None,
    }  # fmt: skip


def _model(client: MlflowClient, uri: str, model: Any, contents: bool) -> Tree:
    return {
        "info": (model.name, model.model_type, model.source_run_id, str(model.status)),
        "params": dict(model.params or {}),
        "tags": dict(model.tags or {}),
        "metrics": sorted((each.key, each.value, each.step, each.timestamp) for each in model.metrics or []),
        "files": _files(uri, model.artifact_location) if contents else None,
    }


def _files(uri: str, root: str) -> dict[str, str]:
    """The digest of each file by its path."""
    if not get_artifact_repository(root, tracking_uri=uri).list_artifacts():
        return {}
    folder = Path(download_artifacts(artifact_uri=root, tracking_uri=uri))
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def registry(uri: str) -> Tree:
    """Registered models by name."""
    client = MlflowClient(uri, registry_uri=uri)
    return {
        model.name: {
            "description": model.description or "",
            "tags": dict(model.tags),
            "aliases": {name: str(version) for name, version in model.aliases.items()},
            "versions": {
                str(each.version): (
                    each.current_stage,
                    each.run_id or "",
                    each.description or "",
                    dict(each.tags),
                    each.creation_timestamp,
                )
                for each in client.search_model_versions(f"name = '{model.name}'")
            },
        }
        for model in client.search_registered_models()
    }


def same(first: object, second: object) -> None:
    """Assert that two snapshots are equal; the failure shows the lines in which they differ."""
    one, other = (json.dumps(each, indent=1, sort_keys=True, default=str).splitlines() for each in (first, second))
    assert one == other, "\n".join(difflib.unified_diff(one, other, lineterm="", n=2))
