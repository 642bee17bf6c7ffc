"""What relays ship: the frames of spools, each applied exactly once and in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from noria.errors import Invalid, NoriaError, WrongVersion
from noria.store import experiments, metrics, runs
from noria.store.experiments import now
from noria.store.schema import run, spool, tag
from noria.types import Dataset, DatasetInput, RunStatus, Tag
from noria.wire import limits
from noria.wire import spools as wire
from noria.wire.spools import Artifact, Begin, End, Header, Log, Params, Record, Rewind, Tags

_INT64 = (-(2**63), 2**63 - 1)
_DAMAGED = "noria.damaged"
_STATUS: set[RunStatus] = {"FINISHED", "FAILED", "KILLED"}


def offset(conn: Connection, request: wire.Key) -> wire.Offset:
    return wire.Offset(conn.execute(select(spool.c.offset).where(spool.c.id == request.spool_id)).scalar() or 0)


def ship(conn: Connection, request: wire.Ship) -> tuple[wire.Offset, str]:
    """Apply frames that begin where the last ones ended. Returns the new offset, and the run they went to ("" if none).

    Offset and records are one transaction, so a relay that died may send the same frames again.
    """
    known = conn.execute(select(spool).where(spool.c.id == request.spool_id).with_for_update()).first()
    at = known.offset if known else 0
    if request.offset != at:
        return wire.Offset(at), ""
    end = request.end or at + len(request.frames)
    if wire.whole(request.frames) != len(request.frames) or end < at:
        raise Invalid("These frames are damaged or cut short.", "Send whole frames.")
    if end == at:
        return wire.Offset(at), ""
    records = _records(request.frames)
    run_id = known.run if known else _met(request.spool_id, records)
    _apply(conn, run_id, records)
    if request.damaged:
        _note(conn, run_id, request.damaged)
    # A spool that another server process meets at this moment is refused by its key, and sent again.
    values = {"id": request.spool_id, "run": run_id, "offset": end}
    conn.execute(
        spool.update().where(spool.c.id == request.spool_id).values(offset=end) if known else spool.insert().values(values)
    )
    return wire.Offset(end), run_id


def _met(spool_id: str, records: list[Record]) -> str:
    """The run of a spool that is seen for the first time."""
    header = records[0] if records else None
    if not isinstance(header, Header):
        raise Invalid("The first record of a spool must be its header.", "Send it from its beginning.")
    if header.format != wire.FORMAT:
        raise WrongVersion(f"Spool {spool_id} has format {header.format}, this server reads {wire.FORMAT}.",
                           "Upgrade the server; the spool is kept until then.")  # fmt: skip
    return limits.run_id(header.run_id)


def _records(frames: bytes) -> list[Record]:
    try:
        return list(wire.records(frames))
    except msgspec.MsgspecError as error:
        raise WrongVersion(f"A record of this spool is of a kind that this server does not know ({error}).",
                           "Upgrade the server; the spool is kept until then.") from None  # fmt: skip


def _apply(conn: Connection, run_id: str, records: list[Record]) -> None:
    """Metrics that follow each other become one batch; everything else is applied as it comes."""
    batch: list[metrics.Point] = []
    for record in records:
        if isinstance(record, Log):
            if math.isfinite(record.timestamp) and _INT64[0] <= record.step <= _INT64[1]:
                time = int(record.timestamp * 1000)
                batch.extend((key, value, time, record.step) for key, value in record.metrics.items())
            else:
                _set_aside(conn, run_id, f"metrics at step {record.step} and time {record.timestamp}: a number is out of range")
            continue
        if batch:
            metrics.append(conn, _run(conn, run_id), batch)
            batch = []
        try:
            with conn.begin_nested():
                _APPLY[type(record)](conn, run_id, record)
        except (NoriaError, ValueError, OverflowError) as error:
            _set_aside(conn, run_id, f"{type(record).__name__.lower()}: {error}")
    if batch:
        metrics.append(conn, _run(conn, run_id), batch)


def _set_aside(conn: Connection, run_id: str, what: str) -> None:
    """One record that cannot be kept must not hold up those behind it: the run says what is missing."""
    runs.put_tags(conn, _run(conn, run_id), {"noria.refused": what})


def _note(conn: Connection, run_id: str, what: str) -> None:
    """The run says which bytes of its spools could not be read, all of them."""
    key = _run(conn, run_id)
    said = conn.execute(select(tag.c.value).where(tag.c.run == key, tag.c.key == _DAMAGED)).scalar()
    runs.put_tags(conn, key, {_DAMAGED: limits.cut(f"{said}; {what}" if said else what, limits.TAG_VALUE)})


def _run(conn: Connection, run_id: str) -> int:
    """The run's row, made if this server has never heard of it: nothing that was logged is lost for want of a run."""
    found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar()
    if found is None:
        runs.insert_run(conn, run_id, 0, "", "", now(), {})
        found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar_one()
    return int(found)


def _begin(conn: Connection, run_id: str, record: Begin) -> None:
    found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar()
    if found is None:
        owner = experiments.named(conn, record.experiment)
        runs.insert_run(conn, run_id, owner, record.run_name, record.user, record.start_time, record.tags)
        return
    runs.reopen(conn, run_id)
    runs.put_tags(conn, found, {**record.tags, **({runs.NAME_TAG: record.run_name} if record.run_name else {})})


def _end(conn: Connection, run_id: str, record: End) -> None:
    runs.finish(conn, run_id, record.status if record.status in _STATUS else "FINISHED", record.end_time)


def _dataset(conn: Connection, run_id: str, record: wire.Dataset) -> None:
    data = Dataset(record.name, record.digest, record.source_type, record.source)
    runs.put_datasets(conn, _run(conn, run_id), [DatasetInput(data, [Tag("mlflow.data.context", record.context)])])


_APPLY: dict[type, Callable[[Connection, str, Any], None]] = {
    Header: lambda conn, run_id, record: None,
    Begin: _begin,
    Params: lambda conn, run_id, record: runs.keep_params(conn, _run(conn, run_id), record.params),
    Tags: lambda conn, run_id, record: runs.put_tags(conn, _run(conn, run_id), record.tags),
    Artifact: lambda conn, run_id, record: None,  # The relay has uploaded the file before it shipped this record.
    Rewind: lambda conn, run_id, record: metrics.rewind(conn, _run(conn, run_id), record.step),
    wire.Dataset: _dataset,
    End: _end,
}
