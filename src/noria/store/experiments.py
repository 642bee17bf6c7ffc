"""Experiments."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, delete, select, update
from sqlalchemy.exc import IntegrityError

from noria.errors import AlreadyExists, Invalid, NotFound
from noria.store import fields, filters, page, rows
from noria.store.fields import Field
from noria.store.schema import experiment, experiment_tag, run
from noria.types import Experiment, Tag
from noria.wire import artifacts, limits
from noria.wire import experiments as wire

DEFAULT = "Default"


def now() -> int:
    return int(time.time() * 1000)


def seed(conn: Connection) -> None:
    """A server has experiment 0 from the start."""
    if conn.execute(select(experiment.c.id).where(experiment.c.id == 0)).first() is None:
        _insert(conn, DEFAULT, "", 0)


def create(conn: Connection, request: wire.Create) -> wire.Created:
    name = request.name.strip()
    if not name:
        raise Invalid(
            "Missing value for required parameter 'name'. See the API docs for more information about request parameters."
        )
    if len(name) > limits.EXPERIMENT_NAME:
        raise Invalid(f"Experiment name has {len(name)} characters; the limit is {limits.EXPERIMENT_NAME}.", "Shorten it.")
    if request.artifact_location and "://" not in request.artifact_location.replace("mlflow-artifacts:/", "://"):
        raise Invalid(
            f"artifact_location '{request.artifact_location[:80]}' is a path on this server, which clients may not choose.",
            "Leave it out: artifacts are then kept by the server.",
        )
    experiment_id = _insert(conn, name, request.artifact_location)
    for tag in request.tags:
        set_tag(conn, wire.SetTag(str(experiment_id), tag.key, tag.value))
    return wire.Created(str(experiment_id))


def _insert(conn: Connection, name: str, location: str, wanted: int | None = None) -> int:
    time_ms = now()
    values = {
        "name": name,
        "artifact_location": location,
        "lifecycle_stage": "active",
        "creation_time": time_ms,
        "last_update_time": time_ms,
    }
    if wanted is not None:
        values["id"] = wanted
    try:
        experiment_id = rows.add(conn, experiment, values)
    except IntegrityError:
        raise AlreadyExists(
            f"Experiment(name={name}) already exists.", "Use it, or choose another name; deleted ones keep theirs."
        ) from None
    if not location:
        conn.execute(
            update(experiment)
            .where(experiment.c.id == experiment_id)
            .values(artifact_location=f"{artifacts.SCHEME}{experiment_id}")
        )
    return experiment_id


def number(experiment_id: str) -> int:
    return int(experiment_id) if experiment_id.isascii() and experiment_id.isdigit() and len(experiment_id) < 19 else -1


def row(conn: Connection, experiment_id: str) -> Row[Any]:
    found = conn.execute(select(experiment).where(experiment.c.id == number(experiment_id))).first()
    if found is None:
        raise NotFound(f"No Experiment with id={experiment_id[:64]} exists.", "`noria runs list` shows what there is.")
    return found


def get(conn: Connection, request: wire.Get) -> wire.Got:
    return wire.Got(_load(conn, [row(conn, request.experiment_id)])[0])


def get_by_name(conn: Connection, request: wire.GetByName) -> wire.Got:
    found = conn.execute(select(experiment).where(experiment.c.name == request.experiment_name)).first()
    if found is None:
        raise NotFound(f"Could not find experiment with name '{request.experiment_name[:500]}'")
    return wire.Got(_load(conn, [found])[0])


def named(conn: Connection, name: str) -> int:
    """The experiment of this name, made if it is missing and restored if it was deleted."""
    name = limits.cut(name.strip(), limits.EXPERIMENT_NAME) or DEFAULT
    found = conn.execute(select(experiment).where(experiment.c.name == name)).first()
    if found is None:
        return _insert(conn, name, "")
    if found.lifecycle_stage != "active":
        conn.execute(update(experiment).where(experiment.c.id == found.id).values(lifecycle_stage="active"))
    return int(found.id)


def _load(conn: Connection, found: list[Row[Any]]) -> list[Experiment]:
    tags = rows.pairs(conn, experiment_tag, experiment_tag.c.experiment, [each.id for each in found])
    return [
        Experiment(
            str(each.id), each.name, each.artifact_location, each.lifecycle_stage, each.creation_time, each.last_update_time,
            tags.get(each.id, []),
        )
        for each in found
    ]  # fmt: skip


NAMES = filters.Names(texts=("name", "experiment_id"), numbers=("creation_time", "last_update_time"))
_ATTRIBUTES = {
    "name": Field(experiment.c.name),
    "experiment_id": Field(cast(experiment.c.id, Text)),
    "creation_time": Field(experiment.c.creation_time),
    "last_update_time": Field(experiment.c.last_update_time),
}


def search(conn: Connection, request: wire.Search) -> wire.Found:
    limit, start = page.size(request.max_results, 50_000), page.offset(request.page_token)
    query = select(experiment).where(fields.condition(filters.parse(request.filter, NAMES), _field))
    if request.view_type != "ALL":
        query = query.where(experiment.c.lifecycle_stage == ("active" if request.view_type == "ACTIVE_ONLY" else "deleted"))
    query = query.order_by(*_order(request.order_by)).offset(start).limit(limit + 1)
    found = list(conn.execute(query))
    return wire.Found(_load(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


def _order(entries: list[str]) -> list[ColumnElement[Any]]:
    """Newest first, and of equals the lower id; in an order that was asked for, the higher id."""
    if not entries:
        return [experiment.c.creation_time.desc(), experiment.c.id.asc()]
    terms: list[ColumnElement[Any]] = []
    for identifier, ascending in filters.order(entries, NAMES):
        field = Field(experiment.c.id) if identifier.key == "experiment_id" else _field(identifier)
        terms += field.order(ascending=ascending)
    return [*terms, experiment.c.id.desc()]


def _field(identifier: filters.Identifier) -> Field:
    if identifier.kind == "attributes":
        return _ATTRIBUTES[identifier.key]
    own = experiment_tag.c
    return Field(own.value, (own.experiment == experiment.c.id, own.key == identifier.key))


def rename(conn: Connection, request: wire.Update) -> None:
    _active(conn, request.experiment_id)
    values = {"name": request.new_name, "last_update_time": now()} if request.new_name else {"last_update_time": now()}
    try:
        conn.execute(update(experiment).where(experiment.c.id == number(request.experiment_id)).values(values))
    except IntegrityError:
        raise AlreadyExists(f"Experiment(name={request.new_name}) already exists.", "Choose another name.") from None


def _active(conn: Connection, experiment_id: str) -> Row[Any]:
    found = row(conn, experiment_id)
    if found.lifecycle_stage != "active":
        raise Invalid(
            f"The experiment {experiment_id} must be in the 'active' state. Current state is deleted.", "Restore it first."
        )
    return found


def _stage(conn: Connection, experiment_id: str, stage: str) -> None:
    row(conn, experiment_id)
    key = number(experiment_id)
    conn.execute(update(experiment).where(experiment.c.id == key).values(lifecycle_stage=stage, last_update_time=now()))
    conn.execute(update(run).where(run.c.experiment == key).values(lifecycle_stage=stage))


def remove(conn: Connection, request: wire.Get) -> None:
    if request.experiment_id == "0":
        raise Invalid("The Default experiment cannot be deleted.", "Delete its runs instead.")
    _active(conn, request.experiment_id)
    _stage(conn, request.experiment_id, "deleted")


def restore(conn: Connection, request: wire.Get) -> None:
    _stage(conn, request.experiment_id, "active")


def set_tag(conn: Connection, request: wire.SetTag) -> None:
    _active(conn, request.experiment_id)
    tag = Tag(limits.key(request.key, "tag"), request.value)
    rows.upsert(
        conn,
        experiment_tag,
        [{"experiment": number(request.experiment_id), "key": tag.key, "value": limits.cut(tag.value, 20_000)}],
    )


def delete_tag(conn: Connection, request: wire.DeleteTag) -> None:
    _active(conn, request.experiment_id)
    gone = conn.execute(
        delete(experiment_tag).where(
            experiment_tag.c.experiment == number(request.experiment_id), experiment_tag.c.key == request.key
        )
    )
    if not gone.rowcount:
        raise NotFound(f"No tag with name: {request.key} in experiment with id {request.experiment_id}")
