"""Searches for registered models and for versions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from noria.store import database, fields, filters, page
from noria.store.fields import Field, Fields
from noria.store.registry import load, load_versions, versions
from noria.store.schema import model_version, model_version_tag, registered_model, registered_model_tag
from noria.store.sources import PROMPT_TAG
from noria.wire import registry as wire

_model, _version = registered_model, model_version


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
_PROMPTS = select(registered_model_tag.c.model).where(
    registered_model_tag.c.key == PROMPT_TAG, registered_model_tag.c.value == "true"
)
_VERSION_PROMPTS = select(model_version_tag.c.version).where(
    model_version_tag.c.key == PROMPT_TAG, model_version_tag.c.value == "true"
)


def search(conn: Connection, request: wire.Search) -> wire.Models:
    limit, start = page.size(request.max_results, 1000), page.offset(request.page_token)
    query = select(_model).where(_wanted(request.filter, NAMES, _field, _model.c.id, _PROMPTS))
    query = query.order_by(*_order(request.order_by, ORDERS, _field), _model.c.name).offset(start).limit(limit + 1)
    with database.in_time(conn):
        found = list(conn.execute(query))
    return wire.Models(load(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


def _wanted(
    text: str, names: filters.Names, field: Fields, ids: ColumnElement[int], marked: Select[tuple[int]]
) -> ColumnElement[bool]:
    """MLflow keeps its prompts among the models. They are found only by a filter that asks whether something is one."""
    parts = filters.parse(text, names)
    condition = fields.condition(parts, field)
    return condition if _PROMPT in filters.identifiers(parts) else and_(condition, ids.not_in(marked))


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


VERSION_NAMES = filters.Names(
    texts=("name", "run_id", "source_path"), numbers=("version_number", "creation_timestamp", "last_updated_timestamp")
)
VERSION_ORDERS = filters.Names(texts=("name",), numbers=VERSION_NAMES.numbers)
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
    query = versions().where(_wanted(request.filter, VERSION_NAMES, _version_field, _version.c.id, _VERSION_PROMPTS))
    order = _order(request.order_by or ["last_updated_timestamp DESC"], VERSION_ORDERS, _version_field)
    query = query.order_by(*order, _model.c.name, _version.c.version.desc())
    with database.in_time(conn):
        found = list(conn.execute(query.offset(start).limit(limit + 1)))
    return wire.Versions(load_versions(conn, found[:limit]), page.token(start + limit) if len(found) > limit else "")


def _version_field(identifier: filters.Identifier) -> Field:
    own = model_version_tag.c
    if identifier.kind == "attributes":
        return _VERSION_ATTRIBUTES[identifier.key]
    return _tagged(identifier, own.value, own.version == _version.c.id, own.key)
