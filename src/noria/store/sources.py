"""Where the files of a model version lie, and whether its maker may name that place.

A client may name what belongs to its run or its logged model, or a place outside that only clients reach; never a path on
this server, and never what is another's. The sentences are MLflow's, whose clients match them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from msgspec import Struct
from sqlalchemy import Connection

from noria.errors import Invalid, NotFound
from noria.store import logged_models, runs

PROMPT_TAG = "mlflow.prompt.is_prompt"
_PLACEHOLDERS = {"dummy-source", "prompt-template"}
_PROXY = ("api", "2.0", "mlflow-artifacts", "artifacts")


class Source(Struct, frozen=True):
    """What a version is made of. `uri` as its maker says it, `location` where the files are."""

    uri: str
    location: str
    run_id: str = ""
    model_id: str = ""


class Place(Struct, frozen=True):
    """A registered version as a source: `models:/name/version`, with a stage, an alias or `latest` for the version."""

    name: str
    which: str


def registered(uri: str) -> Place | None:
    """The registered version that a URI names; None for any other URI, `models:/m-…` included."""
    parts = urlsplit(uri)
    if parts.scheme != "models":
        return None
    if parts.netloc:
        raise Invalid(
            f"Invalid model version source: '{uri[:200]}'. Registered model sources must use the active model registry."
        )
    match = re.fullmatch(r"/+(?:([^/]+)/([^/]+)|([^/@]+)@([^/@]+))", unquote(parts.path))
    if match:
        return Place(match[1] or match[3], match[2] or f"@{match[4]}")
    if not re.fullmatch(r"/+[^/@]+", parts.path):
        raise _others(uri, "model_id")
    return None


def prompt(uri: str) -> Source:
    """A prompt has no files."""
    if uri not in _PLACEHOLDERS:
        raise Invalid(f"Invalid prompt source: '{uri[:200]}'. Prompt sources must use an MLflow placeholder.")
    return Source(uri, uri)


def checked(conn: Connection, uri: str, run_id: str, model_id: str) -> Source:
    """A source that is no registered version; Invalid if its maker may not name it."""
    parts, owner = urlsplit(uri), "model_id" if model_id else "run_id"
    if parts.scheme in ("", "file"):
        _check_path(conn, uri, run_id, model_id, owner)
        return Source(uri, uri, run_id, model_id)
    _check_tidy(uri)
    if parts.scheme in ("runs", "models") and parts.netloc:
        raise _others(uri, owner)
    if parts.scheme == "runs":
        named, _, path = parts.path.strip("/").partition("/")
        if model_id or not run_id or named != run_id:
            raise _others(uri, owner)
        return Source(uri, f"{_root(conn, uri, run_id, '')}/{path}".rstrip("/"), run_id)
    if parts.scheme == "models":
        named = parts.path.strip("/")
        if not model_id or named != model_id:
            raise _others(uri, "model_id")
        return Source(uri, _root(conn, uri, "", model_id), run_id or _maker(conn, model_id), model_id)
    if _proxied(parts) and not _within(uri, _root(conn, uri, run_id, model_id)):
        raise _others(uri, owner)
    return Source(uri, uri, run_id or _maker(conn, model_id), model_id)


def _root(conn: Connection, uri: str, run_id: str, model_id: str) -> str:
    """The artifact root of the run or the logged model that a source is said to belong to."""
    if not run_id and not model_id:
        raise _others(uri, "run_id")
    find: Callable[[], str] = (
        (lambda: logged_models.row(conn, model_id, deleted=False).artifact_uri)
        if model_id
        else (lambda: runs.row(conn, run_id).artifact_uri)
    )
    try:
        return find()
    except NotFound:
        raise _others(uri, "model_id" if model_id else "run_id") from None


def _maker(conn: Connection, model_id: str) -> str:
    """The run that made a logged model."""
    return str(logged_models.row(conn, model_id).run) if model_id else ""


def _check_path(conn: Connection, uri: str, run_id: str, model_id: str, owner: str) -> None:
    """A path: nobody but clients opens it, and it belongs to a run or a model that keeps its artifacts in such a place."""
    if run_id or model_id:
        root = _root(conn, uri, run_id, model_id)
        if urlsplit(root).scheme in ("", "file") and _within(uri, root) and ".." not in _names(urlsplit(uri)):
            return
    raise Invalid(
        f"Invalid model version source: '{uri[:200]}'. To use a local path as a model version source, the {owner} request "
        "parameter has to be specified and the local path has to be contained within the artifact directory of the run "
        f"specified by the {owner}."
    )


def _check_tidy(uri: str) -> None:
    text = uri
    while (plain := unquote_plus(text)) != text:
        text = plain
    path = urlsplit(text).path
    if "\0" in text or any(part in ("..", ".") for part in text.split("/")) or "//" in path.strip("/"):
        raise Invalid(
            f"Invalid model version source: '{uri[:200]}'. If supplying a source as an http, https, local file path, ftp, "
            "objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references present. "
            "Please provide an absolute path."
        )


def _names(parts: SplitResult) -> tuple[str, ...]:
    return tuple(unquote(name) for name in parts.path.split("/") if name)


def _proxied(parts: SplitResult) -> bool:
    names = _names(parts)
    served = parts.scheme in ("http", "https") and any(names[at : at + 4] == _PROXY for at in range(len(names)))
    return served or parts.scheme == "mlflow-artifacts"


def _within(uri: str, root: str) -> bool:
    inner, outer = urlsplit(uri), urlsplit(root)
    names = _names(outer)
    same = (inner.scheme.lower() or "file", inner.netloc.lower()) == (outer.scheme.lower() or "file", outer.netloc.lower())
    return same and bool(names) and _names(inner)[: len(names)] == names


def _others(uri: str, owner: str) -> Invalid:
    return Invalid(f"Invalid model version source: '{uri[:200]}'. The {owner} request parameter must identify the resource that "
                   "contains the source.")  # fmt: skip
