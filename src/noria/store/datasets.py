"""Data sets by their content, whatever runs call them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select, tuple_

from noria.store.schema import dataset, run
from noria.types import DatasetInput
from noria.wire import lineage as wire


def list_(conn: Connection, request: wire.ListData) -> wire.DataSets:
    """Those that were read last come first."""
    own, last = dataset.c, func.max(dataset.c.run)
    chosen = select(own.digest).group_by(own.digest).order_by(last.desc()).limit(request.max_results)
    if request.name:
        chosen = chosen.where(own.name == request.name)
    digests = conn.execute(chosen).scalars().all()
    query = select(own.digest, own.name, func.count().label("count"), func.min(own.run).label("first"), last.label("last"))
    found: dict[str, list[tuple[str, int, int, int]]] = {digest: [] for digest in digests}
    for digest, name, count, first, latest in conn.execute(query.where(own.digest.in_(digests)).group_by(own.digest, own.name)):
        found[digest].append((name, count, first, latest))
    ends = {number for rows in found.values() for number in (min(each[2] for each in rows), max(each[3] for each in rows))}
    times = {row.id: row.start_time for row in conn.execute(select(run.c.id, run.c.start_time).where(run.c.id.in_(ends)))}
    newest = {digest: max(rows, key=lambda each: each[3]) for digest, rows in found.items()}
    sources = _sources(conn, [(each[3], each[0], digest) for digest, each in newest.items()])
    return wire.DataSets([
        wire.Data(digest, sorted(each[0] for each in rows), sources.get(digest, ""), sum(each[1] for each in rows),
                  times[min(each[2] for each in rows)], times[newest[digest][3]])
        for digest, rows in found.items()
    ])  # fmt: skip


def _sources(conn: Connection, keys: list[tuple[int, str, str]]) -> dict[str, str]:
    """Where each was read from, by the rows of these keys (run, name, digest)."""
    own = dataset.c
    if not keys:
        return {}
    found = conn.execute(select(own.digest, own.body).where(tuple_(own.run, own.name, own.digest).in_(keys)))
    return {row.digest: msgspec.json.decode(row.body, type=DatasetInput).dataset.source for row in found}
