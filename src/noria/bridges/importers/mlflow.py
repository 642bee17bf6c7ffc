"""An MLflow server, over its REST API. MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD, say who asks."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from msgspec import UNSET

from noria.bridges import places
from noria.bridges.source import File, LoggedModel, Registered, Run, Series, Source, info
from noria.client.http import Server
from noria.errors import Invalid, NoriaError, NotFound, Unavailable
from noria.types import (
    Alias,
    Dataset,
    DatasetInput,
    Experiment,
    Metric,
    ModelInput,
    ModelOutput,
    ModelVersion,
    Param,
    RegisteredModel,
    RunData,
    RunInputs,
    RunOutputs,
    Tag,
    number,
)
from noria.types import Run as Fields
from noria.wire.logged_models import Data, Info, Model

_API = "/api/2.0/mlflow"
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_TOGETHER = 100
"""Runs whose histories are asked for at once, and for how many points at most the answer is whole."""
_WHOLE = 25_000
_HANDS = 8


def open(source: str) -> Source:
    return Tracking(source)


class Rest(Server):
    """MLflow's API as plain JSON. One connection, one thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user, password = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", ""), parts.password
        super().__init__(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), os.environ.get("MLFLOW_TRACKING_TOKEN", ""), 120
        )
        words = f"{user}:{password or os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        self._basic = f"Basic {base64.b64encode(words.encode()).decode()}" if user else ""

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> HTTPResponse:
        if self._basic:
            headers["Authorization"] = self._basic
        try:
            return super()._send(method, path, body, headers)
        except Unavailable as error:
            why = error.message.partition("(")[2].partition(")")[0]
            raise Unavailable(f"No MLflow server answers at {self.url} ({why})", "Check the address.") from None

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        given = {key: value for key, value in query.items() if value}
        return self._json(self._request("GET", f"{path}?{urlencode(given, doseq=True)}", None, ""))

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        return self._json(self._request("POST", path, json.dumps(body), "application/json"))

    def _json(self, answer: HTTPResponse) -> dict[str, Any]:
        with answer:
            try:
                found = json.loads(answer.read())
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise Invalid(f"What answers at {self.url} is not an MLflow server.", "Check the address.")
        return found

    def pages(self, path: str, name: str, /, *, get: bool = False, **query: Any) -> Iterator[dict[str, Any]]:
        """The entries `name` of all pages."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self.get(path, **query, **more) if get else self.post(path, **query, **more)
            yield from page.get(name, [])
            token = page.get("next_page_token") or ""
            if not token:
                return

    def save(self, path: str, target: Path) -> Path:
        """One file of a run or a model."""
        with self._request("GET", path, None, "") as answer, target.open("wb") as out:
            while block := answer.read(1 << 20):
                out.write(block)
        return target


class Tracking(Source):
    """One server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._own = url, threading.local()
        self._opened: list[Rest] = []
        self._bulk = True
        self._experiments = {
            each["experiment_id"]: each
            for each in self.rest.pages(f"{_API}/experiments/search", "experiments", max_results=1000, view_type="ALL")
        }

    @property
    def rest(self) -> Rest:
        """This thread's own connection."""
        found: Rest | None = getattr(self._own, "rest", None)
        if found is None:
            found = self._own.rest = Rest(self._url)
            self._opened.append(found)
        return found

    def close(self) -> None:
        for each in self._opened:
            each.close()

    @cached_property
    def _listed(self) -> list[dict[str, Any]]:
        """All runs without their histories."""
        ids = list(self._experiments)
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), _TOGETHER):
            asked: dict[str, Any] = {
                "experiment_ids": ids[start : start + _TOGETHER],
                "run_view_type": "ALL",
                "max_results": 1000,
            }
            found += self.rest.pages(f"{_API}/runs/search", "runs", **asked, order_by=["attributes.start_time ASC"])
        return found

    def total(self) -> int:
        return len(self._listed)

    def experiments(self) -> Iterator[Experiment]:
        for each in self._experiments.values():
            yield Experiment(each["experiment_id"], each["name"], "", each["lifecycle_stage"], int(each.get("creation_time") or 0),
                             int(each.get("last_update_time") or 0), _tags(each))  # fmt: skip

    def runs(self) -> Iterator[Run]:
        with ThreadPoolExecutor(_HANDS) as hands:
            for start in range(0, len(self._listed), _TOGETHER):
                some = self._listed[start : start + _TOGETHER]
                series = self._series(some, hands)
                for each in some:
                    yield self._run(each, series.get(each["info"]["run_id"], []))

    def _run(self, each: dict[str, Any], series: list[Series]) -> Run:
        own, data = each["info"], each.get("data", {})
        tags = _tags(data)
        name = own.get("run_name") or next((tag.value for tag in tags if tag.key == "mlflow.runName"), "")
        end = own.get("end_time")
        fields = info(own["run_id"], name, own.get("user_id") or "", own["status"], int(own.get("start_time") or 0),
                      int(end) if end else None, own.get("artifact_uri") or "", own.get("lifecycle_stage") or "active")  # fmt: skip
        params = [Param(param["key"], param.get("value") or "") for param in data.get("params", [])]
        read, written = each.get("inputs") or {}, each.get("outputs") or {}
        inputs = RunInputs([_dataset(one) for one in read.get("dataset_inputs", [])],
                           [ModelInput(one["model_id"]) for one in read.get("model_inputs", [])])  # fmt: skip
        outputs = RunOutputs(
            [ModelOutput(one["model_id"], int(one.get("step") or 0)) for one in written.get("model_outputs", [])]
        )
        return Run(self._name(own["experiment_id"]), Fields(fields, RunData([], params, tags), inputs, outputs), series)

    def _name(self, experiment_id: str) -> str:
        return str(self._experiments[experiment_id]["name"]) if experiment_id in self._experiments else "Default"

    # Histories: those of one metric for many runs at once, as far as the server does that.

    def _series(self, some: Sequence[dict[str, Any]], hands: ThreadPoolExecutor) -> dict[str, list[Series]]:
        by_key: dict[str, list[str]] = {}
        for each in some:
            for metric in each.get("data", {}).get("metrics", []):
                by_key.setdefault(metric["key"], []).append(each["info"]["run_id"])
        found: dict[str, list[Series]] = {}
        for part in hands.map(lambda pair: self._together(*pair), by_key.items()):
            for run_id, series in part:
                found.setdefault(run_id, []).append(series)
        return found

    def _together(self, key: str, run_ids: list[str]) -> list[tuple[str, Series]]:
        if self._bulk and len(run_ids) > 1:
            try:
                points = self.rest.get(_BULK, run_id=run_ids, metric_key=key, max_results=_WHOLE).get("metrics", [])
            except (NotFound, Invalid):
                self._bulk = False  # An older server, or another one that speaks MLflow's API.
            else:
                if len(points) < _WHOLE:
                    return _split(key, points)
        return [(run_id, self._alone(key, run_id)) for run_id in run_ids]

    def _alone(self, key: str, run_id: str) -> Series:
        points = self.rest.pages(
            f"{_API}/metrics/get-history", "metrics", get=True, run_id=run_id, metric_key=key, max_results=_WHOLE
        )
        return _columns(key, list(points))

    # Files.

    def files(self, run: Run) -> Iterator[File]:
        own = run.fields.info
        if urlsplit(own.artifact_uri).scheme not in ("mlflow-artifacts", "http", "https", "", "file"):
            yield from places.files(own.artifact_uri, None)  # An object store: nearer without the server.
            return
        for path, size in self._tree(partial(self.rest.get, f"{_API}/artifacts/list", run_id=own.run_id), ""):
            yield File(path, size, partial(self._saved, f"/get-artifact?{urlencode({'run_id': own.run_id, 'path': path})}"))

    def _saved(self, path: str, folder: Path) -> Path:
        return self.rest.save(path, folder / "file")

    def _tree(self, listed: Any, path: str) -> Iterator[tuple[str, int]]:
        token = ""
        while True:
            page = listed(path=path, page_token=token)
            for each in page.get("files", []):
                if each.get("is_dir"):
                    yield from self._tree(listed, each["path"])
                else:
                    yield each["path"], int(each.get("file_size") or 0)
            token = page.get("next_page_token") or ""
            if not token:
                return

    # Models.

    def logged_models(self) -> Iterator[LoggedModel]:
        for each in self._models:
            own, data = each["info"], each.get("data") or {}
            fields = Info(
                own["model_id"], own["experiment_id"], own["name"], int(own["creation_timestamp_ms"]), int(own["last_updated_timestamp_ms"]),
                own.get("artifact_uri") or "", own.get("status") or "LOGGED_MODEL_PENDING", own.get("model_type") or "",
                own.get("source_run_id") or "", _tags(own))  # fmt: skip
            params = [Param(param["key"], param.get("value") or "") for param in data.get("params", [])]
            points = [_model_point(own["model_id"], metric) for metric in data.get("metrics", [])]
            yield LoggedModel(self._name(own["experiment_id"]), Model(fields, Data(params, points)))

    @cached_property
    def _models(self) -> list[dict[str, Any]]:
        try:
            ids, path = list(self._experiments), f"{_API}/logged-models/search"
            return [
                each
                for experiment_id in ids
                for each in self.rest.pages(path, "models", experiment_ids=[experiment_id], max_results=100)
            ]
        except NotFound:  # Before MLflow 3 there were none.
            return []

    def model_files(self, model: LoggedModel) -> Iterator[File]:
        own = model.model.info
        if urlsplit(own.artifact_uri).scheme != "mlflow-artifacts":
            yield from places.files(own.artifact_uri, None)
            return
        root = own.artifact_uri.partition(":")[2].lstrip("/")
        listing, content = f"{_API}/logged-models/{own.model_id}/artifacts/directories", "/api/2.0/mlflow-artifacts/artifacts"
        for path, size in self._tree(
            lambda path, page_token: self.rest.get(listing, artifact_directory_path=path, page_token=page_token), ""
        ):
            yield File(path, size, partial(self._saved, f"{content}/{quote(root)}/{quote(path)}"))

    def registered(self) -> Iterator[Registered]:
        try:
            models = list(self.rest.pages(f"{_API}/registered-models/search", "registered_models", get=True, max_results=100))
        except NoriaError as error:
            self.notes.append(f"The model registry was left out: {error.message}")
            return
        roots = {each["info"]["run_id"]: each["info"].get("artifact_uri") or "" for each in self._listed}
        logged = {each["info"]["model_id"]: each["info"].get("artifact_uri") or "" for each in self._models}
        for each in models:
            created = int(each.get("creation_timestamp") or 0)
            aliases = [Alias(alias["alias"], str(alias["version"])) for alias in each.get("aliases", [])]
            model = RegisteredModel(each["name"], created, int(each.get("last_updated_timestamp") or created),
                                    each.get("description") or "", [], _tags(each), aliases)  # fmt: skip
            query = {"filter": "name = '" + each["name"].replace("'", "\\'") + "'", "max_results": 1000}
            versions = self.rest.pages(f"{_API}/model-versions/search", "model_versions", get=True, **query)
            yield Registered(model, sorted((_version(one, roots, logged) for one in versions), key=lambda one: int(one.version)))


def _tags(each: dict[str, Any]) -> list[Tag]:
    return [Tag(tag["key"], tag.get("value") or "") for tag in each.get("tags", [])]


def _dataset(each: dict[str, Any]) -> DatasetInput:
    data = each["dataset"]
    fields = ("name", "digest", "source_type", "source", "schema", "profile")
    return DatasetInput(Dataset(*(data.get(name) or "" for name in fields)), _tags(each))


def _columns(key: str, points: Sequence[dict[str, Any]]) -> Series:
    values, times = [float(each["value"]) for each in points], [int(each["timestamp"]) for each in points]
    return Series(key, values, times, [int(each.get("step") or 0) for each in points])


def _split(key: str, points: Iterable[dict[str, Any]]) -> list[tuple[str, Series]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in points:
        found.setdefault(each["run_id"], []).append(each)
    return [(run_id, _columns(key, own)) for run_id, own in found.items()]


def _model_point(model_id: str, metric: dict[str, Any]) -> Metric:
    name, digest = metric.get("dataset_name") or UNSET, metric.get("dataset_digest") or UNSET
    return Metric(metric["key"], number(float(metric["value"])), int(metric["timestamp"]), int(metric.get("step") or 0), name, digest,
                  model_id, metric.get("run_id") or "")  # fmt: skip


def _version(each: dict[str, Any], roots: dict[str, str], logged: dict[str, str]) -> ModelVersion:
    created, run_id = int(each.get("creation_timestamp") or 0), each.get("run_id") or ""
    return ModelVersion(
        each["name"], str(each["version"]), created, int(each.get("last_updated_timestamp") or created),
        each.get("current_stage") or "None", places.source_of(each.get("source") or "", roots, logged, run_id), "READY", run_id,
        each.get("description") or "", each.get("user_id") or "", each.get("run_link") or "", _tags(each))  # fmt: skip
