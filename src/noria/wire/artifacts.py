"""Artifacts: listings, and uploads in parts. Bodies of files are streams: PUT, GET and DELETE on `CONTENT`, PUT on `PARTS`."""

from __future__ import annotations

from msgspec import Struct

from noria.errors import Unsupported
from noria.types import File
from noria.wire import limits
from noria.wire.endpoint import MLFLOW, OWN, Endpoint

_PROXY = "/api/2.0/mlflow-artifacts"
CONTENT = f"{_PROXY}/artifacts"
MULTIPART = f"{_PROXY}/mpu"
PARTS = f"{OWN}/uploads"
SCHEME = "mlflow-artifacts:/"


def inside(uri: str) -> str:
    """The path in the server's tree that an artifact URI means. Unsupported for what lies elsewhere, be it a path on the server."""
    scheme, _, rest = uri.partition(":")
    if scheme == "mlflow-artifacts":
        path = "/".join(rest.split("/")[3:]) if rest.startswith("//") else rest
    elif scheme in ("http", "https") and CONTENT in rest:
        path = rest.partition(CONTENT)[2]
    else:
        raise Unsupported(f"The artifacts are kept at {uri[:200]}, outside of this server.", "Read them there.")
    return limits.artifact_path(path.strip("/"))


def below(root: str, path: str) -> str:
    """`path` inside of `root`, either of which may be "" for the whole tree or all of the root."""
    return "/".join(part for part in (root, limits.artifact_path(path)) if part)


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


class CreateUpload(Struct, frozen=True):
    """`path` is the file's on the client, whose last part names it. key: who comes again with it goes on where it stopped."""

    path: str
    num_parts: int = 1
    key: str = ""


class Credential(Struct, frozen=True):
    """Where a part goes, and the headers that must go with it."""

    url: str
    part_number: int
    headers: dict[str, str] = {}


class Upload(Struct, frozen=True):
    """The parts that are still to be sent. done: nothing is, the file is in its place."""

    upload_id: str
    credentials: list[Credential] = []
    done: bool = False


class Part(Struct, frozen=True):
    """etag: what the server answered when it took the part, the CRC-32 of its bytes as eight hexadecimal digits."""

    part_number: int
    etag: str | None = None
    url: str | None = None


class CompleteUpload(Struct, frozen=True):
    path: str
    upload_id: str
    parts: list[Part] = []


class AbortUpload(Struct, frozen=True):
    path: str
    upload_id: str


LIST = Endpoint("GET", f"{MLFLOW}/artifacts/list", List, Listed)
LIST_ROOT = Endpoint("GET", CONTENT, ListRoot, Listed)
