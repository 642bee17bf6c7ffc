"""Whole runs, from their keys to what goes over the wire, in a fixed number of queries however many they are.

A page of a thousand runs is some 35,000 rows, so the rows are taken from the driver's cursor as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Column, Connection, Row, Select, Table, bindparam, select

from noria.store import rows
from noria.store.schema import dataset, latest, param, run, run_model, tag
from noria.types import (
    DatasetInput,
    Metric,
    ModelInput,
    ModelOutput,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunStatus,
    Tag,
    clamped,
)

read_dataset = msgspec.json.Decoder(DatasetInput).decode


def _of(table: Table, owner: Column[Any], *columns: Column[Any]) -> Select[Any]:
    """Rows of the runs `keys`, of each run together, by key."""
    query = select(owner, *columns).where(owner.in_(bindparam("keys", expanding=True)))
    return query.order_by(*table.primary_key)


_INFO = (run.c.uuid, run.c.name, run.c.experiment, run.c.user_id, run.c.status, run.c.start_time, run.c.artifact_uri, run.c.lifecycle_stage,
         run.c.end_time)  # fmt: skip
_RUNS = _of(run, run.c.id, *_INFO)
_PARAMS = _of(param, param.c.run, param.c.key, param.c.value)
_TAGS = _of(tag, tag.c.run, tag.c.key, tag.c.value)
_METRICS = _of(latest, latest.c.run, latest.c.key, latest.c.value, latest.c.timestamp, latest.c.step)
_DATASETS = _of(dataset, dataset.c.run, dataset.c.body)
_MODELS = _of(run_model, run_model.c.run, run_model.c.direction, run_model.c.model_id, run_model.c.step)


def load(conn: Connection, keys: Sequence[int]) -> list[Run]:
    """The runs with these keys, in their order."""
    return [each for chunk in rows.chunks(keys) for each in _load(conn, chunk)]


def _load(conn: Connection, keys: Sequence[int]) -> Iterator[Run]:
    infos = {key: _info(*values) for key, *values in _rows(conn, _RUNS, keys)}
    metrics: dict[int, list[Metric]] = {key: [] for key in keys}
    params: dict[int, list[Param]] = {key: [] for key in keys}
    tags: dict[int, list[Tag]] = {key: [] for key in keys}
    for key, name, value, time, step in _rows(conn, _METRICS, keys):
        finite = value is not None and -math.inf < value < math.inf
        metrics[key].append(Metric(name, value if finite else clamped(math.nan if value is None else value), time, step))
    for key, name, value in _rows(conn, _PARAMS, keys):
        params[key].append(Param(name, value))
    for key, name, value in _rows(conn, _TAGS, keys):
        tags[key].append(Tag(name, value))
    inputs, outputs = _links(conn, keys)
    return (
        Run(
            infos[key],
            RunData(metrics[key], params[key], tags[key]),
            inputs.get(key, RunInputs()),
            outputs.get(key, RunOutputs()),
        )
        for key in keys
    )


def _rows(conn: Connection, query: Select[Any], keys: Sequence[int]) -> Sequence[Any]:
    result = conn.execute(query, {"keys": keys})
    found = result.cursor.fetchall()
    result.close()
    return found


def info(found: Row[Any]) -> RunInfo:
    return _info(*(getattr(found, column.name) for column in _INFO))


def _info(
    uuid: str,
    name: str,
    experiment: int,
    user: str,
    status: RunStatus,
    start_time: int,
    uri: str,
    stage: str,
    end_time: int | None,
) -> RunInfo:
    end = UNSET if end_time is None else end_time
    return RunInfo(uuid, uuid, name, str(experiment), user, status, start_time, uri, stage, end)


def _links(conn: Connection, keys: Sequence[int]) -> tuple[dict[int, RunInputs], dict[int, RunOutputs]]:
    """Data sets and models that runs read, and models that they wrote."""
    inputs: dict[int, RunInputs] = {}
    outputs: dict[int, RunOutputs] = {}
    for key, body in _rows(conn, _DATASETS, keys):
        inputs.setdefault(key, RunInputs([], [])).dataset_inputs.append(read_dataset(body))
    for key, direction, model, step in _rows(conn, _MODELS, keys):
        if direction == "input":
            inputs.setdefault(key, RunInputs([], [])).model_inputs.append(ModelInput(model))
        else:
            outputs.setdefault(key, RunOutputs([])).model_outputs.append(ModelOutput(model, step))
    return inputs, outputs
