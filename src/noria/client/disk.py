"""The disk, as the spool is written and read: the one module whose calls fail when it does. Tests put a failing `os` here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def create(path: Path) -> int:
    """A new file, open for appending and for reading back."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file to read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def size(fd: int) -> int:
    return os.fstat(fd).st_size


def write(fd: int, data: bytes | bytearray) -> int:
    """How many bytes the disk took, 0 if it refused them. Never raises for the disk's sake."""
    try:
        return os.write(fd, data)
    except OSError:
        return 0


def is_at_end(fd: int, data: bytes | bytearray) -> bool:
    """Whether the file ends with these bytes, or with them and what others wrote in the moment since."""
    try:
        return data in read(fd, max(0, size(fd) - len(data) - 4096), len(data) + 4096)
    except OSError:
        return False


def read(fd: int, start: int, count: int) -> bytes:
    """`count` bytes from `start` on, fewer only at the file's end."""
    blocks = []
    while count > 0 and (block := os.pread(fd, count, start)):
        blocks.append(block)
        start, count = start + len(block), count - len(block)
    return b"".join(blocks)


def append(path: Path, data: bytes) -> None:
    """Add to a file whose writer is dead; it is on the disk when this returns. What came only in part is cut off again."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        before = size(fd)
        if os.write(fd, data) != len(data):
            os.ftruncate(fd, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(fd)
    finally:
        os.close(fd)


def copy(fd: int, start: int, end: int, target: Path) -> None:
    """Keep a part of a file as `target`, written beside and renamed; again is harmless."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    out = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while start < end and (block := read(fd, start, min(1 << 20, end - start))):
            start += len(block)
            while block:
                block = block[os.write(out, block) :]
        os.fsync(out)
        os.replace(beside, target)
    except OSError:
        os.unlink(beside)
        raise
    finally:
        os.close(out)


def close(fd: int) -> str:
    """Close a file; why its last bytes may be lost, or "": a network file system may say only now that it did not take them."""
    try:
        os.close(fd)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


def move(path: Path, folder: Path) -> None:
    """Put a file or a folder into `folder`, which is made; silent if it is not there."""
    folder.mkdir(exist_ok=True)
    try:
        os.rename(path, folder / path.name)
    except FileNotFoundError:
        pass
