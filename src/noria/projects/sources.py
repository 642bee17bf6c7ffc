"""The content of files and folders that an environment is made of: packages that lie beside a project, and wheels."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from noria import process
from noria.errors import Invalid
from noria.projects.code import BYTES, FILES
from noria.projects.requirements import ARCHIVES

_JUNK = ("__pycache__", "node_modules", "venv", "mlruns")
_LEFT = (".egg-info", ".dist-info")
"""What building leaves beside sources, besides `build` and `dist`."""


def digest(path: Path) -> str:
    """Of a file's bytes, or of a folder's names and bytes; equal wherever it lies. Raises Invalid if it cannot be read."""
    total = hashlib.blake2b(digest_size=16)
    try:
        for name, file in _files(path):
            mode = os.lstat(file).st_mode
            content = os.readlink(file).encode("utf-8", "surrogateescape") if stat.S_ISLNK(mode) else _hashed(file)
            total.update(f"{name}\0{stat.S_ISLNK(mode)}\0{bool(mode & 0o100)}\0".encode("utf-8", "surrogateescape") + content)
    except OSError as error:
        raise Invalid(f"{error.filename} cannot be read ({error.strerror}), and {path} is a part of the environment.",
                      "Mend its permissions, or name it in .gitignore.") from None  # fmt: skip
    return total.hexdigest()


def listing(path: Path) -> str:
    """Of a folder of wheels and archives: their names and sizes, for their names have their versions."""
    if path.is_file():
        return digest(path)
    found = sorted(f"{each.name}\0{each.stat().st_size}" for each in os.scandir(path) if each.name.endswith(ARCHIVES))
    return hashlib.blake2b("\n".join(found).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _hashed(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
        return
    for name in _names(path):
        yield name, path / name


def _names(folder: Path) -> list[str]:
    """What is source in a folder: what git has or would add, else all but what tools leave behind. Raises Invalid if that is too much."""
    listed = process.run(["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    found = [] if listed.code else [name for name in listed.out.split("\0") if name and os.path.lexists(folder / name)]
    inner = [name for name in found if (folder / name).is_dir() and not (folder / name).is_symlink()]  # Submodules.
    files = [*(set(found) - {*inner}), *(f"{name}/{each}" for name in inner for each in _walk(folder / name))]
    names = sorted(name for name in (files or _walk(folder)) if not _is_left(name))
    size = sum(os.lstat(folder / name).st_size for name in names)
    if size > BYTES or len(names) > FILES:
        what = f"{size / 2**20:,.0f} MiB" if size > BYTES else f"{len(names):,} files"
        raise Invalid(f"{folder} has {what}, which is too much for a package that is built from its folder.",
                      "Name what is no source in .gitignore, in a git repository.")  # fmt: skip
    return names


def _walk(folder: Path) -> Iterator[str]:
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _JUNK]
        yield from (os.path.relpath(os.path.join(at, name), folder) for name in names if os.path.isfile(os.path.join(at, name)))


def _is_left(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ("build", "dist") or any(part.endswith(_LEFT) for part in parts)


def copy(folder: Path, into: Path) -> str:
    """A copy of what is source in it. Its history stays where it was, and tools that make versions of it find it there."""
    target = into / digest(folder) / folder.name
    if target.exists():
        return str(target)
    for name, file in _files(folder):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place, follow_symlinks=False)
    if (folder / ".git").is_dir():
        (target / ".git").symlink_to((folder / ".git").resolve())
    return str(target)
