"""Checkpoints: whole files under their own checksum, or none.

`step-00000120.<first 32 hex digits of its SHA-256>.pt` is an ordinary file of torch.save. It is written beside, synced and
renamed, so a name means a whole file; damage that comes later shows in the checksum. Loading runs no code (weights_only).
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noria.errors import NotFound

_NAME = re.compile(r"step-(\d{8,})\.([0-9a-f]{32})\.pt")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _found(folder: Path) -> list[tuple[int, Path]]:
    """(step, file), the newest first."""
    if not folder.is_dir():
        return []
    pairs = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(pairs, reverse=True)


def save(state: Mapping[str, Any], folder: Path, step: int, *, keep: int = 2, best: int | None = None) -> Path:
    """Write one checkpoint; afterwards only the last `keep` and the one of step `best` are left.

    state: what torch.load(weights_only=True) reads back: tensors, numbers, texts, and lists and dicts of them. One process
    (rank 0) saves. Raises OSError if the disk is full; the checkpoints before are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".step-{step:08d}.{os.getpid()}.tmp"
    try:
        with beside.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"step-{step:08d}.{_checksum(beside)}.pt"
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(folder)
    newest = [old for _, old in _found(folder) if old != path]
    for number, old in _found(folder):
        again = number == step and old != path
        if again or (old != path and number != best and old not in newest[: keep - 1]):
            old.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # The rename itself, so that a power cut does not undo it.
    finally:
        os.close(handle)


def latest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint, None if there is none. Warns about each damaged one that it passes over."""
    for step, path in _found(folder):
        if path.name == f"step-{step:08d}.{_checksum(path)}.pt":
            return path
        warnings.warn(f"The checkpoint {path} is damaged (its content does not match its checksum) and is passed over; "
                      "the one before it is used. Check that disk.", stacklevel=2)  # fmt: skip
    return None


def at(folder: Path, step: int) -> Path:
    """The checkpoint of one step; NotFound if it is missing or damaged."""
    for number, path in _found(folder):
        if number == step and path.name == f"step-{step:08d}.{_checksum(path)}.pt":
            return path
    raise NotFound(f"There is no whole checkpoint of step {step} in {folder}.", "Remove the folder to train from the start.")


def load(path: Path) -> dict[str, Any]:
    """The state that was saved, on the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
