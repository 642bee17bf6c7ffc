"""Data that lie on the node's own disk before the tasks start: each file or folder is copied there once, for all that ask for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from msgspec import Struct

from noria.errors import Unavailable
from noria.jobs.scratch import Stopped

_AT_ONCE = 8
"""Files that are copied at the same time: of many small ones, a shared file system hands out some as fast as one."""
_PIECE = 16 << 20


class File(Struct, frozen=True):
    """A file below what is copied; its path is empty if that is a file itself."""

    path: str
    size: int
    modified: int


def listed(source: str) -> list[File]:
    """All files, in order, with what links lead to, but for links to a folder that they lie in."""
    if not os.path.isdir(source):
        return [_file(source, "")]
    return sorted(_walk(source, "", frozenset()), key=lambda file: file.path)


def _walk(source: str, inside: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
    folder = os.path.join(source, inside)
    stat = os.stat(folder)
    if (stat.st_dev, stat.st_ino) in above:
        return
    for entry in os.scandir(folder):
        path = os.path.join(inside, entry.name)
        if entry.is_dir():
            yield from _walk(source, path, above | {(stat.st_dev, stat.st_ino)})
        else:
            yield _file(source, path)


def _file(source: str, path: str) -> File:
    stat = (Path(source) / path).stat()
    return File(path, stat.st_size, stat.st_mtime_ns)


def key(source: str, files: list[File]) -> str:
    """Names a copy by what it is a copy of, when that was last changed, and how large it is."""
    text = "\0".join([os.path.realpath(source), *(f"{each.path}\0{each.size}\0{each.modified}" for each in files)])
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def size(files: list[File]) -> int:
    """Bytes on a disk of blocks of 4 KiB."""
    return sum(-(-each.size // 4096) * 4096 for each in files)


def copy(source: str, files: list[File], name: str, stopped: Stopped) -> Callable[[Path], None]:
    """What copies these files into a folder by that name, readable and no more: several jobs share the copy."""

    def fill(folder: Path) -> None:
        target = folder / name
        for each in {(target / file.path).parent for file in files} | ({target} if os.path.isdir(source) else set()):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda file: _copy(Path(source) / file.path, target / file.path, file.size, stopped), files))

    return fill


def _copy(source: Path, target: Path, expected: int, stopped: Stopped) -> None:
    done = 0
    with open(source, "rb") as file, open(target, "wb") as out:
        while piece := file.read(_PIECE):
            if stopped():
                raise Unavailable("The job was to stop before it began.")
            done += out.write(piece)
        os.fchmod(out.fileno(), os.fstat(file.fileno()).st_mode & 0o555 | 0o400)
    if done != expected:
        raise Unavailable(f"{source} was changed while it was copied", "Submit again when it is whole.")
