"""Runs, with their params, tags and inputs."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from noria.errors import Invalid, NotFound
from noria.store import events, experiments, logged_models, metrics, names, rows, watching
from noria.store.run_load import info, load, read_dataset
from noria.store.schema import dataset, param, run, run_model, tag
from noria.types import DatasetInput, Metric, ModelOutput, RunStatus, number
from noria.wire import limits
from noria.wire import runs as wire
from noria.wire.fit import missing

NAME_TAG, CONTEXT_TAG, HISTORY_TAG = "mlflow.runName", "mlflow.data.context", "mlflow.log-model.history"


def create(conn: Connection, request: wire.Create) -> wire.Got:
    tags = {each.key: each.value for each in request.tags}
    if request.run_name and tags.get(NAME_TAG, request.run_name) != request.run_name:
        raise Invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{request.run_name}', mlflow.runName='{tags[NAME_TAG]}')."
        )
    owner = experiments.active(conn, request.experiment_id or "0")
    name = request.run_name or tags.get(NAME_TAG, "")
    uuid = insert_run(conn, uuid4().hex, owner.id, name, request.user_id, request.start_time, tags)
    return get(conn, wire.Get(uuid))


def user(conn: Connection, uuid: str) -> str:
    """Whose run it is; "" if that is not known, or there is no such run."""
    return conn.execute(select(run.c.user_id).where(run.c.uuid == uuid)).scalar() or "" if uuid else ""


def insert_run(
    conn: Connection,
    uuid: str,
    experiment_id: int,
    name: str,
    user: str,
    start_time: int,
    tags: dict[str, str],
    status: RunStatus = "RUNNING",
) -> str:
    """A new run; the name is mirrored in its tag."""
    owner = experiments.row(conn, str(experiment_id))
    name = name or names.make()
    values = {
        "uuid": uuid, "experiment": experiment_id, "name": name, "user_id": user, "status": status, "start_time": start_time,
        "artifact_uri": experiments.below(owner.artifact_location, uuid, "artifacts"), "lifecycle_stage": "active",
    }  # fmt: skip
    key = rows.add(conn, run, values)
    put_tags(conn, key, {**tags, NAME_TAG: name})
    return uuid


def row(conn: Connection, uuid: str, *, active: bool = False) -> Row[Any]:
    """The run's row; NotFound without one, Invalid if it is deleted and `active` is asked for."""
    if not uuid:
        raise missing("run_id")
    found = conn.execute(select(run).where(run.c.uuid == uuid)).first()
    if found is None:
        raise NotFound(f"Run with id={uuid[:64]} not found", "`noria runs list` shows the runs there are.")
    if active and found.lifecycle_stage != "active":
        raise Invalid(f"The run {uuid} must be in the 'active' state. Current state is deleted.", "Restore it first.")
    return found


def active(conn: Connection, uuids: Iterable[str]) -> list[tuple[str, int]]:
    """(uuid, key) of those that exist and are not deleted."""
    found = rows.among(conn, "SELECT uuid, id FROM run WHERE lifecycle_stage = 'active' AND uuid", list(uuids))
    return [(row[0], row[1]) for row in found]


def get(conn: Connection, request: wire.Get) -> wire.Got:
    return wire.Got(load(conn, [row(conn, request.run_id or request.run_uuid).id])[0])


def resolve(conn: Connection, request: wire.Resolve) -> wire.Got:
    """The run whose id begins so, or that alone has this name."""
    found: Sequence[Row[Any]] = []
    if request.prefix:
        found = conn.execute(select(run).where(run.c.uuid.startswith(request.prefix, autoescape=True)).limit(3)).all()
        found = found or conn.execute(select(run).where(run.c.name == request.prefix).limit(3)).all()
    if not found:
        raise NotFound(f"There is no run '{request.prefix[:64]}'.", "`noria runs list` shows the runs there are.")
    if len(found) > 1:
        raise Invalid(f"More than one run begins with or is named '{request.prefix}'.", "Write more of its id.")
    return wire.Got(load(conn, [found[0].id])[0])


def change(conn: Connection, request: wire.Update) -> wire.Updated:
    uuid = request.run_id or request.run_uuid
    key = row(conn, uuid, active=True).id
    values: dict[str, Any] = {}
    if request.status is not UNSET:
        values["status"] = request.status
    if request.end_time is not UNSET:
        values["end_time"] = request.end_time
    if values:
        conn.execute(update(run).where(run.c.id == key).values(values))
        watching.ended(conn, [key], values.get("status"))
    if request.run_name:
        put_tags(conn, key, {NAME_TAG: request.run_name})
    return wire.Updated(info(row(conn, uuid)))


def finish(conn: Connection, uuid: str, status: RunStatus, end_time: int) -> None:
    conn.execute(update(run).where(run.c.uuid == uuid).values(status=status, end_time=end_time))
    watching.ended(conn, select(run.c.id).where(run.c.uuid == uuid), status)


def insert_scheduled(conn: Connection, experiment_id: int, user: str, named: Sequence[tuple[str, str, dict[str, str]]]) -> None:
    """New runs of one user's jobs, with few statements: of each its uuid, name and tags."""
    location, time = experiments.row(conn, str(experiment_id)).artifact_location, experiments.now()
    named = [(uuid, name or names.make(), tags) for uuid, name, tags in named]
    columns = ("uuid", "experiment", "name", "user_id", "status", "start_time", "artifact_uri", "lifecycle_stage")
    rows.insert(conn, run, columns, [
        (uuid, experiment_id, name, user, "SCHEDULED", time, experiments.below(location, uuid, "artifacts"), "active")
        for uuid, name, _ in named
    ])  # fmt: skip
    for part in rows.chunks(named):
        found = conn.execute(select(run.c.uuid, run.c.id).where(run.c.uuid.in_([uuid for uuid, _, _ in part])))
        keys = {each.uuid: each.id for each in found}
        values = [
            (keys[uuid], key, limits.cut(value, limits.TAG_VALUE)) for uuid, name, tags in part for key, value in {**tags, NAME_TAG: name}.items()
        ]  # fmt: skip
        rows.insert(conn, tag, ("run", "key", "value"), values)


def start(conn: Connection, uuid: str, time: int) -> None:
    """A scheduled run begins to run."""
    conn.execute(update(run).where(run.c.uuid == uuid).values(status="RUNNING", start_time=time, end_time=None))


def reopen(conn: Connection, uuid: str) -> None:
    """A run goes on that had ended."""
    conn.execute(update(run).where(run.c.uuid == uuid).values(status="RUNNING", end_time=None))


def remove(conn: Connection, request: wire.Get) -> None:
    key = row(conn, request.run_id or request.run_uuid).id
    conn.execute(update(run).where(run.c.id == key).values(lifecycle_stage="deleted"))


def restore(conn: Connection, request: wire.Get) -> None:
    key = row(conn, request.run_id or request.run_uuid).id
    conn.execute(update(run).where(run.c.id == key).values(lifecycle_stage="active"))


def put_tags(conn: Connection, key: int, tags: dict[str, str]) -> None:
    """Set tags; the run's name follows its tag, and is never empty."""
    tags = {name: value for name, value in tags.items() if name != NAME_TAG or value}
    rows.upsert(
        conn, tag, [{"run": key, "key": name, "value": limits.cut(value, limits.TAG_VALUE)} for name, value in tags.items()]
    )
    if NAME_TAG in tags:
        conn.execute(update(run).where(run.c.id == key).values(name=tags[NAME_TAG]))


def put_params(conn: Connection, uuid: str, key: int, params: dict[str, str], *, batch: bool = False) -> None:
    """Params are written once: the same value again is fine, another one is Invalid. batch: say so as MLflow says it of several."""
    fresh = {name: limits.cut(value, limits.PARAM_VALUE) for name, value in params.items()}
    rows.keep(conn, param, [{"run": key, "key": name, "value": value} for name, value in fresh.items()])
    found = conn.execute(select(param.c.key, param.c.value).where(param.c.run == key, param.c.key.in_(fresh)))
    kept = {each.key: each.value for each in found}
    other = [{"key": k, "old_value": kept[k], "new_value": v} for k, v in fresh.items() if kept.get(k, v) != v]
    if other:
        raise _changed(uuid, other, batch)


def _changed(uuid: str, other: list[dict[str, str]], batch: bool) -> Invalid:
    start = "Changing param values is not allowed."
    if batch:
        return Invalid(f"{start} Params were already logged='{other}' for run ID='{uuid}'.", "Start a new run for them.")
    (one,) = other
    return Invalid(f"{start} Param with key='{one['key']}' was already logged with value='{one['old_value']}' for run "
                   f"ID='{uuid}'. Attempted logging new value '{one['new_value']}'.", "Start a new run for it.")  # fmt: skip


def keep_params(conn: Connection, key: int, params: dict[str, str]) -> None:
    """Params from a spool: a job that is tried again logs its params again, and the first values stand."""
    rows.keep(
        conn, param, [{"run": key, "key": name, "value": limits.cut(value, limits.PARAM_VALUE)} for name, value in params.items()]
    )


def packed(request: wire.LogBatch | wire.LogMetric) -> metrics.Append | None:
    """A request that has metrics alone, as the store takes them all at once; None for any other."""
    if isinstance(request, wire.LogMetric):
        return None if request.model_id else _append_of(request.run_id or request.run_uuid, [_point(request)])
    if request.params or request.tags or not request.metrics or [each for each in request.metrics if each.model_id]:
        return None
    _check_batch(request)
    return _append_of(request.run_id, request.metrics)


_good: set[str] = set()
"""Names of metrics that were found to be good: the same few come over and over."""


def check_names(names: Iterable[str]) -> None:
    """Invalid for a name that a metric may not have."""
    fresh = set(names) - _good
    for name in fresh:
        limits.key(name)
    if len(_good) > 100_000:
        _good.clear()
    _good.update(fresh)


def _append_of(uuid: str, points: list[Metric]) -> metrics.Append:
    names = [each.key for each in points]
    if not _good.issuperset(names):
        _blame(points)
        check_names(names)
    values: list[Any] = [each.value for each in points]
    times, steps = [each.timestamp for each in points], [each.step for each in points]
    try:
        try:
            body = metrics.columns(values, times, steps)
        except struct.error:
            body = metrics.columns(map(float, values), times, steps)  # Some are "NaN" or "Infinity".
    except struct.error:
        raise Invalid(
            "Invalid value for parameter 'metrics' supplied: a timestamp or step is not in the range of 64 bits."
        ) from None
    if min(times) < 0:
        _blame(points)
    return metrics.Append(uuid, "\n".join(names), body)


def _blame(points: list[Metric]) -> None:
    """Say which point of a batch is wrong, if one is."""
    for place, each in enumerate(points):
        limits.key(each.key, path=f"metrics[{place}].name")
        limits.moment(each.timestamp, each.key, each.value, f"metrics[{place}].timestamp")


def log_metric(conn: Connection, request: wire.LogMetric) -> None:
    uuid, point = request.run_id or request.run_uuid, _point(request)
    _log(conn, _append_of(uuid, [point]))
    _keep_of_models(conn, uuid, [point])


def _point(request: wire.LogMetric) -> Metric:
    if request.key not in _good:
        limits.key(request.key)
    limits.moment(request.timestamp, request.key, request.value)
    return Metric(request.key, number(request.value), request.timestamp, request.step, request.dataset_name,
                  request.dataset_digest, request.model_id)  # fmt: skip


def _log(conn: Connection, batch: metrics.Append) -> None:
    metrics.insert(conn, [(row(conn, batch.uuid, active=True).id, batch.names, batch.body)])


def _keep_of_models(conn: Connection, uuid: str, points: list[Metric]) -> None:
    """Keep what points say of logged models; half a data set is Invalid, for MLflow's clients could not read the model any more."""
    if any(each.model_id and bool(each.dataset_name) != bool(each.dataset_digest) for each in points):
        raise Invalid("Both dataset_name and dataset_digest must be provided if one is provided", "Give both, or neither.")
    logged_models.keep_metrics(conn, uuid, points)


def log_param(conn: Connection, request: wire.LogParam) -> None:
    uuid = request.run_id or request.run_uuid
    put_params(conn, uuid, row(conn, uuid, active=True).id, {limits.key(request.key, "param"): request.value})


def set_tag(conn: Connection, request: wire.SetTag) -> None:
    key = row(conn, request.run_id or request.run_uuid, active=True).id
    put_tags(conn, key, {limits.key(request.key, "tag"): request.value})


def delete_tag(conn: Connection, request: wire.DeleteTag) -> None:
    key = row(conn, request.run_id, active=True).id
    if not conn.execute(delete(tag).where(tag.c.run == key, tag.c.key == request.key)).rowcount:
        raise NotFound(f"No tag with name: {request.key} in run with id {request.run_id}")


def log_batch(conn: Connection, request: wire.LogBatch) -> None:
    _check_batch(request)
    batch = _append_of(request.run_id, request.metrics) if request.metrics else None
    key = row(conn, request.run_id, active=True).id
    if request.params:
        put_params(conn, request.run_id, key, {each.key: each.value for each in request.params}, batch=True)
    if request.tags:
        put_tags(conn, key, {each.key: each.value for each in request.tags})
    if batch is not None:
        _log(conn, batch)
        _keep_of_models(conn, request.run_id, request.metrics)


def _check_batch(request: wire.LogBatch) -> None:
    limits.run_id(request.run_id)
    limits.sizes(metrics=len(request.metrics), params=len(request.params), tags=len(request.tags))
    limits.once([each.key for each in request.params])
    for place, each in enumerate(request.params):
        limits.key(each.key, "param", f"params[{place}].key")
    for place, label in enumerate(request.tags):
        limits.key(label.key, "tag", f"tags[{place}].key")


def log_model(conn: Connection, request: wire.LogModel) -> None:
    """The run's tag lists its models, each by what tells it from others."""
    key = row(conn, request.run_id, active=True).id
    try:
        model = json.loads(request.model_json)
    except (ValueError, RecursionError):
        raise Invalid(f"Malformed model info. \n {request.model_json[:200]} \n is not a valid JSON.") from None
    lacking = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if lacking:
        raise Invalid(f"Model json is missing mandatory fields: {sorted(lacking)}")
    flavors = model["flavors"].items() if isinstance(model["flavors"], dict) else ()
    entry = {name: model[name] for name in ("run_id", "artifact_path", "utc_time_created", "model_uuid") if name in model}
    entry["flavors"] = {name: _without_config(flavor) for name, flavor in flavors}
    kept = conn.execute(select(tag.c.value).where(tag.c.run == key, tag.c.key == HISTORY_TAG)).scalar()
    put_tags(conn, key, {HISTORY_TAG: json.dumps([*_listed(kept), entry])})


def _without_config(flavor: object) -> object:
    return {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor


def _listed(text: str | None) -> list[Any]:
    """The models that a tag lists; none if it was cut, as long ones are."""
    try:
        return list(json.loads(text or "[]"))
    except (ValueError, TypeError):
        return []


def log_inputs(conn: Connection, request: wire.LogInputs) -> None:
    limits.run_id(request.run_id)
    for each in request.datasets:
        _check_dataset(each)
    found = row(conn, request.run_id, active=True)
    put_datasets(conn, found.id, request.datasets)
    _put_models(conn, found.id, "input", [ModelOutput(each.model_id) for each in request.models])


def _check_dataset(entry: DatasetInput) -> None:
    for name, limit in limits.DATASET.items():
        limits.fits(getattr(entry.dataset, name), limit, name)
    for each in entry.tags:
        limits.fits(each.key, limits.INPUT_TAG_KEY, "key")
        limits.fits(each.value, limits.INPUT_TAG_VALUE, "value")


def log_outputs(conn: Connection, request: wire.LogOutputs) -> None:
    _put_models(conn, row(conn, request.run_id, active=True).id, "output", request.models)


def put_datasets(conn: Connection, key: int, datasets: list[DatasetInput]) -> None:
    """What a run reads, in that order. A name and a digest mean one data set in an experiment: what was said of it first stands."""
    seq = select(func.coalesce(func.max(dataset.c.seq), 0) + 1).where(dataset.c.run == key).scalar_subquery()
    experiment = select(run.c.experiment).where(run.c.id == key).scalar_subquery()
    other = run.alias()
    for each in datasets:
        name, digest = each.dataset.name, each.dataset.digest
        known = select(dataset.c.run, dataset.c.body).join(other, dataset.c.run == other.c.id)
        known = known.where(other.c.experiment == experiment, dataset.c.name == name, dataset.c.digest == digest)
        first = conn.execute(known.order_by(dataset.c.run != key).limit(1)).first()
        if first is None or first.run != key:
            same = each.dataset if first is None else read_dataset(first.body).dataset
            body = msgspec.json.encode(DatasetInput(same, each.tags))
            conn.execute(insert(dataset).values(run=key, name=name, digest=digest, context=_context(each), body=body, seq=seq))
            events.of_dataset(conn, key, name, digest, same.source)


def _context(data: DatasetInput) -> str | None:
    return next((each.value for each in data.tags if each.key == CONTEXT_TAG), None)


def _put_models(conn: Connection, key: int, direction: str, models: list[ModelOutput]) -> None:
    rows.upsert(
        conn, run_model, [{"run": key, "model_id": each.model_id, "direction": direction, "step": each.step} for each in models]
    )
