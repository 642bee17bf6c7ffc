"""MLflow's own database: SQLite or PostgreSQL (or what else SQLAlchemy has a driver for), read without MLflow.

Tables and columns that older releases of MLflow lack are taken for empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, MetaData, Table, create_engine, exc, func, literal, select
from sqlalchemy.engine import make_url

from noria.bridges import places
from noria.bridges.source import File, LoggedModel, Registered, Run, Series, Source, info
from noria.errors import Invalid, NotFound
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
from noria.wire.logged_models import Status as ModelStatus

_TABLES = (
    "experiments", "experiment_tags", "runs", "metrics", "params", "tags", "datasets", "inputs", "input_tags", "logged_models",
    "logged_model_metrics", "logged_model_params", "logged_model_tags", "registered_models", "registered_model_tags",
    "registered_model_aliases", "model_versions", "model_version_tags",
)  # fmt: skip
_CHUNK = 100
_DELETED = "Deleted_Internal"
_MODEL_STATUS: dict[int, ModelStatus] = {2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}


def open(source: str) -> Source:
    return Database(source)


def _url(source: str) -> tuple[str, Path | None]:
    """The URL of SQLAlchemy, and the folder of a file. SQLite is opened to be read only."""
    if "://" not in source or source.startswith("sqlite:"):
        path = Path(source.removeprefix("sqlite:///"))
        if not path.is_file():
            raise NotFound(
                f"There is no database '{path}'.", "Check the path; an absolute one has four slashes: sqlite:////path."
            )
        return f"sqlite:///file:{path.absolute()}?mode=ro&uri=true", path.absolute().parent
    try:
        url = make_url(source)
    except exc.ArgumentError:
        raise Invalid(f"'{source[:80]}' is not the URL of a database.", "Write postgresql://user:password@host/name.") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False), None


class Database(Source):
    """One database, on one connection."""

    def __init__(self, source: str) -> None:
        super().__init__()
        url, self._folder = _url(source)
        try:
            self._engine = create_engine(url)
            self._conn: Connection = self._engine.connect()
            self._tables = self._reflected()
        except ImportError as error:
            raise Invalid(f"The driver of that database is missing ({error.name}).", f"pip install {error.name}") from None
        except exc.SQLAlchemyError as error:
            why = str(getattr(error, "orig", error)).strip().split("\n")[0]
            raise Invalid(f"The database cannot be read ({why}).", "Is it MLflow's, and may you use it?") from None
        if "runs" not in self._tables or "experiments" not in self._tables:
            raise Invalid("This is no database of MLflow: it has no tables 'experiments' and 'runs'.", "Name another one.")

    def _reflected(self) -> dict[str, Table]:
        meta = MetaData()
        meta.reflect(self._conn, only=lambda name, _: name in _TABLES)
        return {table.name: table for table in meta.tables.values()}

    def close(self) -> None:
        self._conn.close()
        self._engine.dispose()

    def _rows(self, table: str, columns: Sequence[str], key: str = "", among: Sequence[Any] | None = None) -> Iterator[Any]:
        """Some columns of a table, None where there is none; `among`: of rows whose `key` is one of these."""
        own = self._tables.get(table)
        if own is None or (key and key not in own.c):
            return
        query = select(*(own.c[name] if name in own.c else literal(None).label(name) for name in columns))
        if among is None:
            yield from self._conn.execute(query)
            return
        for start in range(0, len(among), _CHUNK):
            yield from self._conn.execute(query.where(own.c[key].in_(among[start : start + _CHUNK])))

    def _grouped(self, table: str, owner: str, among: Sequence[Any] | None = None) -> dict[Any, list[tuple[str, str]]]:
        """Keys and values by owner."""
        found: dict[Any, list[tuple[str, str]]] = {}
        for own, key, value in self._rows(table, (owner, "key", "value"), owner, among):
            found.setdefault(own, []).append((key, value or ""))
        return found

    def total(self) -> int:
        return self._conn.execute(select(func.count()).select_from(self._tables["runs"])).scalar_one()

    @cached_property
    def _experiments(self) -> dict[int, Any]:
        columns = ("experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time")
        return {each.experiment_id: each for each in self._rows("experiments", columns)}

    def experiments(self) -> Iterable[Experiment]:
        tags = self._grouped("experiment_tags", "experiment_id")
        for key, each in self._experiments.items():
            yield Experiment(str(key), each.name, "", each.lifecycle_stage or "active", each.creation_time or 0,
                             each.last_update_time or 0, [Tag(*tag) for tag in tags.get(key, [])])  # fmt: skip

    def runs(self) -> Iterator[Run]:
        own = self._tables["runs"]
        ids = self._conn.execute(select(own.c.run_uuid).order_by(own.c.start_time, own.c.run_uuid)).scalars().all()
        for start in range(0, len(ids), _CHUNK):
            yield from self._some(ids[start : start + _CHUNK])

    def _some(self, ids: Sequence[str]) -> Iterator[Run]:
        columns = (
            "run_uuid",
            "name",
            "user_id",
            "status",
            "start_time",
            "end_time",
            "lifecycle_stage",
            "artifact_uri",
            "experiment_id",
        )
        known = {each.run_uuid: each for each in self._rows("runs", columns, "run_uuid", ids)}
        params, tags = self._grouped("params", "run_uuid", ids), self._grouped("tags", "run_uuid", ids)
        series, datasets = self._series(ids), self._datasets(ids)
        read, written = self._links(ids, "RUN_INPUT"), self._links(ids, "RUN_OUTPUT")
        for run_id in ids:
            each, labels = known[run_id], dict(tags.get(run_id, []))
            fields = info(run_id, labels.get("mlflow.runName") or each.name or "", each.user_id or "", each.status or "FINISHED",
                          each.start_time or 0, each.end_time, each.artifact_uri or "", each.lifecycle_stage or "active")  # fmt: skip
            data = RunData([], [Param(*pair) for pair in params.get(run_id, [])], [Tag(*pair) for pair in labels.items()])
            inputs = RunInputs(datasets.get(run_id, []), [ModelInput(model) for model, _ in read.get(run_id, [])])
            outputs = RunOutputs([ModelOutput(model, step) for model, step in written.get(run_id, [])])
            name = self._experiments[each.experiment_id].name if each.experiment_id in self._experiments else "Default"
            yield Run(name, Fields(fields, data, inputs, outputs), series.get(run_id, []))

    def _series(self, ids: Sequence[str]) -> dict[str, list[Series]]:
        found: dict[str, dict[str, Series]] = {}
        columns = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
        for run_id, key, value, time, step, nan in self._rows("metrics", columns, "run_uuid", ids):
            own = found.setdefault(run_id, {})
            series = own.get(key)
            if series is None:
                series = own[key] = Series(key, [], [], [])
            series.values.append(float("nan") if nan or value is None else value)
            series.timestamps.append(time or 0)
            series.steps.append(step or 0)
        return {run_id: list(own.values()) for run_id, own in found.items()}

    def _links(self, ids: Sequence[str], kind: str) -> dict[str, list[tuple[str, int]]]:
        """Logged models that runs read or wrote, with the step."""
        found: dict[str, list[tuple[str, int]]] = {}
        columns = ("source_type", "source_id", "destination_id", "step")
        for each in self._rows("inputs", columns, "source_id", ids):
            if each.source_type == kind:
                found.setdefault(each.source_id, []).append((each.destination_id, each.step or 0))
        return found

    def _datasets(self, ids: Sequence[str]) -> dict[str, list[DatasetInput]]:
        links = ("input_uuid", "source_type", "source_id", "destination_type", "destination_id")
        rows = [each for each in self._rows("inputs", links, "destination_id", ids)
                if each.source_type == "DATASET" and each.destination_type == "RUN"]  # fmt: skip
        fields = ("dataset_uuid", "name", "digest", "dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile")
        known = {
            each.dataset_uuid: each for each in self._rows("datasets", fields, "dataset_uuid", [each.source_id for each in rows])
        }
        tags: dict[str, list[Tag]] = {}
        for own, key, value in self._rows(
            "input_tags", ("input_uuid", "name", "value"), "input_uuid", [each.input_uuid for each in rows]
        ):
            tags.setdefault(own, []).append(Tag(key, value or ""))
        found: dict[str, list[DatasetInput]] = {}
        for each in rows:
            if each.source_id in known:
                data = Dataset(*(str(text or "") for text in known[each.source_id][1:]))
                found.setdefault(each.destination_id, []).append(DatasetInput(data, tags.get(each.input_uuid, [])))
        return found

    def files(self, run: Run) -> Iterable[File]:
        return places.files(run.fields.info.artifact_uri, self._folder)

    def logged_models(self) -> Iterator[LoggedModel]:
        tags = self._model_pairs("logged_model_tags", "tag_key", "tag_value")
        params = self._model_pairs("logged_model_params", "param_key", "param_value")
        metrics = self._model_metrics()
        for each in self._models:
            if (each.lifecycle_stage or "active") != "active" or each.experiment_id not in self._experiments:
                continue
            fields = Info(each.model_id, str(each.experiment_id), each.name, each.creation_timestamp_ms, each.last_updated_timestamp_ms,
                          each.artifact_location, _MODEL_STATUS.get(each.status, "LOGGED_MODEL_PENDING"), each.model_type or "",
                          each.source_run_id or "", [Tag(*pair) for pair in tags.get(each.model_id, [])])  # fmt: skip
            data = Data([Param(*pair) for pair in params.get(each.model_id, [])], metrics.get(each.model_id, []))
            yield LoggedModel(self._experiments[each.experiment_id].name, Model(fields, data))

    @cached_property
    def _models(self) -> list[Any]:
        columns = ("model_id", "experiment_id", "name", "artifact_location", "creation_timestamp_ms", "last_updated_timestamp_ms",
                   "status", "lifecycle_stage", "model_type", "source_run_id")  # fmt: skip
        return list(self._rows("logged_models", columns))

    def _model_pairs(self, table: str, key: str, value: str) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for own, name, text in self._rows(table, ("model_id", key, value)):
            found.setdefault(own, []).append((name, text or ""))
        return found

    def _model_metrics(self) -> dict[str, list[Metric]]:
        columns = (
            "model_id",
            "metric_name",
            "metric_value",
            "metric_timestamp_ms",
            "metric_step",
            "dataset_name",
            "dataset_digest",
            "run_id",
        )
        found: dict[str, list[Metric]] = {}
        for own, key, value, time, step, name, digest, run_id in self._rows("logged_model_metrics", columns):
            point = Metric(
                key,
                number(float("nan") if value is None else value),
                time,
                step,
                name or UNSET,
                digest or UNSET,
                own,
                run_id or "",
            )
            found.setdefault(own, []).append(point)
        return found

    def model_files(self, model: LoggedModel) -> Iterable[File]:
        return places.files(model.model.info.artifact_uri, self._folder)

    def registered(self) -> Iterator[Registered]:
        tags, versions = self._by_name("registered_model_tags", ("name", "key", "value")), self._versions()
        aliases = self._by_name("registered_model_aliases", ("name", "alias", "version"))
        for each in self._rows("registered_models", ("name", "creation_time", "last_updated_time", "description")):
            model = RegisteredModel(
                each.name, each.creation_time or 0, each.last_updated_time or each.creation_time or 0, each.description or "", [],
                [Tag(key, value or "") for _, key, value in tags.get(each.name, [])],
                [Alias(name, str(version)) for _, name, version in aliases.get(each.name, [])])  # fmt: skip
            yield Registered(model, versions.get(each.name, []))

    def _by_name(self, table: str, columns: Sequence[str]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for each in self._rows(table, columns):
            found.setdefault(each.name, []).append(each)
        return found

    def _versions(self) -> dict[str, list[ModelVersion]]:
        columns = (
            "name",
            "version",
            "creation_time",
            "last_updated_time",
            "current_stage",
            "source",
            "run_id",
            "description",
            "user_id",
            "run_link",
        )
        rows = [each for each in self._rows("model_versions", columns) if each.current_stage != _DELETED]
        tags: dict[tuple[str, int], list[Tag]] = {}
        for name, version, key, value in self._rows("model_version_tags", ("name", "version", "key", "value")):
            tags.setdefault((name, version), []).append(Tag(key, value or ""))
        wanted = [each.run_id for each in rows if each.run_id]
        roots = {
            each.run_uuid: each.artifact_uri or ""
            for each in self._rows("runs", ("run_uuid", "artifact_uri"), "run_uuid", wanted)
        }
        models = {each.model_id: each.artifact_location for each in self._models}
        found: dict[str, list[ModelVersion]] = {}
        for each in sorted(rows, key=lambda row: row.version):
            source = places.source_of(each.source or "", roots, models, each.run_id or "")
            version = ModelVersion(
                each.name, str(each.version), each.creation_time or 0, each.last_updated_time or each.creation_time or 0,
                each.current_stage or "None", source, "READY", each.run_id or "", each.description or "", each.user_id or "",
                each.run_link or "", tags.get((each.name, each.version), []))  # fmt: skip
            found.setdefault(each.name, []).append(version)
        return found
