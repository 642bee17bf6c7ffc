"""What is written to the registry, but for stages: models, versions, tags and aliases. Each change has its line in the log.

`user` is who does it, as far as that is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from noria.errors import AlreadyExists, Invalid
from noria.store import at_once, changes, database, logged_models, registry, rows, runs, sources, webhooks
from noria.store.experiments import now
from noria.store.schema import alias, model_version, model_version_tag, registered_model, registered_model_tag
from noria.store.sources import PROMPT_TAG
from noria.types import RegisteredModel, Tag
from noria.wire import limits
from noria.wire import registry as wire
from noria.wire.fit import missing

_model, _version = registered_model, model_version
_USER_TAG = "mlflow.user"
_NEXT = (
    "UPDATE registered_model SET last_version = last_version + 1, last_update_time = ? WHERE name = ? RETURNING id, last_version"
)
# Made of the names of our own columns alone.
_INSERT_VERSION = f"""
INSERT INTO model_version ({", ".join(registry.VersionRow._fields[1:-1])}) VALUES ({", ".join("?" * 11)}) RETURNING id
"""  # noqa: S608


def create(conn: Connection, request: wire.CreateModel, user: str = "") -> wire.Model:
    name, time = limits.model_name(request.name), now()
    tags = [_tag(each.key, each.value) for each in request.tags]
    if (there := conn.execute(select(_model.c.id).where(_model.c.name == name)).scalar()) is not None:
        raise _taken(conn, name, there, tags)
    values = {
        "name": name,
        "description": request.description,
        "creation_time": time,
        "last_update_time": time,
        "last_version": 0,
    }
    key = rows.add(conn, _model, values)
    rows.insert(conn, registered_model_tag, ("model", "key", "value"), [(key, *pair) for pair in _values_of(tags).items()])
    changes.add(conn, "created", name, user=user or _values_of(tags).get(_USER_TAG, ""))
    webhooks.tell(conn, "registered_model", "created", name, lambda: {
        "name": name, "tags": _values_of(tags), "description": request.description})  # fmt: skip
    return wire.Model(RegisteredModel(name, time, time, request.description, [], _sorted(tags)))


def _taken(conn: Connection, name: str, key: int, tags: list[Tag]) -> AlreadyExists:
    old = _is_prompt(rows.pairs(conn, registered_model_tag, registered_model_tag.c.model, [key]).get(key, []))
    kinds = ["Prompt" if prompt else "Registered Model" for prompt in (old, _is_prompt(tags))]
    if kinds[0] != kinds[1]:
        return AlreadyExists(f"Tried to create a {kinds[1].lower()} with name {name!r}, but the name is already taken by a "
                             f"{kinds[0].lower()}. MLflow does not allow creating a model and a prompt with the same name.")  # fmt: skip
    return AlreadyExists(f"{kinds[1]} (name={name}) already exists.", "Add a version to it instead.")


def _is_prompt(tags: list[Tag]) -> bool:
    return _values_of(tags).get(PROMPT_TAG, "").lower() == "true"


def _tag(key: str, value: str) -> Tag:
    return Tag(limits.key(key, "tag"), limits.fits(value, limits.REGISTRY_TAG_VALUE, "value"))


def _values_of(tags: list[Tag]) -> dict[str, str]:
    """The last value of each key."""
    return {each.key: each.value for each in tags}


def _sorted(tags: list[Tag]) -> list[Tag]:
    return [Tag(key, value) for key, value in sorted(_values_of(tags).items())]


def touch(conn: Connection, model: int, **values: Any) -> None:
    """Note that something of a model was changed just now."""
    if values:
        conn.execute(update(_model).where(_model.c.id == model).values(last_update_time=now(), **values))
    else:
        database.run(conn, "UPDATE registered_model SET last_update_time = ? WHERE id = ?", (now(), model))


def rename(conn: Connection, request: wire.Rename, user: str = "") -> wire.Model:
    if not request.new_name.strip():
        raise missing("new_name")
    new, key = limits.model_name(request.new_name), registry.row(conn, request.name, lock=True).id
    try:
        touch(conn, key, name=new)
    except IntegrityError:
        raise AlreadyExists(f"Registered Model (name={new}) already exists.", "Choose another name.") from None
    conn.execute(update(_version).where(_version.c.model == key).values(last_update_time=now()))
    changes.renamed(conn, request.name, new)
    changes.add(conn, "renamed", new, user=user, before=request.name, after=new)
    return registry.get(conn, wire.Name(new))


def change(conn: Connection, request: wire.UpdateModel, user: str = "") -> wire.Model:
    found = registry.row(conn, request.name, lock=True)
    touch(conn, found.id, description=request.description)
    changes.add(conn, "description", request.name, user=user, before=found.description, after=request.description)
    return registry.get(conn, wire.Name(request.name))


def remove(conn: Connection, request: wire.Name, user: str = "") -> None:
    key = registry.row(conn, request.name, lock=True).id
    found = conn.execute(select(_version.c.version, _version.c.stage).where(_version.c.model == key)).all()
    conn.execute(delete(_model).where(_model.c.id == key))
    for number, stage in sorted((number, stage) for number, stage in found if stage != "None"):
        changes.add(conn, "deleted", request.name, str(number), user=user, before=stage)
    changes.add(conn, "deleted", request.name, user=user, evidence={"versions": len(found)})


def set_tag(conn: Connection, request: wire.SetModelTag, user: str = "") -> None:
    tag, key = _tag(request.key, request.value), registry.row(conn, request.name, lock=True).id
    before = _put(conn, registered_model_tag, {"model": key}, tag)
    changes.add(conn, "tag", request.name, user=user, before=before, after=tag.value, evidence={"key": tag.key})
    told = {"name": request.name, "key": tag.key, "value": tag.value}
    webhooks.tell(conn, "registered_model_tag", "set", request.name, lambda: told)


def _put(conn: Connection, table: Table, owner: dict[str, int], tag: Tag) -> str:
    """Set a tag; the value that it had."""
    ((column, key),) = owner.items()
    query = select(table.c.value).where(table.c[column] == key, table.c.key == tag.key)
    before = conn.execute(query).scalar()
    rows.upsert(conn, table, [{column: key, "key": tag.key, "value": tag.value}])
    return before or ""


def delete_tag(conn: Connection, request: wire.ModelTag, user: str = "") -> None:
    own, key = registered_model_tag, limits.key(request.key, "tag")
    owned = (own.c.model == registry.row(conn, request.name, lock=True).id, own.c.key == key)
    before = conn.execute(delete(own).where(*owned).returning(own.c.value)).scalar()
    if before is not None:
        changes.add(conn, "tag", request.name, user=user, before=before, evidence={"key": key, "deleted": True})
    webhooks.tell(conn, "registered_model_tag", "deleted", request.name, lambda: {"name": request.name, "key": key})


def create_version(conn: Connection, request: wire.CreateVersion, user: str = "") -> wire.Version:
    limits.model_name(request.name)
    tags = [_tag(each.key, each.value) for each in request.tags]
    source = sources.prompt(request.source) if _is_prompt(tags) else _source(conn, request)
    run_id, time = source.run_id or request.run_id, now()
    user = user or _values_of(tags).get(_USER_TAG, "") or runs.user(conn, run_id)
    values = ("None", source.uri, source.location, run_id, request.description, user, request.run_link, time, time)
    evidence = {"source": source.uri, **({"run_id": run_id} if run_id else {})}
    add = at_once.register if database.shared(conn.engine) else _add
    added = add(conn, request.name, values, _values_of(tags), user, evidence)
    if added is None:
        raise registry.no_model(request.name)
    key, model, number, somebody = added
    if source.model_id:
        logged_models.register(conn, source.model_id, request.name, number)
    if somebody:
        webhooks.tell(conn, "model_version", "created", request.name, lambda: {
            "name": request.name, "version": str(number), "source": source.uri, "run_id": run_id or None, "tags": _values_of(tags),
            "description": request.description or None})  # fmt: skip
    return wire.Version(registry.version(registry.VersionRow(key, model, number, *values, request.name), _sorted(tags), []))


def _add(
    conn: Connection, name: str, values: tuple[Any, ...], tags: Mapping[str, str], user: str, evidence: Mapping[str, Any]
) -> at_once.Added | None:
    """The same as `at_once.register`, step by step."""
    counted = database.run(conn, _NEXT, (values[-1], name)).fetchone()
    if counted is None:
        return None
    model, number = counted
    (key,) = database.run(conn, _INSERT_VERSION, (model, number, *values)).fetchone()
    rows.insert(conn, model_version_tag, ("version", "key", "value"), [(key, *pair) for pair in tags.items()])
    changes.add(conn, "created", name, str(number), user=user, after=values[0], evidence=evidence)
    return at_once.Added(key, model, number, somebody=True)


def _source(conn: Connection, request: wire.CreateVersion) -> sources.Source:
    place = sources.registered(request.source)
    if place is None:
        return sources.checked(conn, request.source, request.run_id, request.model_id)
    found = registry.placed(conn, place)
    if request.run_id and request.run_id != found.run_id:
        raise Invalid(f"Invalid model version source: '{request.source[:200]}'. The run_id and model_id request parameters must match "
                      "the referenced model version.")  # fmt: skip
    return sources.Source(f"models:/{place.name}/{found.version}", found.location, found.run_id)


def change_version(conn: Connection, request: wire.UpdateVersion, user: str = "") -> wire.Version:
    found = registry.version_row(conn, request.name, request.version, lock=True)
    new = request.description
    conn.execute(update(_version).where(_version.c.id == found.id).values(description=new, last_update_time=now()))
    changes.add(conn, "description", found.name, str(found.version), user=user, before=found.description, after=new)
    return registry.get_version(conn, wire.VersionKey(request.name, request.version))


def remove_version(conn: Connection, request: wire.VersionKey, user: str = "", reason: str = "") -> None:
    found = registry.version_row(conn, request.name, request.version, lock=True)
    conn.execute(delete(_version).where(_version.c.id == found.id))
    touch(conn, found.model)
    changes.add(conn, "deleted", found.name, str(found.version), user=user, before=found.stage, reason=reason)


def set_version_tag(conn: Connection, request: wire.SetVersionTag, user: str = "") -> None:
    tag, found = _tag(request.key, request.value), registry.version_row(conn, request.name, request.version, lock=True)
    before, evidence = _put(conn, model_version_tag, {"version": found.id}, tag), {"key": tag.key}
    changes.add(conn, "tag", found.name, str(found.version), user=user, before=before, after=tag.value, evidence=evidence)
    told = {"name": found.name, "version": str(found.version), "key": tag.key, "value": tag.value}
    webhooks.tell(conn, "model_version_tag", "set", found.name, lambda: told)


def delete_version_tag(conn: Connection, request: wire.VersionTag, user: str = "") -> None:
    own, found = model_version_tag, registry.version_row(conn, request.name, request.version, lock=True)
    key = limits.key(request.key, "tag")
    before = conn.execute(delete(own).where(own.c.version == found.id, own.c.key == key).returning(own.c.value)).scalar()
    if before is not None:
        evidence = {"key": key, "deleted": True}
        changes.add(conn, "tag", found.name, str(found.version), user=user, before=before, evidence=evidence)
    told = {"name": found.name, "version": str(found.version), "key": key}
    webhooks.tell(conn, "model_version_tag", "deleted", found.name, lambda: told)


def set_alias(conn: Connection, request: wire.SetAlias, user: str = "") -> None:
    limits.alias(request.alias)
    if request.alias.lower() == "latest":
        raise Invalid("'latest' alias name (case insensitive) is reserved.", "Choose another one.")
    if re.fullmatch(r"[vV]\d+", request.alias):
        raise Invalid(f"Version alias name '{request.alias}' is reserved.", "Choose another one.")
    found = registry.version_row(conn, request.name, request.version, lock=True)
    before, number = _aliased(conn, found.model, request.alias), str(found.version)
    rows.upsert(conn, alias, [{"model": found.model, "alias": request.alias, "version": found.id}])
    changes.add(conn, "alias", found.name, number, user=user, before=before, after=number, evidence={"alias": request.alias})
    told = {"name": found.name, "alias": request.alias, "version": number}
    webhooks.tell(conn, "model_version_alias", "created", found.name, lambda: told)


def _aliased(conn: Connection, model: int, name: str) -> str:
    """The version that an alias stands for, "" if it stands for none."""
    query = select(_version.c.version).join(alias, alias.c.version == _version.c.id)
    number = conn.execute(query.where(alias.c.model == model, alias.c.alias == name)).scalar()
    return "" if number is None else str(number)


def delete_alias(conn: Connection, request: wire.AliasName, user: str = "") -> None:
    limits.alias(request.alias)
    key = registry.row(conn, request.name, lock=True).id
    before = _aliased(conn, key, request.alias)
    conn.execute(delete(alias).where(alias.c.model == key, alias.c.alias == request.alias))
    if before:
        changes.add(conn, "alias", request.name, before, user=user, before=before, evidence={"alias": request.alias})
    webhooks.tell(conn, "model_version_alias", "deleted", request.name, lambda: {"name": request.name, "alias": request.alias})
