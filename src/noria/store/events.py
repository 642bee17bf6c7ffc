"""What rules wait for, written in the transaction of what happened: nothing is lost, and nothing is there twice.

An event that no rule listens to is not written, and costs one look-up. Firings are made of events later (see firings.py), in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Row, Select, select

from noria.errors import Invalid
from noria.store import database, rows
from noria.store.experiments import now
from noria.store.schema import caused, dataset, event, experiment, job, model_version, registered_model, run
from noria.types import Change
from noria.wire import rules as wire

T = TypeVar("T")
_CAUSE, HAPPENED = "cause", "happened"
_WANTED = "SELECT 1 FROM rule_want WHERE kind = ? AND name IN (?, '') LIMIT 1"
_ANY = "SELECT 1 FROM rule_want WHERE kind = ? LIMIT 1"
_MOST = 64 << 10
MOVES = ("created", "stage", "promoted", "archived", "rolled_back", "alias")
"""What is done to a version that makes it another one to whoever uses the model."""


def following(conn: Connection, chain: Sequence[str], work: Callable[[], T]) -> T:
    """Do something that these firings have led to: events of it say so."""
    conn.info[_CAUSE] = list(chain)
    try:
        return work()
    finally:
        conn.info.pop(_CAUSE, None)


def led_to(conn: Connection, runs: Sequence[str]) -> None:
    """New runs; what these do follows from what they follow from."""
    chain = conn.info.get(_CAUSE)
    if chain:
        text = "\n".join(chain)
        rows.upsert(conn, caused, [{"run": each, "chain": text} for each in runs])


def chain(conn: Connection, runs: Sequence[str]) -> list[str]:
    """The firings that what happens now follows from: those that the request speaks of, or those that led to one of these runs."""
    said: list[str] = conn.info.get(_CAUSE, [])
    if said or not runs:
        return said
    found = conn.execute(select(caused.c.chain).where(caused.c.run.in_(runs)).limit(1)).scalar()
    return found.split("\n") if found else []


def wanted(conn: Connection, kind: str, name: str) -> bool:
    return database.run(conn, _WANTED, (kind, name)).fetchone() is not None


def tell(
    conn: Connection,
    kind: wire.Kind,
    name: str,
    key: str,
    subject: Callable[[], dict[str, Any]],
    *,
    time: int = 0,
    runs: Sequence[str] = (),
) -> None:
    """Something happened. name: of the data set, model, job and so on. key: the same for the same happening. subject: what is to be known of
    it, asked for only if a rule listens. runs: those that did it."""
    if wanted(conn, kind, name):
        add(conn, kind, name, key, subject(), time=time, cause=chain(conn, runs))


def add(
    conn: Connection,
    kind: wire.Kind,
    name: str,
    key: str,
    subject: dict[str, Any],
    *,
    time: int = 0,
    cause: Sequence[str] = (),
    rule: int | None = None,
) -> None:
    """Write an event, if it is not there. rule: the one that it concerns."""
    body = msgspec.json.encode(wire.Event(key, kind, time or now(), subject, list(cause)))
    if len(body) > _MOST:
        raise Invalid(
            f"Event '{key[:80]}' has {len(body)} bytes, and one may have {_MOST}.", "Keep the rest as an artifact, and name that."
        )
    fresh = {"key": key, "kind": kind, "name": name, "time": time or now(), "rule": rule, "fresh": 1, "body": body}
    rows.keep(conn, event, [fresh])
    conn.info[HAPPENED] = True


def read(row: Row[Any]) -> wire.Event:
    return msgspec.json.decode(row.body, type=wire.Event)


def post(conn: Connection, request: wire.Post) -> wire.Ids:
    """Keep what monitors have seen, whether a rule listens or not: a rule may be tried on it later."""
    ids = [each.id or uuid4().hex for each in request.events]
    for key, each in zip(ids, request.events, strict=True):
        cause = each.cause or conn.info.get(_CAUSE, [])
        name = f"{each.kind}/{key}" if each.kind == "drift" else f"dataset/{each.name}/{_digest(each)}"
        add(conn, each.kind, each.name, name, {**each.subject, "name": each.name}, time=each.time, cause=cause)
    return wire.Ids(ids)


def _digest(posted: wire.Posted) -> str:
    digest = posted.subject.get("digest")
    if not isinstance(digest, str) or not digest:
        raise Invalid(
            f"Which version of data set '{posted.name[:80]}' is new?", 'Give subject = {"digest": "…"}, its content hash.'
        )
    return digest


# What the other files of this room tell of.


def of_dataset(conn: Connection, key: int, name: str, digest: str, source: str) -> None:
    """A run reads a data set, which is new if no other has read this content by this name."""
    if not wanted(conn, "dataset", name):
        return
    others = select(dataset.c.run).where(dataset.c.name == name, dataset.c.digest == digest, dataset.c.run != key)
    if conn.execute(others.limit(1)).first() is None:
        said = {"name": name, "digest": digest, "source": source, **of_run(conn, key)}
        add(conn, "dataset", name, f"dataset/{name}/{digest}", said, cause=chain(conn, [said["run_id"]]))


def of_run(conn: Connection, key: int) -> dict[str, Any]:
    """What events say of a run."""
    query = select(run.c.uuid, run.c.name, experiment.c.name.label("experiment")).join(
        experiment, run.c.experiment == experiment.c.id
    )
    found = conn.execute(query.where(run.c.id == key)).one()
    return {"run_id": found.uuid, "run_name": found.name, "experiment": found.experiment}


def of_change(conn: Connection, change: Change) -> None:
    """A line of the registry's log."""
    if change.version and change.action in MOVES and wanted(conn, "model_version", change.name):
        run_id = run_of(conn, change.name, change.version)
        key = f"change/{change.id}"
        add(conn, "model_version", change.name, key, version(change, run_id), time=change.time, cause=chain(conn, [run_id]))


def run_of(conn: Connection, name: str, version: str) -> str:
    """The run that a version comes from; "" if nobody knows, or the version is gone."""
    own = model_version.c
    query = select(own.run_id).join(registered_model, own.model == registered_model.c.id)
    return conn.execute(query.where(registered_model.c.name == name, own.version == int(version))).scalar() or ""


def version(change: Change, run_id: str) -> dict[str, Any]:
    """What an event says of a model's version."""
    alias = change.evidence.get("alias", "") if change.action == "alias" else ""
    stages = {} if alias else {"stage": change.after, "before": change.before}
    return {
        "name": change.name, "version": change.version, "action": change.action, **stages, "alias": alias if change.after else "",
        "user": change.user, "reason": change.reason, "run_id": run_id,
    }  # fmt: skip


def of_job(conn: Connection, job_id: str) -> None:
    """A job has ended."""
    if database.run(conn, _ANY, ("job_ended",)).fetchone() is None:
        return
    found = conn.execute(jobs_that_ended().where(job.c.id == job_id)).one()
    said = job_said(found)
    tell(conn, "job_ended", said["name"], f"job/{job_id}", lambda: said, time=found.ended or now(), runs=[found.run_id])


def jobs_that_ended() -> Select[Any]:
    """What `job_said` reads."""
    return (
        select(job, experiment.c.name.label("experiment"))
        .join(run, run.c.uuid == job.c.run_id)
        .join(experiment, run.c.experiment == experiment.c.id)
    )


def job_said(found: Row[Any]) -> dict[str, Any]:
    """What an event says of a job that has ended."""
    spec = msgspec.json.decode(found.spec, type=_Named)
    return {
        "name": spec.name, "job_id": found.id, "state": found.state, "exit_code": found.exit_code, "reason": found.reason,
        "user": found.user, "run_id": found.run_id, "experiment": found.experiment,
    }  # fmt: skip


class _Named(msgspec.Struct):
    """What of a JobSpec is its name."""

    name: str = ""
