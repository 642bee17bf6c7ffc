"""Metric histories: compacted into column chunks, and read from them and from what is still in the hot log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import zstandard
from msgspec import UNSET
from sqlalchemy import Connection, delete, func, select

from noria.store import chunks, rows
from noria.store.chunks import CHUNK, Points
from noria.store.metrics import Damaged, kept, split, tail
from noria.store.schema import metric_chunk, metric_log
from noria.types import Number, number
from noria.wire import runs as wire

EXACT = 1 << 21
"""Up to so many points a chart is drawn of all of them; of more, the pyramid answers."""
LEAST, MOST = -(2**63), 2**63 - 1
"""All steps there can be."""


def compact(conn: Connection, run: int, upto: int) -> None:
    """Move a run's rows of the hot log, up to row `upto`, into its chunks. What readers see does not change."""
    query = select(metric_log.c.rewind, metric_log.c.names, metric_log.c.body)
    groups: dict[str, list[bytes]] = {}
    for step, keys, body in conn.execute(query.where(metric_log.c.run == run, metric_log.c.id <= upto).order_by(metric_log.c.id)):
        if step is None:
            groups.setdefault(keys, []).append(body)
        else:
            _store(conn, run, groups)
            groups = {}
            _cut(conn, run, step)
    _store(conn, run, groups)
    conn.execute(delete(metric_log).where(metric_log.c.run == run, metric_log.c.id <= upto))


def _store(conn: Connection, run: int, groups: dict[str, list[bytes]]) -> None:
    parts: dict[str, list[Points]] = {}
    for keys, bodies in groups.items():
        for key, part in split(keys.split("\n"), bodies):
            parts.setdefault(key, []).append(part)
    for key, own in parts.items():
        _add(conn, run, key, chunks.ordered(chunks.join(own)))


def _add(conn: Connection, run: int, key: str, fresh: Points) -> None:
    """Points into the chunks of a metric: behind the last one as a rule, and into what they overlap if they come late.

    A last chunk that is small is filled up. A larger one stays as it is: what is written anew leaves a hole in PostgreSQL's files.
    """
    known = _chunks(conn, run, key)
    keep = len(known)
    while keep and (known[keep - 1].last_time >= fresh.times[0] or (keep == len(known) and known[-1].count < CHUNK // 4)):
        keep -= 1
    whole = chunks.ordered(chunks.join([_points(conn, known[keep:]), fresh]))
    _replace(conn, run, key, known[keep:], whole, known[keep].seq if keep < len(known) else known[-1].seq + 1 if known else 0)


def _cut(conn: Connection, run: int, step: int) -> None:
    """Remove the points at a step and after it, but for the machine's: they count intervals, and time is not rewound."""
    met = metric_chunk.c
    of_training = func.substr(met.key, 1, 7) != "system/"
    for key in conn.execute(select(met.key).where(met.run == run, met.max_step >= step, of_training).distinct()).scalars().all():
        for each in _chunks(conn, run, key):
            if each.max_step >= step:
                points = _points(conn, [each])
                _replace(conn, run, key, [each], points.take(points.steps < step), each.seq)


def _replace(conn: Connection, run: int, key: str, old: Sequence[Any], points: Points, seq: int) -> None:
    own = (metric_chunk.c.run == run, metric_chunk.c.key == key)
    if old:
        conn.execute(delete(metric_chunk).where(*own, metric_chunk.c.seq.between(old[0].seq, old[-1].seq)))
    fresh = []
    for start in range(0, points.size, CHUNK):
        part = points.take(slice(start, start + CHUNK))
        fresh.append((run, key, seq, part.size, int(part.times[0]), int(part.times[-1]), int(part.steps.min()),
                      int(part.steps.max()), chunks.cells(part), chunks.encode(part)))  # fmt: skip
        seq += 1
    rows.insert(conn, metric_chunk, metric_chunk.c.keys(), fresh)


def _chunks(conn: Connection, run: int, key: str) -> Sequence[Any]:
    """What the chunks of a metric are, in their order, without their points."""
    met = metric_chunk.c
    shown = (met.run, met.key, met.seq, met.count, met.first_time, met.last_time, met.min_step, met.max_step)
    return conn.execute(select(*shown).where(met.run == run, met.key == key).order_by(met.seq)).all()


def _points(conn: Connection, which: Sequence[Any]) -> Points:
    """The points of chunks, one after the other."""
    found, at = chunks.room(sum(each.count for each in which)), 0
    for each, body in _kept(conn, which, "body"):
        with _damaged(each.key):
            chunks.decode_into(body, found.take(slice(at, at + each.count)))
        at += each.count
    return found.take(slice(at))  # One that is gone meanwhile, by a rewind, has no points.


def _cells(conn: Connection, which: Sequence[Any]) -> Iterator[chunks.Cells]:
    for each, raw in _kept(conn, which, "cells"):
        with _damaged(each.key):
            yield chunks.decode_cells(raw, each.count)


def _kept(conn: Connection, which: Sequence[Any], column: str) -> Iterator[tuple[Any, bytes]]:
    """Each chunk with what is kept of it."""
    if not which:
        return
    met, wanted = metric_chunk.c, {each.seq: each for each in which}
    own = (met.run == which[0].run, met.key == which[0].key, met.seq.between(which[0].seq, which[-1].seq))
    for seq, raw in conn.execute(select(met.seq, met[column]).where(*own).order_by(met.seq)):
        if seq in wanted:
            yield wanted[seq], raw


@contextmanager
def _damaged(key: str) -> Iterator[None]:
    """Raises Damaged for what cannot be decoded."""
    try:
        yield
    except (ValueError, zstandard.ZstdError) as error:
        raise Damaged(key, error) from None


def compacted(conn: Connection, run: int, key: str) -> Points:
    """The points of a metric that are in chunks."""
    return _points(conn, _chunks(conn, run, key))


def history(conn: Connection, run: int, key: str, start: int, limit: int) -> tuple[Points, bool]:
    """At most `limit` points from the `start`th on in MLflow's order (timestamp, step, value); and whether more follow."""
    known, fresh = _chunks(conn, run, key), tail(conn, run, key)
    keep = len(known)
    while keep and fresh.size and known[keep - 1].last_time >= fresh.times[0]:
        keep -= 1
    parts: list[Points] = []
    skip, wanted = start, limit + 1
    for each in known[:keep]:
        if skip >= each.count:
            skip -= each.count
            continue
        points = _points(conn, [each])
        parts.append(points.take(slice(skip, skip + wanted)))
        skip, wanted = 0, wanted - parts[-1].size
        if not wanted:
            break
    if wanted:
        end = chunks.ordered(chunks.join([_points(conn, known[keep:]), fresh]))
        parts.append(end.take(slice(skip, skip + wanted)))
    found = chunks.join(parts)
    return found.take(slice(limit)), found.size > limit


def everything(conn: Connection, run: int, key: str, low: int = LEAST, high: int = MOST) -> Points:
    """All points with steps from `low` to `high`, both included, in the order (step, timestamp)."""
    inside = [each for each in _chunks(conn, run, key) if each.max_step >= low and each.min_step <= high]
    points = chunks.by_step(chunks.ordered(chunks.join([_points(conn, inside), tail(conn, run, key)])))
    return points if (low, high) == (LEAST, MOST) else points.take((points.steps >= low) & (points.steps <= high))


def whole(conn: Connection, run: int, prefix: str = "", since: int = LEAST) -> dict[str, Points]:
    """All points of a run, by metric, each in MLflow's order: what many calls of `everything` would find, with two queries.

    prefix: of the metrics that begin so. since: what is older may be left out.
    """
    parts: dict[str, list[Points]] = {}
    met = metric_chunk.c
    query = select(met.key, met.count, met.body).where(met.run == run, met.last_time >= since).order_by(met.key, met.seq)
    if prefix:
        query = query.where(func.substr(met.key, 1, len(prefix)) == prefix)
    for key, count, body in conn.execute(query):
        with _damaged(key):
            parts.setdefault(key, []).append(chunks.decode(body, count))
    for names, bodies in kept(conn, run):
        for key, part in split(names, bodies) if any(name.startswith(prefix) for name in names) else ():
            if key.startswith(prefix):
                parts.setdefault(key, []).append(part)
    return {key: chunks.ordered(chunks.join(own)) for key, own in parts.items()}


def curve(conn: Connection, run: int, asked: wire.Curve) -> wire.Points:
    """One metric's points as columns, in the order (step, timestamp); with `pixels`, no more than fit on so many."""
    low = LEAST if asked.start_step is UNSET else asked.start_step
    high = MOST if asked.end_step is UNSET else asked.end_step
    if asked.pixels:
        inside = [each for each in _chunks(conn, run, asked.key) if each.max_step >= low and each.min_step <= high]
        total = sum(each.count for each in inside)
        if total > EXACT:
            return _from_cells(conn, run, asked, inside, low, high)
    points = everything(conn, run, asked.key, low, high)
    if asked.pixels and points.size > asked.pixels:
        return _drawn(chunks.pixels(points, asked.pixels), points.size)
    return wire.Points(points.steps.tolist(), numbers(points.values), points.times.tolist(), count=points.size)


def _from_cells(conn: Connection, run: int, asked: wire.Curve, inside: Sequence[Any], low: int, high: int) -> wire.Points:
    fresh = tail(conn, run, asked.key)
    parts = [*_cells(conn, inside)]
    if fresh.size:
        parts.append(chunks.decode_cells(chunks.cells(fresh), fresh.size))
    cells = chunks.Cells(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    cells = cells.take((cells.steps >= low) & (cells.steps <= high))
    return _drawn(chunks.pixels_of_cells(cells, asked.pixels), sum(each.count for each in inside) + fresh.size)


def _drawn(cells: chunks.Cells, total: int) -> wire.Points:
    return wire.Points(cells.steps.tolist(), numbers(cells.means), cells.times.tolist(),
                       numbers(cells.mins), numbers(cells.maxs), total)  # fmt: skip


def numbers(values: chunks.Floats, named: Callable[[float], Number] = number) -> list[Any]:
    """A column of doubles as JSON has them; `named` writes those that JSON cannot."""
    return values.tolist() if np.isfinite(values).all() else [named(value) for value in values.tolist()]
