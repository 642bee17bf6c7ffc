"""Budgets: what jobs have used of them is counted anew from their tries each time, so that no count can go wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, delete, or_, select

from noria.errors import Forbidden, Invalid, NotFound
from noria.store import rows
from noria.store.experiments import now
from noria.store.schema import budget, experiment, job, job_try, run
from noria.types import ENDED, JobSpec
from noria.wire import budgets as wire
from noria.wire.endpoint import Empty

_HOUR_MS = 3_600_000
_THIS = {"week": "this week", "month": "this month", "total": "in all"}


class _Ask(Struct):
    """What of a JobSpec says how much it takes."""

    nodes: int = 1
    tasks_per_node: int = 1
    gpus: int = 0
    cpus: int = 1
    time: int = 0
    total: int = 0

    @property
    def counts(self) -> wire.Counts:
        return "GPU" if self.gpus else "CPU"

    @property
    def devices(self) -> int:
        return self.nodes * (self.gpus or self.tasks_per_node * self.cpus)

    @property
    def hours(self) -> float:
        """What it may take; 0 without a time limit."""
        return self.devices * max(self.time, self.total) / 3600


_ask = msgspec.json.Decoder(_Ask).decode


def period(per: wire.Per, at: int) -> tuple[int, int]:
    """When the week or the month of this moment began, and when the next one begins; 0 and 0 for all time. Milliseconds, UTC."""
    if per == "total":
        return 0, 0
    day = datetime.fromtimestamp(at / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = day - timedelta(day.weekday()) if per == "week" else day.replace(day=1)
    end = begin + timedelta(7) if per == "week" else (begin + timedelta(31)).replace(day=1)
    return int(begin.timestamp() * 1000), int(end.timestamp() * 1000)


def set_(conn: Connection, request: wire.Set) -> wire.Listed:
    wanted = request.budget
    if not 0 <= wanted.hours < math.inf:
        raise Invalid(f"A budget of {wanted.hours} hours is none.", "Give 0 or more.")
    rows.upsert(conn, budget, [{**msgspec.to_builtins(wanted), "created": now()}])
    return wire.Listed([_standing(conn, wanted, now())])


def remove(conn: Connection, request: wire.Remove) -> Empty:
    done = conn.execute(delete(budget).where(budget.c.whose == request.whose, budget.c.name == request.name))
    if not done.rowcount:
        raise NotFound(f"The {request.whose} '{request.name}' has no budget.", "`noria budget list` shows those there are.")
    return Empty()


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    found = conn.execute(select(budget).order_by(budget.c.whose.desc(), budget.c.name, budget.c.counts))
    return wire.Listed([_standing(conn, _budget(each), now()) for each in found])


def check(conn: Connection, spec: JobSpec, user: str, count: int) -> None:
    """Raise Forbidden if so many new jobs of this user may take more than what is left of a budget."""
    ask, names = _ask(msgspec.json.encode(spec)), (("user", user), ("project", spec.experiment.strip()))
    for whose, name in names:
        query = select(budget).where(budget.c.whose == whose, budget.c.name == name, budget.c.counts == ask.counts)
        for each in conn.execute(query).all():
            standing = _standing(conn, _budget(each), now())
            left = standing.budget.hours - standing.used - standing.promised
            if left <= 0 or ask.hours * count > left:
                raise Forbidden(_refusal(standing, ask, count), _cure(standing, left))


def _budget(each: Row[Any]) -> wire.Budget:
    return wire.Budget(each.whose, each.name, each.counts, each.hours, each.per)


def _refusal(standing: wire.Standing, ask: _Ask, count: int) -> str:
    asked, unit = standing.budget, f"{standing.budget.counts}-hours"
    who = asked.name if asked.whose == "user" else f"project '{asked.name}'"
    said = f"{who} has used {standing.used:,.1f} of {asked.hours:,.1f} {unit} {_THIS[asked.per]}"
    most = [
        f"{user} {hours:,.1f}" for user, hours in sorted(standing.users.items(), key=lambda pair: -pair[1])[:3] if hours >= 0.1
    ]
    if asked.whose == "project" and most:
        said += f" ({', '.join(most)})"
    if standing.promised:
        said += f", {standing.promised:,.1f} more may go to {standing.jobs} job{'s' * (standing.jobs > 1)} that wait or run"
    if ask.hours:
        said += f", and {'this one' if count == 1 else f'these {count}'} may take {ask.hours * count:,.1f}"
    return f"{said}."


def _cure(standing: wire.Standing, left: float) -> str:
    if standing.resets:
        when = datetime.fromtimestamp(standing.resets / 1000, UTC)
        wait = f"wait until it resets on {when.day} {when:%B} (UTC)"
    else:
        wait = f"ask for more: `noria budget set --{standing.budget.whose} {standing.budget.name}` raises it"
    return f"Ask for at most {left:,.1f} (--time, --gpus), or {wait}." if left > 0 else f"{wait[0].upper()}{wait[1:]}."


def _standing(conn: Connection, asked: wire.Budget, at: int) -> wire.Standing:
    begin, end = period(asked.per, at)
    found = [(each, ask) for each in _jobs(conn, asked, begin) if (ask := _ask(each.spec)).counts == asked.counts]
    tries = _tries(conn, [each.id for each, _ in found if each.tries > 1 or each.state not in ENDED])
    users: dict[str, float] = {}
    promised, waiting = 0.0, 0
    for each, ask in found:
        spans = _spans(each, tries.get(each.id, []), at)
        held = sum(max(0, until - max(since, begin)) for since, until in spans)
        users[each.user] = users.get(each.user, 0.0) + ask.devices * held / _HOUR_MS
        if each.state not in ENDED and ask.hours:
            begun = spans if ask.total else spans[-1:] if each.state == "RUNNING" else []
            promised += max(0.0, ask.hours - ask.devices * sum(until - since for since, until in begun) / _HOUR_MS)
            waiting += 1
    return wire.Standing(
        asked, sum(users.values()), promised, waiting, {user: hours for user, hours in users.items() if hours}, end
    )


def _jobs(conn: Connection, asked: wire.Budget, begin: int) -> Sequence[Any]:
    """All that may have run since then."""
    shown = (job.c.id, job.c.spec, job.c.user, job.c.state, job.c.started, job.c.ended, job.c.tries)
    query = select(*shown).where(or_(job.c.ended.is_(None), job.c.ended >= begin))
    if asked.whose == "user":
        return conn.execute(query.where(job.c.user == asked.name)).all()
    query = query.join(run, run.c.uuid == job.c.run_id).join(experiment, experiment.c.id == run.c.experiment)
    return conn.execute(query.where(experiment.c.name == asked.name)).all()


def _tries(conn: Connection, ids: Sequence[str]) -> Mapping[str, list[tuple[int, int]]]:
    """When the tries of jobs began and ended; 0 if nobody has told their end yet."""
    found: dict[str, list[tuple[int, int]]] = {}
    for part in rows.chunks(ids):
        query = select(job_try.c.job, job_try.c.started, job_try.c.ended).where(
            job_try.c.job.in_(part), job_try.c.started.is_not(None)
        )
        for name, started, ended in conn.execute(query.order_by(job_try.c.number)):
            found.setdefault(name, []).append((started, max(started, ended) if ended else 0))
    return found


def _spans(each: Row[Any], tries: list[tuple[int, int]], at: int) -> list[tuple[int, int]]:
    """From when to when a job had its devices. A try of no known end lasted until the next one, which began in its place."""
    if each.started is None:
        return []
    end = at if each.state == "RUNNING" else each.ended or 0
    ends = [*(since for since, _ in tries[1:]), end]
    spans = [(since, until or max(since, after)) for (since, until), after in zip(tries, ends, strict=True)] if tries else []
    return spans or [(each.started, max(each.started, each.ended if each.ended is not None else at))]
