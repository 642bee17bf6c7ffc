"""Jobs: what people asked for and what agents reported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Connection, Row, and_, func, not_, or_, select, update

from noria.errors import Conflict, Invalid, NotFound
from noria.store import budgets, events, experiments, runs
from noria.store import rows as rows_
from noria.store.experiments import now
from noria.store.schema import job, job_key, job_try, run
from noria.types import ENDED, Job, JobSpec, RunStatus, Try
from noria.wire import jobs as wire
from noria.wire import limits

_LEASE_SECONDS = 120.0
_held: dict[str, tuple[int, float]] = {}
"""Of jobs that agents have claimed and not submitted yet: how often that was, and since when this process knows that number."""
_DRILLS = ("preempt", "timeout", "node-failure", "hang", "oom")
_MEMBERS = 10_000
_NEVER = "never"
_HELD = "Held by its owner; `noria release` lets it go."
_ENDINGS = {"FAILED": "failed", "CANCELLED": "been cancelled"}
_RUN_STATUS: dict[str, RunStatus] = {"COMPLETED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def submit(conn: Connection, request: wire.Submit) -> wire.Submitted:
    """A job and its run, or an array of them, in one transaction. The first one is the answer; by a key that is known, that of then."""
    fresh = uuid4().hex[:12]
    stem = _keyed(conn, request, fresh) if request.key else fresh
    if stem != fresh:
        return wire.Submitted(_job(rows(conn, stem)[0]), known=True)
    if not request.spec.command:
        raise Invalid("There is no command to run.", "Write it after --, as in: noria submit -- python train.py")
    if len(request.members) > _MEMBERS:
        raise Invalid(f"--array has {len(request.members)} members, and at most {_MEMBERS} are taken at once.", "Split it up.")
    if len({*request.members}) < len(request.members):
        raise Invalid("--array has a member twice.", "Write each number once.")
    for kind, given in (("tag", request.tags), ("param", request.params)):
        for name in given:
            limits.key(name, kind)
    spec = msgspec.structs.replace(request.spec, after=_ids(conn, request.spec.after))
    stands = _standing(conn, stem, spec)
    if stands[0] == _NEVER:
        raise Invalid(f"--after: {stands[1]}", "Leave it out.")
    budgets.check(conn, spec, request.user, len(request.members) or 1)
    new = [(f"{stem}_{number}", _member(spec, number, request.task), *_placed(stands, place, spec))
           for place, number in enumerate(request.members)] or [(stem, spec, *stands)]  # fmt: skip
    _insert(conn, request, new)
    return wire.Submitted(get(conn, wire.Key(new[0][0])).job)


def _keyed(conn: Connection, request: wire.Submit, fresh: str) -> str:
    """The job that a key stands for, which is the fresh one if the key is new. Of two at once, one waits here for the other to commit."""
    limits.fits(request.key, limits.JOB_KEY, "key")
    rows_.keep(conn, job_key, [{"user": request.user, "key": request.key, "job": fresh}])
    query = select(job_key.c.job).where(job_key.c.user == request.user, job_key.c.key == request.key)
    return str(conn.execute(query).scalar_one())


def _member(spec: JobSpec, number: int, task: str) -> JobSpec:
    name, env = f"{spec.name}_{number}" if spec.name else "", {"NORIA_TASK_ID": str(number), task: str(number)}
    return msgspec.structs.replace(spec, name=name, env={**spec.env, **env})


def _placed(stands: tuple[str, str], place: int, spec: JobSpec) -> tuple[str, str]:
    """How the member at this place of a new array stands: the first so many may go."""
    return ("array", _enough(spec)) if not stands[0] and 0 < spec.at_once <= place else stands


def _enough(spec: JobSpec) -> str:
    return f"{spec.at_once} members of its array are under way, which is as many as were asked for at once."


def _insert(conn: Connection, request: wire.Submit, new: Sequence[tuple[str, JobSpec, str, str]]) -> None:
    """New jobs, and their runs: of each its id, what it is told, why it may not start, and the sentence."""
    user, run_ids = request.user, {job_id: uuid4().hex for job_id, *_ in new}
    named = [(run_ids[job_id], spec.name, {**_tags(job_id, spec, user), **request.tags}) for job_id, spec, *_ in new]
    runs.insert_scheduled(conn, experiments.named(conn, new[0][1].experiment), user, named)
    for run_id in run_ids.values() if request.params else ():
        runs.put_params(conn, run_id, runs.row(conn, run_id).id, request.params)
    columns = ("id", "run_id", "spec", "scheduler", "state", "user", "created", "folder", "scheduler_id", "tries", "reason", "agent",
               "claimed", "hold")  # fmt: skip
    values = [
        (job_id, run_ids[job_id], msgspec.json.encode(spec), spec.agent or spec.scheduler, "QUEUED", user, now(), "", "", 0, reason, "", 0, hold)
        for job_id, spec, hold, reason in new
    ]  # fmt: skip
    rows_.insert(conn, job, columns, values)
    events.led_to(conn, list(run_ids.values()))


def _tags(job_id: str, spec: JobSpec, user: str) -> dict[str, str]:
    tags = {
        "noria.job": job_id, "mlflow.user": user, "mlflow.source.name": " ".join(spec.command)[:1000], "mlflow.source.type": "JOB",
    }  # fmt: skip
    if spec.code is not None:
        tags["noria.code"] = spec.code.file.rpartition("/")[2] + (" with changes" if spec.code.dirty else "")
    if spec.code is not None and spec.code.commit:
        tags["mlflow.source.git.commit"] = spec.code.commit
    return tags


def _ids(conn: Connection, names: list[str]) -> list[str]:
    """The jobs that people name, members for an array, whole."""
    return list(dict.fromkeys(each.id for name in names for each in rows(conn, name)))


def _standing(conn: Connection, job_id: str, spec: JobSpec) -> tuple[str, str]:
    """Why a job may not start, as `Job.hold` has it, and the sentence; `_NEVER` if it never may."""
    if spec.after:
        states = {each.id: each.state for each in conn.execute(select(job.c.id, job.c.state).where(job.c.id.in_(spec.after)))}
        failed = next((each for each in spec.after if states.get(each) in ("FAILED", "CANCELLED")), "")
        if failed:
            return _NEVER, f"Job {failed} has {_ENDINGS[states[failed]]}, and this one was to come after its success."
        waits = [each for each in spec.after if states.get(each) != "COMPLETED"]
        if waits:
            more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
            return "after", f"Waits for job {waits[0]}{more} to succeed."
    if spec.at_once:
        under_way = (
            _members(job_id),
            job.c.state.not_in(ENDED),
            or_(job.c.state != "QUEUED", job.c.hold == ""),
            job.c.id != job_id,
        )
        if (conn.execute(select(func.count()).select_from(job).where(*under_way)).scalar() or 0) >= spec.at_once:
            return "array", _enough(spec)
    return "", ""


def _members(job_id: str) -> ColumnElement[bool]:
    """The members of the array that this one is of."""
    stem = job_id.partition("_")[0]
    return _begins(f"{stem}_")


def _begins(text: str) -> ColumnElement[bool]:
    """Ids that begin so: letters, digits and underscores come before a tilde."""
    return and_(job.c.id >= text, job.c.id < f"{text}~")


def rows(conn: Connection, name: str) -> list[Row[Any]]:
    """The job that people mean, or all members of the array that they mean."""
    beginning, is_member, number = name.partition("_")
    begun = _begins(beginning)
    first = conn.execute(select(job.c.id).where(begun).order_by(job.c.id).limit(1)).scalar() if beginning else None
    if first is None:
        raise NotFound(f"There is no job '{name[:64]}'.", "`noria ps --all` lists the jobs there are.")
    stem = first.partition("_")[0]
    one = or_(job.c.id == stem, _members(stem))
    if conn.execute(select(job.c.id).where(begun, not_(one)).limit(1)).first():
        raise Invalid(f"More than one job begins with '{name}'.", "Write more of its id.")
    wanted = job.c.id == f"{stem}_{number}" if is_member else one
    found = conn.execute(select(job).where(wanted).order_by(func.length(job.c.id), job.c.id)).all()
    if not found:
        raise NotFound(f"Array {stem} has no member {number}.", f"`noria ps {beginning}` lists its members.")
    return list(found)


def row(conn: Connection, name: str) -> Row[Any]:
    found = rows(conn, name)
    if len(found) > 1:
        raise Invalid(f"'{name}' is an array of {len(found)} jobs.", f"Name a member, as in {found[0].id}.")
    return found[0]


def user(conn: Connection, job_id: str) -> str:
    """Whose job it is; "" if there is none."""
    return conn.execute(select(job.c.user).where(job.c.id == job_id)).scalar() or "" if job_id else ""


def _job(each: Row[Any]) -> Job:
    return Job(
        each.id, each.run_id, msgspec.json.decode(each.spec, type=JobSpec), each.state, each.user, each.created, each.folder,
        each.scheduler_id, each.started, each.ended, each.exit_code, each.tries, each.reason, each.hold)  # fmt: skip


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_job(row(conn, request.id)))


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    if request.id:
        return wire.Listed([_job(each) for each in rows(conn, request.id)])
    query = select(job).order_by(job.c.created.desc(), func.length(job.c.id), job.c.id).limit(max(1, min(request.limit, 10_000)))
    if request.open:
        query = query.where(job.c.state.not_in(ENDED))
    return wire.Listed([_job(each) for each in conn.execute(query)])


def tries(conn: Connection, request: wire.Key) -> wire.Tries:
    """What became of each try that is over."""
    return wire.Tries([each for each in begun(conn, row(conn, request.id).id) if each.ended])


def begun(conn: Connection, job_id: str) -> list[Try]:
    """All tries. Of one whose end nobody has told yet `ended` is 0: it goes on, or the next one began in its place."""
    query = select(job_try.c.body).where(job_try.c.job == job_id).order_by(job_try.c.number)
    return [msgspec.json.decode(body, type=Try) for body in conn.execute(query).scalars()]


def follow(conn: Connection, job_id: str, experiment_id: str) -> None:
    """Move the run of a job that goes on to the experiment that its script chose first."""
    found = conn.execute(select(job).where(job.c.id == job_id, job.c.state.not_in(ENDED))).first()
    if found is not None:
        first = experiments.named(conn, _job(found).spec.experiment)
        moved = run.update().where(run.c.uuid == found.run_id, run.c.experiment == first)
        conn.execute(moved.values(experiment=experiments.number(experiment_id)))


def cancel(conn: Connection, request: wire.Cancel) -> wire.Listed:
    """Jobs that no agent has yet end at once; of others their agents are told. Ended jobs stay as they are."""
    found, reason = rows(conn, request.id), request.reason or "cancelled"
    going = [each for each in found if each.state not in ENDED]
    for part in rows_.chunks([each.id for each in going]):
        conn.execute(update(job).where(job.c.id.in_(part)).values(cancel=reason))
    ended = [each for each in going if each.state == "QUEUED" and not each.agent]
    for each in ended:
        _end(conn, each.id, each.run_id, {"state": "CANCELLED", "ended": now(), "reason": reason})
    _follow(conn, [each.id for each in ended])
    return _again(conn, found)


def _again(conn: Connection, found: Sequence[Row[Any]]) -> wire.Listed:
    """Jobs as they are now."""
    parts = rows_.chunks([each.id for each in found])
    now_ = {each.id: _job(each) for part in parts for each in conn.execute(select(job).where(job.c.id.in_(part)))}
    return wire.Listed([now_[each.id] for each in found])


def _able(conn: Connection, name: str, states: Sequence[str], why: str) -> list[Row[Any]]:
    """The jobs that are in one of these states; Conflict if there is none."""
    found = rows(conn, name)
    able = [each for each in found if each.state in states]
    if not able:
        raise Conflict(f"Job {found[0].id} is {found[0].state}: {why}")
    return able


def hold(conn: Connection, request: wire.Key) -> wire.Listed:
    """Keep waiting jobs from starting. One that its scheduler has already is held there, if it does not start first."""
    found = _able(conn, request.id, ("QUEUED", "SUBMITTED"), "only a job that waits can be held.")
    for each in found:
        wish = "hold" if each.agent else None
        conn.execute(update(job).where(job.c.id == each.id).values(hold="user", wish=wish, reason=_HELD))
    return _again(conn, found)


def release(conn: Connection, request: wire.Key) -> wire.Listed:
    """Let jobs start that were held, here or by their scheduler's own command."""
    found = _able(conn, request.id, ("QUEUED", "SUBMITTED"), "only a job that waits can be released.")
    for each in found:
        if each.state == "SUBMITTED":
            conn.execute(update(job).where(job.c.id == each.id).values(hold="", wish="release", reason=""))
        elif each.hold == "user":
            _let(conn, each)
            conn.execute(update(job).where(job.c.id == each.id).values(wish=None))
    return _again(conn, found)


def requeue(conn: Connection, request: wire.Key) -> wire.Listed:
    """End the try of jobs that run or wait in their scheduler's queue, and submit them anew: the same job, run and folder."""
    found = _able(conn, request.id, ("SUBMITTED", "RUNNING"), "only a job that runs or waits at its scheduler can be requeued.")
    conn.execute(update(job).where(job.c.id.in_([each.id for each in found])).values(wish="requeue"))
    return _again(conn, found)


def drill(conn: Connection, request: wire.Drill) -> wire.Listed:
    """Have a trouble faked for jobs that run."""
    if request.kind not in _DRILLS:
        raise Invalid(f"There is no drill '{request.kind[:40]}'.", f"Choose one of: {', '.join(_DRILLS)}.")
    found = _able(conn, request.id, ("RUNNING",), "only a job that runs can be drilled.")
    conn.execute(update(job).where(job.c.id.in_([each.id for each in found])).values(wish=f"drill {request.kind}"))
    return _again(conn, found)


def _let(conn: Connection, each: Row[Any]) -> str:
    """Look again whether a job may start: what holds it now. One that never may has ended."""
    found, reason = _standing(conn, each.id, msgspec.json.decode(each.spec, type=JobSpec))
    if found == _NEVER:
        _end(conn, each.id, each.run_id, {"state": "CANCELLED", "ended": now(), "reason": reason})
    else:
        conn.execute(update(job).where(job.c.id == each.id).values(hold=found, reason=reason))
    return found


def claim(conn: Connection, request: wire.Claim) -> wire.Work:
    """Hand the user's new jobs to the agent that asks: each to one agent alone, again until it reports the submission.

    An agent that has been silent for `_LEASE_SECONDS` loses what it claimed to the next one.
    """
    mine = (job.c.user == request.user, job.c.scheduler.in_(request.takes))
    may = or_(job.c.hold == "", job.c.cancel.is_not(None))
    others = job.c.agent.not_in(("", request.agent))
    held = conn.execute(select(job.c.id, job.c.claimed).where(*mine, job.c.state == "QUEUED", others)).all()
    free = or_(not_(others), job.c.id.in_([each.id for each in held if _silent(each.id, each.claimed, time.monotonic())][:500]))
    found = conn.execute(
        select(job)
        .where(*mine, job.c.state == "QUEUED", may, free)
        .order_by(job.c.created, func.length(job.c.id), job.c.id)
        .limit(100)
    ).all()
    if not request.agent:
        found = []
    for each in found:
        if each.cancel:  # It asks, so it is not about to submit this one.
            _report(conn, each, wire.Report(each.id, "CANCELLED", ended=now()))
        else:
            conn.execute(update(job).where(job.c.id == each.id).values(agent=request.agent, claimed=each.claimed + 1))
    at_scheduler = (*mine, job.c.state.in_(("SUBMITTED", "RUNNING")))
    cancelled = select(job.c.id).where(*at_scheduler, job.c.cancel.is_not(None))
    wished = conn.execute(select(job.c.id, job.c.wish).where(*at_scheduler, job.c.wish.is_not(None))).all()
    wishes = {verb: [each.id for each in wished if each.wish == verb] for verb in ("hold", "release", "requeue")}
    open_jobs = [_job(each) for each in conn.execute(select(job).where(*at_scheduler))] if request.all_open else []
    claimed = [_job(each) for each in found if not each.cancel]
    drills = {each.id: each.wish.removeprefix("drill ") for each in wished if each.wish.startswith("drill ")}
    return wire.Work(claimed, list(conn.execute(cancelled).scalars()), open_jobs, **wishes, drill=drills)


def _silent(job_id: str, claimed: int, moment: float) -> bool:
    """Whether a job has not been claimed again for so long by a clock of this process that nobody sets. A process that does not
    know begins to count."""
    if len(_held) > 10_000:
        _held.clear()
    if _held.get(job_id, (-1, 0.0))[0] != claimed:
        _held[job_id] = claimed, moment
    return moment - _held[job_id][1] > _LEASE_SECONDS


def report(conn: Connection, request: wire.Report) -> wire.Got:
    """What an agent saw. Returns the job as it is then."""
    found = row(conn, request.id)
    _tried(conn, found.id, request.tried)
    if found.state not in ENDED:
        _report(conn, found, request)
    return get(conn, wire.Key(found.id))


def _tried(conn: Connection, job_id: str, tries: Sequence[Try]) -> None:
    told = [(job_id, each.number, each.cause, each.started, each.ended, each.host, msgspec.json.encode(each)) for each in tries]
    rows_.insert(conn, job_try, ("job", "number", "cause", "started", "ended", "host", "body"), told, replace=True)


def _report(conn: Connection, found: Row[Any], request: wire.Report) -> None:
    said = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not UNSET}
    values = {name: value for name, value in said.items() if name not in ("id", "done", "tried", "again")}
    if request.done == found.wish:
        values["wish"] = None
    if request.state in ENDED and found.cancel:
        values |= {"state": "CANCELLED", "reason": found.cancel}
    elif request.state in ("FAILED", "CANCELLED") and (request.again or found.wish == "requeue"):
        _requeued(conn, found, request)
        return
    if values["state"] in ENDED:
        _end(conn, found.id, found.run_id, values)
        _follow(conn, [found.id])
        return
    if request.state == "RUNNING" and found.state != "RUNNING":
        runs.start(conn, found.run_id, values.get("started") or now())
        held = {"wish": None} if found.wish == "hold" else {}
        values = {"reason": "", "hold": "", **held, **values}
    if request.state == "RUNNING" and request.started is not UNSET and request.tries is not UNSET:
        _tried(conn, found.id, [Try(request.tries, "unknown", 0, request.started)])
    if found.started is not None:  # A job has waited until its first try.
        values.pop("started", None)
    conn.execute(update(job).where(job.c.id == found.id).values(values))


def _requeued(conn: Connection, found: Row[Any], request: wire.Report) -> None:
    """What ended was a try: the job waits to be submitted again, and its run goes on then. No number of a try is given twice, be it that
    of a submission that never started."""
    tries = found.tries + 1 if request.tries is UNSET else max(found.tries, request.tries)
    why = f"{request.reason}; it goes on." if request.again and request.reason else "Requeued."
    values = {"state": "QUEUED", "agent": "", "scheduler_id": "", "wish": None, "hold": "", "tries": tries, "reason": why}
    conn.execute(update(job).where(job.c.id == found.id).values(values))
    conn.execute(update(run).where(run.c.uuid == found.run_id).values(status="SCHEDULED", end_time=None))


def _end(conn: Connection, job_id: str, run_id: str, values: dict[str, Any]) -> None:
    conn.execute(update(job).where(job.c.id == job_id).values({**values, "hold": "", "wish": None}))
    runs.finish(conn, run_id, _RUN_STATUS[values["state"]], values.get("ended") or now())
    events.of_job(conn, job_id)


def _follow(conn: Connection, job_ids: Sequence[str]) -> None:
    """Let go, or end, those that waited for the end of these jobs; and, where that ends them, those that waited for them."""
    comes_after: dict[str, dict[str, Row[Any]]] = {}
    for each in conn.execute(select(job).where(job.c.state == "QUEUED", job.c.hold == "after")):
        for name in msgspec.json.decode(each.spec, type=_After).after:
            comes_after.setdefault(name, {})[each.id] = each
    ended = list(job_ids)
    for last in ended:
        for each in comes_after.get(last, {}).values():
            if each.id not in ended and _let(conn, each) == _NEVER:
                ended.append(each.id)
    for stem in {name.partition("_")[0] for name in ended if "_" in name}:
        _fill(conn, stem)


def _fill(conn: Connection, stem: str) -> None:
    """Let members of an array go, in order, until enough are under way."""
    held = select(job).where(_members(stem), job.c.state == "QUEUED", job.c.hold == "array")
    for each in conn.execute(held.order_by(func.length(job.c.id), job.c.id).limit(100)).all():
        if _let(conn, each) == "array":
            return


class _After(msgspec.Struct):
    """What of a JobSpec says whom a job waits for."""

    after: list[str] = []
