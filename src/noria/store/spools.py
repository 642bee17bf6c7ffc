"""What relays ship: the frames of spools, each applied exactly once and in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, structs
from sqlalchemy import Connection, delete, exc, func, select, update

from noria.errors import Invalid, NoriaError, WrongVersion
from noria.store import experiments, logged_models, metrics, registering, rows, runs, stages, watching
from noria.store.experiments import now
from noria.store.schema import (
    experiment,
    experiment_tag,
    logged_model,
    model_version,
    registered_model,
    run,
    spool,
    superseded,
    tag,
)
from noria.types import Dataset, DatasetInput, Metric, ModelInput, Param, RunStatus, Tag, number
from noria.wire import limits
from noria.wire import logged_models as models
from noria.wire import spools as wire
from noria.wire.experiments import Create as CreateExperiment
from noria.wire.experiments import SetTag
from noria.wire.registry import CreateModel, CreateVersion, SetAlias, SetModelTag, SetVersionTag, Transition
from noria.wire.runs import LogInputs, LogOutputs
from noria.wire.spools import Artifact, Begin, End, Header, Log, Params, Points, Record, Rewind, Tags

_INT64 = (-(2**63), 2**63 - 1)
_DAMAGED = "noria.damaged"
_UNBEGUN = "noria.unbegun"
"""Of a run that was met before the spool in which it begins."""
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
    run_id, attempt = (known.run, known.attempt) if known else _met(request.spool_id, records)
    _apply(conn, run_id, records, _late(conn, run_id, attempt))
    _supersede(conn, run_id, attempt, records)
    if request.damaged:
        _note(conn, run_id, request.damaged)
    # A spool that another server process meets at this moment is refused by its key, and sent again.
    values = {"id": request.spool_id, "run": run_id, "offset": end, "attempt": attempt}
    conn.execute(
        spool.update().where(spool.c.id == request.spool_id).values(offset=end) if known else spool.insert().values(values)
    )
    return wire.Offset(end), run_id


def _late(conn: Connection, run_id: str, attempt: int) -> int | None:
    """The step from which on a later try of the same job has taken over: a node that was taken for dead may speak again."""
    if not attempt:
        return None
    return conn.execute(
        select(func.min(superseded.c.step)).where(superseded.c.run == run_id, superseded.c.attempt > attempt)
    ).scalar()


def _supersede(conn: Connection, run_id: str, attempt: int, records: list[Record]) -> None:
    steps = [record.step for record in records if isinstance(record, Rewind)]
    if attempt and steps:
        before = conn.execute(
            select(superseded.c.step).where(superseded.c.run == run_id, superseded.c.attempt == attempt)
        ).scalar()
        step = min(steps) if before is None else min(before, *steps)
        rows.insert(conn, superseded, ("run", "attempt", "step"), [(run_id, attempt, step)], replace=True)


def _met(spool_id: str, records: list[Record]) -> tuple[str, int]:
    """The run of a spool that is seen for the first time, and the try that writes it."""
    header = records[0] if records else None
    if not isinstance(header, Header):
        raise Invalid("The first record of a spool must be its header.", "Send it from its beginning.")
    if header.format != wire.FORMAT:
        raise WrongVersion(f"Spool {spool_id} has format {header.format}, this server reads {wire.FORMAT}.",
                           "Upgrade the server; the spool is kept until then.")  # fmt: skip
    return limits.run_id(header.run_id) if header.run_id else "", header.attempt


def _records(frames: bytes) -> list[Record]:
    try:
        return list(wire.records(frames))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WrongVersion(f"A record of this spool is of a kind that this server does not know ({error}).",
                           "Upgrade the server; the spool is kept until then.") from None  # fmt: skip


def _apply(conn: Connection, run_id: str, records: list[Record], late: int | None) -> None:
    """Metrics that follow each other become one batch; everything else is applied as it comes. late: the step from which on metrics
    come too late; going back does too."""
    batch: list[metrics.Point] = []
    for record in records:
        if isinstance(record, (Log, Points)):
            try:
                batch += [each for each in _measured(record) if late is None or each[3] < late]
            except Invalid as error:
                _set_aside(conn, run_id, error.message)
            if not (isinstance(record, Points) and record.model_id):
                continue
        if isinstance(record, Rewind) and late is not None:  # It would take what the later try has logged.
            continue
        if batch:
            metrics.append(conn, _run(conn, run_id), batch)
            batch = []
        try:
            with conn.begin_nested():
                _APPLY[type(record)](conn, run_id, record)
        except (NoriaError, ValueError, OverflowError, exc.DataError) as error:  # Such as a NUL, which PostgreSQL does not keep.
            _set_aside(conn, run_id, f"{type(record).__name__.lower()}: {error}")
    if batch:
        metrics.append(conn, _run(conn, run_id), batch)


def _measured(record: Log | Points) -> list[metrics.Point]:
    """The points of a record, with times in milliseconds."""
    if isinstance(record, Points):
        points = record.points
    elif math.isfinite(record.timestamp):
        time = int(record.timestamp * 1000)
        points = [(key, value, time, record.step) for key, value in record.metrics.items()]
    else:
        raise Invalid(f"metrics at step {record.step} and time {record.timestamp}: a number is out of range")
    runs.check_names([key for key, *_ in points])
    for key, _, time, step in points:
        if not (_INT64[0] <= step <= _INT64[1] and _INT64[0] <= time <= _INT64[1]):
            raise Invalid(f"metric {key} at step {step} and time {time}: a number is out of range")
    return points


def _set_aside(conn: Connection, run_id: str, what: str) -> None:
    """One record that cannot be kept must not hold up those behind it: the run, if there is one, says what is missing."""
    if not run_id:
        return
    runs.put_tags(conn, _run(conn, run_id), {"noria.refused": what})


def _note(conn: Connection, run_id: str, what: str) -> None:
    """The run says which bytes of its spools could not be read, all of them."""
    if not run_id:
        return
    key = _run(conn, run_id)
    said = conn.execute(select(tag.c.value).where(tag.c.run == key, tag.c.key == _DAMAGED)).scalar()
    runs.put_tags(conn, key, {_DAMAGED: limits.cut(f"{said}; {what}" if said else what, limits.TAG_VALUE)})


def _run(conn: Connection, run_id: str) -> int:
    """The run's row, made if this server has never heard of it: nothing that was logged is lost for want of a run."""
    found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar()
    if found is None:
        limits.run_id(run_id)  # A spool without a run has nothing to say of one.
        runs.insert_run(conn, run_id, 0, "", "", now(), {_UNBEGUN: "true"})
        found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar_one()
    return int(found)


def _begin(conn: Connection, run_id: str, record: Begin) -> None:
    found = conn.execute(select(run.c.id).where(run.c.uuid == run_id)).scalar()
    if found is None:
        owner = experiments.named(conn, record.experiment)
        runs.insert_run(conn, run_id, owner, record.run_name, record.user, record.start_time, record.tags)
        return
    if conn.execute(delete(tag).where(tag.c.run == found, tag.c.key == _UNBEGUN)).rowcount:
        owner = experiments.named(conn, record.experiment)
        values = {"experiment": owner, "user_id": record.user, "start_time": record.start_time}
        conn.execute(update(run).where(run.c.id == found).values(values))
    else:
        runs.reopen(conn, run_id)
    runs.put_tags(conn, found, {**record.tags, **({runs.NAME_TAG: record.run_name} if record.run_name else {})})


def _end(conn: Connection, run_id: str, record: End) -> None:
    runs.finish(conn, run_id, record.status if record.status in _STATUS else "FINISHED", record.end_time)


def _of_model(conn: Connection, run_id: str, record: Points) -> None:
    """Points that speak of a logged model are kept with it too."""
    about = (record.dataset_name or UNSET, record.dataset_digest or UNSET, record.model_id)
    points = [Metric(key, number(value), time, step, *about) for key, value, time, step in record.points]
    logged_models.keep_metrics(conn, run_id, points)


def _change(conn: Connection, run_id: str, record: wire.Change) -> None:
    key = _run(conn, run_id)
    values: dict[str, Any] = {}
    if record.status is not None:
        values |= {"status": record.status, "end_time": record.end_time}
    if record.lifecycle_stage is not None:
        values["lifecycle_stage"] = record.lifecycle_stage
    if record.experiment is not None:
        values["experiment"] = experiments.named(conn, record.experiment)
    if values:
        conn.execute(update(run).where(run.c.id == key).values(values))
        watching.ended(conn, [key], values.get("status"))
    if record.untag:
        conn.execute(delete(tag).where(tag.c.run == key, tag.c.key.in_(record.untag)))


def _inputs(conn: Connection, run_id: str, record: wire.Inputs) -> None:
    _run(conn, run_id)
    runs.log_inputs(conn, LogInputs(run_id, record.datasets, [ModelInput(each) for each in record.models]))


def _outputs(conn: Connection, run_id: str, record: wire.Outputs) -> None:
    _run(conn, run_id)
    runs.log_outputs(conn, LogOutputs(run_id, record.models))


def _experiment(conn: Connection, run_id: str, record: wire.Experiment) -> None:
    found = conn.execute(select(experiment.c.id).where(experiment.c.name == record.name)).scalar()
    if found is None and record.artifact_location:
        experiments.create(conn, CreateExperiment(record.name, record.artifact_location))
    key = experiments.named(conn, record.name)
    for name, value in record.tags.items():
        experiments.set_tag(conn, SetTag(str(key), name, value))
    if record.untag:
        own = experiment_tag
        conn.execute(delete(own).where(own.c.experiment == key, own.c.key.in_(record.untag)))


def _model(conn: Connection, run_id: str, record: wire.Model) -> None:
    """A logged model under the id that it was given on the node; what it has already is changed as the record says."""
    given = [Tag(key, value) for key, value in record.tags.items()]
    params = [Param(key, value) for key, value in record.params.items()]
    found = conn.execute(select(logged_model.c.id).where(logged_model.c.id == record.model_id)).scalar()
    if record.deleted:
        if found is not None:
            logged_models.remove(conn, models.Key(record.model_id))
        return
    if found is None:
        owner = str(experiments.named(conn, record.experiment))
        request = models.Create(owner, record.name, record.model_type, record.run_id, params, given)
        logged_models.make(conn, limits.run_id(record.model_id), request, record.created)
    else:
        logged_models.set_tags(conn, models.SetTags(record.model_id, given))
        logged_models.log_params(conn, models.LogParams(record.model_id, params))
    for key in record.untag:
        logged_models.delete_tag(conn, models.DeleteTag(record.model_id, key))
    if record.status is not None:
        logged_models.finalize(conn, models.Finalize(record.model_id, record.status))


def _register(conn: Connection, run_id: str, record: wire.Register) -> None:
    """Registered once for each source: a script that is tried again does not fill the registry with copies."""
    found, user = (
        conn.execute(select(registered_model.c.id).where(registered_model.c.name == record.name)).first(),
        runs.user(conn, run_id),
    )
    if found is None:
        registering.create(conn, CreateModel(record.name, [], record.description), user)
    for key, value in record.tags.items():
        registering.set_tag(conn, SetModelTag(record.name, key, value), user)
    if record.source.startswith("runs:/"):
        uuid, _, path = record.source.removeprefix("runs:/").partition("/")
        record = structs.replace(record, source=f"{runs.row(conn, uuid).artifact_uri}/{path}".rstrip("/"), run_id=uuid)
    if record.source:
        _label(conn, record, _version(conn, record) or _new_version(conn, record, user), user)


def _new_version(conn: Connection, record: wire.Register, user: str) -> str:
    model_id = record.source.removeprefix("models:/").partition("/")[0] if record.source.startswith("models:/m-") else ""
    request = CreateVersion(record.name, record.source, record.run_id, [], "", record.version_description, model_id)
    return registering.create_version(conn, request, user).model_version.version


def _label(conn: Connection, record: wire.Register, version: str, user: str) -> None:
    for key, value in record.version_tags.items():
        registering.set_version_tag(conn, SetVersionTag(record.name, version, key, value), user)
    if record.alias:
        registering.set_alias(conn, SetAlias(record.name, record.alias, version), user)
    if record.stage:
        stages.transition(conn, Transition(record.name, version, record.stage, record.archive), user)


def _version(conn: Connection, record: wire.Register) -> str | None:
    """The newest version of this source."""
    own = model_version
    query = select(func.max(own.c.version)).join(registered_model, own.c.model == registered_model.c.id)
    found = conn.execute(query.where(registered_model.c.name == record.name, own.c.source == record.source)).scalar()
    return None if found is None else str(found)


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
    Points: _of_model,
    wire.Change: _change,
    wire.Inputs: _inputs,
    wire.Outputs: _outputs,
    wire.Experiment: _experiment,
    wire.Model: _model,
    wire.ModelArtifact: lambda conn, run_id, record: None,  # Uploaded before, as with Artifact.
    wire.Register: _register,
    wire.Close: lambda conn, run_id, record: None,
}
