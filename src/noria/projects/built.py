"""Environments that a file describes: built once for what it says, kept, and used by every node and user that sees the folder."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from noria import process
from noria.errors import Invalid


class Need(Struct, frozen=True):
    """What describes an environment. kind: the name of a file in projects/build. file: its path; of an image that has a name and no file,
    empty. folder: the project's. image: as docker_env names it."""

    kind: str
    file: str
    folder: str
    image: str = ""


class Built(Struct, frozen=True):
    """An environment that can be used. folder: where it is, or an image's file. python: its interpreter; empty for an image.
    seconds: that building took; of one that was there, that looking took. cached: whether it was there."""

    folder: str
    python: str
    kind: str
    digest: str
    seconds: float
    cached: bool


def needed(folder: Path, file: str = "") -> Need | None:
    """What describes the environment of a project: the file that is named, else what its MLproject names, else the one that lies there.
    None if there is none. Raises Invalid for a file that is named and not there."""
    path = folder / (file or "requirements.txt")
    if file and not path.is_file():
        raise Invalid(f"There is no file {file} in {folder}.", "Give its path from there.")
    return Need("requirements", str(path.absolute()), str(folder.absolute())) if path.is_file() else None


def build(need: Need, cache: Path, report: Callable[[str], None]) -> Built:
    """The environment, from the cache or built now. Two that ask for the same at once build it once.

    report: is told in a line what is being done. Raises Invalid, with the last words of the tool, for what cannot be built.
    """
    began = time.monotonic()
    digest = hashlib.blake2b(Path(need.file).read_bytes(), digest_size=10).hexdigest()
    folder = cache / digest
    python = folder / "bin" / "python"
    cached = (folder / ".ready").exists()
    if not cached:
        report(f"building the environment of {need.file}")
        cache.mkdir(parents=True, exist_ok=True)
        for argv in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-r", need.file]):
            done = process.run(argv, timeout=3600, cwd=need.folder)
            if done.code:
                raise Invalid(f"The environment of {need.file} cannot be built ({done.err.strip().rpartition(chr(10))[2]}).")
        (folder / ".ready").touch()
    return Built(str(folder), str(python), need.kind, digest, time.monotonic() - began, cached)
