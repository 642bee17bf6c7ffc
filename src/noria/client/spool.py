"""The spool, written: one append to one file for each record, and nothing to wait for but the local write(2).

A record that `append` has returned from is in the kernel's hands: it survives the death of this process, however it
dies. It does not survive a power cut of the node in the seconds before the file system has written it.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

from noria.wire.spools import Header, Record, frame

_HOLD = 16 * 2**20


class Spool:
    """One writer's file. Threads may share it: a frame is one write(2) on a descriptor that appends."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Makes `folder/<attempt>-<rank>-<time>-<id>.spool`. Raises OSError if that cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{header.attempt:04d}-{header.rank:05d}-{header.created:013d}-{header.spool_id}"
        self.path = folder / f"{name}.spool"
        self.files = folder / f"{name}.files"
        self.header = header
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.held: list[bytes] = []
        self._held_bytes = self.lost = 0
        self.append(header)

    def append(self, record: Record) -> None:
        """Write one record. Never raises for the disk's sake: what it does not take is held and tried again."""
        self.add(frame(record))

    def add(self, data: bytes, written: int = 0) -> None:
        """The same for a frame of which the disk has taken `written` bytes."""
        if written:
            try:
                self._take_back(written)
            except OSError:
                pass
        if self.held or not self._put(data):
            self._hold(data)

    def _put(self, data: bytes) -> bool:
        """Whether the disk took the whole frame; a part of one is taken back, so that what follows it stays readable."""
        try:
            written = os.write(self.fd, data)
            if written != len(data):
                self._take_back(written)
        except OSError:
            return False
        return written == len(data)

    def _take_back(self, written: int) -> None:
        os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)

    def _hold(self, data: bytes) -> None:
        """A full disk stops nobody's training."""
        if not self.held:
            warnings.warn(
                f"The disk of the spool {self.path} is full or gone: Noria holds up to {_HOLD >> 20} MiB of records in memory "
                "and writes them when there is room. Free some space; training goes on.", RuntimeWarning, stacklevel=5)  # fmt: skip
        if self._held_bytes + len(data) > _HOLD:
            self.lost += 1
            return
        self.held.append(data)
        self._held_bytes += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what is held, as far as the disk takes it."""
        while self.held and self._put(self.held[0]):
            self._held_bytes -= len(self.held.pop(0))

    def close(self) -> None:
        """Last try for what is held; says how much could not be written."""
        self.flush()
        lost = self.lost + len(self.held)
        if lost:
            warnings.warn(f"{lost} records could not be written to {self.path}: its disk is full.", RuntimeWarning, stacklevel=2)
        os.close(self.fd)
        self.fd = -1  # Whoever logs now fails here, and not in a file that has the same number.


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
