"""Logged models, which MLflow's 3.x clients create before they upload a model."""

from __future__ import annotations

from uuid import uuid4

import msgspec
from msgspec import structs
from sqlalchemy import Connection, delete, select, update

from noria.errors import NotFound
from noria.store import experiments, names, page
from noria.store.experiments import now
from noria.store.schema import logged_model
from noria.types import Param, Tag
from noria.wire import logged_models as wire

_decode = msgspec.json.Decoder(wire.Model).decode


def create(conn: Connection, request: wire.Create) -> wire.Got:
    return wire.Got(insert(conn, f"m-{uuid4().hex}", request, now()))


def insert(conn: Connection, model_id: str, request: wire.Create, time: int) -> wire.Model:
    """A new model under this id, made at `time`."""
    owner = experiments.row(conn, request.experiment_id)
    info = wire.Info(
        model_id, request.experiment_id, request.name or names.make(), time, time, f"{owner.artifact_location}/models/{model_id}/artifacts",
        "LOGGED_MODEL_PENDING", request.model_type, request.source_run_id, request.tags)  # fmt: skip
    model = wire.Model(info, wire.Data(request.params))
    values = {
        "id": model_id,
        "experiment": owner.id,
        "run": request.source_run_id,
        "name": info.name,
        "body": msgspec.json.encode(model),
    }
    conn.execute(logged_model.insert().values(values))
    return model


def _load(conn: Connection, model_id: str) -> wire.Model:
    body = conn.execute(select(logged_model.c.body).where(logged_model.c.id == model_id)).scalar()
    if body is None:
        raise NotFound(f"Logged model with ID '{model_id[:64]}' not found.")
    return _decode(body)


def _save(conn: Connection, model: wire.Model) -> None:
    conn.execute(update(logged_model).where(logged_model.c.id == model.info.model_id).values(body=msgspec.json.encode(model)))


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_load(conn, request.model_id))


def finalize(conn: Connection, request: wire.Finalize) -> wire.Got:
    model = _load(conn, request.model_id)
    model = structs.replace(model, info=structs.replace(model.info, status=request.status, last_updated_timestamp_ms=now()))
    _save(conn, model)
    return wire.Got(model)


def remove(conn: Connection, request: wire.Key) -> None:
    if not conn.execute(delete(logged_model).where(logged_model.c.id == request.model_id)).rowcount:
        raise NotFound(f"Logged model with ID '{request.model_id[:64]}' not found.")


def search(conn: Connection, request: wire.Search) -> wire.Found:
    limit, start = page.size(request.max_results, 1000), page.offset(request.page_token)
    ids = [experiments.number(each) for each in request.experiment_ids]
    query = select(logged_model.c.body).where(logged_model.c.experiment.in_(ids))
    models = sorted((_decode(body) for body in conn.execute(query).scalars()), key=lambda each: -each.info.creation_timestamp_ms)
    more = page.token(start + limit) if len(models) > start + limit else ""
    return wire.Found(models[start : start + limit], more)


def set_tags(conn: Connection, request: wire.SetTags) -> None:
    model = _load(conn, request.model_id)
    tags = {each.key: each for each in [*model.info.tags, *request.tags]}
    _save(conn, structs.replace(model, info=structs.replace(model.info, tags=list[Tag](tags.values()))))


def delete_tag(conn: Connection, request: wire.DeleteTag) -> None:
    model = _load(conn, request.model_id)
    kept = [each for each in model.info.tags if each.key != request.key]
    if len(kept) == len(model.info.tags):
        raise NotFound(f"No tag with key '{request.key}' found for logged model with ID '{request.model_id}'.")
    _save(conn, structs.replace(model, info=structs.replace(model.info, tags=kept)))


def log_params(conn: Connection, request: wire.LogParams) -> None:
    model = _load(conn, request.model_id)
    params = {each.key: each for each in [*model.data.params, *request.params]}
    _save(conn, structs.replace(model, data=structs.replace(model.data, params=list[Param](params.values()))))
