"""Runs, with their params, tags and metrics."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from noria.server.live import CHANGED, Event, Hub
from noria.server.route import State, answer, read, read_query, write
from noria.store import run_histories, run_search, runs, summaries
from noria.types import Metric, number
from noria.wire import runs as wire

_PAGE = 25_000


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


async def get_history(request: Request, state: State) -> Response:
    """One page; or everything, as a stream of pages, so that memory stays flat."""
    query = await read_query(wire.GET_HISTORY, request)

    async def page(token: str) -> wire.History:
        asked = msgspec.structs.replace(
            query, max_results=_PAGE if query.max_results is UNSET else query.max_results, page_token=token
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(state.readers, state.store.read, lambda conn: run_histories.get_history(conn, asked))

    first = await page(query.page_token)
    if query.max_results is not UNSET or not first.next_page_token:
        return answer(wire.GET_HISTORY, first)

    async def pages() -> AsyncIterator[bytes]:
        yield b'{"metrics":' + msgspec.json.encode(first.metrics)[:-1]
        token = first.next_page_token
        while token:
            more = await page(token)
            token = more.next_page_token
            yield b"," + msgspec.json.encode(more.metrics)[1:-1]
        yield b"]}"

    return StreamingResponse(pages(), media_type="application/json")


ROUTES = [
    write(wire.CREATE, runs.create),
    read(wire.GET, runs.get),
    write(wire.UPDATE, runs.change, _changed),
    write(wire.DELETE, runs.remove),
    write(wire.RESTORE, runs.restore),
    read(wire.SEARCH, run_search.search),
    read(wire.COUNT, run_search.count),
    write(wire.LOG_METRIC, runs.log_metric, _metric, runs.packed),
    write(wire.LOG_PARAM, runs.log_param, _changed),
    write(wire.LOG_BATCH, runs.log_batch, _batch, runs.packed),
    write(wire.LOG_INPUTS, runs.log_inputs),
    write(wire.LOG_OUTPUTS, runs.log_outputs),
    write(wire.LOG_MODEL, runs.log_model),
    write(wire.SET_TAG, runs.set_tag, _changed),
    write(wire.DELETE_TAG, runs.delete_tag),
    read(wire.GET_BULK, run_histories.get_bulk),
    read(wire.GET_INTERVAL, run_histories.get_interval),
    read(wire.RESOLVE, runs.resolve),
    read(wire.CURVE, run_histories.curve),
    read(wire.SUMMARY, summaries.summarise),
]
STREAMS = [(wire.GET_HISTORY.method, wire.GET_HISTORY.path, get_history)]
