"""The spool, written: one append to one file for each record, and nothing to wait for but the local write(2).

What is promised:
- A record that `append` has returned from is in the kernel's hands: it survives the death of this process, however it
  dies. It does not survive a power cut of the node in the seconds before the file system has written it; on a network
  file system these are the seconds until its client has sent it.
- A disk that is full or fails stops nobody's training and raises nothing. Up to 16 MiB of records are held in memory, and
  written, in order, as soon as there is room. What is held dies with the process. What finds no place there either is
  counted, and the count is said on stderr and, where it can still be written, in the run's tag `noria.lost`.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from noria.client import disk
from noria.wire.spools import Header, Record, Tags, frame, tagged, whole

_HOLD = 16 * 2**20
LOST = "noria.lost"


class Spool:
    """One writer's file. Threads may share it: a frame is one write(2) on a descriptor that appends."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Makes `folder/<attempt>-<rank>-<time>-<id>.spool`. Raises OSError if that cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{header.attempt:04d}-{header.rank:05d}-{header.created:013d}-{header.spool_id}"
        self.path = folder / f"{name}.spool"
        self.files = folder / f"{name}.files"
        self.header = header
        self.fd = disk.create(self.path)
        self.held = bytearray()
        self.lost = self._told = 0
        self._said = False
        self._lock = threading.Lock()
        self.add(frame(header) * 2)  # Twice, because everything else hangs on it.

    def append(self, record: Record) -> None:
        """Write one record. Never raises for the disk's sake: what it does not take is held and tried again."""
        self.add(frame(record))

    def add(self, data: bytes, written: int = 0) -> None:
        """The same for whole frames, of which the disk has taken `written` bytes."""
        if not written and not self.held:
            written = disk.write(self.fd, data)
            if written == len(data):
                return
        with self._lock:
            if 0 < written < len(data):
                disk.take_back(self.fd, data[:written])
            self._hold(data)
            self._flush()

    def _hold(self, data: bytes) -> None:
        if not self._said:
            self._said = True
            _say(
                f"The disk of the spool {self.path} is full or gone: up to {_HOLD >> 20} MiB of records are held in memory and "
                "written when there is room. Free some space; training goes on."
            )
        if len(self.held) + len(data) <= _HOLD:
            self.held += data
            return
        if not self.lost:
            _say(f"The spool {self.path} holds {_HOLD >> 20} MiB in memory and can hold no more: records are lost from now on.")
        self.lost += sum(1 for _ in tagged(data))

    def _flush(self) -> None:
        """Write what is held, as far as the disk takes it; a part of a frame is taken back, so that what follows stays readable."""
        while self.held:
            written = disk.write(self.fd, self.held)
            size = whole(self.held[:written])
            if size < written:
                disk.take_back(self.fd, self.held[size:written])
            del self.held[:size]
            if not size:
                return
        if self.lost > self._told:
            self._told = self.lost
            self.held += frame(Tags({LOST: f"{self.lost} records or files, for which a full disk had no room"}))
            self._flush()

    def lose(self, what: str) -> None:
        """Something could not be kept for want of room: say it, and count it."""
        _say(f"lost {what}: the disk of the spool {self.path} has no room. Training goes on.")
        with self._lock:
            self.lost += 1
            self._flush()

    def close(self) -> None:
        """Last try for what is held; says how much is lost for want of room."""
        with self._lock:
            self._flush()
            lost = self.lost + sum(1 for _ in tagged(self.held))
            if why := disk.close(self.fd):
                _say(f"The last records of {self.path} may be lost: {why}.")
            self.fd = -1  # Whoever logs now fails here, and not in a file that has the same number.
        if lost:
            _say(f"{lost} records or files could not be written to {self.path}: its disk is full. All others are there.")


def _say(sentence: str) -> None:
    """On stderr, which may lie on the same full disk or be closed: that too stops nobody's training."""
    try:
        print(f"noria: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
