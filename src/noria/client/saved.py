"""A folder of checkpoints: whole ones under their own checksum, or none.

`step-00000120.<first 32 hex digits of its SHA-256>.<kind>` is a file, or a folder of files, that the caller wrote beside; it was synced
and renamed, so a name means a whole one, and damage that comes later shows in the checksum. Of a folder it is the checksum of the names
and checksums of its files. `values.json` has what each was worth, where the caller says it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from noria import atomic
from noria.errors import NotFound

_NAME = re.compile(r"step-(\d{8,})\.([0-9a-f]{32})\.(\w+)")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(path: Path) -> str:
    """The first 32 hex digits of a SHA-256."""
    if path.is_file():
        return _digest(path)[:32]
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = "".join(f"{each.relative_to(path).as_posix()} {_digest(each)}\n" for each in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def found(folder: Path) -> list[tuple[int, Path]]:
    """(step, path), the newest first."""
    if not folder.is_dir():
        return []
    pairs = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(pairs, reverse=True)


def whole(path: Path) -> bool:
    """Whether it is what was saved."""
    match = _NAME.fullmatch(path.name)
    try:
        return match is not None and match[2] == checksum(path)
    except OSError:
        return False


def beside(folder: Path, step: int, who: int | str) -> Path:
    """Where it is written before it has its name."""
    return folder / f".step-{step:08d}.{who}.tmp"


def save(
    folder: Path, step: int, kind: str, write: Callable[[Path], None], may: Callable[[], None] = lambda: None, *, together: str = ""
) -> Path:  # fmt: skip
    """One checkpoint. write: makes a file or a folder at the path that it is given. may: called before it gets its name; raises if it
    must not. together: a word that nobody had before, by which other processes find that path too; the folder is there then, and nothing
    is done before `write`, which they begin when they like. Raises OSError if the disk is full; those before are untouched then."""
    new = beside(folder, step, together or os.getpid())
    if not together:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove(new)
    try:
        write(new)
        for each in sorted(new.rglob("*")) if new.is_dir() else [new]:
            _sync(each)
        path = folder / f"step-{step:08d}.{checksum(new)}.{kind}"
        may()
        if path.is_dir():  # The same once more; a folder is not renamed onto another one.
            return path
        new.replace(path)
    finally:
        _remove(new)
    _sync(folder)  # The rename itself, so that a power cut does not undo it.
    for left in folder.glob(".step-*.tmp"):  # Of a process that was killed while it saved: one alone does, and may.
        _remove(left)
    for old in [old for number, old in found(folder) if number == step and old != path]:
        _remove(old)
    return path


def keep(folder: Path, last: int, *, best: int = 0, young: float = 0.0, also: int | None = None, greater: bool = True) -> None:
    """Remove all but the last so many, the best so many of those that have a value, those that are younger than so many seconds, and
    the one of step `also`."""
    all_, values = found(folder), valued(folder)
    order = sorted((path for _, path in all_ if path.name in values), key=lambda path: values[path.name], reverse=greater)
    kept = {path for _, path in all_[: max(1, last)]} | {*order[:best]} | {path for step, path in all_ if step == also}
    for _, path in all_:
        if path not in kept and not (young and time.time() - path.stat().st_mtime < young):
            _remove(path)


def valued(folder: Path) -> dict[str, float]:
    """What checkpoints are worth, by name."""
    try:
        said: dict[str, float] = json.loads((folder / "values.json").read_text())
    except (OSError, ValueError):
        return {}
    return said


def value(folder: Path, path: Path, worth: float) -> None:
    """Say what one is worth; what is gone is forgotten."""
    names = {each.name for _, each in found(folder)}
    values = {**{k: v for k, v in valued(folder).items() if k in names}, path.name: worth}
    atomic.write(folder / "values.json", json.dumps(values).encode())


def latest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint, None if there is none. Each damaged one is warned of, and put aside."""
    for _, path in found(folder):
        if whole(path):
            return path
        warnings.warn(f"The checkpoint {path} is damaged (its content does not match its checksum) and is passed over; "
                      "the one before it is used. Check that disk.", stacklevel=2)  # fmt: skip
        os.replace(path, path.with_name(f".{path.name}.damaged"))
    return None


def at(folder: Path, step: int) -> Path:
    """The checkpoint of one step; NotFound if it is missing or damaged."""
    for number, path in found(folder):
        if number == step and whole(path):
            return path
    raise NotFound(f"There is no whole checkpoint of step {step} in {folder}.", "Remove the folder to train from the start.")


def mark(folder: Path, values: Mapping[str, object]) -> None:
    """`last.json`: what whoever watches the job wants to know of the newest checkpoint."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic.write(folder / "last.json", json.dumps(values).encode())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
