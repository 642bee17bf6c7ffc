"""What must hold in a database whatever happened to its server: read, compared, and said in one line for each thing that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from sqlalchemy import Connection, exc, select, text

from noria.store import chunks, database, folding, metrics
from noria.store.chunks import CELL, Points
from noria.store.schema import job, latest, metric_chunk, metric_log, run, spool


def database_at(where: Path | str) -> Iterator[str]:
    """All findings, on one snapshot; none if everything holds. where: a file of SQLite, or the URL of a PostgreSQL."""
    engine = database.look(where)
    try:
        with engine.connect() as conn, conn.begin():
            yield from findings(conn)
    except exc.DatabaseError as error:
        yield f"The database cannot be read to its end: {str(error.orig).splitlines()[0]}"
    finally:
        engine.dispose()


def findings(conn: Connection) -> Iterator[str]:
    yield from _file(conn)
    yield from _mark(conn)
    folded = folding.folded(conn)
    for key, uuid in conn.execute(select(run.c.id, run.c.uuid).order_by(run.c.id)).all():
        yield from (f"Run {uuid}: {what}" for what in _run(conn, key, folded))
    yield from _records(conn)


def leftovers(artifacts: Path) -> Iterator[str]:
    """Uploads that ended in their middle. They are in nobody's way; only without a server is it known that nobody is at them."""
    for path in sorted(artifacts.rglob(".*.part")):
        yield f"{path} is what is left of an upload that was cut off; it may be removed"


def _file(conn: Connection) -> Iterator[str]:
    """What SQLite itself can say. PostgreSQL has pg_amcheck for it."""
    if database.shared(conn.engine):
        return
    for (said,) in conn.execute(text("PRAGMA integrity_check(20)")):
        if said != "ok":
            yield f"The database file is damaged: {' '.join(said.split())}"
    for table, row, parent, _ in conn.execute(text("PRAGMA foreign_key_check")):
        yield f"Row {row} of {table} belongs to a row of {parent} that is not there"


def _mark(conn: Connection) -> Iterator[str]:
    """Rows that are yet to come must lie behind the mark, or they would never be folded."""
    given = "SELECT last_value FROM metric_log_id_seq" if database.shared(conn.engine) else _SEQUENCE
    last, folded = conn.execute(text(given)).scalar() or 0, folding.folded(conn)
    if folded > last:
        yield f"The hot log is marked as folded up to row {folded}, and has come to row {last} only"


_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = 'metric_log'"


def _run(conn: Connection, key: int, folded: int) -> Iterator[str]:
    """One run's metrics: each chunk by itself, the chunks of a metric in a row, and what lists read of it."""
    parts: dict[str, list[Points]] = {}
    spoilt: set[str] = set()
    for name, what, points in _chunks(conn, key):
        if what:
            spoilt.add(name)
            yield f"metric '{name}', {what}"
        parts.setdefault(name, []).append(points)
    for name, own in parts.items():
        if name not in spoilt and not all(_before(one, other) for one, other in pairwise(own)):
            yield f"metric '{name}': its chunks are not in order"
    groups: dict[str, list[bytes]] = {}
    for what, names, body in _log(conn, key, folded):
        if what:
            yield what
        else:
            groups.setdefault(names, []).append(body)
    for names, bodies in groups.items():
        for name, points in metrics.split(names.split("\n"), bodies):
            parts.setdefault(name, []).append(points)
    known = {each.key: each for each in conn.execute(select(latest).where(latest.c.run == key))}
    for name in sorted((known.keys() | parts.keys()) - spoilt):
        yield from _latest(name, known.get(name), chunks.join(parts.get(name, [])))


def _chunks(conn: Connection, key: int) -> Iterator[tuple[str, str, Points]]:
    """(metric, what is wrong or "", points) of each chunk in their order."""
    query = select(metric_chunk).where(metric_chunk.c.run == key).order_by(metric_chunk.c.key, metric_chunk.c.seq)
    each: Any
    for each in conn.execute(query):
        try:
            points = chunks.decode(each.body, each.count)
            cells = chunks.decode_cells(each.cells, each.count)
        except (ValueError, zstandard.ZstdError) as error:
            yield each.key, f"chunk {each.seq} cannot be read: {error}", chunks.NONE
            continue
        said = (each.first_time, each.last_time, each.min_step, each.max_step)
        steps = points.steps
        if said != (points.times[0], points.times[-1], steps.min(), steps.max()):
            yield each.key, f"chunk {each.seq}: its bounds are not those of its points", points
        elif chunks.ordered(points).size != points.size or not _sorted(points):
            yield each.key, f"chunk {each.seq}: its points are not in order, or are not there just once", points
        elif not np.array_equal(cells.steps, steps[::CELL]) or not np.array_equal(cells.times, points.times[::CELL]):
            yield each.key, f"chunk {each.seq}: its cells are not those of its points", points
        else:
            yield each.key, "", points


def _sorted(points: Points) -> bool:
    order = np.lexsort((points.values, points.steps, points.times))
    return bool(np.array_equal(points.times, points.times[order]) and np.array_equal(points.steps, points.steps[order]))


def _before(one: Points, other: Points) -> bool:
    return one.size > 0 < other.size and bool(one.times[-1] < other.times[0] or _place(one, -1) < _place(other, 0))


def _place(points: Points, index: int) -> tuple[int, int, bool, float]:
    value = float(points.values[index])
    return int(points.times[index]), int(points.steps[index]), math.isnan(value), 0.0 if math.isnan(value) else value


def _log(conn: Connection, key: int, folded: int) -> Iterator[tuple[str, str, bytes]]:
    """(what is wrong or "", keys, body) of the rows of the hot log that `latest` has to know of."""
    query = select(metric_log.c.id, metric_log.c.rewind, metric_log.c.names, metric_log.c.body).where(metric_log.c.run == key)
    for each in conn.execute(query.order_by(metric_log.c.id)):
        if each.rewind is None and len(each.body) != 24 * len(each.names.split("\n")):
            yield f"row {each.id} of the hot log has not as many points as names", "", b""
        elif each.id > folded:
            continue
        elif each.rewind is None:
            yield "", each.names, each.body
        else:
            yield f"row {each.id} of the hot log rewinds to step {each.rewind}, and was passed over", "", b""


def _latest(name: str, known: Any, points: Points) -> Iterator[str]:
    if known is None or not points.size:
        yield f"metric '{name}' " + ("is not in lists" if known is None else "is in lists, and has no points")
        return
    found = folding.summary(points)
    if folding.rank(folding.Summary(*known[2:])) != folding.rank(found):
        yield f"metric '{name}': lists say {known.value} at step {known.step}, its last point is {found.value} at step {found.step}"
    if (known.min, known.max, known.first_step) != (found.min, found.max, found.first_step) or not _any(known.first, points):
        yield f"metric '{name}': lists have not its first, least or greatest value"


def _any(value: float | None, points: Points) -> bool:
    """Whether it is a value of the first step."""
    first = points.values[points.steps == points.steps.min()]
    return bool(np.isnan(first).any() if value is None else (first == value).any())


def _records(conn: Connection) -> Iterator[str]:
    yield from (f"Spool {each.id} of run {each.run} has come to byte {each.offset}" for each in _bad_spools(conn))
    lost = select(job.c.id, job.c.run_id).where(job.c.run_id.not_in(select(run.c.uuid)))
    yield from (f"Job {each.id} belongs to run {each.run_id}, which is not there" for each in conn.execute(lost))


def _bad_spools(conn: Connection) -> Sequence[Any]:
    return conn.execute(select(spool).where((spool.c.offset <= 0) | (spool.c.run == ""))).all()
