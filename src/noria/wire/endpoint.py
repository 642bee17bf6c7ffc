"""What a row is, and the two codecs that bodies travel in."""

from __future__ import annotations

import json
import re
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from noria.errors import Invalid

Q = TypeVar("Q")
R = TypeVar("R")

MLFLOW = "/api/2.0/mlflow"
OWN = "/api/2.0/noria"
PROTOCOL = 1
"""Raised when a client and a server of different releases no longer understand each other."""
PROTOCOL_HEADER = "noria-protocol"

_PATH_FIELD = re.compile(r"{(\w+)}")


class Empty(Struct, frozen=True):
    """`{}`."""


class Endpoint(Struct, Generic[Q, R], frozen=True):
    """One row. `{name}` in the path is the request's field of that name.

    codec: "json" as MLflow speaks it; "msgpack" where a body carries bytes.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    request: type[Q]
    response: type[R]
    codec: Literal["json", "msgpack"] = "json"

    @property
    def path_fields(self) -> list[str]:
        return _PATH_FIELD.findall(self.path)


def encode(endpoint: Endpoint[Any, Any], value: object) -> bytes:
    return msgspec.msgpack.encode(value) if endpoint.codec == "msgpack" else msgspec.json.encode(value)


def decode(kind: type[Q], body: bytes, codec: str = "json") -> Q:
    """A body as a Struct. Numbers may come as text and 1.0 as 1, as MLflow takes them; bare NaN and Infinity are understood.

    Raises Invalid with the place in the body.
    """
    try:
        if codec == "msgpack":
            return msgspec.msgpack.decode(body, type=kind)
        return msgspec.json.decode(body or b"{}", type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(error)) from None
    except msgspec.DecodeError as error:
        return _decode_bare(kind, body, error)


def _decode_bare(kind: type[Q], body: bytes, first: msgspec.DecodeError) -> Q:
    # msgspec refuses bare NaN, which the json module of other clients writes.
    try:
        return msgspec.convert(json.loads(body), kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(error)) from None
    except (ValueError, RecursionError):
        raise Invalid(f"The body is not valid JSON: {first}.", "Send a JSON object.") from None


def convert(kind: type[Q], values: dict[str, object]) -> Q:
    """Query parameters as a Struct."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(error)) from None


def _sentence(error: msgspec.ValidationError) -> str:
    """MLflow's wording, which its own clients and tests match."""
    text = str(error)
    missing = re.match(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?", text)
    if missing:
        name = ".".join(part for part in (missing[2], missing[1]) if part)
        return (f"Missing value for required parameter '{name}'. See the API docs for more information about request "
                "parameters.")  # fmt: skip
    what, _, where = text.partition(" - at `$")
    name = where.rstrip("`").lstrip(".") or "request body"
    return f"Invalid value for parameter '{name}' supplied: {what}."
