"""What happened before anybody waited for it: events made of what is recorded anyway, as those would have been that rules wait for now."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from noria.store import changes, events, histories, watching
from noria.store.schema import dataset, event, experiment, job, latest, registry_change, run
from noria.store.thresholds import Crossing, Threshold, Watch, follow
from noria.types import DatasetInput
from noria.wire.rules import Event

MOST = 20_000
"""Events that are looked at."""


def happened(conn: Connection, kind: str, since: int, until: int, asked: Threshold | None = None) -> tuple[list[Event], bool]:
    """Events of a kind between two times, in order, and whether there are more. asked: for metrics, which."""
    if asked is not None:
        found = _metrics(conn, asked, since, until)
    else:
        found = {"dataset": _data, "model_version": _versions, "job_ended": _jobs}.get(kind, _kept)(conn, since, until)
    some = list(islice(found, MOST + 1))
    known = {each.id: each for each in some[:MOST]}
    if kind == "dataset":  # Those that were posted, and no run has read.
        known = {each.id: each for each in _kept(conn, since, until, kind)} | known
    return sorted(known.values(), key=lambda each: (each.time, each.id)), len(some) > MOST


def _kept(conn: Connection, since: int, until: int, kind: str = "drift") -> Iterator[Event]:
    query = select(event).where(event.c.kind == kind, event.c.time >= since, event.c.time <= until).order_by(event.c.time)
    return (events.read(each) for each in conn.execute(query.limit(MOST + 1)))


def _data(conn: Connection, since: int, until: int) -> Iterator[Event]:
    own = dataset.c
    first = select(own.name, own.digest, func.min(own.run).label("first")).group_by(own.name, own.digest).subquery()
    query = (
        select(
            own.name,
            own.digest,
            own.body,
            run.c.uuid,
            run.c.name.label("called"),
            run.c.start_time,
            experiment.c.name.label("of"),
        )
        .join(first, (own.run == first.c.first) & (own.name == first.c.name) & (own.digest == first.c.digest))
        .join(run, run.c.id == own.run)
        .join(experiment, experiment.c.id == run.c.experiment)
    )
    for each in conn.execute(query.where(run.c.start_time >= since, run.c.start_time <= until).order_by(run.c.start_time)):
        source = msgspec.json.decode(each.body, type=DatasetInput).dataset.source
        said = {"name": each.name, "digest": each.digest, "source": source, "run_id": each.uuid, "run_name": each.called, "experiment": each.of}  # fmt: skip
        yield Event(f"dataset/{each.name}/{each.digest}", "dataset", each.start_time, said)


def _versions(conn: Connection, since: int, until: int) -> Iterator[Event]:
    own = registry_change.c
    query = select(registry_change).where(own.time >= since, own.time <= until, own.version != "", own.action.in_(events.MOVES))
    for row in conn.execute(query.order_by(own.id).limit(MOST + 1)):
        change = changes.change(row)
        said = events.version(change, change.evidence.get("run_id", "") or events.run_of(conn, change.name, change.version))
        yield Event(f"change/{change.id}", "model_version", change.time, said)


def _jobs(conn: Connection, since: int, until: int) -> Iterator[Event]:
    query = events.jobs_that_ended().where(job.c.ended >= since, job.c.ended <= until).order_by(job.c.ended)
    for each in conn.execute(query.limit(MOST + 1)):
        yield Event(f"job/{each.id}", "job_ended", each.ended, events.job_said(each))


def _metrics(conn: Connection, asked: Threshold, since: int, until: int) -> Iterator[Event]:
    """Runs whose greatest or least value is beyond are looked at as a whole, and no others."""
    over = (latest.c.max > asked.above) if asked.above is not None else None
    under = (latest.c.min < asked.below) if asked.below is not None else None
    beyond = over if under is None else under if over is None else over | under
    assert beyond is not None
    query = (
        select(run.c.id, run.c.status, run.c.end_time, latest.c.value, latest.c.step, experiment.c.name)
        .join(latest, latest.c.run == run.c.id)
        .join(experiment, experiment.c.id == run.c.experiment)
        .where(latest.c.key == asked.metric, beyond, latest.c.timestamp >= since)
    )
    for row in conn.execute(query.order_by(run.c.id).limit(MOST)).all():
        if asked.covers(row.name):
            yield from _of_run(conn, asked, row, since, until)


def _of_run(conn: Connection, asked: Threshold, row: Any, since: int, until: int) -> Iterator[Event]:
    about = events.of_run(conn, row.id)
    if asked.on == "finished":
        found = (
            [Crossing(row.value, row.step, row.end_time, row.step)] if row.status == "FINISHED" and row.value is not None else []
        )
        found = [each for each in found if asked.beyond(each.value)]
    else:
        points = histories.everything(conn, row.id, asked.metric)
        found, _ = follow(asked, Watch(), zip(points.values.tolist(), points.times.tolist(), points.steps.tolist(), strict=True))
    for at in found:
        if since <= at.time <= until:
            yield Event(f"metric/{about['run_id']}/{at.begun}", "metric", at.time, watching.said(asked, about, at))
