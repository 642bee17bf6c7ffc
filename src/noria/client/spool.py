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
EXPERIMENT = "NORIA_EXPERIMENT"
"""What the job of a project is told of its experiment: number and name. MLflow's own variables change with each set_experiment."""


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
        self._part = 0
        self._said: set[str] = set()
        self._lock = threading.Lock()
        for _ in range(2):  # Because everything else hangs on it.
            self.append(header)

    def append(self, record: Record) -> None:
        """Write one record. Never raises for the disk's sake: what it does not take is held and tried again."""
        self.add(frame(record))

    def add(self, data: bytes) -> None:
        """The same for a frame."""
        written = 0 if self.held else disk.write(self.fd, data)
        if written != len(data):
            self.rest(data, written)

    def rest(self, data: bytes, written: int) -> None:
        """Write the rest of a frame of which the disk has taken `written` bytes, or hold it."""
        with self._lock:
            if len(self.held) + len(data) > _HOLD:
                self._say_once(f"The spool {self.path} can hold no more than {_HOLD >> 20} MiB: records are lost from now on.")
                self.lost += 1
            else:
                self._part = self._part if self.held else written
                self.held += data
            self._flush()
            if self.held:
                self._say_once(
                    f"The disk of the spool {self.path} is full or gone: up to {_HOLD >> 20} MiB of records are held in memory and "
                    "written when there is room. Free some space; training goes on."
                )

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            _say(sentence)

    def _flush(self) -> None:
        """Write what is held, as far as the disk takes it."""
        while self.held:
            if self._part:
                if not self._complete():
                    return
                continue
            written = disk.write(self.fd, self.held)
            size = whole(self.held[:written])
            self._part = written - size
            del self.held[:size]
            if not size:
                return
        if self.lost > self._told:
            self._told = self.lost
            self.held += frame(Tags({LOST: f"{self.lost} records or files, for which a full disk had no room"}))
            self._flush()

    def _complete(self) -> bool:
        """Write what is missing of the first frame, of which a part is on the disk; False if the disk does not take it all.

        Another thread that was about to write may have come in between. Then the frame is written again as a whole, and readers
        pass over the parts; nothing is ever cut off, since that could be somebody else's record.
        """
        _, _, end = next(tagged(self.held))
        first = self.held[:end]
        self._part += disk.write(self.fd, first[self._part :])
        if self._part < end:
            return False
        self._part = 0
        if disk.is_at_end(self.fd, first):
            del self.held[:end]
        return True

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
