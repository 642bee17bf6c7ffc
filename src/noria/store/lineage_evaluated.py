"""What versions came to when they were evaluated, by the registry's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from noria.store.changes import change
from noria.store.schema import registry_change
from noria.types import Change
from noria.wire.lineage import Edge, Kind, key

EVALUATED = "evaluated"
_own = registry_change.c


def edges(conn: Connection, ids: Mapping[Kind, Sequence[str]], *, up: bool, most: int) -> list[Edge]:
    """The edges between versions and their evaluations, the newest first."""
    if up:
        return [_edge(each) for each in _rows(conn, ids.get("evaluation", []))]
    names = [(name, number) for name, _, number in (each.rpartition("/") for each in ids.get("version", []))]
    if not names:
        return []
    query = select(registry_change).where(tuple_(_own.name, _own.version).in_(names), _own.action == EVALUATED)
    return [_edge(each) for each in conn.execute(query.order_by(_own.id.desc()).limit(most))]


def load(conn: Connection, names: Sequence[str]) -> list[Change]:
    """The lines of the log that are the evaluations of these ids."""
    return [change(each) for each in _rows(conn, names)]


def _rows(conn: Connection, names: Sequence[str]) -> Sequence[Row[Any]]:
    numbers = [int(name) for name in names if name.isdigit() and len(name) < 19]
    if not numbers:
        return []
    return conn.execute(select(registry_change).where(_own.id.in_(numbers), _own.action == EVALUATED)).all()


def _edge(row: Row[Any]) -> Edge:
    return Edge(key("version", f"{row.name}/{row.version}"), key("evaluation", str(row.id)), "evaluated in")
