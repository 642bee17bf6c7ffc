"""Limits of a client's connection that uvicorn does not have: how long a request may take to arrive, how large its head may be, and
how many clients there may be.

A look at all connections each second decides; what a connection does meanwhile is to note when it last heard something.
"""

from __future__ import annotations

import asyncio
import logging
import math
import resource
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from noria import door
from noria.errors import Invalid, NoriaError, TooLarge, TooSlow, Unavailable

log = logging.getLogger("noria.server")
HEAD_SECONDS = 10.0
"""From the first byte of a request, or from the connection's begin, to the end of its headers."""
IDLE_SECONDS = 30.0
"""Without a byte more of a request's body, or without one that was taken of an answer."""
HEAD_BYTES = 64 << 10
SPARE_FILES = 256
"""Files that the server opens besides connections."""
_FILES = 16_384


class Connection(HttpToolsProtocol):
    """One client's connection."""

    most = 1024
    """How many there may be at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading = False  # Whether a request has begun and not ended.
        self._head = False  # Whether its headers are still to come.
        self._began = self._heard = self._taken = self.loop.time()
        self._spilling = math.inf  # Since when the rest of a request is read that was answered before its end.
        self._size = self._unread = 0
        if len(self.connections) > self.most:
            self._refuse(Unavailable(f"The server has {self.most} connections, which are all that it takes.", "Try again later."))

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        self._size += len(data)
        super().data_received(data)
        if self._size > HEAD_BYTES:  # What is read as a part of a body does not count.
            self._refuse(TooLarge(f"The request's head is over {HEAD_BYTES >> 10} KiB.", "Send long values in its body."))

    def on_message_begin(self) -> None:
        self._reading = self._head = True
        self._began, self._spilling = self._heard, math.inf
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head, self._size = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading, self._size = False, 0
        super().on_message_complete()

    def resume_writing(self) -> None:
        self._taken = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all."""
        self._refuse(Invalid(msg, "Speak HTTP/1.1."))

    def look(self, now: float, asleep: float) -> None:
        """Close the connection if it is past its time, of which the seconds that this process was asleep are no part."""
        self._began, self._heard, self._taken = self._began + asleep, self._heard + asleep, self._taken + asleep
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.flow.read_paused:
            self._heard = now  # It is not the client that keeps us waiting.
        if self.transport.is_closing() or (self.flow.write_paused and answering):
            self._look_at_reader(now)
        elif self.pipeline or (answering and (self._head or not self._reading)):
            pass
        elif self._head:
            if now - self._began > HEAD_SECONDS:
                self._refuse(TooSlow(f"The request's headers did not come within {HEAD_SECONDS:g} s.", "Send it again."))
        elif not self._reading:
            if self.timeout_keep_alive_task is None and now - self._heard > HEAD_SECONDS:
                self.transport.close()
        elif answering:
            if now - self._heard > IDLE_SECONDS:
                self._refuse(TooSlow(f"Nothing more of the request came for {IDLE_SECONDS:g} s.", "Send it again."))
        else:
            self._spilling = min(self._spilling, now)
            if now - self._spilling > HEAD_SECONDS:
                self.transport.close()

    def _look_at_reader(self, now: float) -> None:
        """Whoever asks for much and takes nothing of it keeps memory and files here."""
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread:
            self._unread, self._taken = unread, now
        elif now - self._taken > IDLE_SECONDS:
            self.transport.abort()

    def _refuse(self, error: NoriaError) -> None:
        """Answer and close; without an answer if another one is on its way."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_whole(error))
        self.transport.close()


def _whole(error: NoriaError) -> bytes:
    """An error as the bytes of an answer after which the connection ends."""
    status, headers, body = door.problem(error)
    headers |= {"content-length": str(len(body)), "connection": "close"}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def room() -> int:
    """Make room for many connections; how many there may be, so that files can still be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _FILES) if hard != resource.RLIM_INFINITY else _FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted, soft) - SPARE_FILES


async def mind(connections: set[Any]) -> None:
    """Look after all connections, until cancelled."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        await asyncio.sleep(1.0)
        now = loop.time()
        asleep, last = max(0.0, now - last - 1.0), now
        for connection in list(connections):
            try:
                connection.look(now, asleep)
            except Exception:  # A defect of ours, which must not be that of all connections.
                log.exception("A connection could not be looked after")
