"""Metric history: a hot log of batches, folded into `latest` for lists and compacted into column chunks for charts.

Appending is one row, whatever the batch, and that is all that an answer waits for. `fold` brings `latest` up to what was
appended (the store does so before whoever reads it), `compact` moves a run's rows into its chunks, in the background.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct as Layout
from typing import Any, NamedTuple, TypeVar

import numpy as np
import zstandard
from msgspec import UNSET, Struct
from sqlalchemy import Connection, delete, func, select

from noria.errors import NoriaError
from noria.store import chunks, rows
from noria.store.chunks import CHUNK, Points
from noria.store.schema import latest, mark, metric_chunk, metric_log
from noria.types import Number, number
from noria.wire import runs as wire

log = logging.getLogger("noria.store")
T = TypeVar("T")
Point = tuple[str, float, int, int]
"""key, value, timestamp in milliseconds, step."""
Batch = tuple[int, str, bytes]
"""A row of the hot log: run, its keys one on a line, and the columns as `pack` has them."""

EXACT = 1 << 21
"""Up to so many points a chart is drawn of all of them; of more, the pyramid answers."""
FOLD = 4096
"""Rows of the hot log that one transaction folds."""
LEAST, MOST = -(2**63), 2**63 - 1
"""All steps there can be."""
_FOLDED = "folded"
_layouts: dict[int, Layout] = {}


class Damaged(NoriaError):
    """A part of a history is not what was written: the disk has changed it."""

    def __init__(self, key: str, why: object) -> None:
        super().__init__(f"The stored history of '{key}' is damaged ({why}).", "`noria server check` says what else is.")


class Append(Struct, frozen=True, gc=False):
    """A batch of metrics for a run, checked and packed: what most requests come down to."""

    uuid: str
    names: str
    body: bytes


class Summary(NamedTuple):
    """What `latest` has of one metric; None for NaN."""

    step: int
    timestamp: int
    value: float | None
    first_step: int
    first: float | None
    min: float | None
    max: float | None


def pack(points: Sequence[Point]) -> tuple[str, bytes]:
    """Points as the hot log has them: keys one on a line; all values, then all timestamps, then all steps."""
    keys, values, times, steps = zip(*points, strict=True)
    return "\n".join(keys), columns(values, times, steps)


def columns(values: Iterable[float], times: Iterable[int], steps: Sequence[int]) -> bytes:
    size = len(steps)
    layout = _layouts.get(size)
    if layout is None:
        layout = _layouts[size] = Layout(f"<{size}d{2 * size}q")
    return layout.pack(*values, *times, *steps)


def append(conn: Connection, run: int, points: Sequence[Point]) -> None:
    """Keep a batch. Duplicates and any order of steps are kept as they come; readers tell them apart."""
    if points:
        keys, body = pack(points)
        insert(conn, [(run, keys, body)])


def insert(conn: Connection, batches: Sequence[Batch]) -> None:
    rows.insert(conn, metric_log, ("run", "names", "body"), batches)
    conn.info["appended"] = True


def rewind(conn: Connection, run: int, step: int) -> None:
    """Points of the run at `step` and after it are superseded: it goes on from a checkpoint before them."""
    rows.insert(conn, metric_log, ("run", "rewind"), [(run, step)])
    conn.info["appended"] = True


# Folding: from the hot log to `latest`.


def last_row(conn: Connection) -> int:
    return conn.execute(select(func.max(metric_log.c.id))).scalar() or 0


def folded(conn: Connection) -> int:
    """The last row of the hot log that `latest` knows of."""
    return conn.execute(select(mark.c.value).where(mark.c.name == _FOLDED)).scalar() or 0


def caught_up(conn: Connection) -> bool:
    """Whether `latest` has all that this transaction sees of the hot log."""
    newest = select(func.max(metric_log.c.id)).scalar_subquery()
    done = select(mark.c.value).where(mark.c.name == _FOLDED).scalar_subquery()
    return bool(conn.execute(select(func.coalesce(newest, 0) <= func.coalesce(done, 0))).scalar_one())


def fold(conn: Connection, upto: int) -> tuple[bool, dict[int, int]]:
    """Bring `latest` on by FOLD rows, at most up to row `upto`. Returns whether that is done, and how many points each run got."""
    since = folded(conn)
    query = select(metric_log.c.id, metric_log.c.run, metric_log.c.rewind, metric_log.c.names, metric_log.c.body)
    found = conn.execute(
        query.where(metric_log.c.id > since, metric_log.c.id <= upto).order_by(metric_log.c.id).limit(FOLD)
    ).all()
    if not found:
        return True, {}
    rewound = {row.run for row in found if row.rewind is not None}
    for run in rewound:
        try:
            with conn.begin_nested():
                compact(conn, run, found[-1].id)
                _rebuild(conn, run)
        except Damaged as error:  # One run's trouble is not that of all others.
            log.error("A run cannot be rewound. %s", error.message)
    counts: dict[int, int] = {}
    groups: dict[tuple[int, str], list[bytes]] = {}
    for row in found:
        if row.run not in rewound:
            groups.setdefault((row.run, row.names), []).append(row.body)
            counts[row.run] = counts.get(row.run, 0) + len(row.body) // 24
    _merge(conn, _summaries(groups))
    rows.upsert(conn, mark, [{"name": _FOLDED, "value": found[-1].id}])
    return len(found) < FOLD, counts


def _summaries(groups: dict[tuple[int, str], list[bytes]]) -> dict[tuple[int, str], Summary]:
    found: dict[tuple[int, str], Summary] = {}
    for (run, keys), bodies in groups.items():
        names = keys.split("\n")
        few = len(bodies) * len(names) < 64 or len(bodies) == 1  # Below that, plain Python is faster than numpy's calls.
        for key, summary in _plain(names, bodies) if few else _columnwise(names, bodies):
            known = found.get((run, key))
            found[run, key] = summary if known is None else later(known, summary)
    return found


def _plain(names: list[str], bodies: list[bytes]) -> Iterator[tuple[str, Summary]]:
    for body in bodies:
        size = len(names)
        flat = Layout(f"<{size}d{2 * size}q").unpack(body)
        for key, value, time, step in zip(names, flat, flat[size:], flat[2 * size :], strict=False):
            known = None if value != value else value
            yield key, Summary(step, time, known, step, known, known, known)


def _columnwise(names: list[str], bodies: list[bytes]) -> Iterator[tuple[str, Summary]]:
    for key, part in split(names, bodies):
        yield key, summary(part)


def split(names: list[str], bodies: list[bytes]) -> Iterator[tuple[str, Points]]:
    """The points of each key, of batches that have the same keys in the same order."""
    raw = np.frombuffer(b"".join(bodies), np.int64).reshape(len(bodies), 3, len(names))
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    for key, own in places.items():
        part = raw[:, :, own] if len(own) < len(names) else raw
        values, times, steps = (np.ascontiguousarray(part[:, column]).reshape(-1) for column in range(3))
        yield key, Points(values.view(np.float64), times, steps)


def summary(part: Points) -> Summary:
    """The greatest (step, timestamp, value) is the latest, as MLflow has it; the least (step, timestamp) the first."""
    values, times, steps = part
    top = np.flatnonzero(steps == steps.max())
    top = top[times[top] == times[top].max()]
    last = top[np.argmax(np.where(np.isnan(values[top]), -np.inf, values[top]))]
    low = np.flatnonzero(steps == steps.min())
    first = low[np.argmin(times[low])]
    return Summary(int(steps[last]), int(times[last]), _known(values[last]), int(steps[first]), _known(values[first]),
                   _known(np.fmin.reduce(values)), _known(np.fmax.reduce(values)))  # fmt: skip


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def later(old: Summary, new: Summary) -> Summary:
    """Two summaries of one metric, as one. The first is the earlier of two firsts of one step."""
    last = new if rank(new) >= rank(old) else old
    first = new if new.first_step < old.first_step else old
    return Summary(last.step, last.timestamp, last.value, first.first_step, first.first,
                   _of(min, old.min, new.min), _of(max, old.max, new.max))  # fmt: skip


def rank(of: Summary) -> tuple[int, int, float]:
    """What decides which point is the last."""
    return of.step, of.timestamp, -math.inf if of.value is None else of.value


def _of(choose: Any, old: float | None, new: float | None) -> float | None:
    return new if old is None else old if new is None else choose(old, new)


def _merge(conn: Connection, found: dict[tuple[int, str], Summary]) -> None:
    for chunk in rows.chunks(list({run for run, _ in found})):
        for run, key, *rest in conn.execute(select(latest).where(latest.c.run.in_(chunk))):
            if (run, key) in found:
                found[run, key] = later(Summary(*rest), found[run, key])
    rows.insert(conn, latest, latest.c.keys(), [(run, key, *summary) for (run, key), summary in found.items()], replace=True)


def _rebuild(conn: Connection, run: int) -> None:
    """`latest` of one run, from its chunks."""
    conn.execute(delete(latest).where(latest.c.run == run))
    keys = conn.execute(select(metric_chunk.c.key).where(metric_chunk.c.run == run).distinct()).scalars().all()
    _merge(conn, {(run, key): summary(chunks.join([*_load(conn, _chunks(conn, run, key))])) for key in keys})


# Compacting: from the hot log to chunks.


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
    """Points into the chunks of a metric: behind the last one as a rule, and into what they overlap if they come late."""
    known = _chunks(conn, run, key)
    keep = len(known)
    while keep and (known[keep - 1].last_time >= fresh.times[0] or (keep == len(known) and known[-1].count < CHUNK)):
        keep -= 1
    whole = chunks.ordered(chunks.join([*_load(conn, known[keep:]), fresh]))
    _replace(conn, run, key, known[keep:], whole, known[keep].seq if keep < len(known) else known[-1].seq + 1 if known else 0)


def _cut(conn: Connection, run: int, step: int) -> None:
    """Remove the points at a step and after it, but for the machine's: they count intervals, and time is not rewound."""
    met = metric_chunk.c
    of_training = func.substr(met.key, 1, 7) != "system/"
    for key in conn.execute(select(met.key).where(met.run == run, met.max_step >= step, of_training).distinct()).scalars().all():
        for each in _chunks(conn, run, key):
            if each.max_step >= step:
                (points,) = _load(conn, [each])
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


def _load(conn: Connection, which: Sequence[Any], column: str = "body") -> Iterator[Any]:
    """The points (or the cells) of chunks, one after the other."""
    if not which:
        return
    met, decode = metric_chunk.c, chunks.decode if column == "body" else chunks.decode_cells
    wanted = {each.seq: each.count for each in which}
    own = (met.run == which[0].run, met.key == which[0].key, met.seq.between(which[0].seq, which[-1].seq))
    for seq, raw in conn.execute(select(met.seq, met[column]).where(*own).order_by(met.seq)):
        if seq in wanted:
            yield _decoded(decode, which[0].key, raw, wanted[seq])


def _decoded(decode: Callable[[bytes, int], T], key: str, raw: bytes, count: int) -> T:
    try:
        return decode(raw, count)
    except (ValueError, zstandard.ZstdError) as error:
        raise Damaged(key, error) from None


# Reading.


def _tail(conn: Connection, run: int, key: str) -> Points:
    """The points of a metric that are still in the hot log. A rewind that is not folded yet was not there when this read began."""
    parts: list[Points] = []
    groups: dict[str, list[bytes]] = {}
    query = select(metric_log.c.rewind, metric_log.c.names, metric_log.c.body).where(metric_log.c.run == run)
    for step, keys, body in conn.execute(query.order_by(metric_log.c.id)):
        if step is not None:
            break
        groups.setdefault(keys, []).append(body)
    for keys, bodies in groups.items():
        names = keys.split("\n")
        if key in names:
            parts += [part for name, part in split(names, bodies) if name == key]
    return chunks.ordered(chunks.join(parts))


def history(conn: Connection, run: int, key: str, start: int, limit: int) -> tuple[Points, bool]:
    """At most `limit` points from the `start`th on in MLflow's order (timestamp, step, value); and whether more follow."""
    known, tail = _chunks(conn, run, key), _tail(conn, run, key)
    keep = len(known)
    while keep and tail.size and known[keep - 1].last_time >= tail.times[0]:
        keep -= 1
    parts: list[Points] = []
    skip, wanted = start, limit + 1
    for each in known[:keep]:
        if skip >= each.count:
            skip -= each.count
            continue
        (points,) = _load(conn, [each])
        parts.append(points.take(slice(skip, skip + wanted)))
        skip, wanted = 0, wanted - parts[-1].size
        if not wanted:
            break
    if wanted:
        end = chunks.ordered(chunks.join([*_load(conn, known[keep:]), tail]))
        parts.append(end.take(slice(skip, skip + wanted)))
    found = chunks.join(parts)
    return found.take(slice(limit)), found.size > limit


def everything(conn: Connection, run: int, key: str, low: int = LEAST, high: int = MOST) -> Points:
    """All points with steps from `low` to `high`, both included, in the order (step, timestamp)."""
    inside = [each for each in _chunks(conn, run, key) if each.max_step >= low and each.min_step <= high]
    points = chunks.by_step(chunks.ordered(chunks.join([*_load(conn, inside), _tail(conn, run, key)])))
    return points if (low, high) == (LEAST, MOST) else points.take((points.steps >= low) & (points.steps <= high))


def whole(conn: Connection, run: int) -> dict[str, Points]:
    """All points of a run, by metric, each in MLflow's order: what many calls of `everything` would find, with two queries."""
    parts: dict[str, list[Points]] = {}
    met = metric_chunk.c
    query = select(met.key, met.count, met.body).where(met.run == run).order_by(met.key, met.seq)
    for key, count, body in conn.execute(query):
        parts.setdefault(key, []).append(_decoded(chunks.decode, key, body, count))
    groups: dict[str, list[bytes]] = {}
    log = select(metric_log.c.rewind, metric_log.c.names, metric_log.c.body).where(metric_log.c.run == run)
    for step, keys, body in conn.execute(log.order_by(metric_log.c.id)):
        if step is not None:
            break
        groups.setdefault(keys, []).append(body)
    for keys, bodies in groups.items():
        for key, part in split(keys.split("\n"), bodies):
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
    tail = _tail(conn, run, asked.key)
    parts = [*_load(conn, inside, "cells")]
    if tail.size:
        parts.append(chunks.decode_cells(chunks.cells(tail), tail.size))
    cells = chunks.Cells(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    cells = cells.take((cells.steps >= low) & (cells.steps <= high))
    return _drawn(chunks.pixels_of_cells(cells, asked.pixels), sum(each.count for each in inside) + tail.size)


def _drawn(cells: chunks.Cells, total: int) -> wire.Points:
    return wire.Points(cells.steps.tolist(), numbers(cells.means), cells.times.tolist(),
                       numbers(cells.mins), numbers(cells.maxs), total)  # fmt: skip


def numbers(values: chunks.Floats, named: Callable[[float], Number] = number) -> list[Any]:
    """A column of doubles as JSON has them; `named` writes those that JSON cannot."""
    return values.tolist() if np.isfinite(values).all() else [named(value) for value in values.tolist()]
