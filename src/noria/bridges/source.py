"""What an importer gives: everything that a foreign record of runs holds, in Noria's own types, one thing after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from msgspec import UNSET, Struct

from noria.types import Experiment, RunInfo, RunStatus
from noria.wire import limits
from noria.wire.imports import LoggedModel, Registered, Run, Series

_FOREIGN = re.compile(r"[^\w.\-:/ ]")


class File(Struct, frozen=True):
    """An artifact file: its path below the root, its size, and how to have it on this machine, in `folder` if it is elsewhere."""

    path: str
    size: int
    fetch: Callable[[Path], Path]


class Importer(Protocol):
    """A file in `importers/`: the format that a user names."""

    def open(self, source: str) -> Source:
        """Look at a source. Raises NotFound if there is nothing, Invalid with one sentence if it is of no kind that is understood."""


class Source:
    """A source that was opened. What it does not have it leaves as it is here. A run may come again when it is opened again:
    its id is always the same."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """Sentences about what could not be read, or is not understood; grows while runs are read."""

    def total(self) -> int:
        """How many runs there are."""
        raise NotImplementedError

    def experiments(self) -> Iterable[Experiment]:
        return ()

    def runs(self) -> Iterator[Run]:
        """All runs. What cannot be read of one goes to `notes`, and the others follow."""
        raise NotImplementedError

    def files(self, run: Run) -> Iterable[File]:
        """The artifacts of a run that `runs` gave. Raises NoriaError, with one sentence, if they cannot be had."""
        return ()

    def logged_models(self) -> Iterator[LoggedModel]:
        return iter(())

    def model_files(self, model: LoggedModel) -> Iterable[File]:
        return ()

    def registered(self) -> Iterator[Registered]:
        return iter(())

    def close(self) -> None:
        """Let go of what is held open."""


def info(
    run_id: str,
    name: str,
    user: str,
    status: RunStatus,
    start: int,
    end: int | None,
    artifact_uri: str = "",
    stage: str = "active",
) -> RunInfo:
    """The fields of a run that is known elsewhere; its experiment goes by name."""
    return RunInfo(run_id, run_id, name, "", user, status, start, artifact_uri, stage, UNSET if end is None else end)


def key(name: str) -> str:
    """A name that MLflow takes, as near to this one as may be: what other libraries allow is more."""
    tidy = _FOREIGN.sub("_", name)
    parts = [part for part in tidy.split("/") if part not in ("", ".", "..")]
    return limits.cut("/".join(parts) or "_", limits.KEY)


def local_files(root: Path, *, follow: bool = False) -> Iterator[File]:
    """The files below a folder. follow: links to files too."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and (follow or not path.is_symlink()):
            yield File(path.relative_to(root).as_posix(), path.stat().st_size, partial(here, path))


def here(path: Path, folder: Path) -> Path:
    """What fetches a file that is on this machine."""
    return path


__all__ = ["File", "Importer", "LoggedModel", "Registered", "Run", "Series", "Source", "here", "info", "key", "local_files"]
