"""A packed environment on a node: unpacked, and mended where it says where it was."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from noria import process
from noria.errors import Unavailable
from noria.types import JobSpec

_LARGEST = 1 << 20
"""Bytes of a script; what is larger is a program."""

_LONGEST = 3600.0


def unpack(file: str, was: str) -> Callable[[Path], None]:
    """What unpacks the environment that was at `was` into a folder. By tar itself, which takes a quarter of the time that Python does."""

    def fill(folder: Path) -> None:
        _run(["tar", "-C", str(folder), "--no-same-owner", "-xf", file], file)
        if (folder / "bin/conda-unpack").exists():
            _run([str(folder / "bin/python"), str(folder / "bin/conda-unpack")], file)
        else:
            mend(folder, was)

    return fill


def _run(argv: list[str], file: str) -> None:
    done = process.run(argv, timeout=_LONGEST)
    if done.code:
        words = done.err.strip().rpartition("\n")[2] or f"{argv[0]} ended with {done.code}"
        raise Unavailable(f"{file} cannot be unpacked on {socket.gethostname()}: {words}")


def mend(folder: Path, was: str) -> None:
    """Let programs and settings name this folder in place of the one that they were made in: nothing else knows where it lies, but
    for links and .pth files that lead into it (Python: venv, site)."""
    for path in [folder / "pyvenv.cfg", *(folder / "bin").iterdir(), *folder.glob("lib/python*/site-packages/*.pth")]:
        if path.is_symlink():
            target = os.readlink(path)
            if target.startswith(f"{was}/"):
                path.unlink()
                path.symlink_to(moved(target, was, str(folder)))
        elif path.is_file() and path.stat().st_size < _LARGEST:
            text = path.read_bytes()
            if was.encode() in text and b"\0" not in text:
                path.write_bytes(text.replace(was.encode(), str(folder).encode()))


def moved(path: str, was: str, now: str) -> str:
    """A path below one folder as one below another; others as they are."""
    return now + path[len(was) :] if path == was or path.startswith(f"{was}/") else path


def relocated(spec: JobSpec, given: Mapping[str, str], now: str) -> tuple[JobSpec, dict[str, str]]:
    """A job and its own variables, that use the environment where it is now: PATH and its like, and the program itself."""
    environment, was = spec.environment, spec.environment.folder
    lists = {name: os.pathsep.join(moved(each, was, now) for each in value.split(os.pathsep)) for name, value in given.items()}
    command = [moved(spec.command[0], was, now), *spec.command[1:]]
    there = replace(environment, virtualenv=now) if environment.virtualenv else replace(environment, conda=now)
    return replace(spec, command=command, environment=there), lists
