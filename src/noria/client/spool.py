"""The spool, written: one append to one file for each record, and nothing to wait for but the local write(2).

A record that `append` has returned from is in the kernel's hands: it survives the death of this process, however it
dies. It does not survive a power cut of the node in the seconds before the file system has written it.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from zlib import crc32

import msgspec

from noria.wire.spools import FRAME, Header, Record

_HOLD = 16 * 2**20

# Bound once: looking these up in their modules costs a tenth of the whole call.
_encode = msgspec.msgpack.Encoder().encode
_pack = FRAME.pack
_write = os.write


class Spool:
    """One writer's file. Threads may share it: a frame is one write(2) on a descriptor that appends."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Makes `folder/<attempt>-<rank>-<time>-<id>.spool`. Raises OSError if that cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{header.attempt:04d}-{header.rank:05d}-{header.created:013d}-{header.spool_id}"
        self.path = folder / f"{name}.spool"
        self.files = folder / f"{name}.files"
        self.header = header
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._held: list[bytes] = []
        self._held_bytes = self.lost = 0
        self.append(header)

    def append(self, record: Record) -> None:
        """Write one record. Never raises for the disk's sake: what it does not take is held and tried again."""
        payload = _encode(record)
        frame = _pack(len(payload), crc32(payload)) + payload
        if not self._held:
            try:  # `_put`, written out: the call would cost a tenth of the whole.
                written = _write(self._fd, frame)
                if written == len(frame):
                    return
                self._take_back(written)
            except OSError:
                pass
        self._hold(frame)

    def _put(self, frame: bytes) -> bool:
        """Whether the disk took the whole frame."""
        try:
            written = _write(self._fd, frame)
            if written != len(frame):
                self._take_back(written)
        except OSError:
            return False
        return written == len(frame)

    def _take_back(self, written: int) -> None:
        """Remove a half-written frame, so that what follows it stays readable."""
        os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)

    def _hold(self, frame: bytes) -> None:
        """Keep what the disk would not take, and try again with every record: a full disk stops nobody's training."""
        if not self._held:
            warnings.warn(
                f"The disk of the spool {self.path} is full or gone: Noria holds up to {_HOLD >> 20} MiB of records in memory "
                "and writes them when there is room. Free some space; training goes on.", RuntimeWarning, stacklevel=4)  # fmt: skip
        if self._held_bytes + len(frame) > _HOLD:
            self.lost += 1
            return
        self._held.append(frame)
        self._held_bytes += len(frame)
        self.flush()

    def flush(self) -> None:
        """Write what is held, as far as the disk takes it."""
        while self._held and self._put(self._held[0]):
            self._held_bytes -= len(self._held.pop(0))

    def close(self) -> None:
        """Last try for what is held; says how much could not be written."""
        self.flush()
        lost = self.lost + len(self._held)
        if lost:
            warnings.warn(f"{lost} records could not be written to {self.path}: its disk is full.", RuntimeWarning, stacklevel=2)
        os.close(self._fd)


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
