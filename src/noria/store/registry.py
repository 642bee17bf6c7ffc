"""Registered models, their versions and aliases, as they are read."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Row, func, select

from noria.errors import Invalid, NotFound
from noria.store import rows, sources
from noria.store.schema import alias, model_version, model_version_tag, registered_model, registered_model_tag
from noria.types import Alias, ModelVersion, RegisteredModel
from noria.wire import limits
from noria.wire import registry as wire
from noria.wire.stages import stage_of

_model, _version = registered_model, model_version
_MODELS = "`noria models list` shows the models there are."


def row(conn: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    """lock: for somebody who will change it, or what belongs to it; it stays as it is until the end of the transaction."""
    limits.model_name(name)
    query = select(_model).where(_model.c.name == name)
    found = conn.execute(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(f"Registered Model with name={name[:256]} not found", _MODELS)
    return found


def get(conn: Connection, request: wire.Name) -> wire.Model:
    return wire.Model(load(conn, [row(conn, request.name)])[0])


def load(conn: Connection, found: list[Row[Any]]) -> list[RegisteredModel]:
    keys = [each.id for each in found]
    tags = rows.pairs(conn, registered_model_tag, registered_model_tag.c.model, keys)
    names: dict[int, list[Alias]] = {}
    for chunk in rows.chunks(keys):
        query = select(alias.c.model, alias.c.alias, _version.c.version).join(_version, alias.c.version == _version.c.id)
        for key, name, version in conn.execute(query.where(alias.c.model.in_(chunk)).order_by(alias.c.alias)):
            names.setdefault(key, []).append(Alias(name, str(version)))
    return [
        RegisteredModel(
            each.name, each.creation_time, each.last_update_time, each.description, newest(conn, each.id), tags.get(each.id, []),
            names.get(each.id, []))
        for each in found
    ]  # fmt: skip


def newest(conn: Connection, model: int, stages: list[str] | None = None) -> list[ModelVersion]:
    """The newest version of each stage."""
    numbers = select(func.max(_version.c.version)).where(_version.c.model == model).group_by(_version.c.stage)
    if stages:
        numbers = numbers.where(_version.c.stage.in_([stage_of(each) for each in stages]))
    query = versions().where(_version.c.model == model, _version.c.version.in_(numbers)).order_by(_version.c.version)
    return load_versions(conn, list(conn.execute(query)))


def versions() -> Any:
    return select(_version, _model.c.name).join(_model, _version.c.model == _model.c.id)


def version_row(conn: Connection, name: str, version: str, *, lock: bool = False) -> Row[Any]:
    """lock: the model's row, as `row` does."""
    limits.model_name(name)
    if not re.fullmatch(r"\d{1,18}", version):
        raise Invalid(f"Parameter 'version' must be an integer, got '{version[:40]}'.")
    query = versions().where(_model.c.name == name, _version.c.version == int(version))
    found = conn.execute(query.with_for_update(of=_model) if lock else query).first()
    if found is None:
        known = conn.execute(select(_model.c.id).where(_model.c.name == name)).first() is not None
        cure = f"`noria models show {name}` lists its versions." if known else _MODELS
        raise NotFound(f"Model Version (name={name}, version={version}) not found", cure)
    return found


def load_versions(conn: Connection, found: list[Row[Any]]) -> list[ModelVersion]:
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
    return wire.Version(load_versions(conn, [version_row(conn, request.name, request.version)])[0])


def location(conn: Connection, name: str, version: str) -> str:
    """Where the files of a version lie."""
    return str(version_row(conn, name, version).location)


def placed(conn: Connection, place: sources.Place) -> Row[Any]:
    """The version that a URI names by its number, its alias, its stage, or as the latest."""
    if place.which.isdigit():
        return version_row(conn, place.name, place.which)
    if place.which.startswith("@"):
        return version_row(conn, place.name, get_alias(conn, wire.AliasName(place.name, place.which[1:])).model_version.version)
    stages = [] if place.which.lower() == "latest" else [place.which]
    number = max((int(each.version) for each in newest(conn, row(conn, place.name).id, stages)), default=None)
    if number is None:
        raise NotFound(
            f"No versions of model with name '{place.name}' found", f"`noria models show {place.name}` lists what there is."
        )
    return version_row(conn, place.name, str(number))


def latest(conn: Connection, request: wire.Latest) -> wire.Versions:
    return wire.Versions(newest(conn, row(conn, request.name).id, request.stages))


def download_uri(conn: Connection, request: wire.VersionKey) -> wire.Uri:
    return wire.Uri(location(conn, request.name, request.version))


def get_alias(conn: Connection, request: wire.AliasName) -> wire.Version:
    limits.alias(request.alias)
    key = row(conn, request.name).id
    if request.alias.lower() == "latest":
        found = newest(conn, key)
        if not found:
            raise NotFound(f"Latest version not found for model {request.name}.")
        return wire.Version(max(found, key=lambda each: int(each.version)))
    query = versions().join(alias, alias.c.version == _version.c.id)
    named = load_versions(conn, list(conn.execute(query.where(alias.c.model == key, alias.c.alias == request.alias))))
    if not named:
        raise Invalid(
            f"Registered model alias {request.alias} not found.", f"`noria models show {request.name}` lists its aliases."
        )
    return wire.Version(named[0])


def of_run(conn: Connection, run_id: str) -> list[ModelVersion]:
    """The versions that were made from a run."""
    return load_versions(
        conn, list(conn.execute(versions().where(_version.c.run_id == run_id).order_by(_model.c.name, _version.c.version)))
    )
