"""The same runs for both: made of their number alone, and put into the tables in bulk, since MLflow's API takes 40 to 67 runs a
second. Nothing of this is measured."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from peers import mlflow_uri

FIRST = 1_700_000_000_000
"""Milliseconds; a run starts a minute after the one before it."""
PARAMS, METRICS, TAGS = 20, 10, 5
_AT_ONCE = 1000


class Made(NamedTuple):
    uuid: str
    name: str
    start: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def made(first: int, count: int) -> Iterator[Made]:
    """Runs with these numbers. A value of param_k is had by one run in 10 (k even) or by hardly any other (k odd)."""
    for number in range(first, first + count):
        dice = random.Random(number)
        params = {f"param_{k}": f"v{dice.randrange(10)}" if k % 2 == 0 else f"{dice.random():.6f}" for k in range(PARAMS)}
        metrics = {f"metric_{k}": dice.random() for k in range(METRICS)}
        tags = {f"tag_{k}": f"t{dice.randrange(50)}" for k in range(TAGS)}
        name = f"run-{number:07}"
        yield Made(
            f"{dice.getrandbits(128):032x}", name, FIRST + 60_000 * number, params, metrics, {**tags, "mlflow.runName": name}
        )


def _groups(first: int, count: int) -> Iterator[list[Made]]:
    runs = made(first, count)
    while group := list(islice(runs, _AT_ONCE)):
        yield group


def noria(database: Path | str, count: int, first: int = 0) -> None:
    """Into experiment 0 of a database that no server has open."""
    from noria.store import experiments
    from noria.store.store import Store

    store = Store(database, power=False)
    store.write(experiments.seed).result()
    for group in _groups(first, count):
        store.write(lambda conn, group=group: _insert(conn, group)).result()  # type: ignore[misc]
    store.read(lambda conn: None)  # Until `latest` has it all.
    store.close()


def _insert(conn: Any, group: Sequence[Made]) -> None:
    from noria.store import metrics, rows, runs
    from noria.store.schema import param, run, tag

    columns = ("uuid", "experiment", "name", "user_id", "status", "start_time", "end_time", "artifact_uri", "lifecycle_stage")
    rows.insert(conn, run, columns, [
        (it.uuid, 0, it.name, "bench", "FINISHED", it.start, it.start + 1, f"mlflow-artifacts:/0/{it.uuid}/artifacts", "active")
        for it in group
    ])  # fmt: skip
    keys = dict(runs.active(conn, [it.uuid for it in group]))
    for table, pairs in ((param, [it.params for it in group]), (tag, [it.tags for it in group])):
        listed = [(keys[it.uuid], key, value) for it, own in zip(group, pairs, strict=True) for key, value in own.items()]
        rows.insert(conn, table, ("run", "key", "value"), listed)
    batches = [(keys[it.uuid], *metrics.pack([(key, value, it.start, 1) for key, value in it.metrics.items()])) for it in group]
    metrics.insert(conn, batches)


def mlflow(database: Path | str, count: int) -> None:
    with _tables(database) as (conn, tables):
        for group in _groups(0, count):
            conn.execute(tables.SqlRun.__table__.insert(), [
                {"run_uuid": it.uuid, "name": it.name, "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
                 "user_id": "bench", "status": "FINISHED", "start_time": it.start, "end_time": it.start + 1, "source_version": "",
                 "lifecycle_stage": "active", "artifact_uri": f"mlflow-artifacts:/0/{it.uuid}/artifacts", "experiment_id": 0}
                for it in group
            ])  # fmt: skip
            for table, pairs in ((tables.SqlParam, "params"), (tables.SqlTag, "tags")):
                listed = [
                    {"run_uuid": it.uuid, "key": key, "value": value} for it in group for key, value in getattr(it, pairs).items()
                ]
                conn.execute(table.__table__.insert(), listed)
            points = [(it.uuid, key, value, it.start, 1) for it in group for key, value in it.metrics.items()]
            _points(conn, tables.SqlMetric, points)
            _points(conn, tables.SqlLatestMetric, points)


def mlflow_history(database: Path | str, run_id: str, key: str, points: Sequence[tuple[float, int, int]]) -> None:
    """A run and the history of one metric, (value, timestamp, step) each."""
    with _tables(database) as (conn, tables):
        conn.execute(tables.SqlRun.__table__.insert(), [
            {"run_uuid": run_id, "name": "long", "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "user_id": "",
             "status": "RUNNING", "start_time": FIRST, "source_version": "", "lifecycle_stage": "active", "artifact_uri": "",
             "experiment_id": 0}
        ])  # fmt: skip
        for start in range(0, len(points), 50_000):
            _points(conn, tables.SqlMetric, [(run_id, key, *point) for point in points[start : start + 50_000]])
        _points(conn, tables.SqlLatestMetric, [(run_id, key, *max(points, key=lambda point: point[2]))])


def _points(conn: Any, table: Any, points: Sequence[tuple[str, str, float, int, int]]) -> None:
    names = ("run_uuid", "key", "value", "timestamp", "step")
    conn.execute(table.__table__.insert(), [{**dict(zip(names, point, strict=True)), "is_nan": False} for point in points])


@contextmanager
def _tables(database: Path | str) -> Iterator[tuple[Any, Any]]:
    """A transaction in a database with MLflow's tables, made by its own store, and its classes of them."""
    from mlflow.store.tracking import sqlalchemy_store
    from mlflow.store.tracking.dbmodels import models

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    make: Any = sqlalchemy_store.SqlAlchemyStore
    engine = make(mlflow_uri(database), "mlflow-artifacts:/").engine
    with engine.begin() as connection:
        yield connection, models
    engine.dispose()
