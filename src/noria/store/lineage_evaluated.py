"""What versions came to when they were evaluated, by the registry's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from noria.store import rows
from noria.store.changes import change
from noria.store.schema import registry_change, run, tag
from noria.types import Change
from noria.wire.lineage import Edge, Kind, key

EVALUATED, OF = "evaluated", "noria.evaluation.of"
"""What the log calls an evaluation, and the tag in which its run names the version."""
_own = registry_change.c


def edges(conn: Connection, ids: Mapping[Kind, Sequence[str]], *, up: bool, most: int) -> list[Edge]:
    """The edges between versions, the runs that evaluated them, and what these found, the newest first."""
    if up:
        return [edge for each in load(conn, ids.get("evaluation", [])) for edge in _edges(each)]
    asked = {key(kind, name) for kind in ("version", "run") for name in ids.get(kind, [])}
    names = [*ids.get("version", []), *_of_runs(conn, ids.get("run", []))]
    pairs = [(name, number) for name, _, number in (each.rpartition("/") for each in names)]
    if not pairs:
        return []
    query = select(registry_change).where(tuple_(_own.name, _own.version).in_(pairs), _own.action == EVALUATED)
    found = conn.execute(query.order_by(_own.id.desc()).limit(most))
    return [edge for each in found for edge in _edges(change(each)) if edge.source in asked]


def _of_runs(conn: Connection, uuids: Sequence[str]) -> Sequence[str]:
    """The versions that runs evaluated, as they say themselves."""
    if not uuids:
        return []
    query = select(tag.c.value).join(run, run.c.id == tag.c.run).where(tag.c.key == OF, rows.within(conn, run.c.uuid, uuids))
    return conn.execute(query.distinct()).scalars().all()


def _edges(each: Change) -> list[Edge]:
    found, by = key("evaluation", str(each.id)), each.evidence.get("run_id")
    made = [Edge(key("run", by), found, "found")] if isinstance(by, str) and by else []
    return [Edge(key("version", f"{each.name}/{each.version}"), found, "evaluated in"), *made]


def load(conn: Connection, names: Sequence[str]) -> list[Change]:
    """The lines of the log that are the evaluations of these ids."""
    return [change(each) for each in _rows(conn, names)]


def _rows(conn: Connection, names: Sequence[str]) -> Sequence[Row[Any]]:
    numbers = [int(name) for name in names if name.isdigit() and len(name) < 19]
    if not numbers:
        return []
    return conn.execute(select(registry_change).where(_own.id.in_(numbers), _own.action == EVALUATED)).all()
