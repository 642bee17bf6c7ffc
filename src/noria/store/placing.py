"""How files get into the tree of artifacts: written in a folder beside it, synced, renamed, and then the folders that changed are synced."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from noria.errors import Invalid, Unavailable
from noria.store.store import Outcome, tell

if TYPE_CHECKING:
    from noria.store.artifacts import Disk

_PROCESS, _COUNT = uuid4().hex, itertools.count()
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_WRITE_BACK = 8 << 20
"""Bytes after which the disk is told to begin with what it was given."""


class Placing:
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

    def attempt(self, step: Callable[[Placing, Disk, _Folders], None], disk: Disk, folders: _Folders) -> None:
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
            remove(self.staged, disk.staging)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def outcome(self) -> Outcome:
        return self.future, None, None if self.error is None else _problem("/".join(self.parts), self.error)


def place_group(disk: Disk, group: list[Placing]) -> None:
    """Step by step for all, so that the disk is busy with the next file while one is waited for."""
    try:
        with _Folders(disk.root) as folders:
            for step in (Placing.write, Placing.sync, Placing.rename):
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
                found = enter(above, parts[-1])
            except FileNotFoundError:
                found = make_folder(above, parts[-1])
                self.changed.add(above)
            self._open[parts] = found
        return found


class Growing:
    """A large file that is being written to the staging folder."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path, self._staged = disk, path, new_name("part")
        self._size = self._given = 0
        with told(path):
            self._file = os.open(self._staged, _NEW, 0o666, dir_fd=disk.staging)

    def write(self, blocks: Sequence[bytes]) -> None:
        with told(self._path):
            self._size += _write_all(self._file, blocks)
            if self._size - self._given >= _WRITE_BACK:
                self._disk.write_back(self._file, self._given, self._size - self._given)
                self._given = self._size

    def commit(self) -> None:
        with told(self._path):
            self._disk.sync(self._file)
        self._disk.place(self._path, self._disk.uploads.folder / self._staged)
        os.close(self._file)

    def abandon(self) -> None:
        os.close(self._file)
        remove(self._staged, self._disk.staging)


def new_name(ending: str) -> str:
    """A name in the staging folder that no other server there has."""
    return f"{_PROCESS}-{next(_COUNT)}.{ending}"


def enter(above: int, name: str) -> int:
    """A descriptor of the folder `name` in another. Raises OSError with ELOOP if it is a link."""
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a link") from None
        raise


def make_folder(above: int, name: str) -> int:
    """A descriptor of the folder `name` in another, made if it is missing."""
    try:
        os.mkdir(name, 0o777, dir_fd=above)
    except FileExistsError:
        pass
    return os.open(name, FOLDER, dir_fd=above)


def _write_all(file: int, blocks: Sequence[bytes]) -> int:
    size = sum(map(len, blocks))
    done = os.writev(file, blocks)
    if done < size:  # The disk is nearly full, or the body is beyond 2 GiB.
        rest = memoryview(b"".join(blocks))[done:]
        while rest:
            rest = rest[os.write(file, rest) :]
    return size


def remove(name: str, folder: int) -> None:
    """Remove a file or a folder with all in it; what cannot be removed is left to `_forget`."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
    except OSError:
        pass


@contextmanager
def told(path: str) -> Iterator[None]:
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
