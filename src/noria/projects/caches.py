"""The folder that environments are kept in: whose it may be, what is in it, and what goes.

    <digest>.json          one that can be used: which folder it is, and how it came about; the last thing that its builder writes
    <digest>.<number>/     an environment, or what is being built, or what a killed builder left
    <digest>.<number>.claim  who builds it (claims.py)
    logs/                  what the tools said of those that could not be built

A virtual environment knows the path of its folder, so it is built where it will be used, and its record is what makes it be used.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.errors import Invalid, NotFound, Unavailable
from noria.projects import claims

MADE = "noria.json"
"""In an environment's folder: its record, too. A folder without it was never finished."""
_TOUCH, _DAY = 3600.0, 86_400.0


class Record(Struct, frozen=True):
    """An environment that can be used. manager: what made it, virtualenv, conda or image. folder: its name in the cache. python: its
    interpreter. version: of Python. file: what described it. made: milliseconds since 1970. note: what is otherwise than its file says."""

    digest: str
    kind: str
    manager: str
    folder: str
    python: str
    version: str
    file: str
    user: str
    made: int
    seconds: float
    bytes: int
    packages: int
    note: str = ""


def own(cache: Path) -> Path:
    """The cache, or in one that everybody may write to this user's part of it; made if it is not there.

    Whoever can write there can plant programs that others will run. So whoever may is to be trusted: raises Invalid if that is more
    than its owner, who is this user, root, or one of a group of this user's that may write there.
    """
    cache = cache.absolute()
    try:
        if not cache.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
        mode = cache.stat().st_mode
        if mode & stat.S_IWOTH:
            return _part(cache, mode)
    except OSError as error:
        raise Unavailable(f"Environments cannot be kept in {cache} ({error.strerror}).",
                          "Name another folder in NORIA_ENVIRONMENTS.") from None  # fmt: skip
    _trusted(cache)
    return cache


def _part(cache: Path, mode: int) -> Path:
    if not mode & stat.S_ISVTX:
        raise Invalid(f"Everybody can write to {cache}, and so put programs there that you would run.",
                      f"Share it with a group: chgrp GROUP {cache}; chmod 2775 {cache}.")  # fmt: skip
    part = cache / str(os.getuid())
    part.mkdir(exist_ok=True, mode=0o755)
    seen = part.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o022:
        raise Invalid(f"{part} is not a folder of yours alone, though you would run what lies there.", f"Remove {part}.")
    return part


def _trusted(folder: Path) -> None:
    status = folder.stat()
    group_may = status.st_mode & stat.S_IWGRP and status.st_gid in {os.getegid(), *os.getgroups()}
    if status.st_uid not in (os.getuid(), 0) and not group_may:
        raise Invalid(f"{folder} is of another user, who could put programs there that you would run.",
                      "Use one of your own, of root's, or one that a group of yours may write to.")  # fmt: skip
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Invalid(f"Everybody can write to {parent}, and so put another {folder.name} there.", f"chmod o-w {parent}")


def is_a_groups(place: Path) -> bool:
    """Whether several users build there."""
    return bool(place.stat().st_mode & 0o020)


def umask(place: Path) -> int:
    """Under which its environments are built: whoever may read the cache may read them, and their builder alone may write to them."""
    return 0o077 & ~(place.stat().st_mode & 0o055)


def open_up(place: Path, folder: Path) -> int:
    """Let the files be read by whom the cache is for: tools that link to their own caches bring those' permissions. Its size in bytes."""
    status = place.stat()
    readers, total = status.st_mode & 0o055, 0
    for at, _, names in os.walk(folder):
        for path in (at, *(os.path.join(at, name) for name in names)):
            seen = os.lstat(path)
            total += seen.st_size
            if stat.S_ISLNK(seen.st_mode) or os.getuid() not in (0, seen.st_uid):  # A link to another user's cache of a tool.
                continue
            mode = stat.S_IMODE(seen.st_mode)
            wanted = mode | (readers & (0o055 if mode & 0o100 else 0o044))
            if seen.st_gid != status.st_gid and readers & 0o050 and _may_give(status.st_gid):
                os.chown(path, -1, status.st_gid)
            if wanted != mode:
                os.chmod(path, wanted)
    return total


def _may_give(group: int) -> bool:
    return os.getuid() == 0 or group in {os.getegid(), *os.getgroups()}


def find(place: Path, digest: str) -> Record | None:
    """What can be used; None if there is nothing, or if its interpreter has gone from this machine."""
    record = _read(place / f"{digest}.json")
    if record is None or not os.access(record.python or place / record.folder, os.X_OK if record.python else os.R_OK):
        return None
    return record


def use(place: Path, record: Record) -> None:
    """Note that it is used now; once an hour is enough."""
    path = place / f"{record.digest}.json"
    try:
        if time.time() - path.stat().st_mtime > _TOUCH:
            os.utime(path)
    except OSError:  # Of another user, or read-only: `prune` is his who can write.
        pass


def publish(place: Path, record: Record) -> None:
    """From now on it is found."""
    content = msgspec.json.format(msgspec.json.encode(record))
    folder = place / record.folder
    try:
        if folder.is_dir():
            (folder / MADE).write_bytes(content)
        beside = place / f".{record.folder}.{os.getpid()}"
        mode = 0o644 | (place.stat().st_mode & 0o020)  # In a group's folder each may note that he uses it.
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        before = _read(place / f"{record.digest}.json")
        os.replace(beside, place / f"{record.digest}.json")
        if before is not None and (place / before.folder).is_dir() and os.access(place / before.folder, os.W_OK):
            os.utime(place / before.folder)  # Jobs may still use it: its last use is now, for `prune`.
    except OSError as error:
        raise Unavailable(f"The environment cannot be kept in {place} ({error.strerror}).", "Make room there.") from None


def _read(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


class Kept(Struct, frozen=True):
    """One of the list. used: when it was asked for last, in milliseconds since 1970. path: its folder."""

    record: Record
    path: str
    used: int


def kept(place: Path) -> list[Kept]:
    """All that can be used, the one that was used last first."""
    found = []
    for path in place.glob("*.json"):
        record = _read(path)
        if record is not None:
            found.append(Kept(record, str(place / record.folder), int(path.stat().st_mtime * 1000)))
    return sorted(found, key=lambda each: (-each.used, each.record.digest))


def left(place: Path) -> Iterator[Path]:
    """Folders that nobody finds: what killed builders left, and what was built anew and not used since. Of those that are being built none."""
    current = {each.record.folder for each in kept(place)}
    for path in place.iterdir():
        digest, _, number = path.name.partition(".")
        if not digest or not number.isdigit() or path.name in current:
            continue
        claim = place / f"{digest}.{number}.claim"
        holder = claims.read(claim)
        if not isinstance(holder, claims.Holder) or claims.is_dead(holder) or _is_old(claim) or (path / MADE).exists():
            yield path


def _is_old(claim: Path) -> bool:
    """Whether its holder, of another machine, has not touched it for a day, however wrong the clocks are."""
    try:
        return time.time() - claim.stat().st_mtime > _DAY
    except OSError:
        return False


def named(place: Path, name: str) -> Kept:
    """By its digest, the beginning of it, or its folder. Raises NotFound if there is none."""
    found = [each for each in kept(place) if each.record.digest.startswith(name) or each.path == os.path.abspath(name)]
    if not found:
        raise NotFound(f"There is no environment {name} in {place}.", "`noria env list` lists them.")
    if len(found) > 1:
        raise Invalid(f"{name} is the beginning of {len(found)} environments.", "Write more of it.")
    return found[0]


def forgotten(place: Path, before: float) -> Iterator[Path]:
    """Claims that have ended, of what is not kept, and logs: those that are older than a time in seconds since 1970."""
    digests = {each.record.digest for each in kept(place)}
    for path in (*place.glob("*.claim"), *(place / "logs").glob("*.log")):
        is_void = path.suffix == ".log" or isinstance(claims.read(path), claims.Ended)
        if is_void and path.name.partition(".")[0] not in digests and path.stat().st_mtime <= before:
            yield path


def remove(place: Path, path: Path, digest: str = "") -> str:
    """Remove a folder, its record first so that nobody finds half of it; why it could not be, else empty."""
    try:
        if digest and path.is_dir() and not os.access(path, os.W_OK):
            return f"{path} is another user's"
        if digest:
            (place / f"{digest}.json").unlink(missing_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path} cannot be removed ({error.strerror})"
    return ""


def clear(place: Path, digest: str, told: Callable[[str], None]) -> None:
    """Remove what earlier builders of one environment left. For whoever has its claim."""
    for path in list(left(place)):
        if path.name.startswith(f"{digest}.") and not (path / MADE).exists():
            said = remove(place, path)
            if said:
                told(said)


def count(folder: Path) -> int:
    """How many packages are in an environment."""
    return len(list(folder.glob("lib/python3*/site-packages/*.dist-info")) + list(folder.glob("conda-meta/*.json")))


def whose() -> str:
    return process.whoami()
