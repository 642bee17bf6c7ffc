"""Who builds what: one of many processes, on whichever nodes they are, by files of a folder that they all see.

A claim is a file that is made with O_EXCL, which is atomic on local disks, Lustre, GPFS and NFS from version 3 on; locks of flock are
not kept across the nodes of every one of these. Its name has a number. Its holder touches it every few seconds; it is void when its
holder said so, or is dead on this machine, or has not touched it for a minute and a half by the clock of whoever waits, so clocks of
nodes are never compared. Whoever finds it void claims the next number, and the highest number counts: no claim is ever taken away,
so two who see the same dead holder cannot both follow it. A holder that was only stopped, and wakes up, finds a higher number than its
own. It works in a folder of its number, which is nobody else's, so that it can harm nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.errors import Invalid, NoriaError

BEAT, VOID = 5.0, 90.0
"""Seconds between two touches, and without one until a holder of another host counts as dead. NFS shows a new time when a file is
opened, which is how it is looked at."""
_PAUSE = 0.2
_TOLD = 60.0


class Holder(Struct, frozen=True):
    """Of a claim. host: a machine, and since which start of it."""

    user: str
    host: str
    boot: str
    pid: int
    birth: str
    since: int


class Ended(Struct, frozen=True):
    """What is written over a holder at its end: why it failed; empty if it did not."""

    failed: str


class Claim(Struct, frozen=True):
    """A number that this process has."""

    path: Path
    number: int

    def stands(self) -> bool:
        """Whether no other has followed, and nobody has removed it."""
        stem = self.path.name.rsplit(".", 2)[0]
        return numbers(self.path.parent, stem)[-1:] == [self.number]


def numbers(folder: Path, stem: str) -> list[int]:
    """Of all claims, sorted."""
    names = [
        name[len(stem) + 1 : -len(".claim")]
        for name in os.listdir(folder)
        if name.startswith(f"{stem}.") and name.endswith(".claim")
    ]
    return sorted(int(name) for name in names if name.isdigit())


def _folders(folder: Path, stem: str) -> int:
    """The highest number of what was built: a claim that is long void may have been removed, and its folder may be in use."""
    names = [name[len(stem) + 1 :] for name in os.listdir(folder) if name.startswith(f"{stem}.")]
    return max((int(name) for name in names if name.isdigit()), default=0)


@contextmanager
def claimed(folder: Path, stem: str, done: Callable[[], bool], report: Callable[[str], None]) -> Iterator[Claim | None]:
    """The claim of this name, once nobody else holds it; None if meanwhile `done`. It is void afterwards.

    report: is told for whom it waits. Raises Invalid if who was waited for could not do it: trying the same again at once will not help.
    """
    claim = _wait(folder, stem, done, report)
    if claim is None:
        yield None
        return
    stop, failed = threading.Event(), ""
    beating = threading.Thread(target=_beat, args=(claim.path, stop), daemon=True)
    beating.start()
    try:
        yield claim
    except NoriaError as error:
        failed = error.message
        raise
    finally:
        stop.set()
        beating.join()
        _end(claim.path, failed)


def _wait(folder: Path, stem: str, done: Callable[[], bool], report: Callable[[str], None]) -> Claim | None:
    watched, told = _Watched(), float("-inf")
    while not done():
        last = (numbers(folder, stem) or [0])[-1]
        path = folder / f"{stem}.{last}.claim"
        if last and not watched.is_void(path):
            if time.monotonic() - told > _TOLD:
                told = time.monotonic()
                report(f"waiting for {_named(read(path))}, who builds it already")
            time.sleep(_PAUSE)
        elif watched.holder is not None and isinstance(ended := read(path), Ended) and ended.failed and not done():
            raise Invalid(f"{watched.holder.user} could not build it either just now: {ended.failed}")
        elif claim := _next(folder, stem, max(last, _folders(folder, stem)) + 1):
            if not done():
                return claim
            _end(claim.path, "")  # Who was before has ended since, with what this one wants.
    return None


def _named(holder: Holder | Ended | None) -> str:
    if not isinstance(holder, Holder):
        return "another process"
    place = "" if holder.host == socket.gethostname() else f" on {holder.host}"
    minutes = int((time.time() - holder.since) / 60)
    return f"{holder.user} (process {holder.pid}{place}{f', for {minutes} minutes' if minutes > 1 else ''})"


def _next(folder: Path, stem: str, number: int) -> Claim | None:
    """The claim of this number, unless somebody has it or a higher one."""
    path = folder / f"{stem}.{number}.claim"
    pid = os.getpid()
    holder = Holder(process.whoami(), socket.gethostname(), _boot(), pid, process.born(pid), int(time.time()))
    try:
        # Whole at once: a claim without its holder's name would be nobody's until it is void by its age.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)  # Whatever the umask: others are to see for whom they wait.
        file.write(msgspec.json.encode(holder))
    claim = Claim(path, number)
    if not claim.stands():
        path.unlink(missing_ok=True)
        return None
    for lower in numbers(folder, stem)[:-1]:
        (folder / f"{stem}.{lower}.claim").unlink(missing_ok=True)  # The highest one stays: numbers are never given twice.
    return claim


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        try:
            os.utime(path)  # By the file server's clock.
        except OSError:  # Removed by who followed, or a file server that is away for a while.
            pass


def _end(path: Path, failed: str) -> None:
    """Written over and not removed: see above."""
    try:
        if isinstance(read(path), Holder):
            path.write_bytes(msgspec.json.encode(Ended(failed)))
    except OSError:
        pass  # A full disk; it is void by its age then.


def read(path: Path) -> Holder | Ended | None:
    """Who holds it, or how that ended; None if it is just being written, or removed."""
    try:
        content = path.read_bytes()
        return (
            msgspec.json.decode(content, type=Ended)
            if content.startswith(b'{"failed"')
            else msgspec.json.decode(content, type=Holder)
        )
    except (OSError, msgspec.DecodeError):
        return None


def is_dead(holder: Holder) -> bool:
    """Whether that can be said at once: it was of this machine and its set of processes, and is not there."""
    return (
        bool(holder.boot)
        and (holder.boot, holder.host) == (_boot(), socket.gethostname())
        and not process.alive(holder.pid, holder.birth)
    )


def _boot() -> str:
    """This start of this machine, and which of its sets of processes this one sees: pids mean nothing elsewhere."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


class _Watched:
    """The highest claim as it was seen last, since when it has been so, and who was seen to hold it."""

    def __init__(self) -> None:
        self.seen: tuple[str, int, int] | None = None
        self.since = 0.0
        self.holder: Holder | None = None

    def is_void(self, path: Path) -> bool:
        try:
            with open(path, "rb") as file:  # Opened: NFS then asks the server how it is.
                status = os.fstat(file.fileno())
        except OSError:
            return False  # Looked at anew in a moment.
        said, now = read(path), time.monotonic()
        seen = (path.name, status.st_mtime_ns, status.st_size)
        if self.seen is None or seen[0] != self.seen[0]:
            self.holder = None
        if seen != self.seen:
            self.seen, self.since = seen, now
        if isinstance(said, Ended):
            return True
        self.holder = said or self.holder
        return (said is not None and is_dead(said)) or now - self.since > VOID
