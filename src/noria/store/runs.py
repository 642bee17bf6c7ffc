"""Runs, with their params, tags and inputs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, not_, null, select, update

from noria.errors import Invalid, NotFound
from noria.store import chunks, experiments, filters, metrics, names, page, rows
from noria.store.chunks import Points
from noria.store.schema import dataset, latest, param, run, run_model, tag
from noria.types import (
    DatasetInput,  # fmt: skip
    Metric,
    ModelInput,
    ModelOutput,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunStatus,
    number,
)
from noria.wire import limits
from noria.wire import runs as wire

NAME_TAG = "mlflow.runName"
_BULK_RUNS, _SAMPLES = 100, 2500


def create(conn: Connection, request: wire.Create) -> wire.Got:
    tags = {each.key: each.value for each in request.tags}
    if request.run_name and tags.get(NAME_TAG, request.run_name) != request.run_name:
        raise Invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{request.run_name}', mlflow.runName='{tags[NAME_TAG]}')."
        )
    owner = experiments.row(conn, request.experiment_id)
    if owner.lifecycle_stage != "active":
        raise Invalid(
            f"The experiment {request.experiment_id} must be in the 'active' state. Current state is deleted.",
            "Restore it first.",
        )
    name = request.run_name or tags.get(NAME_TAG, "")
    uuid = insert_run(conn, uuid4().hex, owner.id, name, request.user_id, request.start_time, tags)
    return get(conn, wire.Get(uuid))


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
        "artifact_uri": f"{owner.artifact_location}/{uuid}/artifacts", "lifecycle_stage": "active",
    }  # fmt: skip
    key = rows.add(conn, run, values)
    put_tags(conn, key, {**tags, NAME_TAG: name})
    return uuid


def row(conn: Connection, uuid: str, *, active: bool = False) -> Row[Any]:
    """The run's row; NotFound without one, Invalid if it is deleted and `active` is asked for."""
    if not uuid:
        raise Invalid(
            "Missing value for required parameter 'run_id'. See the API docs for more information about request parameters."
        )
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
    return wire.Got(load(conn, [row(conn, request.run_id or request.run_uuid)])[0])


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
    return wire.Got(load(conn, found)[0])


def load(conn: Connection, found: Sequence[Row[Any]]) -> list[Run]:
    """Whole runs, in the order given; a fixed number of queries however many."""
    keys = [each.id for each in found]
    values: dict[int, list[Metric]] = {}
    for chunk in rows.chunks(keys):
        for key, name, value, timestamp, step in metrics.last(conn, chunk):
            values.setdefault(key, []).append(Metric(name, number(value), timestamp, step))
    params = rows.pairs(conn, param, param.c.run, keys)
    tags = rows.pairs(conn, tag, tag.c.run, keys)
    inputs, outputs = _links(conn, keys)
    return [
        Run(
            _info(each),
            RunData(values.get(each.id, []), [Param(p.key, p.value) for p in params.get(each.id, [])], tags.get(each.id, [])),
            inputs.get(each.id, RunInputs()),
            outputs.get(each.id, RunOutputs()),
        )
        for each in found
    ]


def _info(each: Row[Any]) -> RunInfo:
    return RunInfo(
        each.uuid, each.uuid, each.name, str(each.experiment), each.user_id, each.status, each.start_time, each.artifact_uri,
        each.lifecycle_stage, UNSET if each.end_time is None else each.end_time)  # fmt: skip


def _links(conn: Connection, keys: list[int]) -> tuple[dict[int, RunInputs], dict[int, RunOutputs]]:
    """Data sets and models that runs read, and models that they wrote."""
    data: dict[int, list[DatasetInput]] = {}
    read: dict[int, list[ModelInput]] = {}
    written: dict[int, list[ModelOutput]] = {}
    for chunk in rows.chunks(keys):
        for key, body in conn.execute(select(dataset.c.run, dataset.c.body).where(dataset.c.run.in_(chunk))):
            data.setdefault(key, []).append(msgspec.json.decode(body, type=DatasetInput))
        for each in conn.execute(select(run_model).where(run_model.c.run.in_(chunk))):
            if each.direction == "input":
                read.setdefault(each.run, []).append(ModelInput(each.model_id))
            else:
                written.setdefault(each.run, []).append(ModelOutput(each.model_id, each.step))
    inputs = {key: RunInputs(data.get(key, []), read.get(key, [])) for key in data.keys() | read.keys()}
    return inputs, {key: RunOutputs(models) for key, models in written.items()}


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
    if request.run_name:
        put_tags(conn, key, {NAME_TAG: request.run_name})
    return wire.Updated(_info(row(conn, uuid)))


def finish(conn: Connection, uuid: str, status: RunStatus, end_time: int) -> None:
    conn.execute(update(run).where(run.c.uuid == uuid).values(status=status, end_time=end_time))


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
    rows.upsert(
        conn, tag, [{"run": key, "key": name, "value": limits.cut(value, limits.TAG_VALUE)} for name, value in tags.items()]
    )
    if NAME_TAG in tags:
        conn.execute(update(run).where(run.c.id == key).values(name=tags[NAME_TAG]))


def put_params(conn: Connection, uuid: str, key: int, params: dict[str, str]) -> None:
    """Params are written once: the same value again is fine, another one is Invalid."""
    fresh = {name: limits.cut(value, limits.PARAM_VALUE) for name, value in params.items()}
    rows.keep(conn, param, [{"run": key, "key": name, "value": value} for name, value in fresh.items()])
    kept = conn.execute(select(param.c.key, param.c.value).where(param.c.run == key, param.c.key.in_(fresh)))
    for name, value in kept:
        if value != fresh[name]:
            raise Invalid(
                f"Changing param values is not allowed. Param with key='{name}' was already logged with value='{value}' for run "
                f"ID='{uuid}'. Attempted logging new value '{fresh[name]}'."
            )


def keep_params(conn: Connection, key: int, params: dict[str, str]) -> None:
    """Params from a spool: a job that is tried again logs its params again, and the first values stand."""
    rows.keep(
        conn, param, [{"run": key, "key": name, "value": limits.cut(value, limits.PARAM_VALUE)} for name, value in params.items()]
    )


def packed(request: wire.LogBatch | wire.LogMetric) -> metrics.Append | None:
    """A request that has metrics alone, as the store takes them all at once; None for any other."""
    if isinstance(request, wire.LogMetric):
        point = Metric(request.key, request.value, request.timestamp, request.step)
        return _append_of(request.run_id or request.run_uuid, [point])
    if request.params or request.tags or not request.metrics:
        return None
    _check_sizes(request)
    return _append_of(request.run_id, request.metrics)


_good: set[str] = set()
"""Names of metrics that were found to be good: the same few come over and over."""


def _append_of(uuid: str, points: list[Metric]) -> metrics.Append:
    names = [each.key for each in points]
    fresh = set(names) - _good
    if fresh:
        for name in names:
            limits.key(name)
        if len(_good) > 100_000:
            _good.clear()
        _good.update(fresh)
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
    return metrics.Append(uuid, "\n".join(names), body)


def log_metric(conn: Connection, request: wire.LogMetric) -> None:
    _log(conn, packed(request))


def _log(conn: Connection, batch: metrics.Append | None) -> None:
    if batch is not None:
        metrics.insert(conn, [(row(conn, batch.uuid, active=True).id, batch.names, batch.body)])


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
        put_params(conn, request.run_id, key, {each.key: each.value for each in request.params})
    if request.tags:
        put_tags(conn, key, {each.key: each.value for each in request.tags})
    _log(conn, batch)


def _check_sizes(request: wire.LogBatch) -> None:
    sizes = {"metrics": len(request.metrics), "params": len(request.params), "tags": len(request.tags)}
    for what, size in sizes.items():
        if size > limits.BATCH[what]:
            raise Invalid(f"A batch logging request can contain at most {limits.BATCH[what]} {what}. Got {size} {what}.",
                          "Split the batch up.")  # fmt: skip
    total = sum(sizes.values())
    if total > limits.BATCH_TOTAL:
        raise Invalid(
            f"A batch logging request can contain at most {limits.BATCH_TOTAL} metrics, params, and tags in total. Got {total}."
        )


def _check_batch(request: wire.LogBatch) -> None:
    _check_sizes(request)
    for param_ in request.params:
        limits.key(param_.key, "param")
    for tag_ in request.tags:
        limits.key(tag_.key, "tag")
    keys = [each.key for each in request.params]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise Invalid(
            f"Duplicate parameter keys have been submitted: {twice}.",
            "Please ensure the request contains only one param value per param key.",
        )


def log_inputs(conn: Connection, request: wire.LogInputs) -> None:
    key = row(conn, request.run_id, active=True).id
    put_datasets(conn, key, request.datasets)
    _put_models(conn, key, "input", [ModelOutput(each.model_id) for each in request.models])


def log_outputs(conn: Connection, request: wire.LogOutputs) -> None:
    _put_models(conn, row(conn, request.run_id, active=True).id, "output", request.models)


def put_datasets(conn: Connection, key: int, datasets: list[DatasetInput]) -> None:
    rows.upsert(conn, dataset, [
        {"run": key, "name": each.dataset.name, "digest": each.dataset.digest, "body": msgspec.json.encode(each)} for each in datasets
    ])  # fmt: skip


def _put_models(conn: Connection, key: int, direction: str, models: list[ModelOutput]) -> None:
    rows.upsert(
        conn, run_model, [{"run": key, "model_id": each.model_id, "direction": direction, "step": each.step} for each in models]
    )


def get_history(conn: Connection, request: wire.GetHistory) -> wire.History:
    start = page.offset(request.page_token)
    size = page.size(request.max_results, 25_000) if request.max_results else 2**31
    key = row(conn, request.run_id or request.run_uuid).id
    points, more = metrics.history(conn, key, request.metric_key, start, size)
    return wire.History(_metrics(request.metric_key, points), page.token(start + size) if more else "")


def _metrics(key: str, points: Points) -> list[Metric]:
    columns = metrics.numbers(points.values), points.times.tolist(), points.steps.tolist()
    return [Metric(key, value, time, step) for value, time, step in zip(*columns, strict=True)]


def get_bulk(conn: Connection, request: wire.GetBulk) -> wire.Bulk:
    if not request.run_id:
        raise Invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(request.run_id) > _BULK_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulk request cannot specify more than {_BULK_RUNS} run_ids. Received {len(request.run_id)} run_ids."
        )
    found: list[wire.OfRun] = []
    for uuid in sorted(set(request.run_id)):
        left = min(request.max_results, 25_000) - len(found)
        if left > 0:
            points, _ = metrics.history(conn, row(conn, uuid).id, request.metric_key, 0, left)
            found += _of_run(request.metric_key, points, uuid)
    return wire.Bulk(found)


def get_interval(conn: Connection, request: wire.GetInterval) -> wire.Bulk:
    low, high = request.start_step, request.end_step
    if not request.run_ids:
        raise Invalid(
            "Missing value for required parameter 'run_ids'. See the API docs for more information about request parameters."
        )
    if len(request.run_ids) > _BULK_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {_BULK_RUNS} run_ids. Received {len(request.run_ids)} run_ids."
        )
    if not 1 <= request.max_results <= _SAMPLES:
        raise Invalid(f"max_results must be between 1 and {_SAMPLES}.")
    if low is UNSET and high is UNSET:
        low, high = metrics.LEAST, metrics.MOST
    elif low is UNSET or high is UNSET:
        raise Invalid("If either start step or end step are specified, both must be specified.")
    elif low > high:
        raise Invalid(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    found: list[wire.OfRun] = []
    for uuid in request.run_ids:
        points = metrics.everything(conn, row(conn, uuid).id, request.metric_key, low, high)
        found += _of_run(request.metric_key, chunks.sample(points, request.max_results), uuid)
    return wire.Bulk(found)


def _of_run(key: str, points: Points, uuid: str) -> list[wire.OfRun]:
    columns = metrics.numbers(points.values), points.times.tolist(), points.steps.tolist()
    return [wire.OfRun(key, value, time, step, uuid) for value, time, step in zip(*columns, strict=True)]


def curve(conn: Connection, request: wire.Curve) -> wire.Points:
    return metrics.curve(conn, row(conn, request.run_id).id, request)


def search(conn: Connection, request: wire.Search) -> wire.Found:
    limit, start = page.size(request.max_results, 50_000), page.offset(request.page_token)
    ids = [experiments.number(each) for each in request.experiment_ids]
    query = select(run).where(run.c.experiment.in_(ids), filters.where(request.filter, _resolve))
    if request.run_view_type != "ALL":
        query = query.where(run.c.lifecycle_stage == ("active" if request.run_view_type == "ACTIVE_ONLY" else "deleted"))
    query = _ordered(query, request.order_by).offset(start).limit(limit + 1)
    found = conn.execute(query).all()
    return wire.Found(load(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


_TEXT = {
    "run_id": run.c.uuid,
    "run_name": run.c.name,
    "status": run.c.status,
    "user_id": run.c.user_id,
    "artifact_uri": run.c.artifact_uri,
}
_TIME = {"start_time": run.c.start_time, "created": run.c.start_time, "end_time": run.c.end_time}
_ALIASES = {"Run name": "run_name", "run name": "run_name", "Run Name": "run_name", "Created": "start_time", "Status": "status"}
_PAIRS = {"params": param, "tags": tag}


def _column(identifier: filters.Identifier) -> ColumnElement[Any]:
    name = _ALIASES.get(identifier.key, identifier.key)
    columns: dict[str, ColumnElement[Any]] = {**_TEXT, **_TIME}
    if name not in columns:
        raise filters.unknown(identifier, list(columns))
    return columns[name]


def _resolve(clause: filters.Comparison) -> ColumnElement[bool]:
    kind, key = clause.left.kind, clause.left.key
    if kind == "metrics":
        return exists().where(latest.c.run == run.c.id, latest.c.key == key, filters.number_condition(latest.c.value, clause))
    if kind in _PAIRS:
        table = _PAIRS[kind]
        present = and_(table.c.run == run.c.id, table.c.key == key)
        if clause.op in ("IS", "IS NOT"):
            return not_(exists().where(present)) if clause.op == "IS" else exists().where(present)
        return exists().where(present, filters.text_condition(table.c.value, clause))
    if kind == "datasets":
        return _dataset_condition(clause)
    column = _column(clause.left)
    numeric = _ALIASES.get(key, key) in _TIME
    return filters.number_condition(column, clause) if numeric else filters.text_condition(column, clause)


def _dataset_condition(clause: filters.Comparison) -> ColumnElement[bool]:
    columns: dict[str, ColumnElement[Any]] = {
        "name": dataset.c.name,
        "digest": dataset.c.digest,
        "context": func.json_extract(dataset.c.body, "$.tags[0].value"),
    }
    if clause.left.key not in columns:
        raise filters.unknown(clause.left, list(columns))
    return exists().where(dataset.c.run == run.c.id, filters.text_condition(columns[clause.left.key], clause))


def _ordered(query: Select[Any], entries: list[str]) -> Select[Any]:
    """Missing values come last in either direction; of metrics, NaN just before them. Ties: newest first."""
    for identifier, ascending in filters.order(entries):
        if identifier.kind == "metrics":
            own = latest.alias()
            query = query.outerjoin(own, and_(own.c.run == run.c.id, own.c.key == identifier.key))
            query = query.order_by(own.c.run.is_(null()), own.c.value.is_(null()))
            column: ColumnElement[Any] = own.c.value
        elif identifier.kind in _PAIRS:
            pair = _PAIRS[identifier.kind].alias()
            query = query.outerjoin(pair, and_(pair.c.run == run.c.id, pair.c.key == identifier.key)).order_by(
                pair.c.run.is_(null())
            )
            column = pair.c.value
        else:
            column = _column(identifier)
            query = query.order_by(column.is_(null()))
        query = query.order_by(column.asc() if ascending else column.desc())
    return query.order_by(run.c.start_time.desc(), run.c.uuid)
