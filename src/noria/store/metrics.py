"""Metric history: a hot log of batches in order of arrival, and beside it one row for each key with what lists need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from sqlalchemy import Connection, delete, insert, select

from noria.store.schema import latest, metric_log
from noria.types import number
from noria.wire.runs import Points

Point = tuple[str, float, int, int]
"""key, value, timestamp in milliseconds, step."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, float, int, int]]).decode

# The hot path goes through the driver: compiling this with SQLAlchemy would cost more than running it.
_APPEND = "INSERT INTO metric_log (run, body) VALUES (?, ?)"
_NEWER = "(excluded.step, excluded.timestamp, coalesce(excluded.value, -9e999)) >= (latest.step, latest.timestamp, coalesce(latest.value, -9e999))"
# Built of the constants above alone.
_LATEST = f"""
INSERT INTO latest (run, key, step, timestamp, value, first_step, first, min, max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET
  value = CASE WHEN {_NEWER} THEN excluded.value ELSE latest.value END,
  step = CASE WHEN {_NEWER} THEN excluded.step ELSE latest.step END,
  timestamp = CASE WHEN {_NEWER} THEN excluded.timestamp ELSE latest.timestamp END,
  first = CASE WHEN excluded.first_step < latest.first_step THEN excluded.first ELSE latest.first END,
  first_step = min(excluded.first_step, latest.first_step),
  min = coalesce(min(excluded.min, latest.min), excluded.min, latest.min),
  max = coalesce(max(excluded.max, latest.max), excluded.max, latest.max)
"""  # noqa: S608 (made of the constants above alone)


def append(conn: Connection, run: int, points: Sequence[Point]) -> None:
    """Keep a batch. Duplicates and any order of steps are kept as they come; readers tell them apart."""
    if points:
        conn.exec_driver_sql(_APPEND, (run, _encode(points)))
        conn.exec_driver_sql(_LATEST, _summaries(run, points))


def _summaries(run: int, points: Iterable[Point]) -> list[tuple[object, ...]]:
    """For each key the row of `latest`. The greatest (step, timestamp, value) is the latest, as MLflow has it."""
    by_key: dict[str, list[Point]] = {}
    for point in points:
        by_key.setdefault(point[0], []).append(point)
    result: list[tuple[object, ...]] = []
    for key, own in by_key.items():
        last = max(own, key=lambda point: (point[3], point[2], -math.inf if point[1] != point[1] else point[1]))
        first = min(own, key=lambda point: (point[3], point[2]))
        values = [point[1] for point in own if point[1] == point[1]]
        least, most = (min(values), max(values)) if values else (None, None)
        result.append((run, key, last[3], last[2], _null(last[1]), first[3], _null(first[1]), least, most))
    return result


def _null(value: float) -> float | None:
    return value if value == value else None


def rewind(conn: Connection, run: int, step: int) -> None:
    """Points of the run at `step` and after it are superseded: it goes on from a checkpoint before them."""
    conn.execute(insert(metric_log).values(run=run, rewind=step))
    conn.execute(delete(latest).where(latest.c.run == run))
    summaries = _summaries(run, _replay(conn, run))
    if summaries:
        conn.exec_driver_sql(_LATEST, summaries)


def _replay(conn: Connection, run: int, key: str | None = None) -> list[Point]:
    """The points that hold, each once, in order of arrival."""
    points: dict[Point | tuple[str, str, int, int], Point] = {}
    query = select(metric_log.c.rewind, metric_log.c.body).where(metric_log.c.run == run).order_by(metric_log.c.id)
    for step, body in conn.execute(query):
        if step is not None:
            # The machine's metrics count intervals, not steps of the training, and time is not rewound.
            points = {mark: point for mark, point in points.items() if point[3] < step or point[0].startswith("system/")}
        else:
            points.update((_mark(point), point) for point in _decode(body) if key is None or point[0] == key)
    return list(points.values())


def _mark(point: Point) -> Point | tuple[str, str, int, int]:
    """Equal points are one; NaN is not equal to itself, so it is named."""
    return point if point[1] == point[1] else (point[0], "NaN", point[2], point[3])


def history(conn: Connection, run: int, key: str) -> list[Point]:
    """One metric's points in MLflow's order: (timestamp, step, value)."""
    return sorted(_replay(conn, run, key), key=lambda point: (point[2], point[3], point[1]))


def curve(conn: Connection, run: int, key: str) -> Points:
    """One metric's points as columns, in the order (step, timestamp)."""
    points = sorted(_replay(conn, run, key), key=lambda point: (point[3], point[2]))
    return Points([point[3] for point in points], [number(point[1]) for point in points], [point[2] for point in points])


def last(conn: Connection, runs: Sequence[int]) -> Iterator[tuple[int, str, float, int, int]]:
    """(run, key, value, timestamp, step) of the latest point of each metric."""
    columns = (latest.c.run, latest.c.key, latest.c.value, latest.c.timestamp, latest.c.step)
    for run, key, value, timestamp, step in conn.execute(select(*columns).where(latest.c.run.in_(runs)).order_by(latest.c.key)):
        yield run, key, math.nan if value is None else value, timestamp, step
