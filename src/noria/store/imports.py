"""Whole runs from elsewhere, kept as they are; and whole runs for elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, structs
from sqlalchemy import Connection, Row, exc, select, update

from noria.errors import Invalid, NoriaError, NotFound
from noria.store import experiments, logged_models, metrics, rows, run_load, runs, sources
from noria.store.schema import (
    alias,
    experiment,
    experiment_tag,
    logged_model,
    model_version,
    model_version_tag,
    registered_model,
    registered_model_tag,
    run,
    run_model,
)  # fmt: skip
from noria.types import Experiment, ModelVersion, RegisteredModel, RunData
from noria.wire import imports as wire
from noria.wire import limits
from noria.wire import logged_models as models
from noria.wire.imports import Done, Series

_ENDED = ("FINISHED", "FAILED", "KILLED")
_INT64 = range(-(2**63), 2**63)


def take(conn: Connection, request: wire.Import) -> wire.Imported:
    """Keep all of it, in one transaction. What is wrong with one thing does not touch the others."""
    for each in request.experiments:
        _experiment(conn, each)
    known = _known(conn, [each.fields.info.run_id for each in request.runs])
    done = [_tried(conn, each.fields.info.run_id, _run(each, known)) for each in request.runs]
    logged = [_tried(conn, each.model.info.model_id, _logged_model(each)) for each in request.logged_models]
    registered = [result for each in request.registered for result in _registered(conn, each)]
    return wire.Imported(done, logged, registered)


def _tried(conn: Connection, own_id: str, work: Callable[[Connection], Done]) -> Done:
    try:
        with conn.begin_nested():
            return work(conn)
    except (NoriaError, exc.IntegrityError, exc.DataError, ValueError, OverflowError) as error:
        return Done(own_id, "refused", why=str(getattr(error, "orig", error)))


def _known(conn: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(ids), rows.CHUNK):
        query = select(run).where(run.c.uuid.in_(ids[start : start + rows.CHUNK]))
        found |= {each.uuid: each for each in conn.execute(query)}
    return found


def _experiment(conn: Connection, given: Experiment) -> int:
    """The experiment of this name, made as it is given if it is missing; what is there stays, and gets the tags that it lacks."""
    name = limits.cut(given.name.strip(), limits.EXPERIMENT_NAME) or experiments.DEFAULT
    found = conn.execute(select(experiment.c.id).where(experiment.c.name == name)).scalar()
    if found is None:
        found = experiments.named(conn, name)
        values = {"lifecycle_stage": given.lifecycle_stage, "creation_time": given.creation_time or experiments.now(),
                  "last_update_time": given.last_update_time or given.creation_time or experiments.now()}  # fmt: skip
        conn.execute(update(experiment).where(experiment.c.id == found).values(values))
    fresh = [{"experiment": found, "key": each.key, "value": each.value} for each in given.tags]
    rows.keep(conn, experiment_tag, fresh)
    return int(found)


def _run(given: wire.Run, known: dict[str, Row[Any]]) -> Callable[[Connection], Done]:
    run_id = given.fields.info.run_id
    return lambda conn: _completed(conn, given, known[run_id]) if run_id in known else _new(conn, given, known)


def _new(conn: Connection, given: wire.Run, known: dict[str, Row[Any]]) -> Done:
    info, data = given.fields.info, given.fields.data
    owner = _experiment(conn, Experiment("", given.experiment, "", "active", 0, 0))
    tags = {each.key: each.value for each in data.tags}
    runs.insert_run(conn, limits.run_id(info.run_id), owner, info.run_name or tags.get(runs.NAME_TAG, ""), info.user_id,
                    info.start_time, tags, info.status)  # fmt: skip
    key = runs.row(conn, info.run_id)
    if info.end_time is not UNSET or info.lifecycle_stage != "active":
        values = {"end_time": info.end_time if info.end_time is not UNSET else None, "lifecycle_stage": info.lifecycle_stage}
        conn.execute(update(run).where(run.c.id == key.id).values(values))
    runs.keep_params(conn, key.id, {each.key: each.value for each in data.params})
    for series in given.series:
        metrics.append(conn, key.id, _points(series))
    _links(conn, given, key.id)
    known[info.run_id] = runs.row(conn, info.run_id)  # It may come a second time: in parts, or from two places.
    return Done(info.run_id, "new", key.artifact_uri)


def _completed(conn: Connection, given: wire.Run, known: Row[Any]) -> Done:
    """What is there stays, and what is missing is added; a run that had not ended takes the status and the tags of now."""
    info, data = given.fields.info, given.fields.data
    before = run_load.load(conn, [known.id])[0]
    changes = False
    params = {each.key: each.value for each in data.params}
    if params.keys() - {each.key for each in before.data.params}:
        runs.keep_params(conn, known.id, params)
        changes = True
    had = {each.key: each.value for each in before.data.tags}
    open_ = known.status not in _ENDED
    tags = {each.key: each.value for each in data.tags if had.get(each.key) != each.value and (open_ or each.key not in had)}
    if tags:
        runs.put_tags(conn, known.id, tags)
        changes = True
    if open_ and info.status != known.status:
        values = {"status": info.status, "end_time": info.end_time if info.end_time is not UNSET else None}
        conn.execute(update(run).where(run.c.id == known.id).values(values))
        changes = True
    for series in given.series:
        missing = _missing(conn, known.id, series)
        metrics.append(conn, known.id, missing)
        changes = changes or bool(missing)
    _links(conn, given, known.id)
    after = run_load.load(conn, [known.id])[0]
    changes = changes or (after.inputs, after.outputs) != (before.inputs, before.outputs)
    return Done(info.run_id, "completed" if changes else "same", known.artifact_uri)


def _points(series: Series) -> list[metrics.Point]:
    """The points of a series; Invalid for columns that do not fit together, or for what no database takes."""
    key = limits.key(series.key)
    if not len(series.values) == len(series.timestamps) == len(series.steps):
        raise Invalid(
            f"The columns of metric '{key}' have {len(series.values)}, {len(series.timestamps)} and {len(series.steps)} rows."
        )
    if not all(each in _INT64 for column in (series.timestamps, series.steps) for each in (min(column), max(column)) if column):
        raise Invalid(f"Metric '{key}' has a time or a step that does not fit into 64 bits.")
    return [(key, *point) for point in zip(series.values, series.timestamps, series.steps, strict=True)]


def _missing(conn: Connection, key: int, series: Series) -> list[metrics.Point]:
    """The points of a series that the run does not have."""
    points = _points(series)
    stored = metrics.everything(conn, key, series.key)
    have = set(zip(map(_same, stored.values.tolist()), stored.times.tolist(), stored.steps.tolist(), strict=True))
    return [point for point in points if (_same(point[1]), point[2], point[3]) not in have]


def _same(value: float) -> float | str:
    """NaN is not equal to itself, so it is named."""
    return value if value == value else "NaN"


def _links(conn: Connection, given: wire.Run, key: int) -> None:
    runs.put_datasets(conn, key, given.fields.inputs.dataset_inputs)
    links = [(each.model_id, "input", 0) for each in given.fields.inputs.model_inputs]
    links += [(each.model_id, "output", each.step) for each in given.fields.outputs.model_outputs]
    rows.keep(conn, run_model, [{"run": key, "model_id": own, "direction": way, "step": step} for own, way, step in links])


def _logged_model(given: wire.LoggedModel) -> Callable[[Connection], Done]:
    return lambda conn: _take_model(conn, given)


def _take_model(conn: Connection, given: wire.LoggedModel) -> Done:
    info, data = given.model.info, given.model.data
    found = conn.execute(select(logged_model).where(logged_model.c.id == info.model_id)).first()
    before = None if found is None else logged_models.get(conn, models.Key(info.model_id, allow_deleted=True)).model
    if before is None:
        owner = str(_experiment(conn, Experiment("", given.experiment, "", "active", 0, 0)))
        request = models.Create(owner, info.name, info.model_type, info.source_run_id, data.params, info.tags)
        logged_models.make(conn, limits.run_id(info.model_id), request, info.creation_timestamp_ms)
    else:
        had = {each.key for each in before.info.tags}
        logged_models.set_tags(conn, models.SetTags(info.model_id, [each for each in info.tags if each.key not in had]))
        known = {each.key for each in before.data.params}
        logged_models.log_params(conn, models.LogParams(info.model_id, [each for each in data.params if each.key not in known]))
    if before is None or before.info.status == "LOGGED_MODEL_PENDING":
        logged_models.finalize(conn, models.Finalize(info.model_id, info.status))
        values = {"last_update_time": info.last_updated_timestamp_ms}
        conn.execute(update(logged_model).where(logged_model.c.id == info.model_id).values(values))
    for each in data.metrics:
        point = structs.replace(each, model_id=info.model_id)
        logged_models.keep_metrics(conn, info.source_run_id if each.run_id is UNSET else each.run_id, [point])
    after = logged_models.get(conn, models.Key(info.model_id, allow_deleted=True)).model
    if before is None:
        return Done(info.model_id, "new", after.info.artifact_uri)
    return Done(info.model_id, "same" if _plain(before) == _plain(after) else "completed", after.info.artifact_uri)


def _plain(model: models.Model) -> models.Model:
    return structs.replace(model, info=structs.replace(model.info, last_updated_timestamp_ms=0))


def _registered(conn: Connection, given: wire.Registered) -> list[Done]:
    """A registered model and its versions, each with its number."""
    key = conn.execute(select(registered_model.c.id).where(registered_model.c.name == given.model.name)).scalar()
    if key is None:
        limits.model_name(given.model.name)
        values = {
            "name": given.model.name, "description": given.model.description, "creation_time": given.model.creation_timestamp,
            "last_update_time": given.model.last_updated_timestamp, "last_version": 0,
        }  # fmt: skip
        key = rows.add(conn, registered_model, values)
    rows.keep(conn, registered_model_tag, [{"model": key, "key": each.key, "value": each.value} for each in given.model.tags])
    done = [_tried(conn, f"{each.name}/{each.version}", _version(key, each)) for each in given.versions]
    last = max((int(each.version) for each in given.versions), default=0)
    conn.execute(
        update(registered_model)
        .where(registered_model.c.id == key, registered_model.c.last_version < last)
        .values(last_version=last)
    )
    _aliases(conn, key, given.model)
    return done


def _version(key: int, given: ModelVersion) -> Callable[[Connection], Done]:
    return lambda conn: _take_version(conn, key, given)


def _take_version(conn: Connection, key: int, given: ModelVersion) -> Done:
    own, own_id = model_version, f"{given.name}/{given.version}"
    found = conn.execute(select(own).where(own.c.model == key, own.c.version == int(given.version))).first()
    if found is not None and (found.run_id, found.creation_time) != (given.run_id, given.creation_timestamp):
        raise Invalid(f"Version {given.version} of model '{given.name}' is another one here, and stays as it is.")
    version = found.id if found is not None else rows.add(conn, own, {
        "model": key, "version": int(given.version), "stage": given.current_stage, "source": given.source,
        "location": _location(conn, given), "run_id": given.run_id, "description": given.description, "user_id": given.user_id,
        "run_link": given.run_link, "creation_time": given.creation_timestamp, "last_update_time": given.last_updated_timestamp,
    })  # fmt: skip
    rows.keep(conn, model_version_tag, [{"version": version, "key": each.key, "value": each.value} for each in given.tags])
    return Done(own_id, "new" if found is None else "same")


def _location(conn: Connection, given: ModelVersion) -> str:
    """Where the files of a version lie now."""
    model_id = given.source.removeprefix("models:/") if given.source.startswith("models:/m-") else ""
    try:
        return sources.checked(conn, given.source, given.run_id, model_id).location
    except (Invalid, NotFound):
        return given.source


def _aliases(conn: Connection, key: int, given: RegisteredModel) -> None:
    own = model_version
    numbers = dict(conn.execute(select(own.c.version, own.c.id).where(own.c.model == key)).tuples().all())
    wanted = [(each.alias, numbers.get(int(each.version))) for each in given.aliases]
    rows.keep(conn, alias, [{"model": key, "alias": name, "version": version} for name, version in wanted if version is not None])


# Out.


def give(conn: Connection, request: wire.Export) -> wire.Exported:
    """Whole runs in the order asked for, until there are enough points for one answer."""
    known = _known(conn, request.run_ids[: wire.RUNS])
    found: list[wire.Run] = []
    names = dict(conn.execute(select(experiment.c.id, experiment.c.name)).tuples().all())
    count = 0
    for run_id in request.run_ids[: wire.RUNS]:
        if run_id not in known:
            raise NotFound(f"Run with id={run_id[:64]} not found", "`noria runs list` shows the runs there are.")
        if found and count > wire.POINTS:
            break
        fields = run_load.load(conn, [known[run_id].id])[0]
        series = [_series(conn, known[run_id].id, each.key) for each in fields.data.metrics]
        count += sum(len(each.steps) for each in series)
        bare = structs.replace(fields, data=RunData([], fields.data.params, fields.data.tags))
        found.append(wire.Run(names[known[run_id].experiment], bare, series))
    return wire.Exported(found)


def _series(conn: Connection, key: int, name: str) -> Series:
    points = metrics.everything(conn, key, name)
    return Series(name, points.values.tolist(), points.times.tolist(), points.steps.tolist())
