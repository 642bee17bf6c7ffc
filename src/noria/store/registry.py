"""Registered models, their versions, stages and aliases."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from noria.errors import AlreadyExists, Invalid, NotFound
from noria.store import fields, filters, page, rows, runs
from noria.store.experiments import now
from noria.store.fields import Field, Fields
from noria.store.schema import alias, logged_model, model_version, model_version_tag, registered_model, registered_model_tag
from noria.types import STAGES, Alias, ModelVersion, RegisteredModel, Stage
from noria.wire import artifacts, limits
from noria.wire import registry as wire

_model, _version = registered_model, model_version


def create(conn: Connection, request: wire.CreateModel) -> wire.Model:
    name = request.name
    if not name.strip() or "/" in name or ":" in name or len(name) > 256:
        raise Invalid(
            f"Invalid name: '{name[:80]}'. Registered model name cannot be empty, over 256 characters or contain '/' or ':'."
        )
    time = now()
    values = {
        "name": name,
        "description": request.description,
        "creation_time": time,
        "last_update_time": time,
        "last_version": 0,
    }
    try:
        key = rows.add(conn, _model, values)
    except IntegrityError:
        raise AlreadyExists(f"Registered Model (name={name}) already exists.", "Add a version to it instead.") from None
    rows.upsert(conn, registered_model_tag, [{"model": key, "key": each.key, "value": each.value} for each in request.tags])
    return get(conn, wire.Name(name))


def row(conn: Connection, name: str) -> Row[Any]:
    found = conn.execute(select(_model).where(_model.c.name == name)).first()
    if found is None:
        raise NotFound(f"Registered Model with name={name[:256]} not found", "`noria models list` shows the models there are.")
    return found


def get(conn: Connection, request: wire.Name) -> wire.Model:
    return wire.Model(_load(conn, [row(conn, request.name)])[0])


def _load(conn: Connection, found: list[Row[Any]]) -> list[RegisteredModel]:
    keys = [each.id for each in found]
    tags = rows.pairs(conn, registered_model_tag, registered_model_tag.c.model, keys)
    names: dict[int, list[Alias]] = {}
    for chunk in rows.chunks(keys):
        query = select(alias.c.model, alias.c.alias, _version.c.version).join(_version, alias.c.version == _version.c.id)
        for key, name, version in conn.execute(query.where(alias.c.model.in_(chunk)).order_by(alias.c.alias)):
            names.setdefault(key, []).append(Alias(name, str(version)))
    return [
        RegisteredModel(
            each.name, each.creation_time, each.last_update_time, each.description, _latest(conn, each.id), tags.get(each.id, []),
            names.get(each.id, []))
        for each in found
    ]  # fmt: skip


def _latest(conn: Connection, model: int, stages: list[str] | None = None) -> list[ModelVersion]:
    """The newest version of each stage."""
    newest = select(func.max(_version.c.version)).where(_version.c.model == model).group_by(_version.c.stage)
    if stages:
        newest = newest.where(_version.c.stage.in_([_stage(each) for each in stages]))
    query = _versions().where(_version.c.model == model, _version.c.version.in_(newest)).order_by(_version.c.version)
    return _load_versions(conn, list(conn.execute(query)))


def _stage(text: str) -> Stage:
    for stage in STAGES:
        if stage.lower() == text.lower():
            return stage
    raise Invalid(f"Invalid Model Version stage: {text[:40]}. Value must be one of {', '.join(STAGES)}.")


def _touch(conn: Connection, model: int, **values: Any) -> None:
    conn.execute(update(_model).where(_model.c.id == model).values(last_update_time=now(), **values))


def rename(conn: Connection, request: wire.Rename) -> wire.Model:
    key = row(conn, request.name).id
    if not request.new_name.strip() or "/" in request.new_name or ":" in request.new_name:
        raise Invalid(f"Invalid name: '{request.new_name[:80]}'. Registered model name cannot be empty or contain '/' or ':'.")
    try:
        _touch(conn, key, name=request.new_name)
    except IntegrityError:
        raise AlreadyExists(f"Registered Model (name={request.new_name}) already exists.", "Choose another name.") from None
    return get(conn, wire.Name(request.new_name))


def change(conn: Connection, request: wire.UpdateModel) -> wire.Model:
    _touch(conn, row(conn, request.name).id, description=request.description)
    return get(conn, wire.Name(request.name))


def remove(conn: Connection, request: wire.Name) -> None:
    conn.execute(delete(_model).where(_model.c.id == row(conn, request.name).id))


NAMES = filters.Names(
    texts=("name",), numbers=("creation_timestamp", "last_updated_timestamp"), aliases={"timestamp": "last_updated_timestamp"}
)
_ATTRIBUTES = {
    "name": Field(_model.c.name),
    "creation_timestamp": Field(_model.c.creation_time),
    "last_updated_timestamp": Field(_model.c.last_update_time),
}
_PROMPT = filters.Identifier("tags", "mlflow.prompt.is_prompt")


def search(conn: Connection, request: wire.Search) -> wire.Models:
    limit, start = page.size(request.max_results, 1000), page.offset(request.page_token)
    query = select(_model).where(_wanted(request.filter, NAMES, _field))
    query = query.order_by(*_order(request.order_by, NAMES, _field), _model.c.name).offset(start).limit(limit + 1)
    found = list(conn.execute(query))
    return wire.Models(_load(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


def _wanted(text: str, names: filters.Names, field: Fields) -> ColumnElement[bool]:
    """MLflow keeps its prompts among the models. They are found only by a filter that asks whether something is one."""
    parts = filters.parse(text, names)
    if _PROMPT not in filters.identifiers(parts):
        parts = [*parts, filters.Comparison(_PROMPT, "!=", "true")]
    return fields.condition(parts, field)


def _order(entries: list[str], names: filters.Names, field: Fields) -> list[ColumnElement[Any]]:
    return [
        term for identifier, ascending in filters.order(entries, names) for term in field(identifier).order(ascending=ascending)
    ]


def _field(identifier: filters.Identifier) -> Field:
    own = registered_model_tag.c
    return (
        _ATTRIBUTES[identifier.key]
        if identifier.kind == "attributes"
        else _tag(identifier, own.value, own.model == _model.c.id, own.key)
    )


def _tag(identifier: filters.Identifier, value: ColumnElement[Any], owned: ColumnElement[bool], key: ColumnElement[Any]) -> Field:
    found = (owned, key == identifier.key)
    if identifier != _PROMPT:
        return Field(value, found)
    return Field(func.coalesce(select(value).where(*found).scalar_subquery(), "false"))  # A model says nothing of the kind.


def latest(conn: Connection, request: wire.Latest) -> wire.Versions:
    return wire.Versions(_latest(conn, row(conn, request.name).id, request.stages))


def set_tag(conn: Connection, request: wire.SetModelTag) -> None:
    rows.upsert(conn, registered_model_tag, [
        {"model": row(conn, request.name).id, "key": limits.key(request.key, "tag"), "value": limits.cut(request.value, 100_000)}
    ])  # fmt: skip


def delete_tag(conn: Connection, request: wire.ModelTag) -> None:
    own = registered_model_tag
    conn.execute(delete(own).where(own.c.model == row(conn, request.name).id, own.c.key == request.key))


def _versions() -> Any:
    return select(_version, _model.c.name).join(_model, _version.c.model == _model.c.id)


def version_row(conn: Connection, name: str, version: str) -> Row[Any]:
    key = row(conn, name).id
    if not re.fullmatch(r"\d{1,18}", version):
        raise Invalid(f"Model version must be an integer, got '{version[:40]}'.")
    found = conn.execute(_versions().where(_version.c.model == key, _version.c.version == int(version))).first()
    if found is None:
        raise NotFound(
            f"Model Version (name={name}, version={version}) not found", f"`noria models show {name}` lists its versions."
        )
    return found


def _load_versions(conn: Connection, found: list[Row[Any]]) -> list[ModelVersion]:
    keys = [each.id for each in found]
    tags = rows.pairs(conn, model_version_tag, model_version_tag.c.version, keys)
    aliases: dict[int, list[str]] = {}
    for chunk in rows.chunks(keys):
        for key, name in conn.execute(select(alias.c.version, alias.c.alias).where(alias.c.version.in_(chunk))):
            aliases.setdefault(key, []).append(name)
    return [
        ModelVersion(
            each.name, str(each.version), each.creation_time, each.last_update_time, each.stage, each.source, "READY", each.run_id,
            each.description, each.user_id, each.run_link, tags.get(each.id, []), aliases.get(each.id, []))
        for each in found
    ]  # fmt: skip


def get_version(conn: Connection, request: wire.VersionKey) -> wire.Version:
    return wire.Version(_load_versions(conn, [version_row(conn, request.name, request.version)])[0])


def create_version(conn: Connection, request: wire.CreateVersion) -> wire.Version:
    owner = row(conn, request.name)
    location = _location(conn, request)
    number = owner.last_version + 1
    values = {
        "model": owner.id, "version": number, "stage": "None", "source": request.source, "location": location, "run_id": request.run_id,
        "description": request.description, "user_id": "", "run_link": request.run_link, "creation_time": now(), "last_update_time": now(),
    }  # fmt: skip
    key = rows.add(conn, _version, values)
    _touch(conn, owner.id, last_version=number)
    rows.upsert(conn, model_version_tag, [{"version": key, "key": each.key, "value": each.value} for each in request.tags])
    return get_version(conn, wire.VersionKey(request.name, str(number)))


def _location(conn: Connection, request: wire.CreateVersion) -> str:
    """Where the files of a source lie. A client may only name what belongs to its run, never a path on this server."""
    source = request.source
    bad = Invalid(
        f"Invalid model version source: '{source[:200]}'.",
        "Use the artifact URI of a model inside the run that run_id names, such as runs:/<run_id>/model.",
    )
    if ".." in source.split("/") or "\\" in source or "%" in source or "?" in source or "#" in source:
        raise bad
    if source.startswith("models:/m-"):
        found = conn.execute(
            select(logged_model.c.body).where(logged_model.c.id == source.removeprefix("models:/").split("/")[0])
        ).scalar()
        if found is None:
            raise NotFound(f"There is no logged model '{source.removeprefix('models:/')}'.")
        return source
    if source.startswith("runs:/"):
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        if run_id != request.run_id:
            raise bad
        return f"{runs.row(conn, run_id).artifact_uri}/{path}"
    if source.startswith(artifacts.SCHEME):
        roots = [runs.row(conn, request.run_id).artifact_uri] if request.run_id else []
        inside_models = re.match(rf"{artifacts.SCHEME}/*\d+/models/m-\w+/artifacts", source)
        if not inside_models and not any(source == root or source.startswith(f"{root}/") for root in roots):
            raise bad
        return source
    if "://" in source and not source.startswith("file:"):
        return source
    raise bad


def change_version(conn: Connection, request: wire.UpdateVersion) -> wire.Version:
    key = version_row(conn, request.name, request.version).id
    conn.execute(update(_version).where(_version.c.id == key).values(description=request.description, last_update_time=now()))
    return get_version(conn, wire.VersionKey(request.name, request.version))


def remove_version(conn: Connection, request: wire.VersionKey) -> None:
    conn.execute(delete(_version).where(_version.c.id == version_row(conn, request.name, request.version).id))


def transition(conn: Connection, request: wire.Transition) -> wire.Version:
    found, stage, time = version_row(conn, request.name, request.version), _stage(request.stage), now()
    if request.archive_existing_versions:
        if stage not in ("Staging", "Production"):
            raise Invalid(
                f"Model version transition cannot archive existing model versions because '{stage}' is not an Active stage."
            )
        others = update(_version).where(_version.c.model == found.model, _version.c.stage == stage, _version.c.id != found.id)
        conn.execute(others.values(stage="Archived", last_update_time=time))
    conn.execute(update(_version).where(_version.c.id == found.id).values(stage=stage, last_update_time=time))
    _touch(conn, found.model)
    return get_version(conn, wire.VersionKey(request.name, request.version))


VERSION_NAMES = filters.Names(
    texts=("name", "run_id", "source_path"), numbers=("version_number", "creation_timestamp", "last_updated_timestamp")
)
_VERSION_ATTRIBUTES = {
    "name": Field(_model.c.name),
    "run_id": Field(_version.c.run_id),
    "source_path": Field(_version.c.source),
    "version_number": Field(_version.c.version),
    "creation_timestamp": Field(_version.c.creation_time),
    "last_updated_timestamp": Field(_version.c.last_update_time),
}


def search_versions(conn: Connection, request: wire.SearchVersions) -> wire.Versions:
    limit, start = page.size(request.max_results, 200_000), page.offset(request.page_token)
    query = _versions().where(_wanted(request.filter, VERSION_NAMES, _version_field))
    order = _order(request.order_by or ["last_updated_timestamp DESC"], VERSION_NAMES, _version_field)
    query = query.order_by(*order, _model.c.name, _version.c.version.desc())
    found = list(conn.execute(query.offset(start).limit(limit + 1)))
    return wire.Versions(_load_versions(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


def _version_field(identifier: filters.Identifier) -> Field:
    own = model_version_tag.c
    if identifier.kind == "attributes":
        return _VERSION_ATTRIBUTES[identifier.key]
    return _tag(identifier, own.value, own.version == _version.c.id, own.key)


def download_uri(conn: Connection, request: wire.VersionKey) -> wire.Uri:
    location = version_row(conn, request.name, request.version).location
    return wire.Uri(location)


def set_version_tag(conn: Connection, request: wire.SetVersionTag) -> None:
    key = version_row(conn, request.name, request.version).id
    rows.upsert(conn, model_version_tag, [
        {"version": key, "key": limits.key(request.key, "tag"), "value": limits.cut(request.value, 100_000)}
    ])  # fmt: skip


def delete_version_tag(conn: Connection, request: wire.VersionTag) -> None:
    own, key = model_version_tag, version_row(conn, request.name, request.version).id
    conn.execute(delete(own).where(own.c.version == key, own.c.key == request.key))


def set_alias(conn: Connection, request: wire.SetAlias) -> None:
    if request.alias.lower() == "latest" or re.fullmatch(r"v\d+", request.alias, re.IGNORECASE):
        raise Invalid(f"'{request.alias}' is reserved as an alias name.", "Choose another one.")
    limits.key(request.alias, "alias")
    found = version_row(conn, request.name, request.version)
    rows.upsert(conn, alias, [{"model": found.model, "alias": request.alias, "version": found.id}])


def delete_alias(conn: Connection, request: wire.AliasName) -> None:
    conn.execute(delete(alias).where(alias.c.model == row(conn, request.name).id, alias.c.alias == request.alias))


def get_alias(conn: Connection, request: wire.AliasName) -> wire.Version:
    key = row(conn, request.name).id
    found = conn.execute(
        _versions().join(alias, alias.c.version == _version.c.id).where(alias.c.model == key, alias.c.alias == request.alias)
    )
    versions = _load_versions(conn, list(found))
    if not versions:
        raise Invalid(
            f"Registered model alias {request.alias} not found.", f"`noria models show {request.name}` lists its aliases."
        )
    return wire.Version(versions[0])


def of_run(conn: Connection, run_id: str) -> list[ModelVersion]:
    """The versions that were made from a run."""
    return _load_versions(
        conn, list(conn.execute(_versions().where(_version.c.run_id == run_id).order_by(_model.c.name, _version.c.version)))
    )
