"""Live push: what was just committed goes to whoever watches that run. Watchers that cannot keep up are told to read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from noria.wire.live import PING_SECONDS, Event

__all__ = ["CHANGED", "Event", "Hub"]

_BACKLOG = 1000
CHANGED = Event("run")
_MISSED = Event("again")


class Hub:
    """Watchers by run. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Queue[Event]]] = {}

    def tell(self, run_id: str, events: Callable[[], list[Event]]) -> None:
        """Pass events on; they are not even made when nobody watches."""
        watchers = self._watchers.get(run_id)
        for event in events() if watchers else ():
            for watcher in watchers or ():
                if watcher.qsize() < _BACKLOG:
                    watcher.put_nowait(event)
                elif watcher.qsize() == _BACKLOG:
                    watcher.put_nowait(_MISSED)

    async def watch(self, run_id: str) -> AsyncIterator[bytes]:
        """Server-sent events (WHATWG HTML, 9.2) until the reader leaves; a comment every 15 s keeps proxies awake."""
        watcher: asyncio.Queue[Event] = asyncio.Queue()
        self._watchers.setdefault(run_id, set()).add(watcher)
        try:
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
