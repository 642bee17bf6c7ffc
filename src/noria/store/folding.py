"""The last value of each metric, and its least and greatest: what lists show and searches ask for.

They follow the hot log: `fold` brings them up to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from struct import Struct as Layout
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, delete, select

from noria.store import database, histories, rows, watching
from noria.store.chunks import Floats, Ints, Points
from noria.store.metrics import Damaged, split
from noria.store.schema import latest, mark, metric_chunk, metric_log

log = logging.getLogger("noria.store")
FOLD = 4096
"""Rows of the hot log that one transaction folds."""
_FOLDED = "folded"
_LEAST, _MOST = -(2**63), 2**63 - 1
_CAUGHT_UP = """SELECT coalesce((SELECT max(id) FROM metric_log), 0) <= coalesce((SELECT value FROM mark WHERE name = ?), 0)"""


class Summary(NamedTuple):
    """What `latest` has of one metric; None for NaN."""

    step: int
    timestamp: int
    value: float | None
    first_step: int
    first: float | None
    min: float | None
    max: float | None


def folded(conn: Connection) -> int:
    """The last row of the hot log that `latest` knows of."""
    return conn.execute(select(mark.c.value).where(mark.c.name == _FOLDED)).scalar() or 0


def caught_up(conn: Connection) -> bool:
    """Whether `latest` has all that this transaction sees of the hot log."""
    return bool(database.run(conn, _CAUGHT_UP, (_FOLDED,)).fetchone()[0])


def fold(conn: Connection, upto: int) -> tuple[bool, dict[int, int]]:
    """Bring `latest` on by FOLD rows, at most up to row `upto`. Returns whether that is done, and how many points each run got."""
    since = folded(conn)
    query = select(metric_log.c.id, metric_log.c.run, metric_log.c.rewind, metric_log.c.names, metric_log.c.body)
    found = conn.execute(
        query.where(metric_log.c.id > since, metric_log.c.id <= upto).order_by(metric_log.c.id).limit(FOLD)
    ).all()
    if not found:
        watching.last(conn)
        return True, {}
    rewound = {row.run for row in found if row.rewind is not None}
    if rewound:
        database.hold_changes(conn)
    for run in rewound:
        try:
            with conn.begin_nested():
                histories.compact(conn, run, found[-1].id)
                _rebuild(conn, run)
        except Damaged as error:  # One run's trouble is not that of all others.
            log.error("A run cannot be rewound. %s", error.message)
    counts: dict[int, int] = {}
    groups: dict[tuple[int, str], list[bytes]] = {}
    for row in found:
        if row.run not in rewound:
            groups.setdefault((row.run, row.names), []).append(row.body)
            counts[row.run] = counts.get(row.run, 0) + len(row.body) // 24
    summaries = _summaries(groups)
    database.hold_changes(conn)
    _merge(conn, summaries)
    watching.look(conn, groups, rewound)
    rows.upsert(conn, mark, [{"name": _FOLDED, "value": found[-1].id}])
    done = len(found) < FOLD
    if done and caught_up(conn):
        watching.last(conn)
    return done, counts


def _summaries(groups: dict[tuple[int, str], list[bytes]]) -> dict[tuple[int, str], Summary]:
    found: dict[tuple[int, str], Summary] = {}
    for (run, keys), bodies in groups.items():
        names = keys.split("\n")
        few = len(bodies) * len(names) < 128 or len(bodies) == 1  # Below that, plain Python is faster than numpy's calls.
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
    if len(set(names)) < len(names):
        yield from ((key, summary(part)) for key, part in split(names, bodies))
        return
    raw = np.frombuffer(b"".join(bodies), np.int64).reshape(len(bodies), 3, len(names))
    yield from zip(names, _summaries_of(raw[:, 0].view(np.float64), raw[:, 1], raw[:, 2]), strict=True)


def summary(part: Points) -> Summary:
    """Of the points of one metric."""
    (found,) = _summaries_of(part.values[:, None], part.times[:, None], part.steps[:, None])
    return found


def _summaries_of(values: Floats, times: Ints, steps: Ints) -> Iterator[Summary]:
    """Of each metric, whose points are a column: the greatest (step, timestamp, value) is the latest, as MLflow has it, and a number
    is greater than NaN; the least (step, timestamp) is the first."""
    lasts, firsts = steps.max(0), steps.min(0)
    top, low = steps == lasts, steps == firsts
    late = np.where(top, times, _LEAST).max(0)
    top &= times == late
    low &= times == np.where(low, times, _MOST).min(0)
    columns = (
        lasts, late, np.fmax.reduce(np.where(top, values, np.nan)), firsts, values[low.argmax(0), np.arange(values.shape[1])],
        np.fmin.reduce(values), np.fmax.reduce(values),
    )  # fmt: skip
    for step, time, last, first_step, first, least, most in zip(*(column.tolist() for column in columns), strict=True):
        yield Summary(step, time, _known(last), first_step, _known(first), _known(least), _known(most))


def _known(value: float) -> float | None:
    return None if value != value else value


def later(old: Summary, new: Summary) -> Summary:
    """Two summaries of one metric, as one. The first is the earlier of two firsts of one step."""
    last = new if rank(new) >= rank(old) else old
    first = new if new.first_step < old.first_step else old
    return Summary(last.step, last.timestamp, last.value, first.first_step, first.first,
                   _of(min, old.min, new.min), _of(max, old.max, new.max))  # fmt: skip


def rank(of: Summary) -> tuple[int, int, bool, float]:
    """What decides which point is the last; NaN is less than any number."""
    return of.step, of.timestamp, of.value is not None, of.value or 0.0


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
    _merge(conn, {(run, key): summary(histories.compacted(conn, run, key)) for key in keys})
