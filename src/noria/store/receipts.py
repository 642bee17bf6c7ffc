"""What receipts are made of: jobs, their tries, and what was measured while they ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from noria.errors import Invalid, NotFound
from noria.store import histories, jobs, rows
from noria.store.chunks import Points
from noria.store.schema import experiment, job, run
from noria.types import Job
from noria.wire import jobs as wire
from noria.wire.receipts import Ask

_PAGE, _MOST = 100, histories.MOST


def page(conn: Connection, asked: Ask) -> tuple[list[tuple[Job, str]], str]:
    """Jobs, each with the name of its run's experiment; and the token of the next page, if there is one."""
    query = select(job.c.id, job.c.created, experiment.c.name).outerjoin(run, run.c.uuid == job.c.run_id)
    query = query.outerjoin(experiment, experiment.c.id == run.c.experiment)
    query = query.order_by(job.c.created.desc(), job.c.id.desc())
    if asked.id:
        ids = [each.id for each in jobs.rows(conn, asked.id)]
        return _read(conn, [each for part in rows.chunks(ids) for each in conn.execute(query.where(job.c.id.in_(part)))]), ""
    if asked.user:
        query = query.where(job.c.user == asked.user)
    if asked.experiment:
        query = query.where(run.c.experiment == _experiment(conn, asked.experiment))
    if not -_MOST <= asked.since <= _MOST:
        raise Invalid("There are no jobs of so long ago.", "Ask for the last years, as in --since 3650d.")
    if asked.token:
        created, _, last = asked.token.partition(":")
        if not created.isdecimal() or int(created) > _MOST:
            raise Invalid(f"'{asked.token[:40]}' is no token of a page of receipts.", "Ask for the first page, without one.")
        before = int(created)
        query = query.where(or_(job.c.created < before, and_(job.c.created == before, job.c.id < last)))
    found = conn.execute(query.where(or_(job.c.ended.is_(None), job.c.ended >= asked.since)).limit(_PAGE + 1)).all()
    more = found[_PAGE - 1] if len(found) > _PAGE else None
    return _read(conn, found[:_PAGE]), f"{more.created}:{more.id}" if more else ""


def _read(conn: Connection, found: Sequence[Any]) -> list[tuple[Job, str]]:
    return [(jobs.get(conn, wire.Key(each.id)).job, each.name or "") for each in found]


def _experiment(conn: Connection, name: str) -> int:
    found = conn.execute(select(experiment.c.id).where(experiment.c.name == name)).scalar()
    if found is None:
        raise NotFound(f"There is no experiment '{name[:80]}'.", "`noria experiments list` shows the experiments there are.")
    return int(found)


def measured(conn: Connection, run_id: str, prefix: str, since: int = histories.LEAST) -> dict[str, Points]:
    """The metrics of a run that begin so; what is older than `since` may be left out."""
    number = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar()
    return histories.whole(conn, number, prefix, since) if number is not None else {}


def running(conn: Connection) -> list[Job]:
    return [each for each in jobs.list_(conn, wire.List(open=True, limit=10_000)).jobs if each.state == "RUNNING"]
