"""What is true of a job: the folder first, the scheduler second. Pure but for reading the folder."""

from __future__ import annotations

from msgspec import UNSET, Struct

from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Folder, Started
from noria.types import Job, JobState
from noria.wire.jobs import Report


class View(Struct, frozen=True):
    """What a job's folder says at one moment."""

    started: Started | None
    exit: Exit | None


def look(folder: Folder) -> View:
    return View(folder.started(), folder.exit())


def judge(job: Job, view: View, seen: Seen | None, gone: bool, now: int) -> Report | None:
    """The report that follows, or None if nothing changed.

    seen: the scheduler's word, None if it has none. gone: it was asked several times, and does not know
    the job any more. The launcher's exit record is believed before anything that a scheduler says.
    """
    if view.exit is not None:
        return _ended(job, view, view.exit)
    if seen is not None and seen.state in ("COMPLETED", "FAILED", "CANCELLED"):
        code = seen.exit_code if seen.exit_code is not None else (0 if seen.state == "COMPLETED" else 1)
        return Report(
            job.id,
            seen.state,
            ended=now,
            exit_code=code,
            reason=seen.reason or "the scheduler says so; the launcher left no word",
        )
    if gone:
        what = "its node or its launcher died" if view.started else "it never started"
        return Report(job.id, "FAILED", ended=now, exit_code=1, reason=f"the job left the queue without a word: {what}")
    if view.started is not None:
        if job.state != "RUNNING" or job.tries != view.started.attempt:
            first = view.started.started if job.started is None else UNSET
            return Report(job.id, "RUNNING", started=first, tries=view.started.attempt)
        return None
    if seen is not None and seen.reason and seen.reason != job.reason:
        return Report(job.id, "SUBMITTED", reason=seen.reason)
    return None


def _ended(job: Job, view: View, exit: Exit) -> Report:
    started = view.started.started if view.started and job.started is None else UNSET
    reason = exit.reason
    if not reason and exit.code:
        signalled = f"signal {exit.code - 128}" if exit.code > 128 else f"exit code {exit.code}"
        reason = f"{_who(job, exit)} ended with {signalled}" if exit.rank is not None else signalled
        reason += f", after saying: {exit.last[-1]}" if exit.last else ""
    state: JobState = "COMPLETED" if exit.code == 0 else "FAILED"
    return Report(job.id, state, ended=exit.ended, exit_code=exit.code, tries=exit.attempt, reason=reason, started=started)


def _who(job: Job, exit: Exit) -> str:
    return f"rank {exit.rank} on {exit.host}" if job.spec.nodes > 1 and exit.host else f"rank {exit.rank}"
