"""Live push to a page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from noria.server.route import State
from noria.wire import limits
from noria.wire.live import WATCH


async def watch(request: Request, state: State) -> Response:
    run_id = limits.run_id(request.query_params.get("run_id", ""))
    return StreamingResponse(state.hub.watch(run_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


STREAMS = [("GET", WATCH, watch)]
