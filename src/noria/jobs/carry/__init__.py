"""Noria for the environment of a job, whichever that is: a copy beside the jobs, found only where none is installed.

<home>/client/<key>/
    noria/__init__.py        `shim.py`: looks for an installed Noria first, and then in .lib/noria
    noria-*.dist-info/       by which mlflow finds the plugin
    .lib/noria/noria/        this package
    .lib/<python>/msgspec/   the agent's msgspec, which fits the Python that it was built for
    .lib/any/msgspec.py      `standin.py`, for every other Python
    python-…                 the Python of an agent that came this way itself, and finds Noria here

The launcher puts this folder at the end of PYTHONPATH. That is still before site-packages, hence the shim.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import mkdtemp

import msgspec

import noria
from noria import atomic
from noria.version import __version__

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "static")
_METADATA = ("METADATA", "entry_points.txt")


def carried() -> Path | None:
    """The folder that this process has Noria from, if that is such a copy."""
    lib = _package().parent.parent
    return lib.parent if lib.name == ".lib" else None


def interpreter() -> str:
    """The program that runs modules of ours on every node as this process does."""
    folder = carried()
    if folder is None:
        return sys.executable
    program = folder / f"python-{python()}"
    if not program.exists():
        script = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(folder))} exec {shlex.quote(sys.executable)} "$@"\n'
        atomic.write(program, script.encode(), mode=0o700)
    return str(program)


def carry(home: Path) -> Path:
    """The folder for PYTHONPATH, made below `home` if it is not there. Raises OSError if it cannot be."""
    already = carried()
    if already is not None:
        return already
    target = home / "client" / _key()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = Path(mkdtemp(prefix=".", dir=target.parent))
        try:
            _fill(beside)
            os.rename(beside, target)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            if not target.exists():  # Otherwise another agent was faster.
                raise
    return target


def _fill(folder: Path) -> None:
    here = Path(__file__).parent
    (folder / "noria").mkdir()
    shutil.copyfile(here / "shim.py", folder / "noria" / "__init__.py")
    lib = folder / ".lib"
    shutil.copytree(_package(), lib / "noria" / "noria", ignore=_LEFT_OUT)
    shutil.copytree(Path(msgspec.__file__).parent, lib / python() / "msgspec", ignore=_LEFT_OUT)
    (lib / "any").mkdir()
    shutil.copyfile(here / "standin.py", lib / "any" / "msgspec.py")
    metadata = folder / f"noria-{__version__}.dist-info"
    metadata.mkdir()
    for name, text in _metadata():
        (metadata / name).write_text(text)


def python() -> str:
    """What a compiled package is built for."""
    return f"{sys.implementation.cache_tag}-{platform.system()}-{platform.machine()}-{platform.libc_ver()[0]}"


def _package() -> Path:
    assert noria.__file__ is not None
    return Path(noria.__file__).parent


def _metadata() -> Iterator[tuple[str, str]]:
    """Name and text of the files by which others find our entry points; without an installation there are none."""
    try:
        own = distribution("noria")
    except PackageNotFoundError:
        return
    for name in _METADATA:
        if text := own.read_text(name):
            yield name, text


@cache
def _key() -> str:
    """Names the copy by all that is in it: a newer agent makes another, and jobs that run keep theirs."""
    digest = sha256(f"{__version__} {msgspec.__version__} {python()}".encode())
    for path in sorted(_package().rglob("*.py")):
        digest.update(path.read_bytes())
    for _, text in _metadata():
        digest.update(text.encode())
    return f"{__version__}-{digest.hexdigest()[:12]}"
