"""Artifact listings. Bodies of files are streams: PUT, GET and DELETE on `CONTENT`, written by hand in the server."""

from __future__ import annotations

from msgspec import Struct

from noria.errors import Unsupported
from noria.types import File
from noria.wire.endpoint import MLFLOW, Endpoint

CONTENT = "/api/2.0/mlflow-artifacts/artifacts"
SCHEME = "mlflow-artifacts:/"


def inside(uri: str) -> str:
    """An artifact URI as a path in the server's own tree; Unsupported for a place that only clients reach."""
    if not uri.startswith(SCHEME):
        raise Unsupported(f"The artifacts are kept at {uri[:200]}, outside of this server.", "Read them there.")
    return uri.removeprefix(SCHEME).strip("/")


class List(Struct, frozen=True):
    run_id: str = ""
    run_uuid: str = ""
    path: str = ""
    page_token: str = ""


class Listed(Struct, frozen=True, omit_defaults=True):
    root_uri: str = ""
    files: list[File] = []


class ListRoot(Struct, frozen=True):
    path: str = ""


LIST = Endpoint("GET", f"{MLFLOW}/artifacts/list", List, Listed)
LIST_ROOT = Endpoint("GET", CONTENT, ListRoot, Listed)
