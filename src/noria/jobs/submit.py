"""From a job to a script in the scheduler's queue."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from noria.jobs import carry
from noria.jobs.dialect import Dialect
from noria.jobs.folder import Folder
from noria.jobs.idioms import tag
from noria.process import Answer, whoami
from noria.types import Job


def submit(job: Job, folder: Folder, dialect: Dialect, env: dict[str, str], run: Callable[[Sequence[str]], Answer]) -> str:
    """Make the folder, hand the script over, and return the scheduler's id; again, after a crash, returns the same id.

    Raises Invalid for what this scheduler refuses, Unavailable if trying again may help.
    """
    if folder.path.exists() and folder.current() <= job.tries:
        _forget(folder)
    known = folder.submitted() or _answered_late(job, folder, dialect, run)
    if known:
        folder.write_submitted(known)
        return known
    text, command = rendered(job, folder, dialect)
    folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.replace(job.tries + 1)
    folder.make(launched(job, folder), {**job.spec.env, **env}, text)
    if job.spec.script:
        _frozen(folder).write_text(job.spec.script)
    folder.write_submitting()
    scheduler_id = dialect.submitted(run(command))
    folder.write_submitted(scheduler_id)
    return scheduler_id


def rendered(job: Job, folder: Folder, dialect: Dialect) -> tuple[str, list[str]]:
    """The script and the command that submits it. Raises Invalid for what this scheduler cannot express."""
    dialect.check(job.spec)
    return dialect.script(job, str(folder.path), carry.interpreter()), dialect.submit(str(folder.script), job)


def launched(job: Job, folder: Folder) -> Job:
    """The job as its launcher sees it: a script with directives of its own is one task, and starts what belongs together itself."""
    if not job.spec.script:
        return job
    first = job.spec.script.partition("\n")[0]
    shell = shlex.split(first[2:]) if first.startswith("#!") else ["/bin/bash"]
    command = [*shell, str(_frozen(folder)), *job.spec.command[1:]]
    return replace(job, spec=replace(job.spec, command=command, nodes=1, tasks_per_node=1))


def _frozen(folder: Folder) -> Path:
    """The text of the script as it was at submission: it may be changed while the job waits."""
    return folder.path / "script"


def _forget(folder: Folder) -> None:
    """Make a folder as if its job had not been submitted yet: the server knows how its tries ended. What was printed, logged and saved
    stays, and so does what became of earlier tries."""
    for name in (
        "submitted",
        "submitting",
        "handed",
        "state.json",
        "exit.json",
        "exit-*.json",
        "node-*.json",
        "ready-*",
        "check-*",
        "orders/*",
        "drill",
    ):
        for path in folder.path.glob(name):
            path.unlink(missing_ok=True)


def _answered_late(job: Job, folder: Folder, dialect: Dialect, run: Callable[[Sequence[str]], Answer]) -> str:
    """The id of a submission whose answer was lost: the scheduler repeats our tag. "" if there was none."""
    if not folder.submitting():
        return ""
    ours = tag(job)
    found = [key for key, seen in dialect.states(run(dialect.query(whoami()))).items() if ours in (seen.tag, key)]
    if not found and (folder.started() or folder.exit()):
        return ours  # It has run already; the folder says the rest.
    return found[0] if found else ""


def folder_of(home: Path, job_id: str) -> Folder:
    return Folder(home / "jobs" / job_id)
