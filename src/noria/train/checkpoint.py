"""Checkpoints of a training over any number of processes, written by torch.distributed.checkpoint beside the training.

Each process writes what it holds; whoever loads takes what it needs, on any number of processes in any layout. The folder of one has a
`progress.json` for what is no tensor. It is a folder of `noria.client.saved`: whole under its checksum, or not there.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load as read
from torch.distributed.checkpoint.state_dict_saver import save as write

from noria.client import saved
from noria.client.checkpoint import fence, told_of
from noria.client.saved import at as at
from noria.client.saved import latest as latest
from noria.errors import Invalid
from noria.train.distributed import World

# One process writes by the same path as many, on purpose.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
_STAGING = {"use_pinned_memory": False, "use_shared_memory": False, "use_async_staging": False, "use_non_blocking_copy": False}
_FULL = ("inline_container", "PytorchStreamWriter", "No space left", "Disk quota", "File too large")
"""What torch says instead of an OSError when a disk takes no more."""


class Saver:
    """Makes the checkpoints of one training in a folder that all of its processes see. To be made, and called, by all of them."""

    def __init__(self, folder: Path, world: World, keep: int = 2) -> None:
        self.folder, self.world, self.keep = folder, world, keep
        # Of its own, because it talks while the training does.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        if world.rank == 0:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._word = world.agreed(f"{os.getpid()}-{uuid4().hex[:12]}")
        self._writing: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self, tensors: Mapping[str, Any], progress: Mapping[str, Any], step: int, *, best: int | None = None, last: bool = False
    ) -> float:
        """Copy the state now and write it meanwhile; the last one is waited for. Returns the seconds that it took from the training.

        tensors: a nested dict; those of one name on several processes are the same, or parts of one DTensor. progress: what JSON holds.
        best: the step of one that stays beside the last `keep`. A disk that takes none is warned of: those before are untouched.
        """
        began = time.monotonic()
        self.wait()
        if last:
            self._write(dict(tensors), progress, step, best, began, last=True)
        else:
            staged = DefaultStager(StagingOptions(**_STAGING)).stage(dict(tensors))
            arguments = (staged, progress, step, best, began)
            self._writing = threading.Thread(target=self._aside, args=arguments, name="noria-checkpoint")
            self._writing.start()
        return time.monotonic() - began

    def wait(self) -> None:
        """Until what is being written is on the disk."""
        if self._writing:
            self._writing.join()
            self._writing = None
        if self._error:
            error, self._error = self._error, None
            raise error

    def _aside(self, *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as error:  # Raised where the training waits for it.
            self._error = error

    def _write(
        self, tensors: dict[str, Any], progress: Mapping[str, Any], step: int, best: int | None, began: float, last: bool = False
    ) -> None:
        try:
            if self.world.rank:
                self._part(tensors, saved.beside(self.folder, step, self._word))
                return
            saved.save(self.folder, step, "d", lambda beside: self._first(tensors, progress, beside), fence, together=self._word)
            saved.keep(self.folder, self.keep, also=best)
            told_of(step, time.monotonic() - began, last=last)
        except OSError as error:
            if self.world.rank == 0:
                warnings.warn(f"The checkpoint of step {step} cannot be saved in {self.folder} ({error.strerror}); those before are whole. "
                              "Free some space there.", stacklevel=2)  # fmt: skip

    def _first(self, tensors: dict[str, Any], progress: Mapping[str, Any], beside: Path) -> None:
        self._part(tensors, beside)
        (beside / "progress.json").write_text(json.dumps(progress))

    def _part(self, tensors: dict[str, Any], beside: Path) -> None:
        writer = FileSystemWriter(beside, sync_files=self.world.rank > 0)  # `saved` does it on rank 0.
        try:
            write(tensors, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
        except CheckpointException as failed:  # Not an Exception; it holds those of all processes.
            for error in failed.failures.values():
                raise _as_os_error(error[0]) from failed
            raise
        except RuntimeError as error:
            raise _as_os_error(error) from error


def _as_os_error(error: BaseException) -> BaseException:
    full = not isinstance(error, OSError) and any(sign in str(error) for sign in _FULL)
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else error


def progress(path: Path) -> dict[str, Any]:
    """What a checkpoint holds beside tensors."""
    found: dict[str, Any] = json.loads((path / "progress.json").read_text())
    return found


def load(path: Path, tensors: dict[str, Any], world: World | None = None) -> None:
    """Fill these tensors with what was saved under their names, each process its own part. Raises Invalid if the names or the
    shapes are not those that were saved."""
    try:
        read(tensors, checkpoint_id=path, no_dist=world is None or world.size == 1)
    except CheckpointException as failed:
        _, why = next(iter(failed.failures.items()))
        raise _another(path, why[0]) from failed
    except (RuntimeError, ValueError) as error:
        raise _another(path, error) from error


def _another(path: Path, why: BaseException) -> Invalid:
    first = str(why).strip().partition("\n")[0]
    return Invalid(f"The checkpoint {path} is of another model: {first.rstrip('.')}.", "Give this training a folder of its own.")
