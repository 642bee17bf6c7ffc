"""The log of predictions: one line of JSON for each request that was answered, written by a thread of its own.

An endpoint hands over what it has anyway, the bytes of a request and of its answer, and goes on; what they say is read, hashed and written
elsewhere. A disk that takes no more stops the log and not the serving: what is lost is counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from noria.client.http import Server
from noria.door import App
from noria.errors import Invalid, NoriaError
from noria.serve.protocols import PROTOCOLS
from noria.types import PredictionLog
from noria.wire import serving

VERSION = "noria.version"
"""Where the scope of a request says which version answered it."""
SEGMENT, MOST = 64 << 20, 1 << 30
"""Bytes of one file, and of all files of an endpoint; the oldest go when there are more."""
_WAITING = 64 << 20
_BATCH = 512
_AGAIN, _REPORT = 10.0, 5.0
_ID = 128


class Answered(Struct, frozen=True):
    """One request that was answered, as it stood on the wire. took: milliseconds."""

    time: int
    id: str
    version: str
    inputs: bytes
    outputs: bytes
    took: float


class Line(Struct, frozen=True, omit_defaults=True):
    """One line of a log. inputs_digest: the first 32 digits of the SHA-256 of the inputs, without the white space between their words.
    inputs: only where they were asked for. latency_ms: from the first byte of the request to the last of its answer."""

    time: int
    id: str
    version: str
    latency_ms: float
    inputs_digest: str
    outputs: Any
    inputs: Any = None


class Keep(Struct, frozen=True):
    """How the answers of an endpoint are written down: in a folder of its own in `folder`, of which share, with what was asked or without,
    and in so many bytes."""

    folder: Path
    sample: float = 1.0
    inputs: bool = False
    most: int = MOST


class Log:
    """Of one endpoint, in files of `folder`. One thread hands over, and never waits."""

    def __init__(
        self,
        folder: Path,
        report: Callable[[PredictionLog], bool],
        *,
        inputs: bool = False,
        sample: float = 1.0,
        most: int = MOST,
    ) -> None:
        """report: told now and then what the log holds, by its own thread; whether it heard. inputs: keep them as well. sample: the share
        of requests that is kept. most: bytes of all files."""
        if not 0 < sample <= 1:
            raise Invalid(f"A share of {sample:g} of the predictions cannot be kept.", "Give one above 0 and at most 1.")
        self.folder, self._report, self._inputs, self._sample = folder, report, inputs, sample
        self._segment = min(SEGMENT, max(most // 4, 1))
        self._files = max(1, most // self._segment)
        self._queue: SimpleQueue[Answered | None] = SimpleQueue()
        # Bytes that were handed over, and those that are done with: each is counted by one thread alone.
        self._handed, self._done, self._refused, self._missed = 0, 0, 0, 0
        self._count, self._first, self._last, self._versions = 0, 0, 0, Counter[str]()
        self._file, self._size, self._number, self._blocked = -1, 0, 0, 0.0
        self._told: PredictionLog | None = None
        self._due = 0.0
        self._chance = random.Random()
        self._thread = threading.Thread(target=self._run, name="noria-predictions", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """Whether the next request is one of those that are kept."""
        return self._sample == 1 or self._chance.random() < self._sample

    def put(self, answered: Answered) -> None:
        """Hand one over. Where more wait than memory is set aside for, it is lost and counted."""
        size = len(answered.inputs) + len(answered.outputs)
        if self._handed - self._done + size > _WAITING:
            self._refused += 1
            return
        self._handed += size
        self._queue.put(answered)

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join(10)

    def state(self) -> PredictionLog:
        lost = self._refused + self._missed
        return PredictionLog(str(self.folder), self._count, self._first, self._last, lost, self._sample, dict(self._versions))

    def _run(self) -> None:
        going = True
        self._tell()
        while going:
            batch, going = self._next()
            if batch:
                self._keep(batch)
            if time.monotonic() >= self._due or not going:
                self._tell()
        if self._file >= 0:
            os.close(self._file)

    def _next(self) -> tuple[list[Answered], bool]:
        """Those that wait, or whoever comes within a second; whether there may be more."""
        batch: list[Answered] = []
        try:
            while len(batch) < _BATCH:
                item = self._queue.get(timeout=1.0) if not batch else self._queue.get_nowait()
                if item is None:
                    return batch, False
                batch.append(item)
        except Empty:
            pass
        return batch, True

    def _keep(self, batch: list[Answered]) -> None:
        try:
            lines = b"".join(msgspec.json.encode(self._line(each)) + b"\n" for each in batch)
            kept = time.monotonic() >= self._blocked and self._write(lines)
        finally:
            self._done += sum(len(each.inputs) + len(each.outputs) for each in batch)
        if not kept:
            self._missed += len(batch)
            return
        self._count += len(batch)
        self._first = self._first or batch[0].time
        self._last = batch[-1].time
        self._versions.update(each.version for each in batch)

    def _line(self, each: Answered) -> Line:
        inputs, outputs = _compact(each.inputs), _compact(each.outputs)
        digest = hashlib.sha256(inputs if isinstance(inputs, msgspec.Raw) else each.inputs).hexdigest()[:32]
        shown = inputs if self._inputs else None
        return Line(each.time, each.id, each.version, round(each.took, 3), digest, outputs, shown)

    def _write(self, lines: bytes) -> bool:
        """Whether all of it is in the file; of what is not, nothing is left behind."""
        try:
            if self._file < 0 or self._size + len(lines) > self._segment:
                self._turn()
            written = os.write(self._file, lines)
            if written == len(lines):
                self._size += written
                return True
            os.ftruncate(self._file, self._size)
            why = "it takes no more"
        except OSError as error:
            why = str(error.strerror)
        self._blocked = time.monotonic() + _AGAIN
        if not self._missed:
            print(
                f"noria: predictions cannot be logged in {self.folder} ({why}); serving goes on, and they are counted",
                file=sys.stderr,
            )
        return False

    def _turn(self) -> None:
        """Begin the next file, and let the oldest go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = segments(self.folder)
        self._number = max(self._number, int(old[-1].stem) if old else 0) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL
        self._file, self._size = os.open(self.folder / f"{self._number:06}.jsonl", flags, 0o600), 0
        for each in old[: max(0, len(old) + 1 - self._files)]:
            each.unlink()

    def _tell(self) -> None:
        self._due = time.monotonic() + _REPORT
        state = self.state()
        if state != self._told and self._report(state):
            self._told = state


def _compact(body: bytes) -> Any:
    """JSON as it is, on one line and unread; anything else as text."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError:
        return body.decode(errors="replace")


def segments(folder: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    return sorted(folder.glob("[0-9]*.jsonl"), key=lambda path: int(path.stem))


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """What a log holds, the oldest first. A line that is not whole, or is none, is passed over."""
    for path in segments(folder):
        try:
            with path.open("rb") as file:
                for text in file:
                    if text.endswith(b"\n") and (found := parsed(text)) is not None:
                        yield found
        except FileNotFoundError:  # It was the oldest, and went meanwhile.
            continue


def parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def keeping(app: App, keep: Keep | None, server: Server, endpoint: str) -> Iterator[App]:
    """The application of an endpoint of this id, whose answers are logged while this goes on; as it is, if they are not to be."""
    if keep is None:
        yield app
        return
    told = Server(server.url, server.token)  # The log's thread has its own: one connection is not for several.

    def report(state: PredictionLog) -> bool:
        try:
            told.call(serving.LOGGED, serving.Logged(endpoint, state))
        except NoriaError:  # Not known there yet, or out of reach: it is told again.
            return False
        return True

    log = Log(keep.folder / endpoint, report, inputs=keep.inputs, sample=keep.sample, most=keep.most)
    try:
        yield logged(app, log)
    finally:
        log.close()


def logged(app: App, log: Log) -> App:
    """The application, whose answers are logged."""
    paths = frozenset(PROTOCOLS.get(name).PATH for name in PROTOCOLS.names())

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] not in paths or not log.wants():
            await app(scope, receive, send)
            return
        asked, told, status = list[bytes](), list[bytes](), 0
        given = dict(scope["headers"]).get(b"x-request-id", b"")[:_ID]
        name = given.decode("latin-1") or uuid4().hex
        begun, clock = time.time(), time.perf_counter()

        async def hear() -> Any:
            message = await receive()
            asked.append(message.get("body", b""))
            return message

        async def tell(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name.encode("latin-1"))]}
            else:
                told.append(message.get("body", b""))
            await send(message)

        await app(scope, hear, tell)
        if status == 200:
            took = (time.perf_counter() - clock) * 1000
            log.put(Answered(int(begun * 1000), name, str(scope.get(VERSION, "")), b"".join(asked), b"".join(told), took))

    return call
