"""News between the server processes of one PostgreSQL: what one has committed goes to those whose readers watch that run.

Nobody is told what nobody watches: a process says every few seconds which runs it watches, and the others remember it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine

log = logging.getLogger("noria.store")
_LIMIT = 7900
"""Bytes of a notification; PostgreSQL takes 8,000."""
_SAY_SECONDS, _FORGET_SECONDS = 5.0, 15.0


class News:
    """Two threads: one that says, one that hears."""

    def __init__(self, engine: Engine, heard: Callable[[str, bytes], None]) -> None:
        """heard: called with a run and an event of another process, in a thread of ours; b"" for one that was too long to send."""
        self._engine, self._heard = engine, heard
        self._me = uuid4().hex
        self._out: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._ours: set[str] = set()
        self._theirs: dict[str, float] = {}
        for work in (self._say, self._hear):
            threading.Thread(target=self._forever, args=(work,), name=f"noria-news-{work.__name__}", daemon=True).start()

    def watch(self, run_id: str, *, on: bool) -> None:
        """Somebody reads this run's events here, or nobody does any more."""
        if on:
            self._ours.add(run_id)
            self._out.put(("noria_watch", run_id))
        else:
            self._ours.discard(run_id)

    def wanted(self, run_id: str) -> bool:
        """Whether another process has readers of this run."""
        until = self._theirs.get(run_id)
        if until is not None and until < time.monotonic():
            del self._theirs[run_id]
            return False
        return until is not None

    def tell(self, run_id: str, event: bytes) -> None:
        text = event.decode() if len(event) < _LIMIT - 300 else ""
        self._out.put(("noria_live", f"{run_id} {text}"))

    def _forever(self, work: Callable[[Any], None]) -> None:
        while True:
            try:
                with self._engine.connect() as connection:
                    raw: Any = connection.connection.driver_connection
                    raw.autocommit = True
                    work(raw)
            except Exception as error:
                log.warning("News between server processes stopped (%s); trying again.", str(error).partition("\n")[0])
                time.sleep(1.0)

    def _say(self, raw: Any) -> None:
        while True:
            try:
                channel, text = self._out.get(timeout=_SAY_SECONDS)
                raw.execute("SELECT pg_notify(%s, %s)", (channel, f"{self._me} {text}"))
            except queue.Empty:
                pass
            for run_id in self._ours.copy() if self._out.empty() else ():
                raw.execute("SELECT pg_notify(%s, %s)", ("noria_watch", f"{self._me} {run_id}"))

    def _hear(self, raw: Any) -> None:
        raw.execute("LISTEN noria_live")
        raw.execute("LISTEN noria_watch")
        for notice in raw.notifies():
            who, _, rest = notice.payload.partition(" ")
            if who == self._me:
                continue
            run_id, _, text = rest.partition(" ")
            if notice.channel == "noria_watch":
                self._theirs[run_id] = time.monotonic() + _FORGET_SECONDS
            elif run_id in self._ours:
                self._heard(run_id, text.encode())
