"""Jobs that go on: what of a job's end is still awaited, whether it is submitted again, and with what. Decided here alone: no scheduler
requeues ([ADR 22](docs/adr/0022-going-on.md))."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from noria.client.http import Server
from noria.jobs import recover, slices
from noria.jobs.avoid import Avoid
from noria.jobs.dialect import SCHEDULERS, Seen
from noria.jobs.folder import Folder, said
from noria.jobs.watch import View, last_try, needs_word
from noria.process import Answer
from noria.types import ENDED, Job, JobSpec, Try
from noria.wire import jobs as wire

_WORD = 20.0
"""Seconds after an end that a scheduler wanted within which it is to say why."""
_LATE = 5.0
"""Seconds after which a launcher's own word is not waited for any more, once its scheduler calls the job ended."""
_DEAF = 90.0
"""Seconds without a sign of a job's launcher after which its node is lost, whatever the scheduler believes."""
_HANDED = 420.0
"""The same for one whose launcher has not been heard at all: a node may do much before it starts a script, and Grid Engine hands a job
over once more after 300 s."""
_START = 60.0
"""Seconds of each slice of a long run until its first step: programs are read and compiled then."""
Run = Callable[[JobSpec], Callable[[Sequence[str]], Answer]]


class GoingOn:
    """One agent's judgment. It keeps only since when it waits for what; after a restart it waits for most of it anew."""

    def __init__(self, server: Server, run: Run) -> None:
        """run: who runs the commands of a job's scheduler."""
        self._server, self._run = server, run
        self._avoid = Avoid(server)
        self._signs: dict[str, tuple[int, float]] = {}
        self._ends: dict[str, float] = {}
        self._handed: dict[str, float | None] = {}

    def placed(self, job: Job, folder: Folder) -> JobSpec:
        """What is asked for this time: elsewhere than where it went wrong before, and of a long run no more than a slice."""
        spec = job.spec
        if not (job.tries or spec.total) and spec.scheduler == "local":
            return spec
        tries = self._server.call(wire.TRIES, wire.Key(job.id)).tries if job.tries else []
        if spec.scheduler != "local":
            spec = replace(spec, exclude=self._avoid.nodes(spec, self._run(spec), recover.blamed(tries)))
        return replace(spec, time=self._slice(spec, folder, tries)) if spec.total else spec

    def _slice(self, spec: JobSpec, folder: Folder, tries: Sequence[Try]) -> int:
        """Seconds of the next slice, by what is left, what the queue allows, what a checkpoint costs, and how long others have waited."""
        dialect = SCHEDULERS.get(spec.scheduler)
        left = max(1, int(spec.total - recover.used(tries)))
        limit = spec.time or slices.limit(dialect.queues(self._run(spec)(dialect.QUEUES)), spec.queue)
        waits = slices.waits_of(self._server.call(wire.LIST, wire.List(limit=1000)).jobs, spec, limit, int(time.time() * 1000))
        return slices.slice_time(limit, left, recover.lead(limit or left, folder.cost(), spec.warn), _START, waits)

    def awaits_word(self, job: Job, view: View, seen: Seen | None, *, cancelled: bool) -> bool:
        """Whether a scheduler may still say why it wanted an end, or a launcher how it came."""
        told = seen is not None and seen.state in ENDED
        if view.exit is None:
            patience = _LATE if told and view.started is not None else 0.0
        else:
            patience = _WORD if needs_word(view.exit) and not told and not cancelled else 0.0
        if job.spec.scheduler == "local" or not patience:
            return False
        return time.monotonic() < self._ends.setdefault(job.id, time.monotonic()) + patience

    def lost(self, job: Job, folder: Folder, seen: Seen | None) -> Seen | None:
        """What its scheduler should have said, of a job that it takes for running and nobody hears any more, or has heard yet."""
        if job.spec.scheduler == "local" or seen is None:
            return None
        if seen.state != "RUNNING" or seen.reason:
            self._signs.pop(job.id, None)
            self._hand(job, folder, None)
            return None
        sign = sum(node.seen for node in folder.nodes() if node.node == 0)
        if sign:
            return self._deaf(job, sign)
        return self._unbegun(job, folder) if job.state != "RUNNING" else None

    def _deaf(self, job: Job, sign: int) -> Seen | None:
        now = time.monotonic()
        before, since = self._signs.get(job.id, (-1, now))
        if sign != before:
            self._signs[job.id] = sign, now
        elif now - since > _DEAF:
            return _lost(f"its launcher has not been heard for {_DEAF:.0f} s")
        return None

    def _unbegun(self, job: Job, folder: Folder) -> Seen | None:
        since = self._hand(job, folder, time.time())
        if since is None or time.time() - since <= _HANDED:
            return None
        return _lost(f"its scheduler handed it to a node {_HANDED:.0f} s ago, where it has not begun")

    def _hand(self, job: Job, folder: Folder, now: float | None) -> float | None:
        """Since when it is handed over. That is kept in its folder too: agents may be started anew more often than a job begins."""
        if job.id not in self._handed:
            self._handed[job.id] = folder.handed()
        known = self._handed[job.id]
        if (known is None) != (now is None):
            folder.write_handed(now)
            self._handed[job.id] = now
        return known

    def concluded(
        self, job: Job, folder: Folder, view: View, seen: Seen | None, report: wire.Report, *, cancelled: bool
    ) -> wire.Report:
        """The report of an end, with all tries, and whether the job goes on. cancelled: somebody wants its end."""
        self._signs.pop(job.id, None)
        self._ends.pop(job.id, None)
        self._handed.pop(job.id, None)
        last, spec = last_try(job, folder, view, seen, report), job.spec
        if cancelled:
            last = replace(last, cause="cancelled")
        tries = [*(each.told() for each in folder.tries() if each.attempt < last.number), last]
        verdict = recover.verdict(spec, tries, resumes=folder.checkpoints.is_dir(), stays=False, cost=folder.cost())
        again = report.state != "COMPLETED" and verdict != "over" and not cancelled and not folder.purged()
        before = folder.tried(last.number)
        if (before is None or before.cause != last.cause) and not folder.purged():
            folder.write_tried(
                said(last) if before is None else replace(before, cause=last.cause, reason=last.reason, host=last.host)
            )
        reason = last.reason if again else report.reason
        if report.state == "FAILED" and recover.spent(spec, tries, folder.cost()):
            reason = f"its total time of {spec.total} s is used up"
        state = "FAILED" if again else report.state
        return replace(report, state=state, tries=max(job.tries, last.number), tried=tries, again=again, reason=reason)


def _lost(what: str) -> Seen:
    return Seen("FAILED", None, f"{what}, so its node is lost", cause="node_failure")
