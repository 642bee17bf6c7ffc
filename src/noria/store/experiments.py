"""Experiments."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Text, cast, delete, select, update
from sqlalchemy.exc import IntegrityError

from noria.errors import AlreadyExists, Invalid, NotFound
from noria.store import fields, filters, page, rows
from noria.store.fields import Field
from noria.store.schema import dataset, experiment, experiment_tag, run
from noria.types import DatasetInput, Experiment, Tag
from noria.wire import artifacts, limits
from noria.wire import experiments as wire

DEFAULT = "Default"
_EXPERIMENTS, _SUMMARIES = 20, 1000
"""How many experiments may be asked about at once, and how many data sets are told of."""
_read = msgspec.json.Decoder(DatasetInput).decode


def now() -> int:
    return int(time.time() * 1000)


def seed(conn: Connection) -> None:
    """A server has experiment 0 from the start."""
    if conn.execute(select(experiment.c.id).where(experiment.c.id == 0)).first() is None:
        _insert(conn, DEFAULT, "", 0)


def create(conn: Connection, request: wire.Create) -> wire.Created:
    tags = [_tag(each.key, each.value) for each in request.tags]
    location = _location(request.artifact_location) if request.artifact_location else ""
    experiment_id = _insert(conn, limits.fits(request.name, limits.EXPERIMENT_NAME, "name"), location)
    rows.upsert(conn, experiment_tag, [{"experiment": experiment_id, "key": each.key, "value": each.value} for each in tags])
    return wire.Created(str(experiment_id))


def _tag(key: str, value: str) -> Tag:
    return Tag(limits.key(key, "tag"), limits.fits(value, limits.EXPERIMENT_TAG_VALUE, "value"))


def _location(text: str) -> str:
    """Where clients are to keep artifacts. This server itself reads and writes its own scheme alone, so a path here is the clients'."""
    parts = urlsplit(text)
    local = parts.scheme in ("", "file")
    if parts.fragment or ";" in parts.path.rpartition("/")[2]:
        raise Invalid("'artifact_location' URL can't include fragments or params.", "Leave them out.")
    if parts.scheme == "runs":
        raise Invalid(f"Artifact location cannot be a runs:/ URI. Given: '{text[:200]}'", "Name the folder itself.")
    if ".." in unquote(parts.path).split("/"):
        raise Invalid(f"The artifact location '{text[:200]}' leads elsewhere with '..'.", "Write the path that is meant.")
    if len(text) > limits.LOCATION:
        raise Invalid(
            f"Invalid artifact path length. The length of the artifact path cannot be greater than {limits.LOCATION} characters.",
            f"It has {len(text)}: shorten it.",
        )
    if not local or parts.netloc or parts.path.startswith("/"):
        return text
    return parts._replace(path=f"{Path.cwd()}/{parts.path}").geturl()


def below(location: str, *names: str) -> str:
    """A location inside another one; what follows a '?' stays behind it."""
    path, mark, query = location.partition("?")
    return "/".join((path.rstrip("/"), *names)) + mark + query


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
    if not re.fullmatch(r"-?[0-9]{1,18}", experiment_id):
        raise Invalid(f"Invalid experiment ID '{experiment_id[:64]}'. Experiment ID must be a valid integer.")
    return int(experiment_id)


def row(conn: Connection, experiment_id: str) -> Row[Any]:
    found = conn.execute(select(experiment).where(experiment.c.id == number(experiment_id))).first()
    if found is None:
        raise NotFound(f"No Experiment with id={number(experiment_id)} exists", "`noria runs list` shows what there is.")
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
    name = limits.fits(request.new_name, limits.EXPERIMENT_NAME, "name")
    if row(conn, request.experiment_id).lifecycle_stage != "active":
        raise Invalid("Cannot rename a non-active experiment.", "Restore it first.")
    changed = update(experiment).where(experiment.c.id == number(request.experiment_id))
    try:
        conn.execute(changed.values(name=name, last_update_time=now()))
    except IntegrityError:
        raise AlreadyExists(f"Experiment(name={name}) already exists.", "Choose another name.") from None


def active(conn: Connection, experiment_id: str) -> Row[Any]:
    found = row(conn, experiment_id)
    if found.lifecycle_stage != "active":
        raise Invalid(
            f"The experiment {experiment_id} must be in the 'active' state. Current state is deleted.", "Restore it first."
        )
    return found


def _stage(conn: Connection, experiment_id: str, stage: str) -> None:
    key = number(experiment_id)
    conn.execute(update(experiment).where(experiment.c.id == key).values(lifecycle_stage=stage, last_update_time=now()))
    conn.execute(update(run).where(run.c.experiment == key).values(lifecycle_stage=stage))


def remove(conn: Connection, request: wire.Get) -> None:
    if request.experiment_id == "0":
        raise Invalid("The Default experiment cannot be deleted.", "Delete its runs instead.")
    _in_stage(conn, request.experiment_id, "active")
    _stage(conn, request.experiment_id, "deleted")


def restore(conn: Connection, request: wire.Get) -> None:
    _in_stage(conn, request.experiment_id, "deleted")
    _stage(conn, request.experiment_id, "active")


def _in_stage(conn: Connection, experiment_id: str, stage: str) -> None:
    if row(conn, experiment_id).lifecycle_stage != stage:
        raise NotFound(f"No Experiment with id={experiment_id} exists that is {stage}")


def set_tag(conn: Connection, request: wire.SetTag) -> None:
    tag = _tag(request.key, request.value)
    key = active(conn, request.experiment_id).id
    rows.upsert(conn, experiment_tag, [{"experiment": key, "key": tag.key, "value": tag.value}])


def delete_tag(conn: Connection, request: wire.DeleteTag) -> None:
    active(conn, request.experiment_id)
    gone = conn.execute(
        delete(experiment_tag).where(
            experiment_tag.c.experiment == number(request.experiment_id), experiment_tag.c.key == request.key
        )
    )
    if not gone.rowcount:
        raise NotFound(f"No tag with name: {request.key} in experiment with id {request.experiment_id}")


def search_datasets(conn: Connection, request: wire.SearchDatasets) -> wire.FoundDatasets:
    """What the runs of some experiments read, each once."""
    asked = request.experiment_ids
    if not asked:
        raise Invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(asked) > _EXPERIMENTS:
        raise Invalid(f"SearchDatasets request cannot specify more than {_EXPERIMENTS} experiment_ids. Received {len(asked)} "
                      "experiment_ids.", "Ask in several requests.")  # fmt: skip
    query = select(run.c.experiment, dataset.c.body).join(run, dataset.c.run == run.c.id).distinct()
    found: dict[wire.DatasetSummary, None] = {}
    for key, body in conn.execute(query.where(run.c.experiment.in_([number(each) for each in asked]))):
        read = _read(body)
        context = next((each.value for each in read.tags if each.key == "mlflow.data.context"), "")
        found[wire.DatasetSummary(str(key), read.dataset.name, read.dataset.digest, context)] = None
        if len(found) == _SUMMARIES:
            break
    return wire.FoundDatasets(list(found))
