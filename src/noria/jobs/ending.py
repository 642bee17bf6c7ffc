"""What a try's end was, as the launcher of the first node puts it together from what all nodes have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from noria.jobs.folder import Exit, Folder, Node
from noria.jobs.recover import verdict
from noria.types import SAVED, Job

if TYPE_CHECKING:
    from noria.jobs.why.death import Death

_READ, _RANKS = 64 << 10, 64
"""Bytes at a log's end that are read for a cause, and the logs of how many tasks: those that failed first."""


def concluded(
    folder: Folder, job: Job, exit: Exit, nodes: Sequence[str], *, lost: str = "", asked: int = 0, warned: bool = False
) -> Exit:
    """The end of a try with its cause, and what comes now.

    exit: its first failure, or its good end. nodes: where it ran. lost: a node that was not heard
    any more. asked: the signal by which the scheduler wanted an end, 0 if it did not. warned: the tasks were told that their time is up.
    """
    seen = folder.nodes()
    begun = min((rank.started for node in seen if node.attempt == exit.attempt for rank in node.ranks), default=None)
    exit = replace(exit, nodes=list(nodes), started=begun, saved=folder.saved(exit.attempt), stopped=asked)
    exit = _caused(folder, job, exit, seen, lost, warned)
    tries = [each.told() for each in folder.tries() if each.attempt != exit.attempt] + [exit.told()]
    stays = not (asked or warned or lost) and exit.cause != "time_limit"
    resumes = folder.checkpoints.is_dir()
    return replace(exit, next=verdict(job.spec, tries, resumes=resumes, stays=stays, cost=folder.cost()))


def _caused(folder: Folder, job: Job, exit: Exit, seen: Sequence[Node], lost: str, warned: bool) -> Exit:
    """With what ended it. What the launcher has seen itself needs no reading."""
    if exit.code == 0:
        return replace(exit, cause="done")
    if exit.cause != "unknown":
        return exit
    if warned:
        return replace(exit, cause="time_limit", reason="its time limit was near, so it was told to save and stop")
    if exit.stopped:  # Only the scheduler knows why: the agent asks it.
        return exit
    if exit.code == SAVED and folder.checkpoints.is_dir():  # Others may mean something else by it.
        return replace(exit, cause="preempted", reason=exit.reason or "it was told to stop, and has saved itself")
    from noria.jobs.why.failed import diagnose  # Most jobs end well, and every launcher would read it.

    found = diagnose(death(folder, job, exit, seen, [lost] if lost else []))
    return replace(exit, cause=found.cause, reason=exit.reason or ("" if found.cause in ("unknown", "user_error") else found.reason), rank=found.rank, host=found.host or exit.host,
                   evidence=found.evidence)  # fmt: skip


def death(folder: Folder, job: Job, exit: Exit | None, seen: Sequence[Node], lost: Sequence[str] = ()) -> Death:
    """What is known of an end, to be explained."""
    from noria.jobs.why.death import Death

    ranks = [rank for node in seen for rank in node.ranks]
    failed = sorted((rank for rank in ranks if rank.code), key=lambda rank: rank.ended or 0)
    logs = {rank.rank: tail(folder.logs / f"rank{rank.rank}.log", rank.begins) for rank in (failed or ranks)[:_RANKS]}
    scheduler = tail(folder.logs / "scheduler.log", 0)
    return Death(job=job, exit=exit, word=None, logs=logs, scheduler_log=scheduler, nodes=list(seen), lost=list(lost),
                 oom_kills=sum(node.oom_kills for node in seen))  # fmt: skip


def tail(log: Path, begins: int) -> str:
    """The end of what one try wrote to a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(begins, file.seek(0, 2) - _READ))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
