"""An error as a response: MLflow's body, the right status, one sentence, no traceback."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from noria import door
from noria.errors import NoriaError

log = logging.getLogger("noria.server")


def respond(error: NoriaError) -> Response:
    status, headers, body = door.problem(error)
    return Response(body, status, headers)


async def known(request: Request, error: Exception) -> Response:
    assert isinstance(error, NoriaError)
    return respond(error)


async def unknown(request: Request, error: Exception) -> Response:
    """A defect of ours. Its traceback is for the log; the client gets a sentence."""
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(NoriaError(f"The server failed at this ({type(error).__name__}).", "Its log says more; please report it."))


async def missing(request: Request, error: Exception) -> Response:
    """Not JSON: MLflow's clients read a non-JSON 404 as "this server cannot do that" and go on without."""
    status: int = getattr(error, "status_code", 404)
    return Response(f"<h1>{status}</h1><p>Noria has nothing at {request.method} {request.url.path[:200]!a}.</p>".replace("\\x", "%"),
                    status, media_type="text/html")  # fmt: skip
