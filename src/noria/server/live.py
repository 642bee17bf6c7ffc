"""Live push: what was just committed goes to whoever watches that run. Watchers that cannot keep up are told to read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from noria.store.news import News
from noria.store.store import Store
from noria.wire.live import PING_SECONDS, Event

__all__ = ["CHANGED", "Event", "Hub"]

_BACKLOG = 1000
_HEARD_SECONDS = 0.1
"""By then, other processes know that a run is watched; what they commit before that, the reader finds in what it reads next."""

CHANGED = Event("run")
_MISSED = Event("again")


class Hub:
    """Watchers by run. Belongs to the event loop's thread; `connect` makes it know of other processes."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Queue[Event]]] = {}
        self._news: News | None = None

    def connect(self, store: Store) -> None:
        """Hear what other server processes commit, and tell them what this one does."""
        loop = asyncio.get_running_loop()

        def heard(run_id: str, body: bytes) -> None:
            event = msgspec.json.decode(body, type=Event) if body else _MISSED
            loop.call_soon_threadsafe(self._pass, run_id, event)

        self._news = store.news(heard)

    def tell(self, run_id: str, events: Callable[[], list[Event]]) -> None:
        """Pass events on; they are not even made when nobody watches."""
        news = self._news if self._news is not None and self._news.wanted(run_id) else None
        if run_id not in self._watchers and news is None:
            return
        for event in events():
            self._pass(run_id, event)
            if news is not None:
                news.tell(run_id, msgspec.json.encode(event))

    def _pass(self, run_id: str, event: Event) -> None:
        for watcher in self._watchers.get(run_id, ()):
            if watcher.qsize() < _BACKLOG:
                watcher.put_nowait(event)
            elif watcher.qsize() == _BACKLOG:
                watcher.put_nowait(_MISSED)

    async def watch(self, run_id: str) -> AsyncIterator[bytes]:
        """Server-sent events (WHATWG HTML, 9.2) until the reader leaves; a comment every 15 s keeps proxies awake."""
        watcher: asyncio.Queue[Event] = asyncio.Queue()
        self._watchers.setdefault(run_id, set()).add(watcher)
        try:
            if self._news is not None:
                self._news.watch(run_id, on=True)
                await asyncio.sleep(_HEARD_SECONDS)
            yield b": watching\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(watcher.get(), PING_SECONDS)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                yield b"data: " + msgspec.json.encode(event) + b"\n\n"
        finally:
            self._watchers[run_id].discard(watcher)
            if not self._watchers[run_id]:
                del self._watchers[run_id]
                if self._news is not None:
                    self._news.watch(run_id, on=False)
