"""Registered models, their versions and aliases, as they are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import msgspec
from sqlalchemy import Connection, select

from noria.errors import Invalid, NotFound
from noria.store import database, sources
from noria.store.schema import alias, model_version, registered_model
from noria.types import Alias, ModelVersion, RegisteredModel, Stage, Tag
from noria.wire import limits
from noria.wire import registry as wire
from noria.wire.stages import stage_of

_model, _version = registered_model, model_version
_MODELS = "`noria models list` shows the models there are."


class ModelRow(NamedTuple):
    id: int
    name: str
    description: str
    creation_time: int
    last_update_time: int
    last_version: int


class VersionRow(NamedTuple):
    """`name` is its model's."""

    id: int
    model: int
    version: int
    stage: str
    source: str
    location: str
    run_id: str
    description: str
    user_id: str
    run_link: str
    creation_time: int
    last_update_time: int
    name: str


# Made of the names of our own columns alone.
_MODEL_ROW = f"SELECT {', '.join(ModelRow._fields)} FROM registered_model WHERE name = ?"  # noqa: S608
COLUMNS = ", ".join(f"version.{name}" for name in VersionRow._fields[:-1])
_VERSIONS = f"""
SELECT {COLUMNS}, model.name FROM model_version AS version JOIN registered_model AS model ON version.model = model.id
"""  # noqa: S608
_VERSION_ROW = f"{_VERSIONS} WHERE model.name = ? AND version.version = ?"
# Tags and aliases of those that `%s` says, in one statement: each way to PostgreSQL and back costs more than what is asked there.
_MODELS_SAID = """
SELECT 0, model, key, value FROM registered_model_tag WHERE model %s
UNION ALL SELECT 1, alias.model, alias.alias, CAST(version.version AS TEXT)
FROM alias JOIN model_version AS version ON version.id = alias.version WHERE alias.model %s ORDER BY 1, 2, 3
"""
_VERSIONS_SAID = """
SELECT 0, version, key, value FROM model_version_tag WHERE version %s
UNION ALL SELECT 1, version, alias, '' FROM alias WHERE version %s ORDER BY 1, 2, 3
"""
_ANY, _EACH = "= ANY(?)", "IN (SELECT value FROM json_each(?))"
_STAGES = " UNION ALL ".join(f"SELECT '{stage}' AS name" for stage in get_args(Stage))
# One look into an index for each stage, however many versions there are.
_NEWEST = f"""
SELECT {COLUMNS}, model.name
FROM registered_model AS model CROSS JOIN ({_STAGES}) AS stage JOIN model_version AS version ON version.id = (
    SELECT own.id FROM model_version AS own WHERE own.model = model.id AND own.stage = stage.name ORDER BY own.version DESC LIMIT 1
) WHERE model.id %s ORDER BY version.model, version.version
"""  # noqa: S608


def row(conn: Connection, name: str, *, lock: bool = False) -> ModelRow:
    """lock: for somebody who will change it, or what belongs to it; it stays as it is until the end of the transaction."""
    limits.model_name(name)
    found = database.run(conn, _locking(conn, _MODEL_ROW, "") if lock else _MODEL_ROW, (name,)).fetchone()
    if found is None:
        raise no_model(name)
    return ModelRow(*found)


def no_model(name: str) -> NotFound:
    return NotFound(f"Registered Model with name={name[:256]} not found", _MODELS)


def _locking(conn: Connection, query: str, of: str) -> str:
    """SQLite has one writer, and no rows to lock."""
    return f"{query} FOR UPDATE {of}" if database.shared(conn.engine) else query


def get(conn: Connection, request: wire.Name) -> wire.Model:
    return wire.Model(load(conn, [row(conn, request.name)])[0])


def load(conn: Connection, found: Sequence[Any]) -> list[RegisteredModel]:
    """Whole models, in the order given; a fixed number of queries however many."""
    keys = [each.id for each in found]
    tags: dict[int, list[Tag]] = {}
    names: dict[int, list[Alias]] = {}
    for is_alias, key, name, value in _said(conn, _MODELS_SAID, keys):
        if is_alias:
            names.setdefault(key, []).append(Alias(name, value))
        else:
            tags.setdefault(key, []).append(Tag(name, value))
    last: dict[int, list[ModelVersion]] = {}
    newer = _newest(conn, keys)
    for each, loaded in zip(newer, load_versions(conn, newer), strict=True):
        last.setdefault(each.model, []).append(loaded)
    return [
        RegisteredModel(
            each.name, each.creation_time, each.last_update_time, each.description, last.get(each.id, []), tags.get(each.id, []),
            names.get(each.id, []))
        for each in found
    ]  # fmt: skip


def _newest(conn: Connection, models: Sequence[int]) -> list[VersionRow]:
    """The newest version of each stage of each model, by model and number."""
    return [VersionRow(*each) for each in _of(conn, _NEWEST, models)] if models else []


def _said(conn: Connection, query: str, ids: Sequence[int]) -> Any:
    return _of(conn, query, ids) if ids else ()


def _of(conn: Connection, query: str, ids: Sequence[int]) -> Any:
    """A query of which every `%s` stands for "is one of these"."""
    return database.run(conn, *_about(conn, query, ids))


def _about(conn: Connection, query: str, ids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    shared, count = database.shared(conn.engine), query.count("%s")
    value = list(ids) if shared else msgspec.json.encode(ids).decode()
    return query % ((_ANY if shared else _EACH,) * count), (value,) * count


def newest(conn: Connection, model: int, stages: list[str] | None = None) -> list[ModelVersion]:
    """The newest version of each stage."""
    wanted = {stage_of(each) for each in stages or ()}
    return load_versions(conn, [each for each in _newest(conn, [model]) if not wanted or each.stage in wanted])


def versions() -> Any:
    return select(_version, _model.c.name).join(_model, _version.c.model == _model.c.id)


def version_row(conn: Connection, name: str, version: str, *, lock: bool = False) -> VersionRow:
    """lock: the model's row, as `row` does."""
    check_version(name, version)
    query = _locking(conn, _VERSION_ROW, "OF model") if lock else _VERSION_ROW
    found = database.run(conn, query, (name, int(version))).fetchone()
    if found is None:
        raise no_version(conn, name, version)
    return VersionRow(*found)


def check_version(name: str, version: str) -> None:
    """Raises Invalid for what is no name of a model, or no number of a version."""
    limits.model_name(name)
    if not re.fullmatch(r"\d{1,18}", version):
        raise Invalid(f"Parameter 'version' must be an integer, got '{version[:40]}'.")


def no_version(conn: Connection, name: str, version: str) -> NotFound:
    known = conn.execute(select(_model.c.id).where(_model.c.name == name)).first() is not None
    cure = f"`noria models show {name}` lists its versions." if known else _MODELS
    return NotFound(f"Model Version (name={name}, version={version}) not found", cure)


def load_versions(conn: Connection, found: Sequence[Any]) -> list[ModelVersion]:
    """Whole versions, in the order given."""
    tags: dict[int, list[Tag]] = {}
    aliases: dict[int, list[str]] = {}
    for is_alias, key, name, value in _said(conn, _VERSIONS_SAID, [each.id for each in found]):
        if is_alias:
            aliases.setdefault(key, []).append(name)
        else:
            tags.setdefault(key, []).append(Tag(name, value))
    return [version(each, tags.get(each.id, []), aliases.get(each.id, [])) for each in found]


def version(each: Any, tags: list[Tag], aliases: list[str]) -> ModelVersion:
    return ModelVersion(
        each.name, str(each.version), each.creation_time, each.last_update_time, each.stage, each.source, "READY", each.run_id,
        each.description, each.user_id, each.run_link, tags, aliases)  # fmt: skip


def get_version(conn: Connection, request: wire.VersionKey) -> wire.Version:
    return wire.Version(whole(conn, version_row(conn, request.name, request.version)))


def whole(conn: Connection, found: VersionRow) -> ModelVersion:
    """A version with what is said of it."""
    return load_versions(conn, [found])[0]


def said_of(conn: Connection, found: VersionRow) -> tuple[str, tuple[Any, ...]]:
    """What asks for the tags and aliases of a version; `with_said` reads the answer."""
    return _about(conn, _VERSIONS_SAID, [found.id])


def with_said(found: VersionRow, said: Any) -> ModelVersion:
    rows = said.fetchall()
    return version(found, [Tag(name, value) for kind, _, name, value in rows if not kind], [row[2] for row in rows if row[0]])


def location(conn: Connection, name: str, version: str) -> str:
    """Where the files of a version lie."""
    return str(version_row(conn, name, version).location)


def placed(conn: Connection, place: sources.Place) -> VersionRow:
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
