"""An environment as one file, which each node unpacks once: reading one large file is what a shared file system does best, and
the thousand small ones of an `import torch`, by a thousand ranks at the same time, what it does worst.

Kept by the names, sizes and times of what is in it, so that an environment is packed again only when it has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from noria import process
from noria.errors import Invalid, Unavailable
from noria.types import Environment

_UNUSED = 30 * 24 * 3600.0
"""Seconds after which a pack that no submission has used goes."""

_LONGEST = 3600.0


def packed(environment: Environment, store: Path) -> str:
    """The file. Raises Invalid if there is no environment to pack."""
    folder = environment.folder
    if environment.image:
        raise Invalid("--pack: an image has its own environment.", "Leave out --pack.")
    if not os.path.isdir(folder):
        raise Invalid("--pack: no environment is active here.", "Activate the one that the job needs.")
    command = _tar if environment.virtualenv else _conda
    file = store / f"{_digest(folder)}.tar"
    if file.exists():
        os.utime(file)
    else:
        _pack(folder, file, command)
    return str(file)


def _walk(folder: str) -> Iterator[str]:
    """All that is in it but for byte code, which Python writes as it likes; links are not followed."""
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(at, name), folder)


def _digest(folder: str) -> str:
    total = hashlib.blake2b(folder.encode("utf-8", "surrogateescape"), digest_size=16)
    for name in sorted(_walk(folder)):
        path = os.path.join(folder, name)
        seen = os.lstat(path)
        what = "" if stat.S_ISDIR(seen.st_mode) else f"{seen.st_size} {seen.st_mtime_ns}"
        if stat.S_ISLNK(seen.st_mode):
            what = os.readlink(path)
        total.update(f"{name}\0{seen.st_mode}\0{what}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _tar(folder: str, file: Path) -> list[str]:
    return ["tar", "-C", folder, "-cf", str(file), "."]


def _conda(folder: str, file: Path) -> list[str]:
    """conda's programs hold the name of their folder: conda-pack notes where, and adds a program that mends them. Editable packages
    stay where they are."""
    program = shutil.which("conda-pack") or shutil.which("conda-pack", path=os.path.dirname(sys.executable))
    if program is None:
        raise Invalid("--pack: conda environments are packed by conda-pack, which is not here.", "conda install conda-pack")
    return [
        program,
        "--quiet",
        "--force",
        "--ignore-editable-packages",
        "--format",
        "tar",
        "--prefix",
        folder,
        "--output",
        str(file),
    ]


def _pack(folder: str, file: Path, command: Callable[[str, Path], list[str]]) -> None:
    beside = file.with_suffix(f".{os.getpid()}")
    argv = command(folder, beside)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _forget(file.parent)
        done = process.run(argv, timeout=_LONGEST)
        if done.code:
            raise OSError(done.code, done.err.strip().rpartition("\n")[2] or f"{argv[0]} ended with {done.code}")
        os.chmod(beside, 0o600)
        os.replace(beside, file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Unavailable(f"{folder} cannot be packed in {file.parent} ({error.strerror}).",
                          "Make room there, or submit without --pack.") from None  # fmt: skip


def _forget(store: Path) -> None:
    for path in store.iterdir():
        if time.time() - path.stat().st_mtime > _UNUSED:
            path.unlink(missing_ok=True)
