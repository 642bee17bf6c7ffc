"""Telling webhooks what happened, behind the back of those who ask: the change is committed and answered before anything is sent."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from noria.errors import Forbidden, NoriaError, Unavailable
from noria.store import webhooks
from noria.store.store import Connection, Store
from noria.store.webhooks import Delivery
from noria.wire import webhooks as wire

log = logging.getLogger("noria.server")
SECONDS = 20.0
"""For one try, from the look-up of the name to the end of the answer; less than a claim lasts."""
_LOOK_SECONDS = 5.0
"""So often is looked for what nobody was woken for: what is to be tried again, and what other processes left."""
_ANSWER = 64 << 10
_SHOWN = 4000


class Teller:
    """Belongs to the event loop. One task for each webhook that waits for something."""

    def __init__(self, store: Store, readers: Executor) -> None:
        self._store, self._readers = store, readers
        self._woken = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """There is something to tell; from any thread, at any time."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            pass  # The loop has ended; whoever comes next looks for what was left.

    async def run(self) -> None:
        """Until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    wait = await self._look()
                except NoriaError as error:  # A database in trouble; those who ask hear of it, and it may be well again soon.
                    log.warning("Webhooks wait: %s", error.message)
                    wait = _LOOK_SECONDS
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait)
                self._woken.clear()
        finally:
            for task in self._busy.values():
                task.cancel()

    async def _look(self) -> float:
        """Begin what is due; the seconds until the next look."""
        found = await asyncio.get_running_loop().run_in_executor(self._readers, self._store.read, webhooks.due)
        now, wait = time.time() * 1000, _LOOK_SECONDS
        for webhook_id, when in found:
            if when > now:
                wait = min(wait, (when - now) / 1000)
            elif webhook_id not in self._busy:
                task = self._busy[webhook_id] = asyncio.create_task(self._tell(webhook_id))
                task.add_done_callback(partial(self._done, webhook_id))
        return wait

    def _done(self, webhook_id: str, _: object) -> None:
        del self._busy[webhook_id]
        self._woken.set()  # Something may have come between its last look and now.

    async def _tell(self, webhook_id: str) -> None:
        """One after the other, until there is nothing or something must be tried later."""
        done = None
        try:
            while (delivery := await self._write(lambda conn: webhooks.claim(conn, webhook_id, done))) is not None:  # noqa: B023
                failure = await _attempt(delivery)
                if failure == "":
                    done = delivery.key
                elif failure.startswith(_FINAL):
                    log.warning("Webhook %s: what it was to be told is given up. %s", webhook_id, failure)
                    done = delivery.key
                elif await self._write(lambda conn: webhooks.later(conn, delivery)) is None:
                    log.warning("Webhook %s: not told for a day, so this is given up. %s", webhook_id, failure)
                    done = None
                else:
                    log.info("Webhook %s: not told yet. %s", webhook_id, failure)
                    return
        except NoriaError as error:
            log.warning("Webhook %s waits: %s", webhook_id, error.message)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _write(self, work: Callable[[Connection], Any]) -> Any:
        return await self._store.write(work, asyncio.get_running_loop().create_future())


_FINAL = "It refused"


async def _attempt(delivery: Delivery) -> str:
    """Send it; "" if it has arrived, and otherwise why not."""
    try:
        status, _ = await send(delivery.url, delivery.body, wire.headers(delivery.secret, delivery.id, delivery.body))
    except NoriaError as error:
        return error.message
    if status < 300:
        return ""
    again = status >= 500 or status in (408, 425, 429)
    return f"{'It answered' if again else _FINAL}: {status}."


async def send(url: str, body: bytes, fields: dict[str, str]) -> tuple[int, bytes]:
    """POST; the status and the beginning of the answer. Raises Unavailable if there is none, Forbidden for an address that is no
    receiver's. Redirects are not followed: whoever may set the URL is not whoever answers there."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _send(url, body, fields)
    except TimeoutError:
        raise Unavailable(f"{_place(url)} did not answer within {SECONDS:g} s.") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(f"{_place(url)} cannot be told ({str(error) or type(error).__name__}).") from None


def _place(url: str) -> str:
    """Of a URL, what may be said: the rest may hold a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


async def _send(url: str, body: bytes, fields: dict[str, str]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    host, secure = str(parts.hostname), parts.scheme == "https"
    address = await _address(host, parts.port or (443 if secure else 80))
    tls = await asyncio.to_thread(_authorities) if secure else None
    reader, writer = await asyncio.open_connection(*address, ssl=tls, server_hostname=host if secure else None)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        given = {"Host": parts.netloc.rpartition("@")[2], **fields, "Content-Length": str(len(body)), "Connection": "close"}
        if parts.username:
            pair = f"{parts.username}:{parts.password or ''}".encode()
            given["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        answer = bytearray()
        while len(answer) < _ANSWER and (block := await reader.read(_ANSWER)):
            answer += block
            if _whole(answer):
                break
        return _read(bytes(answer))
    finally:
        writer.close()


@cache
def _authorities() -> ssl.SSLContext:
    """Whom we believe. Reading them takes long, for an event loop."""
    return ssl.create_default_context()


async def _address(host: str, port: int) -> tuple[str, int]:
    """Where to connect to. Looked up once, so that what is judged is what is connected to."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = ipaddress.ip_address(found[0][4][0])
    plain = getattr(address, "ipv4_mapped", None) or address
    # Private addresses are what receivers in a cluster have. These are where clouds keep the keys of their machines, and nobody.
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        raise Forbidden(f"{host} is {address}, where no receiver is.")
    return str(address), port


class _Socket:
    """What http.client reads an answer from."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._answer)


def _response(answer: bytes) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(_Socket(answer), method="POST")  # type: ignore[arg-type]
    response.begin()
    return response


def _whole(answer: bytearray) -> bool:
    """Whether an answer that says how long it is has come to its end."""
    head, end, rest = bytes(answer).partition(b"\r\n\r\n")
    if not end:
        return False
    length = _response(head + end).length
    return length is not None and len(rest) >= length


def _read(answer: bytes) -> tuple[int, bytes]:
    response = _response(answer)
    try:
        return response.status, response.read(_SHOWN)
    except http.client.IncompleteRead as error:  # It is longer than what is read of it.
        return response.status, error.partial


async def test(hook: Any, asked: wire.Test) -> wire.Result:
    """Send an example of an event; what came of it."""
    event = hook.events.split()[0] if not isinstance(asked.event, wire.Event) else webhooks.word(asked.event)
    body = webhooks.body(event, webhooks.example(event))
    try:
        status, answer = await send(hook.url, body, wire.headers(hook.secret, webhooks.new_id(), body))
    except NoriaError as error:
        return wire.Result(False, error_message=f"Failed to test webhook: {error.message}")
    return wire.Result(status < 400, status, answer.decode(errors="replace"))
