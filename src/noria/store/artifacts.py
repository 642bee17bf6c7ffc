"""Artifacts: a tree of files on a disk or in a shared directory. `remote.py` keeps the same tree in an object store.

A path is walked part by part from the root's descriptor, and no link is followed: what is outside of the root cannot be
reached, not even through a link that somebody puts there meanwhile.

An upload that was answered is on the disk, whole, under its name. What arrives is written in a folder beside the tree, synced,
renamed, and then the folders that changed are synced. One thread does that for all who wait, so that they share the cost.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import queue
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from noria.errors import Invalid, NotFound, Unavailable
from noria.store.store import Outcome, tell
from noria.store.uploads import Uploads
from noria.types import File
from noria.wire import limits

STAGING = ".noria"
"""In the root: what is on its way in or out. No artifact has this name."""
_GROUP = 32
_PROCESS, _COUNT = uuid4().hex, itertools.count()
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_WRITE_BACK = 8 << 20
"""Bytes after which the disk is told to begin with what it was given."""
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux has it, Python does not.
_FORGOTTEN = 6 * 3600
"""Seconds after which a staged file that did not grow belongs to nobody."""


class Incoming(Protocol):
    """A large file on its way in. Any thread may call, one at a time; it ends with either `commit` or `abandon`."""

    def write(self, blocks: Sequence[bytes]) -> None: ...

    def commit(self) -> None:
        """Put the file in its place. After this it is there, whole, also after a power cut."""

    def abandon(self) -> None:
        """Leave nothing behind."""


class Opened(Protocol):
    """A file that is read. etag: changes with the content. modified: in seconds since 1970."""

    size: int
    etag: str
    modified: float

    def read(self, start: int, size: int) -> bytes:
        """So many bytes, fewer at the end alone."""

    def close(self) -> None: ...


class Artifacts(Protocol):
    """A tree of files. Paths are relative to its root and safe by `limits.artifact_path`; missing folders are made.

    Calls block, except for `put`; `pool` is there to make them from. A folder exists as long as something is in it. Raises
    Invalid for a path that cannot be, NotFound, and Unavailable when disk or store fail; then nothing of a file is there.
    """

    pool: ThreadPoolExecutor
    uploads: Uploads
    in_parts: bool
    """Whether whoever can is to send large files in parts."""

    def put(self, path: str, data: bytes, future: Any = None) -> Any:
        """Keep a small file; once the future that is returned is done, it is there to stay.

        future: one of an event loop, to be used instead of a new one.
        """

    def check(self, path: str) -> None:
        """Raise Invalid for a path at which no file can be."""

    def begin(self, path: str, size: int) -> Incoming:
        """Keep a large file. size: how large it will be, 0 if that is not known."""

    def place(self, path: str, source: Path) -> None:
        """Keep a whole and synced file of `uploads`, which is moved away."""

    def open(self, path: str) -> Opened: ...

    def list(self, path: str, relative_to: str = "") -> list[File]:
        """The entries of a folder, by name; none for what is no folder. Names are relative to `relative_to`."""

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all in it; nothing happens if there is none."""


def at(place: str, home: Path, *, power: bool = True) -> Artifacts:
    """The artifacts at a folder or a URL of fsspec; "" for those in the home. Raises Invalid for a place that cannot be.

    power: whether an answer survives a power cut; if not, it survives the death of the server.
    """
    scheme, _, rest = place.partition("://")
    if rest and scheme != "file":
        from noria.store.remote import Remote

        return Remote(place, home / "uploads")
    folder = Path((rest or place) or home / "artifacts").expanduser()
    if not folder.is_absolute():
        raise Invalid(f"'{place}' is no place for artifacts.", "Give a folder from / on, or a URL such as s3://bucket/prefix.")
    return Disk(folder, power=power)


def parts_of(path: str) -> list[str]:
    """The parts of a file's path; Invalid for the root and for what is not the clients'."""
    parts = limits.artifact_path(path).split("/")
    if not path:
        raise Invalid("Invalid path: an artifact needs a name.")
    if parts[0] == STAGING:
        raise Invalid(f"Invalid path: {STAGING} is the server's own.", "Choose another name.")
    return parts


class Disk:
    """The tree in a folder. power: see `at`."""

    in_parts = True

    def __init__(self, root: Path, *, power: bool = True) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            self.staging = _make(self.root, STAGING)
            os.fsync(self.root)
        except OSError as error:
            raise Unavailable(
                f"The folder {root} cannot hold artifacts ({error.strerror}).", "Give another with --artifacts."
            ) from None
        _forget(self.staging)
        self._power = power
        self.pool = ThreadPoolExecutor(8, "noria-files")
        self.uploads = Uploads(root / STAGING, self)
        self._waiting: queue.SimpleQueue[_Placing] = queue.SimpleQueue()
        threading.Thread(target=self._place_forever, name="noria-artifacts", daemon=True).start()

    def put(self, path: str, data: bytes, future: Any = None) -> Any:
        return self._place(_Placing(parts_of(path), _new("part"), data, future))

    def check(self, path: str) -> None:
        *folders, name = parts_of(path)
        with _told(path):
            try:
                with self._entered(folders) as folder:
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        raise IsADirectoryError(errno.EISDIR, "a folder")
            except FileNotFoundError:
                pass  # It will be made.

    def begin(self, path: str, size: int) -> Incoming:
        self.check(path)
        return _Growing(self, path)

    def place(self, path: str, source: Path) -> None:
        self._place(_Placing(parts_of(path), os.path.relpath(source, self.uploads.folder))).result()

    def sync(self, file: int) -> None:
        """Wait until a file, or the names in a folder, would survive a power cut, if that is promised."""
        if self._power:
            os.fsync(file)

    def write_back(self, file: int, start: int, size: int) -> None:
        """Have the disk begin with these bytes, so that a sync later has less to wait for."""
        if self._power and _sync_file_range is not None:
            _sync_file_range(file, ctypes.c_longlong(start), ctypes.c_longlong(size), _SYNC_FILE_RANGE_WRITE)

    def _place(self, placing: _Placing) -> Any:
        self._waiting.put(placing)
        return placing.future

    def _place_forever(self) -> None:
        while True:
            group = [self._waiting.get()]
            while len(group) < _GROUP and not self._waiting.empty():
                group.append(self._waiting.get())
            _place_group(self, group)

    def open(self, path: str) -> Opened:
        *folders, name = parts_of(path)
        with _told(path):
            try:
                with self._entered(folders) as folder:
                    return _OnDisk(path, os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder))
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(f"No such artifact: '{path[:200]}'.", "List the run's artifacts to see what there is.") from None

    def list(self, path: str, relative_to: str = "") -> list[File]:
        below = path.removeprefix(limits.artifact_path(relative_to)).strip("/")
        with _told(path):
            try:
                with self._entered(parts_of(path) if path else []) as folder, os.scandir(folder) as entries:
                    kept = [entry for entry in entries if not entry.is_symlink() and (path or entry.name != STAGING)]
                    files = [_listed(entry, f"{below}/{entry.name}" if below else entry.name) for entry in kept]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(files, key=lambda file: file.path)

    def delete(self, path: str) -> None:
        *folders, name = parts_of(path)
        gone = _new("gone")
        with _told(path):
            try:
                with self._entered(folders) as folder:
                    # Renamed first: a folder goes as a whole, and what the server dies over is forgotten with what else is staged.
                    os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=self.staging)
                    try:
                        self.sync(folder)
                    finally:
                        _remove(gone, self.staging)
            except (FileNotFoundError, NotADirectoryError):
                pass

    @contextmanager
    def _entered(self, folders: Iterable[str]) -> Iterator[int]:
        """A descriptor of a folder. Raises OSError with ELOOP for a link on the way."""
        here = os.dup(self.root)
        try:
            for name in folders:
                below = _enter(here, name)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


class _Placing:
    """A file on its way from the staging folder to its place. data: its content, if that is yet to be written."""

    def __init__(self, parts: list[str], staged: str, data: bytes | None = None, future: Any = None) -> None:
        self.parts, self.staged, self.data = parts, staged, data
        self.future: Any = Future() if future is None else future
        self.error: Exception | None = None
        self._file = -1

    def write(self, disk: Disk, folders: _Folders) -> None:
        if self.data is not None:
            self._file = os.open(self.staged, _NEW, 0o666, dir_fd=disk.staging)
            _write_all(self._file, [self.data])
            disk.write_back(self._file, 0, len(self.data))

    def sync(self, disk: Disk, folders: _Folders) -> None:
        if self._file >= 0:
            disk.sync(self._file)
            self._close()

    def rename(self, disk: Disk, folders: _Folders) -> None:
        folder = folders.make(tuple(self.parts[:-1]))
        os.rename(self.staged, self.parts[-1], src_dir_fd=disk.staging, dst_dir_fd=folder)
        folders.changed.add(folder)

    def attempt(self, step: Callable[[_Placing, Disk, _Folders], None], disk: Disk, folders: _Folders) -> None:
        """One step, unless one before it failed. An error is this file's alone."""
        if self.error is None:
            try:
                step(self, disk, folders)
            except Exception as error:
                self.fail(disk, error)

    def fail(self, disk: Disk, error: Exception) -> None:
        self.error = self.error or error
        self._close()
        if self.data is not None:
            _remove(self.staged, disk.staging)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def outcome(self) -> Outcome:
        return self.future, None, None if self.error is None else _problem("/".join(self.parts), self.error)


def _place_group(disk: Disk, group: list[_Placing]) -> None:
    """Step by step for all, so that the disk is busy with the next file while one is waited for."""
    try:
        with _Folders(disk.root) as folders:
            for step in (_Placing.write, _Placing.sync, _Placing.rename):
                for each in group:
                    each.attempt(step, disk, folders)
            for folder in folders.changed:
                disk.sync(folder)
    except OSError as error:  # It is everybody's: no folder can be opened, or one cannot be synced.
        for each in group:
            each.fail(disk, error)
    tell([each.outcome() for each in group])


class _Folders:
    """Folders below the root, made where they are missing and opened once for a group. changed: those to be synced."""

    def __init__(self, root: int) -> None:
        self._open: dict[tuple[str, ...], int] = {(): os.dup(root)}
        self.changed: set[int] = set()

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._open.values():
            os.close(folder)

    def make(self, parts: tuple[str, ...]) -> int:
        found = self._open.get(parts)
        if found is None:
            above = self.make(parts[:-1])
            try:
                found = _enter(above, parts[-1])
            except FileNotFoundError:
                found = _make(above, parts[-1])
                self.changed.add(above)
            self._open[parts] = found
        return found


class _Growing:
    """A large file that is being written to the staging folder."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path, self._staged = disk, path, _new("part")
        self._size = self._given = 0
        with _told(path):
            self._file = os.open(self._staged, _NEW, 0o666, dir_fd=disk.staging)

    def write(self, blocks: Sequence[bytes]) -> None:
        with _told(self._path):
            self._size += _write_all(self._file, blocks)
            if self._size - self._given >= _WRITE_BACK:
                self._disk.write_back(self._file, self._given, self._size - self._given)
                self._given = self._size

    def commit(self) -> None:
        with _told(self._path):
            self._disk.sync(self._file)
        self._disk.place(self._path, self._disk.uploads.folder / self._staged)
        os.close(self._file)

    def abandon(self) -> None:
        os.close(self._file)
        _remove(self._staged, self._disk.staging)


class _OnDisk:
    """A file that is read."""

    def __init__(self, path: str, file: int) -> None:
        self._path, self._file = path, file
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, "a folder")
        except OSError:
            os.close(file)
            raise
        self.size, self.modified = found.st_size, found.st_mtime
        self.etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"

    def read(self, start: int, size: int) -> bytes:
        with _told(self._path):
            return os.pread(self._file, size, start)

    def close(self) -> None:
        os.close(self._file)


def _listed(entry: os.DirEntry[str], name: str) -> File:
    return (
        File(name, True) if entry.is_dir(follow_symlinks=False) else File(name, False, entry.stat(follow_symlinks=False).st_size)
    )


def _new(ending: str) -> str:
    """A name in the staging folder that no other server there has."""
    return f"{_PROCESS}-{next(_COUNT)}.{ending}"


def _enter(above: int, name: str) -> int:
    """A descriptor of the folder `name` in another. Raises OSError with ELOOP if it is a link."""
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a link") from None
        raise


def _make(above: int, name: str) -> int:
    """A descriptor of the folder `name` in another, made if it is missing."""
    try:
        os.mkdir(name, 0o777, dir_fd=above)
    except FileExistsError:
        pass
    return os.open(name, _FOLDER, dir_fd=above)


def _write_all(file: int, blocks: Sequence[bytes]) -> int:
    size = sum(map(len, blocks))
    done = os.writev(file, blocks)
    if done < size:  # The disk is nearly full, or the body is beyond 2 GiB.
        rest = memoryview(b"".join(blocks))[done:]
        while rest:
            rest = rest[os.write(file, rest) :]
    return size


def _remove(name: str, folder: int) -> None:
    """Remove a file or a folder with all in it; what cannot be removed is left to `_forget`."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
    except OSError:
        pass


def _forget(staging: int) -> None:
    """Remove what a server that died has left in the staging folder. Another one may use it too, so only what is old."""
    with os.scandir(staging) as entries:
        old = [entry for entry in entries if entry.name.endswith((".part", ".gone")) and _age(entry) > _FORGOTTEN]
    for entry in old:
        _remove(entry.name, staging)


def _age(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0  # Gone meanwhile.


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _problem(path, error) from None


def _problem(path: str, error: Exception) -> Exception:
    """What a user is told of an error of the file system."""
    name = path[-200:]
    if not isinstance(error, OSError):
        return error
    if error.errno == errno.ELOOP:
        return Invalid(f"Invalid path: '{name}' leads through a link, and links among artifacts are not followed.")
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
        return Invalid(f"'{name}' is a folder, not a file.", "Name a file in it, or choose another name.")
    if error.errno == errno.ENOTDIR:
        return Invalid(
            f"Nothing can be stored at '{name}': one of the folders on the way to it is a file.", "Choose another name."
        )
    return Unavailable(f"The server's disk did not take or give '{name}' ({error.strerror}); nothing of it was stored.",
                       "If it is full, free some space there; then try again.")  # fmt: skip
