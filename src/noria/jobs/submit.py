"""From a job to a script in the scheduler's queue."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from noria.jobs.dialect import Dialect, tag
from noria.jobs.folder import Folder
from noria.process import Answer
from noria.types import Job


def submit(job: Job, folder: Folder, dialect: Dialect, env: dict[str, str], run: Callable[[Sequence[str]], Answer]) -> str:
    """Make the folder, hand the script over, and return the scheduler's id; again, after a crash, returns the same id.

    Raises Invalid for what this scheduler refuses, Unavailable if trying again may help.
    """
    known = folder.submitted() or _answered_late(job, folder, dialect, run)
    if known:
        folder.write_submitted(known)
        return known
    dialect.check(job.spec)
    folder.make(job, {**job.spec.env, **env}, dialect.script(job, str(folder.path), sys.executable))
    folder.write_submitting()
    scheduler_id = dialect.submitted(run(dialect.submit(str(folder.script), job)))
    folder.write_submitted(scheduler_id)
    return scheduler_id


def _answered_late(job: Job, folder: Folder, dialect: Dialect, run: Callable[[Sequence[str]], Answer]) -> str:
    """The id of a submission whose answer was lost: the scheduler repeats our tag. "" if there was none."""
    if not folder.submitting():
        return ""
    ours = tag(job)
    found = [key for key, seen in dialect.states(run(dialect.query(job.user))).items() if ours in (seen.tag, key)]
    if not found and (folder.started() or folder.exit()):
        return ours  # It has run already; the folder says the rest.
    return found[0] if found else ""


def folder_of(home: Path, job_id: str) -> Folder:
    return Folder(home / "jobs" / job_id)
