"""Receipts: what store has of jobs and what `jobs.receipts` makes of it."""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import replace

from noria.jobs.receipts import idling, receipt
from noria.server.route import read
from noria.store import jobs, receipts
from noria.store.store import Connection
from noria.types import ENDED, Job
from noria.wire import receipts as wire

_HOUR_MS = 3_600_000
_FRESH = 30.0
"""Seconds for which what was said of a running job is not looked at again: whoever watches a list asks every second or so."""
_KEPT = 1000
_over: dict[str, wire.Receipt] = {}
"""Receipts of jobs that have ended, by id: nothing is added to what was measured of them, which may be gigabytes."""
_said: dict[str, tuple[float, str]] = {}


def _receipts(conn: Connection, asked: wire.Ask) -> wire.Receipts:
    found, token = receipts.page(conn, asked)
    return wire.Receipts([_receipt(conn, job, experiment) for job, experiment in found], token)


def _receipt(conn: Connection, job: Job, experiment: str) -> wire.Receipt:
    if job.state not in ENDED:
        return _made(conn, job, experiment)
    if job.id not in _over:
        _room(_over)
        _over[job.id] = _made(conn, job, experiment)
    return replace(_over[job.id], experiment=experiment)


def _room(kept: dict[str, Any]) -> None:
    """For one more: the first that came goes."""
    while len(kept) >= _KEPT:
        kept.pop(next(iter(kept)), None)


def _made(conn: Connection, job: Job, experiment: str) -> wire.Receipt:
    tries = jobs.begun(conn, job.id)
    series = {
        key: points for prefix in ("time/", "system/") for key, points in receipts.measured(conn, job.run_id, prefix).items()
    }
    return receipt(job, tries, series, experiment, time.time())


def _idle(conn: Connection, asked: wire.Idle) -> wire.Idling:
    said = {job.id: _idling(conn, job, time.time()) for job in receipts.running(conn) if job.spec.gpus}
    return wire.Idling({name: sentence for name, sentence in said.items() if sentence})


def _idling(conn: Connection, job: Job, now: float) -> str:
    looked, sentence = _said.get(job.id, (0.0, ""))
    if now - looked > _FRESH:
        _room(_said)
        sentence = idling(job, receipts.measured(conn, job.run_id, "system/", int(now * 1000) - _HOUR_MS), now)
        _said[job.id] = now, sentence
    return sentence


ROUTES = [read(wire.RECEIPTS, _receipts), read(wire.IDLE, _idle)]
