"""The spool: the format of its records, and how they are shipped.

A spool is a file of frames. A frame is 4 bytes length, 4 bytes CRC-32 of the payload (both little-endian), and the
payload, one record in MessagePack. The first record is a `Header`. A reader stops at the first frame that is cut
short or damaged: what comes before it is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from noria.types import RunStatus
from noria.wire.endpoint import OWN, Endpoint

FORMAT = 1
LIMIT = 16 * 2**20
"""A longer frame is taken for damage."""
FRAME = struct.Struct("<II")


class Header(Struct, frozen=True, array_like=True, tag=0):
    """Who writes. `job_id` is empty outside of a job; `attempt` counts the tries of a job from 1."""

    format: int
    spool_id: str
    run_id: str
    job_id: str
    attempt: int
    rank: int
    host: str
    pid: int
    born: str
    created: int


class Begin(Struct, frozen=True, array_like=True, tag=1):
    """The run starts, and is made if the server has never heard of it."""

    experiment: str
    run_name: str
    user: str
    start_time: int
    tags: dict[str, str]


class Log(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Values of some metrics at one step; `timestamp` in seconds since 1970, as the clock gives it."""

    step: int
    timestamp: float
    metrics: dict[str, float]


class Params(Struct, frozen=True, array_like=True, tag=3):
    params: dict[str, str]


class Tags(Struct, frozen=True, array_like=True, tag=4):
    tags: dict[str, str]


class Artifact(Struct, frozen=True, array_like=True, tag=5):
    """A file that lies beside the spool under `stored`; the relay uploads it as the run's artifact `path`."""

    path: str
    stored: str
    size: int


class Rewind(Struct, frozen=True, array_like=True, tag=6):
    """The run goes on from a checkpoint: its points at `step` and after it are superseded by what follows."""

    step: int


class Dataset(Struct, frozen=True, array_like=True, tag=7):
    """A data set that the run reads; `digest` at most 36 characters, `context` such as "training"."""

    name: str
    digest: str
    source_type: str
    source: str
    context: str


class End(Struct, frozen=True, array_like=True, tag=8):
    status: RunStatus
    end_time: int


Record = Header | Begin | Log | Params | Tags | Artifact | Rewind | Dataset | End

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Record)


def frame(record: Record) -> bytes:
    payload = _encode(record)
    return FRAME.pack(len(payload), crc32(payload)) + payload


def whole(data: bytes | memoryview, limit: int | None = None) -> int:
    """The length in bytes of the whole, undamaged frames that `data` begins with, at most `limit` (at least one frame)."""
    view, end = memoryview(data), 0
    while end + FRAME.size <= len(view):
        length, checksum = FRAME.unpack_from(view, end)
        after = end + FRAME.size + length
        if length > LIMIT or after > len(view) or crc32(view[end + FRAME.size : after]) != checksum:
            break
        if limit is not None and end and after > limit:
            break
        end = after
    return end


def records(data: bytes | memoryview) -> Iterator[Record]:
    """The records of whole frames. Raises msgspec.DecodeError for a record of a format that this release does not know."""
    view, start = memoryview(data), 0
    while start < len(view):
        length, _ = FRAME.unpack_from(view, start)
        start += FRAME.size + length
        yield _decoder.decode(view[start - length : start])


class Key(Struct, frozen=True):
    spool_id: str


class Offset(Struct, frozen=True):
    """How many bytes of a spool are on the server's disk."""

    offset: int


class Ship(Struct, frozen=True):
    """Frames from `offset` on. If the server has another offset it changes nothing and answers with its own."""

    spool_id: str
    offset: int
    frames: bytes


class Flush(Struct, frozen=True):
    """Wait until all that lay in the local spools when this was asked can be read; `timeout` in seconds."""

    timeout: float = 10.0


class Flushed(Struct, frozen=True):
    done: bool


OFFSET = Endpoint("GET", f"{OWN}/spools/offset", Key, Offset)
SHIP = Endpoint("POST", f"{OWN}/spools/ship", Ship, Offset, "msgpack")
FLUSH = Endpoint("POST", f"{OWN}/spools/flush", Flush, Flushed)

State = Literal["open", "drained", "damaged"]
