"""What this server is. /health and /version answer without a token, so that a client can say what is wrong."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from noria.server.route import State

MLFLOW_VERSION = "3.3.0"
"""MLflow's clients read this as a switch: from 3.4 on they send traces, which this server does not keep."""


async def health(request: Request, state: State) -> Response:
    return PlainTextResponse("OK")


async def version(request: Request, state: State) -> Response:
    return PlainTextResponse(MLFLOW_VERSION)


async def server_info(request: Request, state: State) -> Response:
    off = ("workspaces_enabled", "trace_archival_enabled", "multipart_downloads_enabled")
    on = {"multipart_uploads_enabled": state.artifacts.in_parts}
    return JSONResponse({"store_type": "SqlStore", **dict.fromkeys(off, False), **on})


STREAMS = [("GET", "/health", health), ("GET", "/version", version), ("GET", "/api/3.0/mlflow/server-info", server_info)]
