"""What tries say about the nodes that they ran on."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
from sqlalchemy import Connection, select

from noria.store import rows
from noria.store.experiments import now
from noria.store.schema import job, job_try, node_forgiven
from noria.types import Try
from noria.wire import nodes as wire

_MOST = 10_000
"""Tries of each kind that are read, the last ones: a bound on the time of one request."""


class _Place(msgspec.Struct):
    """What of a JobSpec says where its job goes, and how many tasks it has there."""

    scheduler: str
    cluster: str = ""
    nodes: int = 1
    tasks_per_node: int = 1


def records(conn: Connection, ill: Collection[str], well: Collection[str], since: int) -> dict[str, list[wire.Record]]:
    """By place, the tries that ended after `since` for one of the causes `ill`, and those for one of `well` if there are any of the first."""
    found: dict[str, list[wire.Record]] = {}
    for place, record in _tried(conn, ill, since):
        found.setdefault(place, []).append(record)
    for place, record in _tried(conn, well, since) if found else ():
        if place in found:
            found[place].append(record)
    return found


def _tried(conn: Connection, causes: Collection[str], since: int) -> Iterator[tuple[str, wire.Record]]:
    query = (
        select(job_try.c.body, job.c.id, job.c.user, job.c.spec)
        .join(job, job.c.id == job_try.c.job)
        .where(job_try.c.cause.in_(causes), job_try.c.ended > since)
        .order_by(job_try.c.ended.desc())
        .limit(_MOST)
    )
    for body, job_id, user, spec in conn.execute(query):
        each, where = _try(body), _place(spec)
        nodes = [each.host] if each.host else each.nodes  # Nobody failed first where a try ended well.
        if nodes:
            tasks = where.nodes * where.tasks_per_node
            told = wire.Record(job_id, user, each.cause, each.ended, nodes, each.started, each.reason, tasks)
            yield where.cluster or where.scheduler, told


_try = msgspec.json.Decoder(Try).decode
_place = msgspec.json.Decoder(_Place).decode


def forgiven(conn: Connection, place: str) -> dict[str, int]:
    """Since when the past of nodes of this place counts no more, in milliseconds since 1970."""
    query = select(node_forgiven.c.node, node_forgiven.c.time).where(node_forgiven.c.place.in_(("", place)))
    found: dict[str, int] = {}
    for node, moment in conn.execute(query):
        found[node] = max(moment, found.get(node, 0))
    return found


def forgive(conn: Connection, request: wire.Forgive) -> None:
    rows.upsert(conn, node_forgiven, [{"place": request.place, "node": request.node, "time": now()}])
