"""What a row is, and the two codecs that bodies travel in."""

from __future__ import annotations

import re
import zlib
from functools import cache
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from noria.errors import Invalid, TooLarge
from noria.wire.fit import aliases, fit, parse

Q = TypeVar("Q")
R = TypeVar("R")

MLFLOW = "/api/2.0/mlflow"
OWN = "/api/2.0/noria"
PROTOCOL = 1
"""Raised when a client and a server of different releases no longer understand each other."""
PROTOCOL_HEADER = "noria-protocol"
USER_HEADER = "noria-user"
"""Who asks, percent-encoded: what the client says of itself, and no proof."""
CAUSE_HEADER = "noria-cause"
"""The firings of rules that led to this request, percent-encoded, with commas between them (see rules.Event)."""

_PATIENT = 4 << 20
"""Bytes of a body up to which it is read field by field if need be; that takes ten times its size, and a second for each 20 MiB."""
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
    """A body as a Struct, read as MLflow reads one (see fit). Raises Invalid with the place in the body."""
    if codec == "msgpack":
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(f"The body is not what was expected: {error}.", "Use the same release on both sides.") from None
    decoder, unusual = _decoder(cast(Any, kind))
    large = len(body) > _PATIENT
    if large or (not (b"\\" in body and rb"\u0000" in body) and not [mark for mark in unusual if mark in body]):
        try:
            return decoder.decode(body or b"{}")  # type: ignore[no-any-return]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if large:
                raise Invalid(f"The body is not what was expected: {error}.", "Split it up, to hear more.") from None
            # The patient reading finds out what is wrong, if anything is.
    return fit(kind, parse(body))


@cache
def _decoder(kind: Any) -> tuple[msgspec.json.Decoder[Any], tuple[bytes, ...]]:
    """The fast decoder, and the names that must not be in a body for it, because it would pass them over."""
    return msgspec.json.Decoder(kind, strict=False), tuple(aliases(kind))


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """A body as it was before its Content-Encoding; TooLarge before it is over `limit` bytes, so that no small body becomes a large one."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Invalid(
            f"The body's Content-Encoding is '{encoding[:40]}', which this server does not read.", "Send gzip, or none."
        )
    stream = zlib.decompressobj(wbits=31)
    try:
        found = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The body is not gzip, as its Content-Encoding says ({error}).", "Leave that header out.") from None
    if len(found) > limit:
        raise TooLarge(f"The request's body is over {limit >> 20} MiB when unpacked.", "Split it up.")
    if not stream.eof or stream.unused_data:
        raise Invalid("The gzip body is not one whole stream.", "Send it again.")
    return found


def convert(kind: type[Q], values: dict[str, object]) -> Q:
    """Query parameters as a Struct."""
    return fit(kind, values)
