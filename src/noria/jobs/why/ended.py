"""Why a job that has ended did: what its folder, its launcher and its scheduler say, put together."""

from __future__ import annotations

from collections.abc import Sequence

from noria.errors import NoriaError
from noria.jobs import clusters
from noria.jobs.dialect import Seen
from noria.jobs.why import gather, signs
from noria.jobs.why.answer import Kind, Why
from noria.jobs.why.failed import diagnose
from noria.jobs.why.reading import told
from noria.types import Job, Try


def explain(job: Job, tries: Sequence[Try]) -> Why:
    """Its last try as its launcher judged it, who knew more than its folder still shows."""
    if job.state == "COMPLETED":
        return Why(
            "done", f"It ended as it should{f', at its {_ordinal(len(tries))} try' if len(tries) > 1 else ''}.", cause="done"
        )
    if not job.scheduler_id:
        return _never_sent(job)
    found, known = gather.gather(job), tries[-1] if tries else None
    if known is not None and not found.files:
        return _told(job, known, [f"{job.folder} is gone, or not to be seen from here"])
    last = diagnose(gather.death(job, found, _final(job)))
    evidence = last.evidence or ([f"noria ps: {job.reason}"] if job.reason else [])
    if known is None or known.cause in ("unknown", last.cause) or last.cause == "cancelled":
        kind: Kind = "cancelled" if last.cause == "cancelled" else "failed"
        return Why(kind, last.reason, last.cure, last.cause, last.rank, last.host, evidence)
    return _told(job, known, evidence)


def _told(job: Job, known: Try, evidence: list[str]) -> Why:
    """A try as its agent has told it."""
    kind: Kind = "cancelled" if "cancelled" in (known.cause, job.state.lower()) else "failed"
    reason = known.reason or job.reason or "Nobody has said why it ended."
    word = told(reason)
    cure = signs.cure(reason) or (word.cure if word else "")
    return Why(kind, reason, cure, known.cause, known.rank, known.host, evidence)


def _never_sent(job: Job) -> Why:
    """A job that ended before any scheduler had it: refused, cancelled, or because one that it came after failed."""
    reason = job.reason or "It ended before it was handed to a scheduler."
    if job.state == "CANCELLED":
        return Why("cancelled", reason, "Submit it again if that was a mistake.", "cancelled")
    word = told(reason)
    return Why("failed", reason, "Correct what it names, and submit it again.", word.cause if word else "cannot_start")


def _ordinal(number: int) -> str:
    return f"{number}{'th' if 10 < number % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _final(job: Job) -> Seen | None:
    """The scheduler's last word; None where it cannot be asked, which is no reason to say nothing."""
    try:
        cluster = clusters.named(job.spec.place)
        command = cluster.dialect.final([job.scheduler_id]) if job.scheduler_id else None
        return cluster.dialect.finals(cluster.run(command)).get(job.scheduler_id) if command else None
    except NoriaError:
        return None
