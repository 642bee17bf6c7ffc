"""Jobs: what people asked for and what agents reported."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, Row, insert, not_, or_, select, update

from noria.errors import Invalid, NotFound
from noria.store import experiments, runs
from noria.store.experiments import now
from noria.store.schema import job, run
from noria.types import ENDED, Job, JobSpec, RunStatus
from noria.wire import jobs as wire

_LEASE_SECONDS = 120.0
_held: dict[str, tuple[int, float]] = {}
"""Of jobs that agents have claimed and not submitted yet: how often that was, and since when this process knows that number."""
_RUN_STATUS: dict[str, RunStatus] = {"COMPLETED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def submit(conn: Connection, request: wire.Submit) -> wire.Got:
    """A job and its run, in one transaction."""
    spec, job_id, run_id = request.spec, uuid4().hex[:12], uuid4().hex
    if not spec.command:
        raise Invalid("There is no command to run.", "Write it after --, as in: noria submit -- python train.py")
    tags = {
        "noria.job": job_id,
        "mlflow.user": request.user,
        "mlflow.source.name": " ".join(spec.command)[:1000],
        "mlflow.source.type": "JOB",
    }
    runs.insert_run(conn, run_id, experiments.named(conn, spec.experiment), spec.name, request.user, now(), tags, "SCHEDULED")
    values = {
        "id": job_id, "run_id": run_id, "spec": msgspec.json.encode(spec), "scheduler": spec.scheduler, "state": "QUEUED",
        "user": request.user, "created": now(), "folder": "", "scheduler_id": "", "tries": 0, "reason": "", "agent": "", "claimed": 0,
    }  # fmt: skip
    conn.execute(insert(job).values(values))
    return get(conn, wire.Key(job_id))


def row(conn: Connection, prefix: str) -> Row[Any]:
    found = conn.execute(select(job).where(job.c.id.startswith(prefix, autoescape=True)).limit(2)).all() if prefix else []
    if not found:
        raise NotFound(f"There is no job '{prefix[:64]}'.", "`noria ps --all` lists the jobs there are.")
    if len(found) > 1:
        raise Invalid(f"More than one job begins with '{prefix}'.", "Write more of its id.")
    return found[0]


def _job(each: Row[Any]) -> Job:
    return Job(
        each.id, each.run_id, msgspec.json.decode(each.spec, type=JobSpec), each.state, each.user, each.created, each.folder,
        each.scheduler_id, each.started, each.ended, each.exit_code, each.tries, each.reason)  # fmt: skip


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_job(row(conn, request.id)))


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    query = select(job).order_by(job.c.created.desc(), job.c.id).limit(max(1, min(request.limit, 10_000)))
    if request.open:
        query = query.where(job.c.state.not_in(ENDED))
    return wire.Listed([_job(each) for each in conn.execute(query)])


def follow(conn: Connection, job_id: str, experiment_id: str) -> None:
    """Move the run of a job that goes on to the experiment that its script chose first."""
    found = conn.execute(select(job).where(job.c.id == job_id, job.c.state.not_in(ENDED))).first()
    if found is not None:
        first = experiments.named(conn, _job(found).spec.experiment)
        moved = run.update().where(run.c.uuid == found.run_id, run.c.experiment == first)
        conn.execute(moved.values(experiment=experiments.number(experiment_id)))


def cancel(conn: Connection, request: wire.Cancel) -> wire.Got:
    """A job that no agent has yet ends at once; of another one its agent is told. An ended job stays as it is."""
    found = row(conn, request.id)
    if found.state not in ENDED:
        conn.execute(update(job).where(job.c.id == found.id).values(cancel=request.reason or "cancelled"))
        if found.state == "QUEUED" and not found.agent:
            _report(conn, row(conn, found.id), wire.Report(found.id, "CANCELLED", ended=now()))
    return get(conn, wire.Key(found.id))


def claim(conn: Connection, request: wire.Claim) -> wire.Work:
    """Hand the user's new jobs to the agent that asks: each to one agent alone, again until it reports the submission.

    An agent that has been silent for `_LEASE_SECONDS` loses what it claimed to the next one.
    """
    mine = (job.c.user == request.user, job.c.scheduler.in_(request.schedulers))
    others = job.c.agent.not_in(("", request.agent))
    held = conn.execute(select(job.c.id, job.c.claimed).where(*mine, job.c.state == "QUEUED", others)).all()
    free = or_(not_(others), job.c.id.in_([each.id for each in held if _silent(each.id, each.claimed, time.monotonic())][:500]))
    found = conn.execute(
        select(job).where(*mine, job.c.state == "QUEUED", free).order_by(job.c.created, job.c.id).limit(100)
    ).all()
    if not request.agent:
        found = []
    for each in found:
        if each.cancel:  # It asks, so it is not about to submit this one.
            _report(conn, each, wire.Report(each.id, "CANCELLED", ended=now()))
        else:
            conn.execute(update(job).where(job.c.id == each.id).values(agent=request.agent, claimed=each.claimed + 1))
    cancelled = select(job.c.id).where(*mine, job.c.cancel.is_not(None), job.c.state.in_(("SUBMITTED", "RUNNING")))
    submitted = select(job).where(*mine, job.c.state.in_(("SUBMITTED", "RUNNING")))
    open_jobs = [_job(each) for each in conn.execute(submitted)] if request.all_open else []
    return wire.Work([_job(each) for each in found if not each.cancel], list(conn.execute(cancelled).scalars()), open_jobs)


def _silent(job_id: str, claimed: int, moment: float) -> bool:
    """Whether a job has not been claimed again for so long by a clock of this process that nobody sets. A process that does not
    know begins to count."""
    if len(_held) > 10_000:
        _held.clear()
    if _held.get(job_id, (-1, 0.0))[0] != claimed:
        _held[job_id] = claimed, moment
    return moment - _held[job_id][1] > _LEASE_SECONDS


def report(conn: Connection, request: wire.Report) -> str:
    """What an agent saw. Returns the run's id."""
    found = row(conn, request.id)
    if found.state not in ENDED:
        _report(conn, found, request)
    return str(found.run_id)


def _report(conn: Connection, found: Row[Any], request: wire.Report) -> None:
    values = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not UNSET and name != "id"}
    if request.state in ENDED and found.cancel:
        values |= {"state": "CANCELLED", "reason": found.cancel}
    conn.execute(update(job).where(job.c.id == found.id).values(values))
    if values["state"] in ENDED:
        runs.finish(conn, found.run_id, _RUN_STATUS[values["state"]], values.get("ended") or now())
    elif request.state == "RUNNING" and found.state != "RUNNING":
        runs.start(conn, found.run_id, values.get("started") or now())
