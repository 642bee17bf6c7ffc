"""What a job has on its node's own disk: a folder that goes with it, and copies of data that the next job finds.

<root>/noria-<uid>/<job>-<node>      the job's folder, NORIA_SCRATCH
<root>/noria-<uid>/kept/<key>        a copy, by what it is a copy of
<either>.lock                        held by whoever uses it; what nobody holds may be removed

The kernel lets go of a lock when its holder dies, so that what a launcher that was killed has left is found by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from noria.errors import Unavailable

USUAL = "/tmp"  # noqa: S108 (the node's, and our folder there is ours alone)
_UNUSED = 7 * 24 * 3600.0
"""Seconds after which a copy that nobody used goes."""
_SPARE = 64 << 20
"""Bytes that are left free beside a copy."""
_WHOLE = ".whole"
"""A file in each copy that nothing is missing from."""
_TICK = 0.2

Stopped = Callable[[], bool]


def root(site: Mapping[str, str], env: Mapping[str, str]) -> Path:
    """Where a node has room: what the profile says, what the scheduler made for this job, or /tmp."""
    named = os.path.expandvars(site.get("scratch", ""))
    places = [named] if named else [env.get("SLURM_TMPDIR", ""), env.get("TMPDIR", ""), USUAL]
    found = next(filter(_writable, places), "")
    if not found:
        raise Unavailable(f"{socket.gethostname()} has no {named or USUAL} that can be written to",
                          "Mend `scratch` in the cluster's profile.")  # fmt: skip
    return Path(found)


def _writable(folder: str) -> bool:
    return bool(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK)


def ours(root: Path) -> Path:
    """This user's folder there. Raises Unavailable if somebody else has made it."""
    folder = root / f"noria-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise Unavailable(f"{folder} on {socket.gethostname()} belongs to somebody else", "Ask them to remove it.")
    return folder


@contextmanager
def folder(root: Path, name: str) -> Iterator[Path]:
    """A folder of this name for as long as it is used; it is emptied before and removed after."""
    place = ours(root)
    _sweep(place, 0.0)
    with held(place / name, shared=False, stopped=lambda: False):
        shutil.rmtree(place / name, ignore_errors=True)
        (place / name).mkdir(mode=0o700)
        try:
            yield place / name
        finally:
            shutil.rmtree(place / name, ignore_errors=True)
            _lock(place / name).unlink(missing_ok=True)


@contextmanager
def kept(root: Path, key: str, size: int, fill: Callable[[Path], None], stopped: Stopped) -> Iterator[Path]:
    """A copy of `size` bytes, which `fill` makes in a folder if this node has none yet; for as long as it is used, nobody removes it.

    Raises Unavailable if there is no room, or if the job is to stop meanwhile.
    """
    place = ours(root) / "kept"
    place.mkdir(mode=0o700, exist_ok=True)
    _sweep(place, _UNUSED)
    copy = place / key
    while True:
        with held(copy, shared=True, stopped=stopped):
            if (copy / _WHOLE).exists():
                os.utime(_lock(copy))
                yield copy
                return
        with held(copy, shared=False, stopped=stopped):
            if not (copy / _WHOLE).exists():
                _make(copy, size, fill)


def _make(copy: Path, size: int, fill: Callable[[Path], None]) -> None:
    shutil.rmtree(copy, ignore_errors=True)  # Of a launcher that was killed.
    _room(copy.parent, size)
    copy.mkdir(mode=0o700)
    try:
        fill(copy)
        (copy / _WHOLE).touch()
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise


def _room(place: Path, size: int) -> None:
    """Make room by removing copies that nobody uses, the one first that was used longest ago."""
    if size + _SPARE > shutil.disk_usage(place).free:
        _sweep(place, 0.0, enough=lambda: size + _SPARE <= shutil.disk_usage(place).free)
    free = shutil.disk_usage(place).free
    if size + _SPARE > free:
        raise Unavailable(f"{socket.gethostname()} has {free / 1e9:,.1f} GB left in {place.parent.parent}, and {size / 1e9:,.1f} GB are to "
                          "be copied there", "Name a larger disk as `scratch` in the cluster's profile, or read them where they are.")  # fmt: skip


def _sweep(place: Path, older: float, enough: Callable[[], bool] = lambda: False) -> None:
    """Remove what nobody holds and nobody has used for so many seconds, until that is enough."""
    found = [(path.stat().st_mtime, path) for path in place.glob("*.lock") if path.exists()]
    for used, path in sorted(found):
        if enough():
            return
        if time.time() - used < older:
            continue
        descriptor = _try(path, fcntl.LOCK_EX, create=False)
        if descriptor >= 0:
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def held(path: Path, *, shared: bool, stopped: Stopped) -> Iterator[None]:
    """Hold what lies at a path, alone or with others, as soon as that can be had."""
    descriptor = _try(_lock(path), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    while descriptor < 0:
        if stopped():
            raise Unavailable("The job was to stop before it began.")
        time.sleep(_TICK)
        descriptor = _try(_lock(path), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _try(path: Path, kind: int, *, create: bool = True) -> int:
    """A descriptor that holds this lock until it is closed; -1 if another one holds it, or has removed it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return -1
