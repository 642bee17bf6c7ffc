"""The application: every row of `wire` with its handler, the page, and the gate in front."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from noria.door import Gate
from noria.errors import NoriaError
from noria.plugins import Kind
from noria.server import page, problem
from noria.server.route import State, handler

APIS: Kind[ModuleType] = Kind("noria.server.api")


def build(state: State, token: str, *, ask: bool) -> ASGIApp:
    """The ASGI application. ask: whether requests must carry the token, or one that was made of it for a job."""
    routes = [route for name in APIS.names() for route in _routes(APIS.module(name), state)]
    routes += [Route(path, page.page, methods=["GET"]) for path in page.PATHS]
    handlers: dict[Any, Any] = {NoriaError: problem.known, HTTPException: problem.missing, Exception: problem.unknown}
    return Gate(Starlette(routes=routes, exception_handlers=handlers), token, ask=ask)


def _routes(api: ModuleType, state: State) -> list[Route]:
    rows = [(row.endpoint.method, row.endpoint.path, handler(row, state)) for row in getattr(api, "ROUTES", [])]
    streams = [(method, path, _bound(stream, state)) for method, path, stream in getattr(api, "STREAMS", [])]
    found = []
    for method, path, function in [*rows, *streams]:
        found.append(Route(path, function, methods=[method]))
        if path.startswith("/api/"):  # MLflow serves its own page under this prefix; scripts copied from it use it too.
            found.append(Route(f"/ajax-{path[1:]}", function, methods=[method]))
    return found


def _bound(stream: Callable[[Request, State], Awaitable[Response]], state: State) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return await stream(request, state)

    return handle
