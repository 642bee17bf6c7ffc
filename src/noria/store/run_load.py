"""Whole runs, from their keys to what goes over the wire, in a fixed number of queries however many they are.

A page of a thousand runs is some 35,000 rows, so the rows are taken from the driver's cursor as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, Row

from noria.store import rows
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
_INFO = ("uuid", "name", "experiment", "user_id", "status", "start_time", "artifact_uri", "lifecycle_stage", "end_time")
_RUNS = f"SELECT id, {', '.join(_INFO)} FROM run WHERE id"  # noqa: S608 (our own names)
_PARAMS = "SELECT run, key, value FROM param WHERE run"
_TAGS = "SELECT run, key, value FROM tag WHERE run"
_METRICS = "SELECT run, key, value, timestamp, step FROM latest WHERE run"
_DATASETS = "SELECT run, body FROM dataset WHERE run"
_MODELS = "SELECT run, direction, model_id, step FROM run_model WHERE run"
_BY_KEY = "ORDER BY run, key"


def load(conn: Connection, keys: Sequence[int]) -> list[Run]:
    """The runs with these keys, in their order."""
    return [each for chunk in rows.chunks(keys) for each in _load(conn, chunk)]


def _load(conn: Connection, keys: Sequence[int]) -> Iterator[Run]:
    infos = {key: _info(*values) for key, *values in _rows(conn, _RUNS, keys)}
    metrics: dict[int, list[Metric]] = {key: [] for key in keys}
    params: dict[int, list[Param]] = {key: [] for key in keys}
    tags: dict[int, list[Tag]] = {key: [] for key in keys}
    for key, name, value, time, step in _rows(conn, _METRICS, keys, _BY_KEY):
        finite = value is not None and -math.inf < value < math.inf
        metrics[key].append(Metric(name, value if finite else clamped(math.nan if value is None else value), time, step))
    for key, name, value in _rows(conn, _PARAMS, keys, _BY_KEY):
        params[key].append(Param(name, value))
    for key, name, value in _rows(conn, _TAGS, keys, _BY_KEY):
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


def _rows(conn: Connection, query: str, keys: Sequence[int], order: str = "") -> Sequence[Any]:
    result = rows.among(conn, query, keys, order)
    found: Sequence[Any] = result.cursor.fetchall()
    result.close()
    return found


def info(found: Row[Any]) -> RunInfo:
    return _info(*(getattr(found, name) for name in _INFO))


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
    for key, body in _rows(conn, _DATASETS, keys, "ORDER BY run, seq, name, digest"):
        inputs.setdefault(key, RunInputs([], [])).dataset_inputs.append(read_dataset(body))
    for key, direction, model, step in _rows(conn, _MODELS, keys, "ORDER BY run, model_id"):
        if direction == "input":
            inputs.setdefault(key, RunInputs([], [])).model_inputs.append(ModelInput(model))
        else:
            outputs.setdefault(key, RunOutputs([])).model_outputs.append(ModelOutput(model, step))
    return inputs, outputs
