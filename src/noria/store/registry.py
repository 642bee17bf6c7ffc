"""Registered models, their versions, stages and aliases."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from noria.errors import AlreadyExists, Invalid, NotFound
from noria.store import fields, filters, logged_models, page, rows, sources
from noria.store.experiments import now
from noria.store.fields import Field, Fields
from noria.store.schema import alias, model_version, model_version_tag, registered_model, registered_model_tag
from noria.store.sources import PROMPT_TAG
from noria.types import STAGES, Alias, ModelVersion, RegisteredModel, Stage, Tag
from noria.wire import limits
from noria.wire import registry as wire
from noria.wire.fit import missing

_model, _version = registered_model, model_version
_MODELS = "`noria models list` shows the models there are."


def create(conn: Connection, request: wire.CreateModel) -> wire.Model:
    name, time = limits.model_name(request.name), now()
    tags = [_tag(each.key, each.value) for each in request.tags]
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
        raise _taken(conn, name, tags) from None
    rows.upsert(conn, registered_model_tag, [{"model": key, **each} for each in _values(tags)])
    return get(conn, wire.Name(name))


def _taken(conn: Connection, name: str, tags: list[Tag]) -> AlreadyExists:
    old = _is_prompt(
        rows.pairs(conn, registered_model_tag, registered_model_tag.c.model, [(key := row(conn, name).id)]).get(key, [])
    )
    kinds = ["Prompt" if prompt else "Registered Model" for prompt in (old, _is_prompt(tags))]
    if kinds[0] != kinds[1]:
        return AlreadyExists(f"Tried to create a {kinds[1].lower()} with name {name!r}, but the name is already taken by a "
                             f"{kinds[0].lower()}. MLflow does not allow creating a model and a prompt with the same name.")  # fmt: skip
    return AlreadyExists(f"{kinds[1]} (name={name}) already exists.", "Add a version to it instead.")


def _is_prompt(tags: list[Tag]) -> bool:
    return {each.key: each.value for each in tags}.get(PROMPT_TAG, "").lower() == "true"


def _tag(key: str, value: str) -> Tag:
    return Tag(limits.key(key, "tag"), limits.fits(value, limits.REGISTRY_TAG_VALUE, "value"))


def _values(tags: list[Tag]) -> list[dict[str, str]]:
    """The last value of each key."""
    return [{"key": key, "value": value} for key, value in {each.key: each.value for each in tags}.items()]


def row(conn: Connection, name: str) -> Row[Any]:
    limits.model_name(name)
    found = conn.execute(select(_model).where(_model.c.name == name)).first()
    if found is None:
        raise NotFound(f"Registered Model with name={name[:256]} not found", _MODELS)
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
    if not request.new_name.strip():
        raise missing("new_name")
    new, key = limits.model_name(request.new_name), row(conn, request.name).id
    try:
        _touch(conn, key, name=new)
    except IntegrityError:
        raise AlreadyExists(f"Registered Model (name={new}) already exists.", "Choose another name.") from None
    conn.execute(update(_version).where(_version.c.model == key).values(last_update_time=now()))
    return get(conn, wire.Name(new))


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
ORDERS = filters.Names(texts=("name",), numbers=("last_updated_timestamp",), aliases=NAMES.aliases)
"""MLflow orders models by these alone, and its clients expect to be told so."""
_PROMPT = filters.Identifier("tags", PROMPT_TAG)


def search(conn: Connection, request: wire.Search) -> wire.Models:
    limit, start = page.size(request.max_results, 1000), page.offset(request.page_token)
    query = select(_model).where(_wanted(request.filter, NAMES, _field))
    query = query.order_by(*_order(request.order_by, ORDERS, _field), _model.c.name).offset(start).limit(limit + 1)
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
        else _tagged(identifier, own.value, own.model == _model.c.id, own.key)
    )


def _tagged(
    identifier: filters.Identifier, value: ColumnElement[Any], owned: ColumnElement[bool], key: ColumnElement[Any]
) -> Field:
    found = (owned, key == identifier.key)
    if identifier != _PROMPT:
        return Field(value, found)
    return Field(func.coalesce(select(value).where(*found).scalar_subquery(), "false"))  # A model says nothing of the kind.


def latest(conn: Connection, request: wire.Latest) -> wire.Versions:
    return wire.Versions(_latest(conn, row(conn, request.name).id, request.stages))


def set_tag(conn: Connection, request: wire.SetModelTag) -> None:
    tag = _tag(request.key, request.value)
    rows.upsert(conn, registered_model_tag, [{"model": row(conn, request.name).id, "key": tag.key, "value": tag.value}])


def delete_tag(conn: Connection, request: wire.ModelTag) -> None:
    own, key = registered_model_tag, limits.key(request.key, "tag")
    conn.execute(delete(own).where(own.c.model == row(conn, request.name).id, own.c.key == key))


def _versions() -> Any:
    return select(_version, _model.c.name).join(_model, _version.c.model == _model.c.id)


def version_row(conn: Connection, name: str, version: str) -> Row[Any]:
    limits.model_name(name)
    if not re.fullmatch(r"\d{1,18}", version):
        raise Invalid(f"Parameter 'version' must be an integer, got '{version[:40]}'.")
    found = conn.execute(_versions().where(_model.c.name == name, _version.c.version == int(version))).first()
    if found is None:
        known = conn.execute(select(_model.c.id).where(_model.c.name == name)).first() is not None
        cure = f"`noria models show {name}` lists its versions." if known else _MODELS
        raise NotFound(f"Model Version (name={name}, version={version}) not found", cure)
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
    limits.model_name(request.name)
    tags = [_tag(each.key, each.value) for each in request.tags]
    source = sources.prompt(request.source) if _is_prompt(tags) else _source(conn, request)
    owner = row(conn, request.name)
    number = owner.last_version + 1
    values = {
        "model": owner.id, "version": number, "stage": "None", "source": source.uri, "location": source.location,
        "run_id": source.run_id or request.run_id, "description": request.description, "user_id": "", "run_link": request.run_link,
        "creation_time": now(), "last_update_time": now(),
    }  # fmt: skip
    key = rows.add(conn, _version, values)
    _touch(conn, owner.id, last_version=number)
    rows.upsert(conn, model_version_tag, [{"version": key, **each} for each in _values(tags)])
    if source.model_id:
        logged_models.register(conn, source.model_id, request.name, number)
    return get_version(conn, wire.VersionKey(request.name, str(number)))


def _source(conn: Connection, request: wire.CreateVersion) -> sources.Source:
    place = sources.registered(request.source)
    if place is None:
        return sources.checked(conn, request.source, request.run_id, request.model_id)
    found = placed(conn, place)
    if request.run_id and request.run_id != found.run_id:
        raise Invalid(f"Invalid model version source: '{request.source[:200]}'. The run_id and model_id request parameters must match "
                      "the referenced model version.")  # fmt: skip
    return sources.Source(f"models:/{place.name}/{found.version}", found.location, found.run_id)


def placed(conn: Connection, place: sources.Place) -> Row[Any]:
    """The version that a URI names by its number, its alias, its stage, or as the latest."""
    if place.which.isdigit():
        return version_row(conn, place.name, place.which)
    if place.which.startswith("@"):
        return version_row(conn, place.name, get_alias(conn, wire.AliasName(place.name, place.which[1:])).model_version.version)
    stages = [] if place.which.lower() == "latest" else [place.which]
    newest = max((int(each.version) for each in _latest(conn, row(conn, place.name).id, stages)), default=None)
    if newest is None:
        raise NotFound(
            f"No versions of model with name '{place.name}' found", f"`noria models show {place.name}` lists what there is."
        )
    return version_row(conn, place.name, str(newest))


def location(conn: Connection, name: str, version: str) -> str:
    """Where the files of a version lie."""
    return str(version_row(conn, name, version).location)


def change_version(conn: Connection, request: wire.UpdateVersion) -> wire.Version:
    key = version_row(conn, request.name, request.version).id
    conn.execute(update(_version).where(_version.c.id == key).values(description=request.description, last_update_time=now()))
    return get_version(conn, wire.VersionKey(request.name, request.version))


def remove_version(conn: Connection, request: wire.VersionKey) -> None:
    found = version_row(conn, request.name, request.version)
    conn.execute(delete(_version).where(_version.c.id == found.id))
    _touch(conn, found.model)


def transition(conn: Connection, request: wire.Transition) -> wire.Version:
    found, stage, time = version_row(conn, request.name, request.version), _stage(request.stage), now()
    if request.archive_existing_versions:
        if stage not in ("Staging", "Production"):
            raise Invalid(
                f"Model version transition cannot archive existing model versions because '{request.stage}' is not an Active stage. "
                "Valid stages are ['Staging', 'Production']"
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
    return _tagged(identifier, own.value, own.version == _version.c.id, own.key)


def download_uri(conn: Connection, request: wire.VersionKey) -> wire.Uri:
    return wire.Uri(location(conn, request.name, request.version))


def set_version_tag(conn: Connection, request: wire.SetVersionTag) -> None:
    tag, key = _tag(request.key, request.value), version_row(conn, request.name, request.version).id
    rows.upsert(conn, model_version_tag, [{"version": key, "key": tag.key, "value": tag.value}])


def delete_version_tag(conn: Connection, request: wire.VersionTag) -> None:
    own, key = model_version_tag, version_row(conn, request.name, request.version).id
    conn.execute(delete(own).where(own.c.version == key, own.c.key == limits.key(request.key, "tag")))


def set_alias(conn: Connection, request: wire.SetAlias) -> None:
    limits.alias(request.alias)
    if request.alias.lower() == "latest":
        raise Invalid("'latest' alias name (case insensitive) is reserved.", "Choose another one.")
    if re.fullmatch(r"[vV]\d+", request.alias):
        raise Invalid(f"Version alias name '{request.alias}' is reserved.", "Choose another one.")
    found = version_row(conn, request.name, request.version)
    rows.upsert(conn, alias, [{"model": found.model, "alias": request.alias, "version": found.id}])


def delete_alias(conn: Connection, request: wire.AliasName) -> None:
    limits.alias(request.alias)
    conn.execute(delete(alias).where(alias.c.model == row(conn, request.name).id, alias.c.alias == request.alias))


def get_alias(conn: Connection, request: wire.AliasName) -> wire.Version:
    limits.alias(request.alias)
    key = row(conn, request.name).id
    if request.alias.lower() == "latest":
        newest = _latest(conn, key)
        if not newest:
            raise NotFound(f"Latest version not found for model {request.name}.")
        return wire.Version(max(newest, key=lambda each: int(each.version)))
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
