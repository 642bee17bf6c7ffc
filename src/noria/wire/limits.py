"""MLflow's limits on names and texts: what is over them is refused with its wording, or cut as it cuts it."""

from __future__ import annotations

import posixpath
import re

from noria.errors import Invalid

KEY = 250
PARAM_VALUE = 6000
TAG_VALUE = 8000
EXPERIMENT_NAME = 500
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
BATCH_TOTAL = 1000
BODY = 32 * 2**20
"""Bytes of a request body that is not a file."""

_KEY = re.compile(r"[\w.\-:/ ]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


def key(name: str, what: str = "metric") -> str:
    """The key itself; Invalid if MLflow would not take it."""
    if len(name) > KEY:
        raise Invalid(f"{what.capitalize()} name '{name[:40]}…' has {len(name)} characters.", f"The limit is {KEY}: shorten it.")
    if not name or not _KEY.fullmatch(name):
        raise Invalid(
            f"Invalid {what} name: '{name}'.",
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
        )
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        raise Invalid(f"Invalid {what} name: '{name}'.", "Names may be treated as files: no '..', no '.', no leading slash.")
    return name


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit]


def run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise Invalid(f"Invalid run ID: '{text[:80]}'.")
    return text


def artifact_path(path: str) -> str:
    """A path below an artifact root, normalised, "" for the root; Invalid for anything that could lead elsewhere."""
    parts = path.split("/")
    if path and (path.startswith("/") or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts)):
        raise Invalid(
            f"Invalid path: '{path[:200]}'.", "An artifact's path is relative and has no '.', '..', '\\' or empty parts."
        )
    if any(len(part.encode()) > 255 for part in parts):
        raise Invalid("Invalid path: a part of it is longer than 255 bytes.", "Shorten the file's name.")
    return path
