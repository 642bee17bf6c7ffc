"""The relay: what lies in spools goes to the server, in order and once.

It keeps nothing: how far a spool was shipped is the server's to know. A relay that is killed at any moment and started
again goes on where the server says; two relays at one spool do no harm. Damage stops nobody: it is set aside in a file of
its own, reported, noted with the run, and passed over.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.client import disk, read
from noria.client.http import Server
from noria.client.read import Piece
from noria.client.spool import now
from noria.errors import NoriaError, Unavailable
from noria.jobs.say import say
from noria.wire import artifacts, logged_models, runs
from noria.wire import spools as wire

_PATIENCE = 90.0
"""Seconds after which bytes that another host wrote count as damaged: network file systems may show a file's end before its middle."""
_TRIES = 8
"""How often a file is offered to a server that fails at it, with pauses that double."""
_PAUSE = 5.0
"""Seconds before a spool that was refused is offered again."""
_HEADER = wire.Header.__struct_config__.tag
_FILES = {wire.Artifact.__struct_config__.tag, wire.ModelArtifact.__struct_config__.tag}

SHARED = "mlflow-artifacts:/noria/code/"
"""Begins the path of an artifact that lies here, and not with its run."""


class Known(Struct):
    """What is remembered of a spool while it is open. `roots`: of the artifacts of logged models, by id, and of the run, ""."""

    header: wire.Header
    offset: int
    damaged_since: float = 0.0
    roots: dict[str, str] = {}
    tries: int = 0
    not_before: float = 0.0
    keep_files: bool = False


class Done(Struct, frozen=True):
    """What `Relay.told` hears: so much of a spool was just delivered, or `damaged` bytes of it were set aside."""

    path: Path
    run_id: str
    size: int
    records: int
    damaged: int = 0


class Relay:
    """Ships spools by path. Not for several threads."""

    def __init__(self, server: Server, told: Callable[[Done], None] = lambda done: None) -> None:
        self.server, self.told = server, told
        self._known: dict[Path, Known] = {}
        self._complaints: dict[Path, str] = {}
        self._shared: set[str] = set()

    def ship(self, paths: Iterable[Path]) -> None:
        """Ship all whole records of these spools, in this order. Raises Unavailable when the server is.

        A spool that cannot be read, or that the server refuses, is left as it is, with one sentence on stderr; the others go on.
        """
        for path in paths:
            self._try(path, over=False)

    def finish(self, path: Path, *, over: bool = False) -> bool:
        """Whether nothing more will come: the writer is done or dead, and all it wrote is shipped.

        over: the caller knows that nobody writes there any more, as when a job has ended. A damaged end is set aside then;
        a run outside of jobs whose writer died without a word is ended as FAILED.
        """
        known = self._known.get(path)
        try:
            if known is None or not (over or self._is_over(path, known)):
                return False
            return self._try(path, over=True) and self._end(path, known) and known.offset == path.stat().st_size
        except OSError as error:
            self._complain(path, f"it cannot be finished ({error.strerror}).")
            return False

    def left(self, path: Path) -> int:
        """Bytes of this spool that are not on the server, as far as is known; 0 if another relay has put it aside."""
        known = self._known.get(path)
        there = known.offset if known is not None and known.header.format else 0
        return max(0, path.stat().st_size - there) if path.exists() else 0

    def retries(self, path: Path) -> bool:
        """Whether a file of this spool is being offered again to a server that failed at it."""
        known = self._known.get(path)
        return known is not None and 0 < known.tries < _TRIES

    def keeps_files(self, path: Path) -> bool:
        """Whether files of this spool were not taken by the server."""
        known = self._known.get(path)
        return known is not None and known.keep_files

    def forget(self, path: Path) -> None:
        self._known.pop(path, None)
        self._complaints.pop(path, None)

    def _complain(self, path: Path, sentence: str) -> None:
        if self._complaints.get(path) != sentence:
            say(f"spool {path}: {sentence}")
            self._complaints[path] = sentence

    def _try(self, path: Path, *, over: bool) -> bool:
        """Whether the spool could be shipped, as far as it goes."""
        try:
            with disk.opened(path) as fd:
                return self._ship(fd, path, over)
        except Unavailable:
            raise
        except NoriaError as error:
            self._complain(path, error.message)
            if (known := self._known.get(path)) is not None:
                known.not_before = max(known.not_before, time.monotonic() + _PAUSE)
        except FileNotFoundError:
            pass  # Another relay has put it aside.
        except OSError as error:
            self._complain(path, f"it cannot be read ({error.strerror}).")
        return False

    def _ship(self, fd: int, path: Path, over: bool) -> bool:
        known = self._known.get(path) or self._meet(fd, path)
        if known is None or time.monotonic() < known.not_before:
            return False
        if disk.size(fd) <= known.offset:
            return True
        while (piece := read.piece(fd, known.offset)) is not None:
            if piece.frames:
                self._send(path, known, piece)
            elif self._is_final(known, piece, over):
                self._set_aside(fd, path, known, piece)
            else:
                break
        return True

    def _meet(self, fd: int, path: Path) -> Known | None:
        """Read a spool's header and ask how far it came; None while the header is not whole."""
        try:
            header = read.header(fd, path, _run_of(path))
        except (msgspec.MsgspecError, ValueError):
            header = wire.Header(0, "", "", "", 0, 0, "", 0, "", 0)
        if header is None:
            return None
        if header.format != wire.FORMAT:
            self._known[path] = Known(header, sys.maxsize)
            self._complain(path, "it is of a format that this release does not know. Upgrade Noria; the spool is kept.")
            return None
        offset = self.server.call(wire.OFFSET, wire.Key(header.spool_id)).offset
        known = self._known[path] = Known(header, offset)
        return known

    def _send(self, path: Path, known: Known, piece: Piece) -> None:
        """Upload the files that these frames speak of, then ship the frames."""
        for tag, start, end in wire.tagged(piece.frames):
            if tag not in _FILES:
                continue
            record = wire.decode(piece.frames[start + wire.FRAME.size : end])
            assert isinstance(record, (wire.Artifact, wire.ModelArtifact))
            # What comes before may make the run or the model.
            if _owner(record) not in known.roots and not self._put(path, known, piece, start):
                return
            self._upload(path, known, record)
        self._put(path, known, piece, len(piece.frames))

    def _put(self, path: Path, known: Known, piece: Piece, stop: int) -> bool:
        """Ship a piece up to `stop`. Whether the server is there now; if not, another relay or an older copy of it was."""
        frames = piece.frames[known.offset - piece.start : stop]
        if not frames:
            return True
        self._call(known, frames, known.offset + len(frames))
        self.told(Done(path, known.header.run_id, len(frames), sum(tag != _HEADER for tag, _, _ in wire.tagged(frames))))
        return known.offset == piece.start + stop

    def _call(self, known: Known, frames: bytes, end: int, damaged: str = "") -> None:
        request = wire.Ship(known.header.spool_id, known.offset, frames, end, damaged)
        known.offset, known.damaged_since = self.server.call(wire.SHIP, request).offset, 0.0

    def _upload(self, path: Path, known: Known, record: wire.Artifact | wire.ModelArtifact) -> None:
        """The file goes first: once the record is on the server, so is what it speaks of."""
        source = path.parent / record.stored
        if not source.exists():
            self._complain(path, f"the file of artifact '{record.path}' is gone; the rest goes on.")
            return
        try:
            if record.path.startswith(SHARED):
                self._share(record.path, source)
            else:
                self.server.upload(self._root(known, _owner(record)), record.path, source)
            known.tries = 0
        except Unavailable:
            raise
        except (NoriaError, OSError) as error:
            known.tries = min(known.tries + 1, _TRIES)
            if known.tries < _TRIES and (isinstance(error, OSError) or error.status >= 500):
                known.not_before = time.monotonic() + 2.0**known.tries
                raise
            known.keep_files = True  # It will not be taken; what comes after it still is.
            self._complain(path, f"artifact '{record.path}' was refused, its file {source} is kept: {error}")

    def _share(self, path: str, source: Path) -> None:
        """What many runs have in common is named by its content, and sent once."""
        if path not in self._shared:
            root, _, name = path.rpartition("/")
            if name not in {
                each.path for each in self.server.call(artifacts.LIST_ROOT, artifacts.ListRoot(artifacts.inside(root))).files
            }:
                self.server.upload(root, name, source)
            self._shared.add(path)

    def _root(self, known: Known, model_id: str) -> str:
        if model_id not in known.roots and model_id:
            model = self.server.call(logged_models.GET, logged_models.Key(model_id)).model
            known.roots[model_id] = model.info.artifact_uri
        elif model_id not in known.roots:
            known.roots[""] = self.server.call(runs.GET, runs.Get(known.header.run_id)).run.info.artifact_uri
        return known.roots[model_id]

    def _is_final(self, known: Known, piece: Piece, over: bool) -> bool:
        """Whether damage is damage, and not what another host's file system has still to show."""
        if over or piece.last:
            return over
        known.damaged_since = known.damaged_since or time.monotonic()
        return known.header.host == socket.gethostname() or time.monotonic() - known.damaged_since > _PATIENCE

    def _set_aside(self, fd: int, path: Path, known: Known, piece: Piece) -> None:
        """Keep damage in a file of its own, report it, and go on behind it."""
        aside = path.with_suffix(f".{piece.start}.damaged")
        size, where = piece.end - piece.start, "all before them is" if piece.last else "all before and after them is"
        try:
            disk.copy(fd, piece.start, piece.end, aside)
            kept = f"they are kept in {aside.name}"
        except OSError as error:
            kept = f"they stay where they are ({aside.name} cannot be written: {error.strerror})"
        header = wire.frame(known.header) if known.offset == 0 else b""  # Damaged too; without one nothing can begin.
        self._call(known, header, piece.end, f"{size} bytes at {piece.start} of spool {known.header.spool_id[:8]}")
        which = f"its last {size} bytes" if piece.last else f"{size} bytes at {piece.start}"
        self._complain(path, f"{which} were damaged; {where} saved, {kept}.")
        self.told(Done(path, known.header.run_id, 0, 0, size))

    def _is_over(self, path: Path, known: Known) -> bool:
        """Whether the writer is done, or is dead and was on this machine."""
        if known.header.host == socket.gethostname() and not process.alive(known.header.pid, known.header.born):
            return True
        return known.offset == path.stat().st_size and _ended(path)

    def _end(self, path: Path, known: Known) -> bool:
        """End the run of a writer outside of jobs that began it and died without a word. Whether that is done."""
        if known.header.job_id or known.offset != path.stat().st_size or _ended(path) or not _began(path):
            return True
        disk.append(path, wire.frame(wire.End("FAILED", now())))
        return self._try(path, over=True)


def _ended(path: Path) -> bool:
    with disk.opened(path) as fd:
        return read.ended(fd)


def _began(path: Path) -> bool:
    with disk.opened(path) as fd:
        return read.began(fd)


def _owner(record: wire.Artifact | wire.ModelArtifact) -> str:
    """The logged model that a file belongs to; "" for the run."""
    return record.model_id if isinstance(record, wire.ModelArtifact) else ""


def _run_of(path: Path) -> str:
    """The run of the job in whose folder a spool lies, "" outside of jobs: for spools whose header is gone."""
    try:
        return str(msgspec.json.decode((path.parent.parent / "job.json").read_bytes())["run_id"])
    except (OSError, msgspec.MsgspecError, KeyError, TypeError):
        return ""
