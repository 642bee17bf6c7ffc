"""Whole runs from elsewhere, kept as they are; and whole runs for elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET, structs
from sqlalchemy import Connection, Row, exc, select, update

from noria.errors import Invalid, NoriaError, NotFound
from noria.store import experiments, histories, logged_models, metrics, names, rows, run_load, runs, sources
from noria.store.schema import (
    alias,
    experiment,
    experiment_tag,
    logged_model,
    model_version,
    model_version_tag,
    param,
    registered_model,
    registered_model_tag,
    run,
    run_model,
    tag,
)
from noria.types import Experiment, ModelVersion, RegisteredModel, Run, RunData
from noria.wire import imports as wire
from noria.wire import limits
from noria.wire import logged_models as models
from noria.wire.imports import Done, Series

_ENDED = ("FINISHED", "FAILED", "KILLED")
_WRONG = (NoriaError, exc.IntegrityError, exc.DataError, ValueError, OverflowError)
_INT64 = range(-(2**63), 2**63)


def take(conn: Connection, request: wire.Import) -> wire.Imported:
    """Keep all of it, in one transaction. What is wrong with one thing does not touch the others."""
    for each in request.experiments:
        _experiment(conn, each)
    logged = [_tried(conn, each.model.info.model_id, partial(_logged_model, given=each)) for each in request.logged_models]
    registered = [result for each in request.registered for result in _registered(conn, each)]
    return wire.Imported(_runs(conn, request.runs), logged, registered)


def _runs(conn: Connection, given: Sequence[wire.Run]) -> list[Done]:
    """Those that are new together, which is what most imports come down to; then those that are here, one by one."""
    known = _known(conn, [each.fields.info.run_id for each in given])
    new = {each.fields.info.run_id: each for each in reversed(given) if each.fields.info.run_id not in known}
    try:
        with conn.begin_nested():
            done = {each.id: each for each in _fresh(conn, list(new.values()))}
    except _WRONG:  # One of them is wrong: then one by one as well.
        done = {own_id: _tried(conn, own_id, partial(_one, given=each)) for own_id, each in new.items()}
    found: list[Done] = []
    rest = [
        each for each in given if new.get(each.fields.info.run_id) is not each
    ]  # A run may come in parts, or from two places.
    known |= _known(conn, [each.fields.info.run_id for each in rest if each.fields.info.run_id in new])
    before = dict(zip(known, run_load.load(conn, [each.id for each in known.values()]), strict=True))
    for each in given:
        own_id = each.fields.info.run_id
        if new.get(own_id) is each:
            found.append(done[own_id])
        elif own_id in known:
            found.append(_tried(conn, own_id, partial(_completed, given=each, known=known[own_id], before=before[own_id])))
        else:
            found.append(done[own_id])
    return found


def _tried(conn: Connection, own_id: str, work: Callable[[Connection], Done]) -> Done:
    try:
        with conn.begin_nested():
            return work(conn)
    except _WRONG as error:
        return Done(own_id, "refused", why=str(getattr(error, "orig", error)))


def _one(conn: Connection, given: wire.Run) -> Done:
    return _fresh(conn, [given])[0]


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


def _fresh(conn: Connection, given: Sequence[wire.Run]) -> list[Done]:
    """New runs, with few statements however many they are."""
    if not given:
        return []
    owners = {name: _owner(conn, name) for name in {each.experiment for each in given}}
    named = [(each, _name(each) or names.make()) for each in given]
    columns = ("uuid", "experiment", "name", "user_id", "status", "start_time", "end_time", "artifact_uri", "lifecycle_stage")
    rows.insert(conn, run, columns, [_row(each, name, owners[each.experiment]) for each, name in named])
    known = _known(conn, [each.fields.info.run_id for each in given])
    params, tags, batches = [], [], []
    for each, name in named:
        key, data = known[each.fields.info.run_id].id, each.fields.data
        pairs = {one.key: one.value for one in data.params}
        params += [(key, one, limits.cut(value, limits.PARAM_VALUE)) for one, value in pairs.items()]
        labels = {one.key: one.value for one in data.tags} | {runs.NAME_TAG: name}
        tags += [(key, one, limits.cut(value, limits.TAG_VALUE)) for one, value in labels.items()]
        points = [point for series in each.series for point in _points(series)]
        batches += [(key, *metrics.pack(points))] if points else []
    rows.insert(conn, param, ("run", "key", "value"), params)
    rows.insert(conn, tag, ("run", "key", "value"), tags)
    metrics.insert(conn, batches)
    for each in given:
        _links(conn, each, known[each.fields.info.run_id].id)
    return [Done(each.fields.info.run_id, "new", known[each.fields.info.run_id].artifact_uri) for each in given]


def _name(given: wire.Run) -> str:
    """The run's name, which its tag has too."""
    return given.fields.info.run_name or next((each.value for each in given.fields.data.tags if each.key == runs.NAME_TAG), "")


def _owner(conn: Connection, name: str) -> Row[Any]:
    return experiments.row(conn, str(_experiment(conn, Experiment("", name, "", "active", 0, 0))))


def _row(given: wire.Run, name: str, owner: Row[Any]) -> tuple[Any, ...]:
    info = given.fields.info
    uuid = limits.run_id(info.run_id)
    for key in (*(each.key for each in given.fields.data.params), *(each.key for each in given.fields.data.tags)):
        limits.key(key, "key")
    root = experiments.below(owner.artifact_location, uuid, "artifacts")
    end = None if info.end_time is UNSET else info.end_time
    return uuid, owner.id, name, info.user_id, info.status, info.start_time, end, root, info.lifecycle_stage


def _completed(conn: Connection, given: wire.Run, known: Row[Any], before: Run) -> Done:
    """What is there stays, and what is missing is added; a run that had not ended takes the status and the tags of now."""
    info, data = given.fields.info, given.fields.data
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
    missing = _missing(conn, known.id, given.series)
    metrics.append(conn, known.id, missing)
    linked = _links(conn, given, known.id, before)
    return Done(info.run_id, "completed" if changes or missing or linked else "same", known.artifact_uri)


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


def _missing(conn: Connection, key: int, given: Sequence[Series]) -> list[metrics.Point]:
    """The points that the run does not have."""
    stored = histories.whole(conn, key) if given else {}
    found: list[metrics.Point] = []
    for series in given:
        points = _points(series)
        if (own := stored.get(series.key)) is not None:
            have = set(zip(map(_same, own.values.tolist()), own.times.tolist(), own.steps.tolist(), strict=True))
            points = [point for point in points if (_same(point[1]), point[2], point[3]) not in have]
        found += points
    return found


def _same(value: float) -> float | str:
    """NaN is not equal to itself, so it is named."""
    return value if value == value else "NaN"


def _links(conn: Connection, given: wire.Run, key: int, before: Run | None = None) -> bool:
    """Data sets and models that a run reads and writes. Whether there was one that `before` did not have."""
    inputs, outputs = given.fields.inputs, given.fields.outputs
    data = {(each.dataset.name, each.dataset.digest) for each in before.inputs.dataset_inputs} if before else set()
    fresh = [each for each in inputs.dataset_inputs if (each.dataset.name, each.dataset.digest) not in data]
    read = {each.model_id for each in before.inputs.model_inputs} if before else set()
    written = {each.model_id for each in before.outputs.model_outputs} if before else set()
    links = [(each.model_id, "input", 0) for each in inputs.model_inputs if each.model_id not in read]
    links += [(each.model_id, "output", each.step) for each in outputs.model_outputs if each.model_id not in written]
    runs.put_datasets(conn, key, fresh)
    rows.keep(conn, run_model, [{"run": key, "model_id": own, "direction": way, "step": step} for own, way, step in links])
    return bool(fresh or links)


def _logged_model(conn: Connection, given: wire.LoggedModel) -> Done:
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
    done = [_tried(conn, f"{each.name}/{each.version}", partial(_version, key=key, given=each)) for each in given.versions]
    last = max((int(each.version) for each in given.versions), default=0)
    conn.execute(
        update(registered_model)
        .where(registered_model.c.id == key, registered_model.c.last_version < last)
        .values(last_version=last)
    )
    _aliases(conn, key, given.model)
    return done


def _version(conn: Connection, key: int, given: ModelVersion) -> Done:
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
    owners = dict(conn.execute(select(experiment.c.id, experiment.c.name)).tuples().all())
    count = 0
    for run_id in request.run_ids[: wire.RUNS]:
        if run_id not in known:
            raise NotFound(f"Run with id={run_id[:64]} not found", "`noria runs list` shows the runs there are.")
        if found and count > wire.POINTS:
            break
        fields = run_load.load(conn, [known[run_id].id])[0]
        series = [Series(key, own.values.tolist(), own.times.tolist(), own.steps.tolist())
                  for key, own in sorted(histories.whole(conn, known[run_id].id).items())]  # fmt: skip
        count += sum(len(each.steps) for each in series)
        bare = structs.replace(fields, data=RunData([], fields.data.params, fields.data.tags))
        found.append(wire.Run(owners[known[run_id].experiment], bare, series))
    return wire.Exported(found)
