"""Artifacts: listings by rows, contents as streams."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from noria.errors import Invalid
from noria.server.route import State, answer
from noria.store import logged_models, registry, runs
from noria.store.artifacts import Artifacts
from noria.store.store import Connection
from noria.types import File
from noria.wire import artifacts as wire
from noria.wire import limits
from noria.wire import logged_models as logged_wire
from noria.wire import registry as registry_wire
from noria.wire.endpoint import convert

_TEXT = {"MLmodel", "MLproject", "LICENSE", "README"}
_TEXT_ENDINGS = (".txt", ".log", ".yaml", ".yml", ".json", ".csv", ".tsv", ".md", ".py", ".sh", ".cfg", ".toml", ".rst")


async def _root(state: State, find: Callable[[Connection], str]) -> tuple[str, str]:
    """An artifact root, as the URI that `find` reads and as a path in the tree."""
    uri = await asyncio.to_thread(state.store.read, find)
    return uri, wire.inside(uri)


def _of_run(request: Request) -> Callable[[Connection], str]:
    asked = convert(wire.List, dict(request.query_params))
    return lambda conn: str(runs.row(conn, asked.run_id or asked.run_uuid).artifact_uri)


def _of_model(request: Request) -> Callable[[Connection], str]:
    model_id = request.path_params["model_id"]
    return lambda conn: str(logged_models.row(conn, model_id, deleted=False).artifact_uri)


def _of_version(request: Request) -> Callable[[Connection], str]:
    asked = convert(registry_wire.VersionKey, dict(request.query_params))
    return lambda conn: registry.location(conn, asked.name, asked.version)


def _list(state: State, root: str, path: str) -> list[File]:
    return state.artifacts.list("/".join(part for part in (root, path) if part), relative_to=root)


async def listed(request: Request, state: State) -> Response:
    path = limits.served_path(request.query_params.get("path", ""))
    uri, root = await _root(state, _of_run(request))
    return answer(wire.LIST, wire.Listed(uri, _list(state, root, path)))


async def listed_of_model(request: Request, state: State) -> Response:
    path = limits.served_path(request.query_params.get("artifact_directory_path", ""))
    uri, root = await _root(state, _of_model(request))
    return answer(logged_wire.LIST_ARTIFACTS, logged_wire.Artifacts(uri, _list(state, root, path)))


async def listed_root(request: Request, state: State) -> Response:
    path = request.query_params.get("path", "")
    return answer(wire.LIST_ROOT, wire.Listed(files=state.artifacts.list(path, relative_to=path)))


def _download(artifacts: Artifacts, path: str) -> Response:
    file = artifacts.file(path)
    text = file.name in _TEXT or file.suffix in _TEXT_ENDINGS
    kind = "text/plain" if text else mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": f"attachment; filename*=utf-8''{quote(file.name)}"}
    return FileResponse(file, media_type=kind, headers=headers)


async def get(request: Request, state: State) -> Response:
    return _download(state.artifacts, request.path_params["path"])


async def get_of_run(request: Request, state: State) -> Response:
    return await _get_below(request, state, "path", _of_run(request))


async def get_of_model(request: Request, state: State) -> Response:
    return await _get_below(request, state, "artifact_file_path", _of_model(request))


async def get_of_version(request: Request, state: State) -> Response:
    return await _get_below(request, state, "path", _of_version(request))


async def _get_below(request: Request, state: State, parameter: str, find: Callable[[Connection], str]) -> Response:
    path = limits.served_path(request.query_params.get(parameter, ""))
    if not path:
        raise Invalid(f'Request must include the "{parameter}" query parameter.')
    _, root = await _root(state, find)
    return _download(state.artifacts, f"{root}/{path}")


async def put(request: Request, state: State) -> Response:
    upload = state.artifacts.upload(request.path_params["path"])
    try:
        async for block in request.stream():
            if block:
                await asyncio.to_thread(upload.write, block)
        await asyncio.to_thread(upload.commit)
    except BaseException as error:
        upload.abandon()
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)  # Nobody is there to read it.
        raise
    return Response(b"")


async def delete(request: Request, state: State) -> Response:
    await asyncio.to_thread(state.artifacts.delete, request.path_params["path"])
    return Response(b"{}", media_type="application/json")


STREAMS = [
    ("GET", wire.LIST.path, listed),
    ("GET", wire.LIST_ROOT.path, listed_root),
    ("GET", f"{wire.CONTENT}/{{path:path}}", get),
    ("PUT", f"{wire.CONTENT}/{{path:path}}", put),
    ("DELETE", f"{wire.CONTENT}/{{path:path}}", delete),
    ("GET", "/get-artifact", get_of_run),
    ("GET", "/model-versions/get-artifact", get_of_version),
    ("GET", logged_wire.LIST_ARTIFACTS.path, listed_of_model),
    ("GET", logged_wire.LIST_ARTIFACTS.path.replace("directories", "files"), get_of_model),
]
