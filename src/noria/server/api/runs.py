"""Runs, with their params, tags and metrics."""

from noria.server.live import CHANGED, Event, Hub
from noria.server.route import read, write
from noria.store import runs, summaries
from noria.types import Metric, number
from noria.wire import runs as wire


def _changed(hub: Hub, request: wire.Update | wire.SetTag | wire.LogParam, _: object) -> None:
    hub.tell(request.run_id or request.run_uuid, lambda: [CHANGED])


def _metric(hub: Hub, request: wire.LogMetric, _: object) -> None:
    point = Metric(request.key, number(request.value), request.timestamp, request.step)
    hub.tell(request.run_id or request.run_uuid, lambda: [Event("log", [point])])


def _batch(hub: Hub, request: wire.LogBatch, _: object) -> None:
    if request.metrics:
        hub.tell(
            request.run_id,
            lambda: [Event("log", [Metric(m.key, number(float(m.value)), m.timestamp, m.step) for m in request.metrics])],
        )
    if request.params or request.tags:
        hub.tell(request.run_id, lambda: [CHANGED])


ROUTES = [
    write(wire.CREATE, runs.create),
    read(wire.GET, runs.get),
    write(wire.UPDATE, runs.change, _changed),
    write(wire.DELETE, runs.remove),
    write(wire.RESTORE, runs.restore),
    read(wire.SEARCH, runs.search),
    write(wire.LOG_METRIC, runs.log_metric, _metric, runs.packed),
    write(wire.LOG_PARAM, runs.log_param, _changed),
    write(wire.LOG_BATCH, runs.log_batch, _batch, runs.packed),
    write(wire.LOG_INPUTS, runs.log_inputs),
    write(wire.LOG_OUTPUTS, runs.log_outputs),
    write(wire.SET_TAG, runs.set_tag, _changed),
    write(wire.DELETE_TAG, runs.delete_tag),
    read(wire.GET_HISTORY, runs.get_history),
    read(wire.RESOLVE, runs.resolve),
    read(wire.CURVE, runs.curve),
    read(wire.SUMMARY, summaries.summarise),
]
