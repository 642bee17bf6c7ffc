"""Logged models, which MLflow's 3.x clients create before they upload a model."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from msgspec import UNSET, to_builtins
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, insert, null, or_, select, update

from noria.errors import Invalid, NotFound
from noria.store import experiments, fields, filters, names, page, rows
from noria.store.experiments import now
from noria.store.fields import Field
from noria.store.schema import logged_model, logged_model_metric, logged_model_param, logged_model_tag
from noria.types import Metric, Param, Tag, clamped
from noria.wire import logged_models as wire

VERSIONS_TAG = "mlflow.modelVersions"
_PENDING = "LOGGED_MODEL_PENDING"
_model, _metric = logged_model, logged_model_metric
NAMES = filters.Names(
    texts=("name", "model_id", "model_type", "status", "source_run_id"),
    numbers=("creation_timestamp", "last_updated_timestamp"),
    kinds=("metrics", "params", "tags"),
    aliases={"creation_time": "creation_timestamp", "creation_timestamp_ms": "creation_timestamp",
             "last_updated_timestamp_ms": "last_updated_timestamp"},
)  # fmt: skip
_COLUMNS: dict[str, ColumnElement[Any]] = {
    "name": _model.c.name, "model_id": _model.c.id, "model_type": _model.c.model_type, "status": _model.c.status,
    "source_run_id": _model.c.run, "creation_timestamp": _model.c.creation_time, "last_updated_timestamp": _model.c.last_update_time,
}  # fmt: skip
_PAIRS = {"params": logged_model_param, "tags": logged_model_tag}


def create(conn: Connection, request: wire.Create) -> wire.Got:
    if request.name and re.search(r"""[/:.%"']""", request.name):
        bad = ("/", ":", ".", "%", '"', "'")
        raise Invalid(f"Invalid model name ({request.name[:200]!r}) provided. Model name must be a non-empty string and cannot "
                      f"contain the following characters: {bad}")  # fmt: skip
    experiments.active(conn, request.experiment_id)
    return make(conn, f"m-{uuid4().hex}", request, now())


def make(conn: Connection, model_id: str, request: wire.Create, time: int) -> wire.Got:
    """A new model under this id, made at `time`."""
    owner = experiments.row(conn, request.experiment_id)
    values = {
        "id": model_id, "experiment": owner.id, "run": request.source_run_id, "name": request.name or names.make(),
        "model_type": request.model_type, "status": _PENDING, "creation_time": time, "last_update_time": time,
        "artifact_uri": experiments.below(owner.artifact_location, "models", model_id, "artifacts"), "lifecycle_stage": "active",
    }  # fmt: skip
    conn.execute(insert(_model).values(values))
    _put(conn, logged_model_tag, model_id, request.tags)
    _put(conn, logged_model_param, model_id, request.params)
    return get(conn, wire.Key(model_id))


def _put(conn: Connection, table: Any, model_id: str, entries: Sequence[Tag | Param]) -> None:
    fresh = {each.key: each.value for each in entries}
    rows.upsert(conn, table, [{"model": model_id, "key": key, "value": value} for key, value in fresh.items()])


def row(conn: Connection, model_id: str, *, deleted: bool = True) -> Row[Any]:
    """The model's row; NotFound without one, and for a deleted one unless those are asked for too."""
    found = conn.execute(select(_model).where(_model.c.id == model_id)).first()
    if found is None or (found.lifecycle_stage != "active" and not deleted):
        raise NotFound(f"Logged model with ID '{model_id[:64]}' not found.")
    return found


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_load(conn, [row(conn, request.model_id, deleted=request.allow_deleted)])[0])


def _load(conn: Connection, found: Sequence[Row[Any]]) -> list[wire.Model]:
    """Whole models, in the order given; a fixed number of queries however many."""
    ids = [each.id for each in found]
    tags = rows.pairs(conn, logged_model_tag, logged_model_tag.c.model, ids)
    params = rows.pairs(conn, logged_model_param, logged_model_param.c.model, ids)
    points = _points(conn, ids)
    return [
        wire.Model(
            wire.Info(each.id, str(each.experiment), each.name, each.creation_time, each.last_update_time, each.artifact_uri,
                      each.status, each.model_type, each.run, tags.get(each.id, [])),
            wire.Data([Param(p.key, p.value) for p in params.get(each.id, [])], points.get(each.id, [])),
        )
        for each in found
    ]  # fmt: skip


def _points(conn: Connection, ids: Sequence[str]) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    order = (_metric.c.key, _metric.c.timestamp, _metric.c.step, _metric.c.run)
    for chunk in rows.chunks(ids):
        for each in conn.execute(select(_metric).where(_metric.c.model.in_(chunk)).order_by(*order)):
            value = clamped(math.nan if each.value is None else each.value)
            point = Metric(each.key, value, each.timestamp, each.step, each.dataset_name or UNSET, each.dataset_digest or UNSET,
                           each.model, each.run)  # fmt: skip
            found.setdefault(each.model, []).append(point)
    return found


def keep_metrics(conn: Connection, run_id: str, points: Sequence[Metric]) -> None:
    """Keep those points of a run that say which model they are about; the same point again changes nothing."""
    about = [each for each in points if each.model_id]
    for model_id in {each.model_id for each in about}:
        row(conn, str(model_id))
    rows.upsert(conn, _metric, [
        {"model": each.model_id, "key": each.key, "timestamp": each.timestamp, "step": each.step, "run": run_id,
         "value": _null(float(each.value)), "dataset_name": each.dataset_name or "", "dataset_digest": each.dataset_digest or ""}
        for each in about
    ])  # fmt: skip


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _touch(conn: Connection, model_id: str, **values: Any) -> None:
    conn.execute(update(_model).where(_model.c.id == model_id).values(last_update_time=now(), **values))


def finalize(conn: Connection, request: wire.Finalize) -> wire.Got:
    row(conn, request.model_id)
    _touch(conn, request.model_id, status=request.status)
    return get(conn, wire.Key(request.model_id, allow_deleted=True))


def remove(conn: Connection, request: wire.Key) -> None:
    row(conn, request.model_id)
    _touch(conn, request.model_id, lifecycle_stage="deleted")


def set_tags(conn: Connection, request: wire.SetTags) -> None:
    row(conn, request.model_id)
    _put(conn, logged_model_tag, request.model_id, request.tags)


def delete_tag(conn: Connection, request: wire.DeleteTag) -> None:
    row(conn, request.model_id)
    own = logged_model_tag
    if not conn.execute(delete(own).where(own.c.model == request.model_id, own.c.key == request.key)).rowcount:
        raise NotFound(f"No tag with key '{request.key}' found for model with ID '{request.model_id}'.")


def log_params(conn: Connection, request: wire.LogParams) -> None:
    row(conn, request.model_id)
    _put(conn, logged_model_param, request.model_id, request.params)


def register(conn: Connection, model_id: str, name: str, version: int) -> None:
    """A model's tag lists the registered versions that were made of it, as MLflow's page reads them."""
    own = logged_model_tag
    kept = conn.execute(select(own.c.value).where(own.c.model == model_id, own.c.key == VERSIONS_TAG)).scalar()
    try:
        versions = json.loads(kept or "[]")
    except ValueError:
        versions = []  # Somebody set the tag by hand.
    entry = {"name": name, "version": version}
    versions += [] if entry in versions else [entry]
    _put(conn, own, model_id, [Tag(VERSIONS_TAG, json.dumps(versions))])


def search(conn: Connection, request: wire.Search) -> wire.Found:
    if not all(each.dataset_name for each in request.datasets):
        raise Invalid("`dataset_name` in the `datasets` clause must be specified.")
    limit, start = page.size(request.max_results or 100, 50_000), _offset(request)
    ids = [experiments.number(each) for each in request.experiment_ids]
    query = select(_model).where(_model.c.experiment.in_(ids), _model.c.lifecycle_stage == "active", _where(request))
    found = conn.execute(_ordered(query, request.order_by).offset(start).limit(limit + 1)).all()
    return wire.Found(_load(conn, found[:limit]), _token(request, start + limit) if len(found) > limit else "")


def _where(request: wire.Search) -> ColumnElement[bool]:
    """The language that MLflow has for logged models is its own: comparisons with AND between them."""
    complaint = "Invalid filter string"
    try:
        parts = filters.parse(request.filter, NAMES, complaint)
    except Invalid as error:
        message = error.message.replace("invalid comparator", "Invalid comparison operator")
        raise Invalid(message if message.startswith(complaint) else f"{complaint}: {message}") from None
    if not all(isinstance(part, filters.Comparison) for part in parts):
        raise Invalid(
            f"{complaint}: {request.filter[:200]!r}.", "Logged models are searched by comparisons with AND between them."
        )
    datasets = [_on(each.dataset_name, each.dataset_digest) for each in request.datasets]
    on = or_(*datasets) if datasets else _on("", "")
    condition = fields.condition(parts, lambda identifier: _field(identifier, on))
    if datasets and "metrics" not in {each.kind for each in filters.identifiers(parts)}:
        return and_(condition, exists().where(_metric.c.model == _model.c.id, on))
    return condition


def _field(identifier: filters.Identifier, on: ColumnElement[bool]) -> Field:
    kind, key = identifier.kind, identifier.key
    if kind == "attributes":
        return Field(_COLUMNS[key])
    if kind == "metrics":
        return Field(_metric.c.value, (_metric.c.model == _model.c.id, _metric.c.key == key, on), has_nan=True)
    table = _PAIRS[kind]
    return Field(table.c.value, (table.c.model == _model.c.id, table.c.key == key))


def _on(name: str, digest: str) -> ColumnElement[bool]:
    """Of points: that they were measured on this data set; all of them for ""."""
    said = [column == text for column, text in ((_metric.c.dataset_name, name), (_metric.c.dataset_digest, digest)) if text]
    return and_(_metric.c.key.is_not(null()), *said)


def _ordered(query: Select[Any], entries: Sequence[wire.OrderBy]) -> Select[Any]:
    """Missing values come last in either direction. Ties: newest first."""
    for each in entries:
        column = _sort_key(each)
        query = query.order_by(column.is_(null()), column.asc() if each.ascending else column.desc())
    return query.order_by(_model.c.creation_time.desc(), _model.c.id)


def _sort_key(entry: wire.OrderBy) -> ColumnElement[Any]:
    kind, dot, key = entry.field_name.partition(".")
    name = NAMES.aliases.get(kind, kind)
    if not dot and name in _COLUMNS:
        return _COLUMNS[name]
    if kind != "metrics":
        more = ". Only metrics are supported." if dot else f". It is one of {', '.join(_COLUMNS)}, or metrics.NAME."
        raise Invalid(f"Invalid order by field name: {entry.field_name}{more}")
    latest = select(_metric.c.value).where(_metric.c.model == _model.c.id, _metric.c.key == key.strip('`"'))
    latest = latest.where(_on(entry.dataset_name, entry.dataset_digest))
    return latest.order_by(_metric.c.timestamp.desc(), _metric.c.step.desc(), _metric.c.run).limit(1).scalar_subquery()


_SAME = {
    "experiment_ids": "Experiment IDs in the page token do not match the requested experiment IDs.",
    "filter": "Filter string in the page token does not match the requested filter string.",
    "order_by": "Order by in the page token does not match the requested order by.",
}


def _token(request: wire.Search, start: int) -> str:
    """Where the next page begins, and of what."""
    same = {name: to_builtins(getattr(request, name)) for name in _SAME}
    return base64.b64encode(json.dumps({"offset": start, **same}).encode()).decode()


def _offset(request: wire.Search) -> int:
    """Where this page begins; Invalid for a token of another search."""
    start = page.offset(request.page_token)
    if start:
        same = json.loads(base64.b64decode(request.page_token))
        for name, sentence in _SAME.items():
            if same.get(name) != to_builtins(getattr(request, name)):
                raise Invalid(sentence, "Change nothing between two pages.")
    return start
