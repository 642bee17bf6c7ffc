"""The hot log of metrics: one row for each batch, whatever its size, and that is all that an answer waits for.

`summaries.fold` brings the values that lists show up to it (the store does so before whoever reads them), and `histories.compact` moves a run's
rows into its chunks, in the background.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct as Layout

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, func, select

from noria.errors import NoriaError
from noria.store import chunks, rows
from noria.store.chunks import Points
from noria.store.schema import metric_log

Point = tuple[str, float, int, int]
"""key, value, timestamp in milliseconds, step."""
Batch = tuple[int, str, bytes]
"""A row of the hot log: run, its keys one on a line, and the columns as `pack` has them."""
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


def last_row(conn: Connection) -> int:
    return conn.execute(select(func.max(metric_log.c.id))).scalar() or 0


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


def tail(conn: Connection, run: int, key: str) -> Points:
    """The points of a metric that are still in the hot log."""
    parts = [part for names, bodies in kept(conn, run) if key in names for name, part in split(names, bodies) if name == key]
    return chunks.ordered(chunks.join(parts))


def kept(conn: Connection, run: int) -> list[tuple[list[str], list[bytes]]]:
    """What the hot log has of a run, by the keys of its batches. A rewind that is not folded yet was not there when this read began."""
    groups: dict[str, list[bytes]] = {}
    query = select(metric_log.c.rewind, metric_log.c.names, metric_log.c.body).where(metric_log.c.run == run)
    for step, keys, body in conn.execute(query.order_by(metric_log.c.id)):
        if step is not None:
            break
        groups.setdefault(keys, []).append(body)
    return [(keys.split("\n"), bodies) for keys, bodies in groups.items()]
