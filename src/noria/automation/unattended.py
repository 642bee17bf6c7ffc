"""Evaluations for whoever cannot wait for them, and may have to begin again: each is submitted once by its key, and noted once."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from msgspec import Struct

from noria import models
from noria.automation import evaluations, held_out
from noria.automation.evaluations import Answered, How
from noria.client.http import Server
from noria.errors import Invalid
from noria.models.fetch import copy
from noria.types import ENDED, ModelVersion
from noria.wire import jobs, registry


class Begun(Struct, frozen=True):
    """An evaluation that is under way: of which version, on which file, in which job, and the folder that its node sees."""

    version: str
    held_out: str
    job_id: str
    folder: str


def begin(server: Server, versions: Sequence[ModelVersion], paths: Sequence[Path], how: How, key: str) -> list[Begun]:
    """Submit what is not known yet of these versions on these held-out files; none if all is. Again with the same key, it is the same jobs.

    Raises NotFound for a file or a model that is gone, Invalid for one that cannot be read.
    """
    begun = [_begin(server, version, path.absolute(), how, key) for path in paths for version in versions]
    return [each for each in begun if each is not None]


def _begin(server: Server, version: ModelVersion, path: Path, how: How, key: str) -> Begun | None:
    digest = held_out.load(path).digest  # Read here, so that a bad file costs no job.
    own = hashlib.sha256("\n".join([key, version.name, version.version, digest]).encode()).hexdigest()[:32]
    folder = evaluations.home(how) / own
    if not (folder / evaluations.REQUEST).exists():  # Otherwise a job may read there already.
        _fill(server, version, folder)
        if evaluations.stands(server, version, digest, models.digest(folder / "model")):
            shutil.rmtree(folder, ignore_errors=True)
            return None
    job = evaluations.submit(server, version, folder, path, how, f"evaluation/{own}")
    return Begun(version.version, str(path), job.id, str(folder))


def _fill(server: Server, version: ModelVersion, folder: Path) -> None:
    """The model's files in folder/model, whole or not at all."""
    beside = folder.with_name(f".{uuid4().hex}")
    try:
        copy(server, version.name, version.version, beside / "model")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def under_way(server: Server, begun: Sequence[Begun]) -> list[str]:
    """The jobs that have not ended."""
    return [each.job_id for each in begun if server.call(jobs.GET, jobs.Key(each.job_id)).job.state not in ENDED]


def finish(server: Server, name: str, begun: Sequence[Begun]) -> list[Answered]:
    """What evaluations that have ended came to, each noted in the registry's log. Raises Invalid for the first that failed, once the others are
    noted."""
    found = [_finish(server, name, each) for each in begun]
    failed = [each for each in found if isinstance(each, Invalid)]
    if failed:
        raise failed[0]
    return [each for each in found if isinstance(each, Answered)]


def _finish(server: Server, name: str, begun: Begun) -> Answered | Invalid:
    version = server.call(registry.GET_VERSION, registry.VersionKey(name, begun.version)).model_version
    job = server.call(jobs.GET, jobs.Key(begun.job_id)).job
    found = evaluations.result(server, job, version)
    if isinstance(found, Answered) and not _is_noted(server, version, found):
        evaluations.note(server, version, found)
    shutil.rmtree(begun.folder, ignore_errors=True)
    return found


def _is_noted(server: Server, version: ModelVersion, found: Answered) -> bool:
    own = found.evaluation
    return any(known.run_id == own.run_id for _, known in evaluations.noted(server, version, own.held_out_sha256))


def known(server: Server, version: ModelVersion, path: Path, how: How) -> Answered:
    """What is known of a version on a file; found out by a job, if that is gone again."""
    (found,) = evaluations.evaluate(server, [version], path, how)
    return found


def told(begun: Sequence[Begun]) -> list[dict[str, Any]]:
    """For the result of a step that waits."""
    return [{"version": each.version, "held_out": each.held_out, "job_id": each.job_id, "folder": each.folder} for each in begun]


def of(result: Mapping[str, Any]) -> list[Begun]:
    """What such a result says."""
    return [Begun(**each) for each in result.get("begun", [])]
