"""What is true of a job: the folder first, the scheduler second. Pure but for reading the folder."""

from __future__ import annotations

from msgspec import UNSET, Struct, structs

from noria.jobs import ending
from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Folder, Started
from noria.jobs.why.failed import diagnose
from noria.types import Job, JobState, Try
from noria.wire.jobs import Report

_GONE = "its folder is gone: somebody removed it, or the site purges what is old there"


class View(Struct, frozen=True):
    """What a job's folder says at one moment."""

    started: Started | None
    exit: Exit | None
    purged: bool = False


def look(folder: Folder) -> View:
    return View(folder.started(), folder.exit(), folder.purged())


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
            reason=seen.reason or (_GONE if view.purged else "the scheduler says so; the launcher left no word"),
        )
    if gone:
        what = _GONE if view.purged and job.folder else "its node or its launcher died" if view.started else "it never started"
        return Report(job.id, "FAILED", ended=now, exit_code=1, reason=f"the job left the queue without a word: {what}")
    if view.started is not None:
        if job.state != "RUNNING" or job.tries != view.started.attempt:
            return Report(job.id, "RUNNING", started=view.started.started, tries=view.started.attempt)
        return None
    if view.purged and job.folder and job.reason != _GONE:
        return Report(job.id, job.state, reason=_GONE)
    if seen is not None and seen.reason and seen.reason != job.reason:
        return Report(job.id, "SUBMITTED", reason=seen.reason)
    return None


def needs_word(exit: Exit | None) -> bool:
    """Whether the scheduler wanted this end, so that only it can say why."""
    return exit is not None and exit.stopped > 0 and exit.cause == "unknown" and exit.code != 0


def last_try(job: Job, folder: Folder, view: View, seen: Seen | None, report: Report) -> Try:
    """The try that a job's report of its end speaks of, with its cause: by the launcher if it left a word, and otherwise by what the
    scheduler and the folder tell."""
    reason = report.reason if report.reason is not UNSET else ""
    code = report.exit_code if report.exit_code is not UNSET else 1
    ended = report.ended if report.ended is not UNSET else 0
    word = seen.cause if seen is not None else "unknown"
    if view.exit is not None:
        if not needs_word(view.exit):
            return view.exit.told()
        # Nobody but its owner, or the machine on its way down, ends what runs in a queue of our own.
        word = "preempted" if word == "unknown" and job.spec.scheduler == "local" else word
        said = f"stopped by the scheduler{f': {seen.reason}' if seen is not None and seen.reason else ''}"
        return structs.replace(view.exit.told(), cause=word, reason=said, host=_quiet(folder) if word == "node_failure" else "")
    nodes = folder.nodes()
    number = view.started.attempt if view.started else job.tries + 1
    before = folder.tried(number)
    if before is not None and before.cause != "unknown":  # A server that did not answer is told the same once more.
        return before.told()
    one = Try(number, word, ended, view.started.started if view.started else None, code, [node.host for node in nodes], None, "", reason,
              folder.saved(number))  # fmt: skip
    if seen is None and view.started is not None:
        word = "killed" if job.spec.scheduler == "local" else "node_failure"
    elif seen is None:  # It waited, and is gone: somebody took it out of the queue, or its scheduler lost it.
        return one
    if word != "unknown":
        return structs.replace(one, cause=word, host=_quiet(folder) if word == "node_failure" else "")
    found = diagnose(structs.replace(ending.death(folder, job, None, nodes), word=seen))
    return structs.replace(one, cause=found.cause, rank=found.rank, host=found.host, reason=reason)


def _quiet(folder: Folder) -> str:
    """The node that was heard longest ago."""
    return min(((node.seen, node.host) for node in folder.nodes()), default=(0, ""))[1]


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
