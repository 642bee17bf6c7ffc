"""What MLflow's REST API has of runs, models and the registry, whoever answers it: importers say how it is asked and where files lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

from msgspec import UNSET

from noria.bridges import places
from noria.bridges.source import LoggedModel, Registered, Run, Series, Source, info
from noria.errors import Invalid, NoriaError, NotFound
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

API = "/api/2.0/mlflow"
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_TOGETHER = 100
"""Runs whose histories are asked for at once, and for how many points at most the answer is whole."""
_WHOLE = 25_000
_HANDS = 8


class Asked(Protocol):
    """Who asks: JSON in, JSON out."""

    def get(self, path: str, /, **query: Any) -> dict[str, Any]: ...

    def pages(self, path: str, name: str, /, *, get: bool = False, **query: Any) -> Iterator[dict[str, Any]]:
        """The entries `name` of all pages."""
        ...


class Tracking(Source):
    """All that one of them has."""

    bulk = True
    """Whether histories of many runs may be asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self._experiments = {each["experiment_id"]: each for each in self.wanted()}

    @property
    def rest(self) -> Asked:
        """This thread's way to ask."""
        raise NotImplementedError

    def wanted(self) -> Iterator[dict[str, Any]]:
        """The experiments whose runs are read."""
        return self.rest.pages(f"{API}/experiments/search", "experiments", max_results=1000, view_type="ALL")

    def name(self, experiment: str) -> str:
        """What an experiment is called here."""
        return experiment

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """All runs without their histories."""
        ids = list(self._experiments)
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), _TOGETHER):
            asked: dict[str, Any] = {
                "experiment_ids": ids[start : start + _TOGETHER],
                "run_view_type": "ALL",
                "max_results": 1000,
            }
            found += self.rest.pages(f"{API}/runs/search", "runs", **asked, order_by=["attributes.start_time ASC"])
        return found

    def total(self) -> int:
        return len(self.listed)

    def experiments(self) -> Iterator[Experiment]:
        for each in self._experiments.values():
            yield Experiment(each["experiment_id"], self.name(each["name"]), "", each["lifecycle_stage"], int(each.get("creation_time") or 0),
                             int(each.get("last_update_time") or 0), _tags(each))  # fmt: skip

    def runs(self) -> Iterator[Run]:
        with ThreadPoolExecutor(_HANDS) as hands:
            for start in range(0, len(self.listed), _TOGETHER):
                some = self.listed[start : start + _TOGETHER]
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
        return self.name(self._experiments[experiment_id]["name"]) if experiment_id in self._experiments else "Default"

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
        if self.bulk and len(run_ids) > 1:
            try:
                points = self.rest.get(_BULK, run_id=run_ids, metric_key=key, max_results=_WHOLE).get("metrics", [])
            except (NotFound, Invalid):
                self.bulk = False  # An older server, or another one that speaks MLflow's API.
            else:
                if len(points) < _WHOLE:
                    return _split(key, points)
        return [(run_id, self._alone(key, run_id)) for run_id in run_ids]

    def _alone(self, key: str, run_id: str) -> Series:
        points = self.rest.pages(
            f"{API}/metrics/get-history", "metrics", get=True, run_id=run_id, metric_key=key, max_results=_WHOLE
        )
        return _columns(key, list(points))

    # Files.

    def tree(self, listed: Any, path: str) -> Iterator[tuple[str, int]]:
        token = ""
        while True:
            page = listed(path=path, page_token=token)
            for each in page.get("files", []):
                if each.get("is_dir"):
                    yield from self.tree(listed, each["path"])
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
            ids, path = list(self._experiments), f"{API}/logged-models/search"
            return [
                each
                for experiment_id in ids
                for each in self.rest.pages(path, "models", experiment_ids=[experiment_id], max_results=100)
            ]
        except NotFound:  # Before MLflow 3 there were none.
            return []

    def registered(self) -> Iterator[Registered]:
        try:
            models = list(self.rest.pages(f"{API}/registered-models/search", "registered_models", get=True, max_results=100))
        except NoriaError as error:
            self.notes.append(f"The model registry was left out: {error.message}")
            return
        roots = {each["info"]["run_id"]: each["info"].get("artifact_uri") or "" for each in self.listed}
        logged = {each["info"]["model_id"]: each["info"].get("artifact_uri") or "" for each in self._models}
        for each in models:
            created = int(each.get("creation_timestamp") or 0)
            aliases = [Alias(alias["alias"], str(alias["version"])) for alias in each.get("aliases", [])]
            model = RegisteredModel(each["name"], created, int(each.get("last_updated_timestamp") or created),
                                    each.get("description") or "", [], _tags(each), aliases)  # fmt: skip
            query = {"filter": "name = '" + each["name"].replace("'", "\\'") + "'", "max_results": 1000}
            versions = self.rest.pages(f"{API}/model-versions/search", "model_versions", get=True, **query)
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
