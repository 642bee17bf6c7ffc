"""Artifacts: a tree of files on a disk or in a shared directory. `remote.py` keeps the same tree in an object store.

A path is walked part by part from the root's descriptor, and no link is followed: what is outside of the root cannot be
reached, not even through a link that somebody puts there meanwhile.

An upload that was answered is on the disk, whole, under its name. What arrives is written in a folder beside the tree, synced,
renamed, and then the folders that changed are synced. One thread does that for all who wait, so that they share the cost.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from noria.errors import Invalid, NotFound, Unavailable
from noria.store.placing import Growing, Placing, enter, make_folder, new_name, place_group, remove, told
from noria.store.uploads import Uploads
from noria.types import File
from noria.wire import limits

STAGING = ".noria"
"""In the root: what is on its way in or out. No artifact has this name."""
_GROUP = 32
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
            self.staging = make_folder(self.root, STAGING)
            os.fsync(self.root)
        except OSError as error:
            raise Unavailable(
                f"The folder {root} cannot hold artifacts ({error.strerror}).", "Give another with --artifacts."
            ) from None
        _forget(self.staging)
        self._power = power
        self.pool = ThreadPoolExecutor(8, "noria-files")
        self.uploads = Uploads(root / STAGING, self)
        self._waiting: queue.SimpleQueue[Placing] = queue.SimpleQueue()
        threading.Thread(target=self._place_forever, name="noria-artifacts", daemon=True).start()

    def put(self, path: str, data: bytes, future: Any = None) -> Any:
        return self._place(Placing(parts_of(path), new_name("part"), data, future))

    def check(self, path: str) -> None:
        *folders, name = parts_of(path)
        with told(path):
            try:
                with self._entered(folders) as folder:
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        raise IsADirectoryError(errno.EISDIR, "a folder")
            except FileNotFoundError:
                pass  # It will be made.

    def begin(self, path: str, size: int) -> Incoming:
        self.check(path)
        return Growing(self, path)

    def place(self, path: str, source: Path) -> None:
        self._place(Placing(parts_of(path), os.path.relpath(source, self.uploads.folder))).result()

    def sync(self, file: int) -> None:
        """Wait until a file, or the names in a folder, would survive a power cut, if that is promised."""
        if self._power:
            os.fsync(file)

    def write_back(self, file: int, start: int, size: int) -> None:
        """Have the disk begin with these bytes, so that a sync later has less to wait for."""
        if self._power and _sync_file_range is not None:
            _sync_file_range(file, ctypes.c_longlong(start), ctypes.c_longlong(size), _SYNC_FILE_RANGE_WRITE)

    def _place(self, placing: Placing) -> Any:
        self._waiting.put(placing)
        return placing.future

    def _place_forever(self) -> None:
        while True:
            group = [self._waiting.get()]
            while len(group) < _GROUP and not self._waiting.empty():
                group.append(self._waiting.get())
            place_group(self, group)

    def open(self, path: str) -> Opened:
        *folders, name = parts_of(path)
        with told(path):
            try:
                with self._entered(folders) as folder:
                    return _OnDisk(path, os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder))
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(f"No such artifact: '{path[:200]}'.", "List the run's artifacts to see what there is.") from None

    def list(self, path: str, relative_to: str = "") -> list[File]:
        below = path.removeprefix(limits.artifact_path(relative_to)).strip("/")
        with told(path):
            try:
                with self._entered(parts_of(path) if path else []) as folder, os.scandir(folder) as entries:
                    kept = [entry for entry in entries if not entry.is_symlink() and (path or entry.name != STAGING)]
                    files = [_listed(entry, f"{below}/{entry.name}" if below else entry.name) for entry in kept]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(files, key=lambda file: file.path)

    def delete(self, path: str) -> None:
        *folders, name = parts_of(path)
        gone = new_name("gone")
        with told(path):
            try:
                with self._entered(folders) as folder:
                    # Renamed first: a folder goes as a whole, and what the server dies over is forgotten with what else is staged.
                    os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=self.staging)
                    try:
                        self.sync(folder)
                    finally:
                        remove(gone, self.staging)
            except (FileNotFoundError, NotADirectoryError):
                pass

    @contextmanager
    def _entered(self, folders: Iterable[str]) -> Iterator[int]:
        """A descriptor of a folder. Raises OSError with ELOOP for a link on the way."""
        here = os.dup(self.root)
        try:
            for name in folders:
                below = enter(here, name)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


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
        with told(self._path):
            return os.pread(self._file, size, start)

    def close(self) -> None:
        os.close(self._file)


def _listed(entry: os.DirEntry[str], name: str) -> File:
    return (
        File(name, True) if entry.is_dir(follow_symlinks=False) else File(name, False, entry.stat(follow_symlinks=False).st_size)
    )


def _forget(staging: int) -> None:
    """Remove what a server that died has left in the staging folder. Another one may use it too, so only what is old."""
    with os.scandir(staging) as entries:
        old = [entry for entry in entries if entry.name.endswith((".part", ".gone")) and _age(entry) > _FORGOTTEN]
    for entry in old:
        remove(entry.name, staging)


def _age(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0  # Gone meanwhile.
