"""What several resources do with rows: tags by owner, and insert-or-replace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Table, select
from sqlalchemy.dialects.sqlite import insert

from noria.types import Tag

T = TypeVar("T")
CHUNK = 500


def chunks(ids: Sequence[T]) -> Iterable[Sequence[T]]:
    """SQL takes a bounded number of variables."""
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def add(conn: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row; its integer key."""
    return int(conn.execute(insert(table).values(values).returning(table.c.id)).scalar_one())


def upsert(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert, or replace what has the same primary key."""
    if not rows:
        return
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def pairs(conn: Connection, table: Table, owner: Column[Any], ids: Sequence[T]) -> dict[T, list[Tag]]:
    """The key-value rows of each owner, by key."""
    found: dict[T, list[Tag]] = {}
    for chunk in chunks(ids):
        for owner_id, key, value in conn.execute(
            select(owner, table.c.key, table.c.value).where(owner.in_(chunk)).order_by(table.c.key)
        ):
            found.setdefault(owner_id, []).append(Tag(key, value))
    return found
