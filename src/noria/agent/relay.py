"""The relay: what lies in spools goes to the server, in order and once.

It keeps nothing: how far a spool was shipped is the server's to know. A relay that is killed at any moment and started
again goes on where the server says; two relays at one spool do no harm.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.client.http import Server
from noria.client.spool import now
from noria.errors import NoriaError, NotFound, Unavailable
from noria.wire import logged_models, runs
from noria.wire import spools as wire

BATCH = 1 << 20
"""Bytes of frames in one request."""


class Known(Struct):
    """What is remembered of a spool while it is open."""

    header: wire.Header
    offset: int
    ended: bool = False
    complained: str = ""


class Relay:
    """Ships spools by path. Not for several threads."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._known: dict[Path, Known] = {}

    def ship(self, paths: Iterable[Path]) -> None:
        """Ship all whole records of these spools, in this order. Raises Unavailable when the server is.

        A spool that the server refuses is left as it is, with one sentence on stderr; the others go on.
        """
        for path in paths:
            try:
                self._ship(path)
            except Unavailable:
                raise
            except NoriaError as error:
                self._complain(path, error.message)

    def forget(self, path: Path) -> None:
        self._known.pop(path, None)

    def _complain(self, path: Path, sentence: str) -> None:
        known = self._known.get(path)
        if known is None or known.complained != sentence:
            print(f"noria: spool {path}: {sentence}", file=sys.stderr, flush=True)
        if known is not None:
            known.complained = sentence

    def _ship(self, path: Path) -> None:
        known = self._known.get(path) or self._meet(path)
        if known is None or path.stat().st_size <= known.offset:
            return
        with path.open("rb") as file:
            while True:
                file.seek(known.offset)
                data = file.read(BATCH)
                size = wire.whole(data)
                if size == 0 and len(data) == BATCH:  # One record may be larger than a batch.
                    data += file.read(wire.LIMIT)
                    size = wire.whole(data, BATCH)
                if size == 0:
                    return
                self._send(path, known, data[:size])

    def _meet(self, path: Path) -> Known | None:
        """Read a spool's header and ask how far it came; None while the header is not whole."""
        with path.open("rb") as file:
            head = file.read(1 << 16)
        size = wire.whole(head, 1)
        if size == 0:
            return None
        try:
            header = next(wire.records(head[:size]))
        except msgspec.MsgspecError:
            header = None
        if not isinstance(header, wire.Header) or header.format != wire.FORMAT:
            self._known[path] = Known(wire.Header(0, "", "", "", 0, 0, "", 0, "", 0), sys.maxsize)
            self._complain(path, "it is of a format that this release does not know. Upgrade Noria; the spool is kept.")
            return None
        offset = self.server.call(wire.OFFSET, wire.Key(header.spool_id)).offset
        known = self._known[path] = Known(header, offset)
        return known

    def _send(self, path: Path, known: Known, frames: bytes) -> None:
        begin = known.offset
        for place, record in wire.placed(frames):
            if isinstance(record, (wire.Artifact, wire.ModelArtifact)):
                self._upload(path, known, record, frames[known.offset - begin : place])
            known.ended = isinstance(record, (wire.End, wire.Close))
        self._tell(known, frames[known.offset - begin :])  # An upload may have shipped the beginning already.

    def _tell(self, known: Known, frames: bytes) -> None:
        known.offset = self.server.call(wire.SHIP, wire.Ship(known.header.spool_id, known.offset, frames)).offset

    def _upload(self, path: Path, known: Known, record: wire.Artifact | wire.ModelArtifact, before: bytes) -> None:
        """The file goes first: once the record is on the server, so is what it speaks of."""
        source = path.parent / record.stored
        if not source.exists():
            self._complain(path, f"the file of artifact '{record.path}' is gone; the rest goes on.")
            return
        try:
            try:
                root = self._root(known, record)
            except NotFound:  # What makes its run or model lies before it in this same batch: that goes first, then ask again.
                self._tell(known, before)
                root = self._root(known, record)
            self.server.upload(root, record.path, source)
        except Unavailable:
            raise
        except NoriaError as error:  # It will never be taken; what comes after it still is.
            self._complain(path, f"artifact '{record.path}' was refused: {error.message}")

    def _root(self, known: Known, record: wire.Artifact | wire.ModelArtifact) -> str:
        if isinstance(record, wire.ModelArtifact):
            return self.server.call(logged_models.GET, logged_models.Key(record.model_id)).model.info.artifact_uri
        return self.server.call(runs.GET, runs.Get(known.header.run_id)).run.info.artifact_uri

    def close_dead(self, path: Path) -> bool:
        """Whether nothing more will come: the writer is dead and all it wrote is shipped.

        A run whose writer began it and died without a word is ended as FAILED, and a damaged end is cut off, kept beside and
        reported.
        """
        known = self._known.get(path)
        if known is None:
            return False
        if known.ended and path.stat().st_size == known.offset:
            return True
        if known.header.host != socket.gethostname() or process.alive(known.header.pid, known.header.born):
            return False
        damaged = path.stat().st_size - known.offset
        if damaged > 0:
            with path.open("r+b") as file:
                file.seek(known.offset)
                if wire.whole(file.read(wire.LIMIT)):
                    return False  # Whole records: they are shipped first.
                file.seek(known.offset)
                path.with_suffix(".damaged").write_bytes(file.read())
                file.truncate(known.offset)
            self._complain(
                path, f"its last {damaged} bytes were damaged; all before them is saved, they are kept in {path.stem}.damaged."
            )
        if not known.ended and not known.header.job_id and _began(path):
            with path.open("ab") as file:
                file.write(wire.frame(wire.End("FAILED", now())))
                os.fsync(file.fileno())
            self._ship(path)
        return True


def _began(path: Path) -> bool:
    """Whether the writer of this spool began its run, and answers for its end."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
    first = wire.whole(head, 1)
    second = wire.whole(head[first:], 1)
    return second > 0 and isinstance(next(wire.records(head[first : first + second])), wire.Begin)
