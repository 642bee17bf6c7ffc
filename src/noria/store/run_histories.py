"""The histories of runs' metrics, whole, of several runs, sampled, or as a curve to draw."""

from __future__ import annotations

from msgspec import UNSET
from sqlalchemy import Connection

from noria.errors import Invalid
from noria.store import chunks, histories, page, runs
from noria.store.chunks import Points
from noria.types import Metric, clamped
from noria.wire import runs as wire
from noria.wire.fit import missing

_BULK_RUNS, _SAMPLES = 100, 2500


def get_history(conn: Connection, request: wire.GetHistory) -> wire.History:
    start = page.offset(request.page_token)
    size = 2**31 if request.max_results is UNSET else page.size(request.max_results, 25_000)
    key = runs.row(conn, request.run_id or request.run_uuid).id
    points, more = histories.history(conn, key, request.metric_key, start, size)
    return wire.History(_metrics(request.metric_key, points), page.token(start + size) if more else "")


def _metrics(key: str, points: Points) -> list[Metric]:
    columns = histories.numbers(points.values, clamped), points.times.tolist(), points.steps.tolist()
    return [Metric(key, value, time, step) for value, time, step in zip(*columns, strict=True)]


def get_bulk(conn: Connection, request: wire.GetBulk) -> wire.Bulk:
    if not request.run_id:
        raise Invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(request.run_id) > _BULK_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulk request cannot specify more than {_BULK_RUNS} run_ids. Received {len(request.run_id)} run_ids."
        )
    if not request.metric_key:
        raise Invalid("GetMetricHistoryBulk request must specify a metric_key.")
    found: list[wire.OfRun] = []
    for uuid in sorted(set(request.run_id)):
        left = min(request.max_results, 25_000) - len(found)
        if left > 0:
            points, _ = histories.history(conn, runs.row(conn, uuid).id, request.metric_key, 0, left)
            found += _of_run(request.metric_key, points, uuid)
    return wire.Bulk(found)


def get_interval(conn: Connection, request: wire.GetInterval) -> wire.Bulk:
    low, high = request.start_step, request.end_step
    if not request.run_ids:
        raise missing("run_ids")
    if len(request.run_ids) > _BULK_RUNS:
        raise Invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {_BULK_RUNS} run_ids. Received {len(request.run_ids)} run_ids."
        )
    if not 1 <= request.max_results <= _SAMPLES:
        raise Invalid(f"max_results must be between 1 and {_SAMPLES}.")
    if low is UNSET and high is UNSET:
        low, high = histories.LEAST, histories.MOST
    elif low is UNSET or high is UNSET:
        raise Invalid("If either start step or end step are specified, both must be specified.")
    elif low > high:
        raise Invalid(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    found: list[wire.OfRun] = []
    for uuid in request.run_ids:
        points = histories.everything(conn, runs.row(conn, uuid).id, request.metric_key, low, high)
        found += _of_run(request.metric_key, chunks.sample(points, request.max_results), uuid)
    return wire.Bulk(found)


def _of_run(key: str, points: Points, uuid: str) -> list[wire.OfRun]:
    columns = histories.numbers(points.values, clamped), points.times.tolist(), points.steps.tolist()
    return [wire.OfRun(key, value, time, step, uuid) for value, time, step in zip(*columns, strict=True)]


def curve(conn: Connection, request: wire.Curve) -> wire.Points:
    return histories.curve(conn, runs.row(conn, request.run_id).id, request)
