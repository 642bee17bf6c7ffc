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
from starlette.types import ASGIApp, Receive, Scope, Send

from noria.door import Gate
from noria.errors import NoriaError
from noria.plugins import Kind
from noria.server import page, problem
from noria.server.route import State, handler

Handler = Callable[[Request], Awaitable[Response]]
APIS: Kind[ModuleType] = Kind("noria.server.api")


def build(state: State, token: str, *, ask: bool) -> ASGIApp:
    """The ASGI application. ask: whether requests must carry the token, or one that was made of it for a job."""
    routes = [route for name in APIS.names() for route in _routes(APIS.module(name), state)]
    routes += [Route(path, page.page, methods=["GET"]) for path in page.PATHS]
    handlers: dict[Any, Any] = {NoriaError: problem.known, HTTPException: problem.missing, Exception: problem.unknown}
    return Gate(Direct(routes, Starlette(routes=routes, exception_handlers=handlers)), token, ask=ask)


class Direct:
    """Routes whose path has no fields are found by one look-up: going through all of them costs more than a small request.

    Those that end in a file's path are found by their beginning; Starlette would also lose what comes after a line break in it.
    """

    def __init__(self, routes: list[Route], others: ASGIApp) -> None:
        self._others = others
        self._known: dict[tuple[str, str], Handler] = {}
        self._files: dict[str, dict[str, Handler]] = {}
        for route in routes:
            beginning, _, field = route.path.partition("{")
            if not field:
                self._known.update({(method, route.path): route.endpoint for method in route.methods or ()})
            elif field == "path:path}":
                self._files.setdefault(beginning, {}).update(dict.fromkeys(route.methods or (), route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handle = self._find(scope) if scope["type"] == "http" else None
        if handle is None:
            await self._others(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await handle(request)
        except NoriaError as error:
            response = problem.respond(error)
        except Exception as error:
            response = await problem.unknown(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> Handler | None:
        method, path = scope["method"], scope["path"]
        handle = self._known.get((method, path))
        if handle is not None:
            return handle
        for beginning, methods in self._files.items():
            if path.startswith(beginning) and method in methods:
                scope["path_params"] = {"path": path[len(beginning) :]}
                return methods[method]
        return None


def _routes(api: ModuleType, state: State) -> list[Route]:
    rows = [(row.endpoint.method, row.endpoint.path, handler(row, state)) for row in getattr(api, "ROUTES", [])]
    streams = [(method, path, _bound(stream, state)) for method, path, stream in getattr(api, "STREAMS", [])]
    found = []
    for method, path, function in [*rows, *streams]:
        found.append(Route(path, function, methods=[method]))
        if path.startswith("/api/"):  # MLflow serves its own page under this prefix; scripts copied from it use it too.
            found.append(Route(f"/ajax-{path[1:]}", function, methods=[method]))
    return found


def _bound(stream: Callable[[Request, State], Awaitable[Response]], state: State) -> Handler:
    async def handle(request: Request) -> Response:
        return await stream(request, state)

    return handle
