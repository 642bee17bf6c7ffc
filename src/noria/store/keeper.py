"""What the writer does between requests: folds the hot log, compacts it, and gives the space back."""

from __future__ import annotations

import logging
import math
import time

from sqlalchemy import Connection, exc, func, select

from noria.errors import Unavailable
from noria.store import database, folding, histories, metrics
from noria.store.schema import metric_log

log = logging.getLogger("noria.store")
_FOLD_SECONDS, _FOLD_LATEST = 0.5, 2.0
"""How long the hot log runs ahead of `latest` at most; who reads does not wait for that, but asks for a fold."""
_FOLD_SHARE = 0.05
"""At most so much of the time goes to folds that nobody asks for, up to the latter: a large one makes all writers wait."""
_HOT = 32_768
"""Points of a run in the hot log from which on it is compacted while it still logs."""
_WARM = 256
"""Points of a run in the hot log from which on it is compacted once it has gone quiet; fewer stay: chunks would take more room."""
_QUIET_SECONDS = 5.0
"""A run that has logged nothing for so long has gone quiet."""
_LATE_SECONDS = 60.0
"""So much later it is compacted although there is other work: there may be some for ever."""
_DUTY = 0.25
"""At most so much of the time goes to compaction while there is other work."""
_PAGES = 1024
_LOOK = 5_000
"""The database looks at itself again when there are so many more points than twice what it saw."""


class Keeper:
    """Belongs to the writer's thread."""

    def __init__(self) -> None:
        self._due = time.monotonic() + _FOLD_SECONDS
        self._failed = 0.0  # Until then, a fold that failed is not tried again.
        self._rest = 0.0  # Until then, other work goes first.
        self._hot: dict[int, tuple[int, float]] | None = (
            None  # Points in the hot log and when they last grew; the quietest run first.
        )
        self._ripe: set[int] = set()
        self._known = self._new = 0  # Points that were there when the database looked at itself, and since.
        self._free = False  # Whether compaction has left free pages.

    def patience(self, *, behind: bool) -> float | None:
        """How long to wait for requests; None: there is nothing else to do."""
        if behind:
            return _FOLD_SECONDS
        if self._hot is None or self._ripe or self._free:
            return max(0.002, min(0.5, self._rest - time.monotonic()))
        return max(0.002, self._quiet_at() - time.monotonic()) if self._hot else None

    def _quiet_at(self) -> float:
        return next(iter(self._hot.values()))[1] + _QUIET_SECONDS if self._hot else math.inf

    def due(self) -> bool:
        return time.monotonic() >= self._due

    def fold(self, conn: Connection) -> None:
        """Bring `latest` up to all that is committed when this begins. If that fails, as it does on a full disk, it fails at once
        for some time, so that most of the time is left for what may succeed."""
        now = time.monotonic()
        if now < self._failed:
            raise Unavailable("The last fold failed just now.")
        try:
            self._fold(conn, now)
        except Exception:
            self._failed = _later(now, 0.0)
            raise
        done = time.monotonic()
        self._due = done + min(_FOLD_LATEST, max(_FOLD_SECONDS, (done - now) / _FOLD_SHARE))
        if self._new > _LOOK + self._known:
            self._known, self._new = self._known + self._new, 0
            database.count_rows(conn)

    def _fold(self, conn: Connection, now: float) -> None:
        with conn.begin():
            database.hold_appends(conn)
            upto = metrics.last_row(conn)
        done = False
        while not done:
            with conn.begin():
                database.hold_fold(conn)
                done, counts = folding.fold(conn, upto)
            for run, points in counts.items():
                self._count(run, points, now)
            self._new += sum(counts.values())

    def _count(self, run: int, points: int, now: float) -> None:
        if self._hot is None:
            return
        points += self._hot.pop(run, (0, now))[0]
        self._hot[run] = points, now  # Behind all others.
        if points >= _HOT:
            self._ripe.add(run)

    def tidy(self, conn: Connection, *, idle: bool) -> Exception | None:
        """One small piece of work, if there is any and it is time for it; its failure, if it failed."""
        now = time.monotonic()
        if now < self._rest or not (idle or self._ripe or self._hot is None or self._quiet_at() + _LATE_SECONDS <= now):
            return None
        try:
            if self._hot is None:
                self._hot = _left(conn, now - _QUIET_SECONDS)
                database.count_rows(conn)  # Others may have filled it, or brought it back from a backup.
            elif self._ripe:
                self._compact(conn, next(iter(self._ripe)))
            elif self._hot and self._quiet_at() <= now:
                run, (points, _) = next(iter(self._hot.items()))
                if points >= _WARM:
                    self._compact(conn, run)
                else:
                    del self._hot[run]
            elif self._free:
                self._free = database.give_back(conn, _PAGES)
        except Exception as error:
            if not isinstance(error, exc.DBAPIError):  # A full disk, or no database: writers are told, and this can wait.
                log.exception("Keeping house failed")
                self._hot, self._ripe = {}, set()  # Not the same again in a second, for ever.
            self._rest = _later(now, 1.0)
            return error
        self._rest = 0.0 if idle else time.monotonic() + (time.monotonic() - now) * (1 / _DUTY - 1)
        return None

    def _compact(self, conn: Connection, run: int) -> None:
        try:
            with conn.begin():
                database.hold_fold(conn)
                histories.compact(conn, run, folding.folded(conn))
        except metrics.Damaged as error:  # It stays in the hot log, and is in nobody's way there.
            log.error("A run cannot be compacted. %s", error.message)
        assert self._hot is not None
        self._hot.pop(run, None)
        self._ripe.discard(run)
        self._free = True


def _later(begun: float, least: float) -> float:
    """When to try again what was begun then and failed now."""
    now = time.monotonic()
    return now + max(least, (now - begun) * (1 / _DUTY - 1))


def _left(conn: Connection, when: float) -> dict[int, tuple[int, float]]:
    """Runs with many rows in the hot log, from a process before this one."""
    many = select(metric_log.c.run).group_by(metric_log.c.run).having(func.count() >= _WARM // 4)
    with conn.begin():
        return dict.fromkeys(conn.execute(many).scalars(), (_WARM, when))
