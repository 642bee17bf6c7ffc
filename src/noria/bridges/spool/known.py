"""What spools say of experiments, runs and logged models, for whoever has no server to ask."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from noria.client.spool import EXPERIMENT, now
from noria.types import DatasetInput, ModelOutput, RunStatus
from noria.wire import spools as wire
from noria.wire.logged_models import Status as ModelStatus

DEFAULT = "Default"
NAME_TAG = "mlflow.runName"

Point = tuple[str, float, int, int]


def experiment_id(name: str) -> str:
    """An id for an experiment that only the server could number: the same on every node. Of the job's own the number was told."""
    told, _, own = os.environ.get(EXPERIMENT, "").partition(" ")
    if told and name == own:
        return told
    if name == DEFAULT:
        return "0"
    return str(10**17 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % (9 * 10**17))


class Experiment(msgspec.Struct):
    name: str
    artifact_location: str = ""
    tags: dict[str, str] = {}
    created: int = 0

    @property
    def id(self) -> str:
        return experiment_id(self.name)


class Run(msgspec.Struct):
    """What is known here of a run."""

    run_id: str
    experiment: str = DEFAULT
    user: str = ""
    status: RunStatus = "RUNNING"
    start_time: int = 0
    end_time: int | None = None
    lifecycle_stage: str = "active"
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    latest: dict[str, Point] = {}
    datasets: list[DatasetInput] = []
    models_read: list[str] = []
    models_written: list[ModelOutput] = []
    files: dict[str, Path] = {}
    in_job: bool = False

    @property
    def name(self) -> str:
        return self.tags.get(NAME_TAG, "")

    def apply(self, record: wire.Record, folder: Path) -> None:
        """Take in a record that was written, or was read from a spool in `folder`."""
        match record:
            case wire.Begin():
                self.status, self.end_time = "RUNNING", None
                self.experiment, self.user = record.experiment, record.user or self.user
                self.start_time = self.start_time or record.start_time
                self.tags |= record.tags | ({NAME_TAG: record.run_name} if record.run_name else {})
            case wire.Params():
                self.params = record.params | self.params
            case wire.Tags():
                self.tags |= record.tags
            case wire.Points():
                self._measure(record.points)
            case wire.Log():
                time = int(record.timestamp * 1000)
                self._measure([(key, value, time, record.step) for key, value in record.metrics.items()])
            case wire.Artifact():
                self.files[record.path] = folder / record.stored
            case wire.Inputs():
                self.datasets += [each for each in record.datasets if each not in self.datasets]
                self.models_read += [each for each in record.models if each not in self.models_read]
            case wire.Outputs():
                self.models_written += record.models
            case wire.Change():
                self._change(record)
            case wire.End():
                self.status, self.end_time = record.status, record.end_time

    def _measure(self, points: Sequence[Point]) -> None:
        """The greatest (step, timestamp, value) of a key is its latest, as MLflow has it."""
        for point in points:
            last = self.latest.get(point[0])
            if last is None or _age(point) >= _age(last):
                self.latest[point[0]] = point

    def _change(self, record: wire.Change) -> None:
        if record.status is not None:
            self.status, self.end_time = record.status, record.end_time
        self.lifecycle_stage = record.lifecycle_stage or self.lifecycle_stage
        self.experiment = record.experiment or self.experiment
        for key in record.untag:
            self.tags.pop(key, None)


def _age(point: Point) -> tuple[int, int, float]:
    return point[3], point[2], -math.inf if math.isnan(point[1]) else point[1]


class Model(msgspec.Struct):
    """What is known here of a logged model."""

    model_id: str
    experiment: str
    name: str
    model_type: str
    run_id: str
    created: int
    changed: int
    status: ModelStatus = "LOGGED_MODEL_PENDING"
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    metrics: dict[tuple[str, str, str], Point] = {}
    files: dict[str, Path] = {}
    deleted: bool = False

    def apply(self, record: wire.Model) -> None:
        self.status = record.status or self.status
        self.tags |= record.tags
        self.params |= record.params
        for key in record.untag:
            self.tags.pop(key, None)
        self.deleted = record.deleted


class Known(msgspec.Struct):
    """All that some spools say."""

    experiments: dict[str, Experiment] = msgspec.field(default_factory=lambda: {DEFAULT: Experiment(DEFAULT)})
    runs: dict[str, Run] = {}
    models: dict[str, Model] = {}

    def apply(self, run_id: str, record: wire.Record, folder: Path) -> None:
        match record:
            case wire.Experiment():
                found = self.experiments.setdefault(record.name, Experiment(record.name, record.artifact_location, {}, now()))
                found.tags |= record.tags
                for key in record.untag:
                    found.tags.pop(key, None)
            case wire.Model():
                model = self.models.get(record.model_id) or Model(
                    record.model_id, record.experiment, record.name, record.model_type, record.run_id, record.created, record.created)  # fmt: skip
                model.apply(record)
                self.models[record.model_id] = model
            case wire.ModelArtifact():
                if record.model_id in self.models:
                    self.models[record.model_id].files[record.path] = folder / record.stored
            case _ if run_id:
                self.runs.setdefault(run_id, Run(run_id)).apply(record, folder)
                if isinstance(record, wire.Begin):
                    self.experiments.setdefault(record.experiment, Experiment(record.experiment))
                if isinstance(record, wire.Points) and record.model_id in self.models:
                    about = (record.dataset_name, record.dataset_digest)
                    self.models[record.model_id].metrics |= {(point[0], *about): point for point in record.points}
