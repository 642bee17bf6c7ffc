"""Several queues on one machine: those of its users, and of one user's homes. They give nothing away twice, and each user gets a fair share.

Each queue writes down what it has given away and what it waits for, in a folder that all may write to and that is gone after a boot. A
file is believed if its owner is who it says, and a job in it while its runner lives. Nobody needs root, and nothing runs for it.

Fair: whoever used least lately goes first. Use is the largest part of CPUs, memory or GPUs that a user has, times seconds, and half of it
is forgotten in a day (dominant resource fairness: Ghodsi et al., NSDI 2011).
"""

from __future__ import annotations

import fcntl
import math
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.errors import Unavailable

_HALF = 86_400.0
_MOST = 1 << 20
"""Bytes of a queue's word; more is none."""
_PATIENCE = 2.0
"""Seconds for which a lock is waited for: another user could keep it for ever."""
_FORGOTTEN = 14 * 86_400.0
"""Seconds after which a queue that was never heard of again has left nothing that counts."""
_HEARD = 60.0
"""Seconds after which a queue that nobody looks at waits for nothing any more; an agent looks every few."""


class Taken(Struct, frozen=True):
    """What a running job was given; pid and birth are its runner's."""

    cpus: int
    mem: int
    gpus: list[str]
    pid: int
    born: str


class Wanted(Struct, frozen=True):
    """What the first job that waits would take."""

    cpus: int
    mem: int
    gpus: int


class Share(Struct, frozen=True):
    """What one queue tells the others. used: by `at`, a time since the boot."""

    uid: int
    user: str
    running: list[Taken] = []
    waits: Wanted | None = None
    used: float = 0.0
    at: float = 0.0

    def use(self, now: float) -> float:
        return self.used * math.exp2((self.at - now) / _HALF)


class Ledger:
    """The folder. folder: where it is; home: whose queue speaks."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self._own = f"{os.getuid()}-{sha256(str(home).encode()).hexdigest()[:12]}"

    @contextmanager
    def open(self) -> Iterator[Page]:
        """What others have, and the right to change what this queue has. Where there can be no ledger, the queue is alone."""
        try:
            self._folder.mkdir(exist_ok=True)
            if self._folder.is_symlink():
                raise NotADirectoryError(f"{self._folder} is a link")
            if self._folder.stat().st_uid == os.getuid():
                self._folder.chmod(0o1777)
            lock = _lock(self._folder / "lock")
        except OSError:
            yield Page(None, Share(os.getuid(), process.whoami()), [])
            return
        try:
            shares = {path.name: share for path in self._folder.iterdir() if (share := _read(path)) is not None}
            for name, share in shares.items():
                if share.uid == os.getuid() and _now() - share.at > _FORGOTTEN:
                    (self._folder / name).unlink(missing_ok=True)
            mine = shares.pop(self._own, None) or Share(os.getuid(), process.whoami(), at=_now())
            yield Page(self._folder / self._own, mine, list(shares.values()))
        finally:
            os.close(lock)

    def leave(self) -> None:
        """This queue has nothing any more."""
        (self._folder / self._own).unlink(missing_ok=True)


@contextmanager
def claimed(ledger: Ledger, count: int, gpus: Sequence[str], patience: float = 30.0) -> Iterator[list[str]]:
    """So many of a node's GPUs that no other job of ours has, where the scheduler counts them and does not say which.

    gpus: all ids of the node's. A job that is just ending is waited for; raises Unavailable if its like keep too many.
    """
    until = time.monotonic() + patience
    while True:
        with ledger.open() as page:
            theirs = {gpu for _, each in page.taken() for gpu in each.gpus}
            mine = [gpu for gpu in gpus if gpu not in theirs][:count]
            if len(mine) == count:
                taken = Taken(0, 0, mine, os.getpid(), process.born(os.getpid()))
                page.write([taken], None, Wanted(1, 1, len(gpus)))
                break
        if time.monotonic() > until:
            raise Unavailable(f"--gpus {count}: this node has {len(gpus)} GPUs, and other jobs have {', '.join(sorted(theirs)) or 'none'} of them.",
                              "Does the scheduler count them here?")  # fmt: skip
        time.sleep(0.5)
    try:
        yield mine
    finally:
        ledger.leave()


class Page:
    """The ledger while it is open."""

    def __init__(self, path: Path | None, mine: Share, others: list[Share]) -> None:
        self._path, self._mine, self.others = path, mine, others

    def taken(self) -> list[tuple[str, Taken]]:
        """What others have, with their names."""
        return [(share.user, each) for share in self.others for each in share.running if process.alive(each.pid, each.born)]

    def first(self) -> list[Wanted]:
        """What others wait for who go before this user."""
        now = _now()
        mine = self._use(self._mine.uid, now)
        return [
            share.waits for share in self.others
            if share.waits is not None and share.uid != self._mine.uid and now - share.at < _HEARD
            and (self._use(share.uid, now), share.uid) < (mine, self._mine.uid)
        ]  # fmt: skip

    def _use(self, uid: int, now: float) -> float:
        return sum(share.use(now) for share in (self._mine, *self.others) if share.uid == uid)

    def write(self, running: Sequence[Taken], waits: Wanted | None, whole: Wanted) -> None:
        """What this queue has given away by now, and what it waits for. whole: the machine."""
        if self._path is None:
            return
        now, mine = _now(), self._mine
        since = sum(_part(each, whole) for each in mine.running) * max(0.0, now - mine.at)
        share = Share(mine.uid, mine.user, list(running), waits, mine.use(now) + since, now)
        beside = self._path.with_name(f".{self._path.name}")
        try:
            beside.unlink(missing_ok=True)  # Whatever lies there: another user may have put it there.
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(msgspec.json.encode(share))
            os.replace(beside, self._path)
        except OSError:
            pass  # A full /dev/shm: others see what was true before.


def _part(taken: Taken, whole: Wanted) -> float:
    """The largest part of the machine that a job has."""
    return max(taken.cpus / whole.cpus, taken.mem / whole.mem, len(taken.gpus) / whole.gpus if whole.gpus else 0.0)


def _read(path: Path) -> Share | None:
    """A queue's word, if it is one. What lies there may be anything, a pipe or a link too."""
    if path.name == "lock" or path.name.startswith("."):
        return None
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
                return None
            share = msgspec.json.decode(file.read(_MOST), type=Share)
        return share if found.st_uid == share.uid == int(path.name.partition("-")[0]) else None
    except (OSError, ValueError, msgspec.MsgspecError):
        return None


def _lock(path: Path) -> int:
    """Held, or given up on. Linux opens no file of another user's for creation in such a folder (fs.protected_regular)."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        os.fchmod(lock, 0o666)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.005)
    return lock


def _now() -> float:
    """Seconds since the boot, the same for all processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
