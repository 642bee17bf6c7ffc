"""The engine: it asks for steps, does them, and says what became of them. It speaks to a server and keeps nothing, so it may run anywhere,
several of it may run at once, and one may die at any time: its steps go to another when their leases are over.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from uuid import uuid4

from noria.automation.perform import perform
from noria.client.http import Server
from noria.errors import Conflict, NoriaError, Unavailable
from noria.wire import rules as wire

log = logging.getLogger("noria.rules")
_RENEW_SECONDS = 8.0
_TRIES = 6
_BREATH_SECONDS = 0.02


class Engine:
    """connect: makes a connection; each thread has its own. workers: steps that are done at once. patience: seconds after which it asks although
    nobody woke it."""

    def __init__(self, connect: Callable[[], Server], *, workers: int = 4, patience: float = 2.0) -> None:
        self.name = f"{socket.gethostname()}/{uuid4().hex[:8]}"
        self._connect, self._workers, self._patience = connect, workers, patience
        self._pool = ThreadPoolExecutor(workers, "noria-step")
        self._local = threading.local()
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._busy: dict[int, wire.Lease] = {}
        self._slots = count(1)
        self._thread: threading.Thread | None = None
        self.done = 0

    def __enter__(self) -> Engine:
        """Work in a thread of its own until the end of the block."""
        self._thread = threading.Thread(target=self.run, name="noria-rules", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(5)

    def wake(self) -> None:
        """There may be something to do. Returns at once."""
        self._woken.set()

    def stop(self) -> None:
        """Ask for nothing more. What is under way is left, and its lease lapses."""
        self._stopped.set()
        self._woken.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self) -> None:
        """Until stopped."""
        renewed = time.monotonic()
        while not self._stopped.is_set():
            try:
                wait = self._look()
                if time.monotonic() - renewed >= _RENEW_SECONDS:
                    renewed = time.monotonic()
                    self._renew()
            except NoriaError as error:
                if not self._stopped.is_set():
                    log.info("Rules wait: %s", error.message)
                wait = self._patience
            self._woken.wait(min(wait, self._patience))
            self._woken.clear()

    def once(self) -> int:
        """Do what is due, and what comes of it at once; how many steps that were."""
        before = self.done
        while (claimed := self._client().call(wire.CLAIM, wire.Claim(self.name, self._workers))).work or not claimed.again:
            for each in claimed.work:
                self._go(0, each)
        return self.done - before

    def _look(self) -> float:
        """Begin what there is to do; the seconds until there may be more."""
        with self._lock:
            room = self._workers - len(self._busy)
        if room <= 0:
            return _RENEW_SECONDS  # Whoever is done wakes it.
        claimed = self._client().call(wire.CLAIM, wire.Claim(self.name, room))
        for each in claimed.work:
            self._begin(each)
        return claimed.again / 1000 if claimed.work else max(_BREATH_SECONDS, claimed.again / 1000)

    def _begin(self, work: wire.Work) -> None:
        slot = next(self._slots)
        self._hold(slot, work)
        try:
            self._pool.submit(self._work, slot, work)
        except RuntimeError:  # It is being stopped.
            self._hold(slot, None)

    def _hold(self, slot: int, work: wire.Work | None) -> None:
        """What this slot is at, to be renewed meanwhile; None: nothing."""
        with self._lock:
            self._busy.pop(slot, None)
            if work is not None:
                self._busy[slot] = wire.Lease(work.firing.id, work.turn)

    def _work(self, slot: int, work: wire.Work) -> None:
        try:
            self._go(slot, work)
        except NoriaError as error:
            log.info("A step of rule %s goes to another engine: %s", work.rule.name, error.message)
        finally:
            self._hold(slot, None)
            self.wake()

    def _go(self, slot: int, work: wire.Work) -> None:
        """A step, and those that follow at once."""
        todo = [work]
        while todo and not self._stopped.is_set():
            each = todo.pop()
            self._hold(slot, each)
            said = perform(each, self._client(), self.name)
            self.done += 1
            try:
                todo = self._report(said)
            except Conflict as error:  # Somebody else has it, or its report came and the answer was lost.
                log.info("%s", error.message)

    def _report(self, said: wire.Report) -> list[wire.Work]:
        """Say what became of a step, again while the server is away for a moment."""
        for number in range(_TRIES):
            try:
                return self._client().call(wire.REPORT, said).work
            except Unavailable:
                if number == _TRIES - 1 or self._stopped.wait(0.2 * 2**number):
                    raise
        raise AssertionError

    def _renew(self) -> None:
        with self._lock:
            leases = list(self._busy.values())
        if leases:
            self._client().call(wire.RENEW, wire.Renew(leases))

    def _client(self) -> Server:
        found: Any = getattr(self._local, "client", None)
        if found is None:
            found = self._local.client = self._connect()
        return found  # type: ignore[no-any-return]
