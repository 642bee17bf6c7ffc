"""What several resources do with rows: tags by owner, and insert-or-replace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ARRAY, Column, ColumnElement, Connection, Table, Text, func, literal, select
from sqlalchemy import insert as plain
from sqlalchemy.dialects import postgresql, sqlite

from noria.store.arrays import array
from noria.types import Tag

T = TypeVar("T")
Id = TypeVar("Id", int, str)
CHUNK = 500
_POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


def chunks(ids: Sequence[T]) -> Iterable[Sequence[T]]:
    """SQL takes a bounded number of variables."""
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def add(conn: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row; its integer key."""
    return int(conn.execute(plain(table).values(values).returning(table.c.id)).scalar_one())


def _insert(conn: Connection, table: Table) -> Any:
    """The insert of this database, which knows ON CONFLICT; both have it, in one form."""
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)


_statements: dict[tuple[str, str, tuple[str, ...], bool, int], str] = {}
_BULK = 64
"""Rows of one statement on SQLite: each statement lets go of the interpreter's lock, and may wait long to have it back."""


def insert(
    conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, replace: bool = False
) -> None:
    """Insert many rows; with `replace`, over what has the same primary key. The way of the hot path, through the driver."""
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        kinds = (_kind(table, name) for name in columns)
        values = tuple(array(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True))
        conn.exec_driver_sql(_statement(conn, table, tuple(columns), replace, 0), values)
        return
    start = 0
    while start < len(rows):
        size = _BULK if len(rows) - start >= _BULK else 1 if len(rows) - start < 8 else 8
        values = tuple(value for row in rows[start : start + size] for value in row)
        conn.exec_driver_sql(_statement(conn, table, tuple(columns), replace, size), values)
        start += size


def _statement(conn: Connection, table: Table, columns: tuple[str, ...], replace: bool, size: int) -> str:
    """The statement's text. PostgreSQL takes a row as one array for each column (size 0)."""
    key = (conn.dialect.name, table.name, columns, replace, size)
    if key not in _statements:
        listed = ", ".join(f'"{name}"' for name in columns)
        if size:
            one = "(" + ", ".join("?" * len(columns)) + ")"
            source = "VALUES " + ", ".join([one] * size)
        else:
            kinds = [_kind(table, name) for name in columns]
            source = "SELECT * FROM unnest(" + ", ".join(f"%s::{kind}[]" for kind in kinds) + ")"  # noqa: S608 (our own types)
        # Made of the names of our own tables and columns alone.
        text = f'INSERT INTO "{table.name}" ({listed}) {source}'
        if replace:
            keys = [column.name for column in table.primary_key]
            changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in keys)
            text += " ON CONFLICT (" + ", ".join(f'"{name}"' for name in keys) + f") DO UPDATE SET {changed}"
        _statements[key] = text
    return _statements[key]


@cache
def _kind(table: Table, name: str) -> str:
    """What PostgreSQL calls a column's values."""
    return table.c[name].type.compile(_POSTGRESQL).partition(" COLLATE")[0]


def among(conn: Connection, query: str, values: Sequence[str | int], order: str = "") -> Any:
    """The rows of a query whose text ends before `IN`: its text is the same for any number of values, so it is compiled once."""
    if conn.dialect.name == "postgresql":
        return conn.exec_driver_sql(f"{query} = ANY(%s) {order}", (list(values),))
    listed = msgspec.json.encode(values).decode()
    return conn.exec_driver_sql(f"{query} IN (SELECT value FROM json_each(?)) {order}", (listed,))  # noqa: S608 (our own text)


def within(conn: Connection, column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column has one of some texts. They are one value of the statement, whose text is the same for any number of them; for a
    single one an index says the order too."""
    if len(values) == 1:
        return column == values[0]
    if conn.dialect.name == "postgresql":
        return column == func.any(literal(list(values), ARRAY(Text)))
    return column.in_(select(func.json_each(msgspec.json.encode(list(values)).decode()).table_valued("value").c.value))


def keep(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert what is not there; what is there stays."""
    if rows:
        conn.execute(_insert(conn, table).on_conflict_do_nothing(), list(rows))


def upsert(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert, or replace what has the same primary key."""
    if not rows:
        return
    statement = _insert(conn, table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def pairs(conn: Connection, table: Table, owner: Column[Any], ids: Sequence[Id]) -> dict[Id, list[Tag]]:
    """The key-value rows of each owner, by key."""
    found: dict[Id, list[Tag]] = {}
    if not ids:
        return found
    query = f'SELECT "{owner.name}", key, value FROM "{table.name}" WHERE "{owner.name}"'  # noqa: S608 (our own names)
    for owner_id, key, value in among(conn, query, ids, "ORDER BY key"):
        found.setdefault(owner_id, []).append(Tag(key, value))
    return found
