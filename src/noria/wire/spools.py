"""The spool: the format of its records, and how they are shipped.

A spool is a file of frames. A frame is 4 bytes length, 4 bytes CRC-32 of the payload (both little-endian), and the
payload, one record in MessagePack. The first record is a `Header`, and so is the second, the same again: everything else
hangs on it. A reader that comes upon damage goes on at the next place where a whole frame begins; what lies between is
counted and set aside, never guessed.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from noria.errors import Invalid
from noria.types import DatasetInput, ModelOutput, RunStatus
from noria.wire.endpoint import OWN, Endpoint
from noria.wire.logged_models import Status as ModelStatus

FORMAT = 1
LIMIT = 16 * 2**20
"""Bytes of a payload. What claims to be longer is damage."""
FRAME = struct.Struct("<II")
_LEAST = 2  # An array's head and the tag. Without it, zeros would be frames of length 0 with the right checksum.
_HEAD = re.compile(rb"[\x90-\x9f][\x00-\x3f]")
"""What a payload begins with: a short array, and a tag."""
_LARGE = 1 << 16


class Header(Struct, frozen=True, array_like=True, tag=0):
    """Who writes. `job_id` is empty outside of a job; `attempt` counts the tries of a job from 1.

    `run_id` is empty in a spool that speaks of experiments and models alone.
    """

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


class Points(Struct, frozen=True, array_like=True, tag=9):
    """Metrics that bring their own clock: rows of (key, value, timestamp in milliseconds, step), and the logged model
    and data set that they speak of, if any."""

    points: list[tuple[str, float, int, int]]
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class Change(Struct, frozen=True, array_like=True, tag=10):
    """What is other now of the run; None and [] leave a field as it is. `end_time` goes with `status`."""

    status: RunStatus | None = None
    end_time: int | None = None
    lifecycle_stage: Literal["active", "deleted"] | None = None
    experiment: str | None = None
    untag: list[str] = []


class Inputs(Struct, frozen=True, array_like=True, tag=11):
    """Data sets and logged models that the run reads."""

    datasets: list[DatasetInput]
    models: list[str]


class Outputs(Struct, frozen=True, array_like=True, tag=12):
    """Logged models that the run wrote."""

    models: list[ModelOutput]


class Experiment(Struct, frozen=True, array_like=True, tag=13):
    """An experiment, made if the server has none of that name; `artifact_location` counts only then."""

    name: str
    artifact_location: str
    tags: dict[str, str]
    untag: list[str]


class Model(Struct, frozen=True, array_like=True, tag=14):
    """A logged model, made if the server does not know it, and what is other now of it; None leaves the status."""

    model_id: str
    experiment: str
    name: str
    model_type: str
    run_id: str
    created: int
    status: ModelStatus | None
    tags: dict[str, str]
    untag: list[str]
    params: dict[str, str]
    deleted: bool = False


class ModelArtifact(Struct, frozen=True, array_like=True, tag=15):
    """As `Artifact`, below the root of a logged model, whose own record comes before this one."""

    model_id: str
    path: str
    stored: str
    size: int


class Register(Struct, frozen=True, array_like=True, tag=16):
    """A version of a registered model, which is made if it is missing; without a source the model alone.

    The version's number is the server's to give. Tags, `alias` and `stage` go to the version of this source; `archive`
    puts others of that stage aside.
    """

    name: str
    description: str
    tags: dict[str, str]
    source: str
    run_id: str
    version_description: str
    version_tags: dict[str, str]
    alias: str = ""
    stage: str = ""
    archive: bool = False


class Close(Struct, frozen=True, array_like=True, tag=17):
    """The writer has nothing more to say, and leaves the run as it is."""


Record = (
    Header | Begin | Log | Params | Tags | Artifact | Rewind | Dataset | End
    | Points | Change | Inputs | Outputs | Experiment | Model | ModelArtifact | Register | Close
)  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Record)


def frame(record: Record) -> bytes:
    """Raises Invalid for a record that no reader would take."""
    payload = _encode(record)
    if len(payload) > LIMIT:
        raise too_long(len(payload))
    return FRAME.pack(len(payload), crc32(payload)) + payload


def too_long(size: int) -> Invalid:
    return Invalid(f"One call may log {LIMIT >> 20} MiB, and this one has {size / 2**20:.1f}.", "Split it into several calls.")


def whole(data: bytes | bytearray | memoryview, limit: int | None = None) -> int:
    """The length in bytes of the whole, undamaged frames that `data` begins with, at most `limit` (at least one frame)."""
    view, end = memoryview(data), 0
    while end + FRAME.size <= len(view):
        length, checksum = FRAME.unpack_from(view, end)
        after = end + FRAME.size + length
        if not _LEAST <= length <= LIMIT or after > len(view) or (limit is not None and end and after > limit):
            break
        if crc32(view[end + FRAME.size : after]) != checksum:
            break
        end = after
    return end


def resume(data: bytes, start: int = 0, stop: int = sys.maxsize) -> int:
    """The first place from `start` on and before `stop` where a whole frame begins; -1 if there is none.

    A checksum is computed only where a length and a record's head stand, and over a long way only for what is a record of a
    kind that we know, so that even a long stretch of damage is soon passed.
    """
    view, last = memoryview(data), min(stop + FRAME.size + _LEAST - 1, len(data))
    heads = (each.start() - FRAME.size for each in _HEAD.finditer(data, start + FRAME.size, last))
    return next((at for at in heads if data[at + 3] <= 1 and _begins(view[at:])), -1)  # The length's highest byte comes first.


def _begins(view: memoryview) -> bool:
    length, _ = FRAME.unpack_from(view)
    if _LARGE < length <= len(view) - FRAME.size:
        try:
            decode(view[FRAME.size : FRAME.size + length])
        except (msgspec.MsgspecError, ValueError, RecursionError):  # Texts that are no UTF-8 are a ValueError.
            return False
    return whole(view, 1) > 0


def tagged(data: bytes | bytearray | memoryview) -> Iterator[tuple[int, int, int]]:
    """Tag, beginning and end of each whole frame, and nothing decoded: who only passes frames on need not know them all."""
    start, view = 0, memoryview(data)
    while start < len(view):
        length, _ = FRAME.unpack_from(view, start)
        end = start + FRAME.size + length
        yield view[start + FRAME.size + 1], start, end
        start = end


def decode(payload: bytes | memoryview) -> Record:
    """One record. Raises msgspec.DecodeError for one of a format that this release does not know."""
    record: Record = _decoder.decode(payload)
    return record


def records(data: bytes | memoryview) -> Iterator[Record]:
    """The records of whole frames. Raises msgspec.DecodeError for a record of a format that this release does not know."""
    view = memoryview(data)
    return (_decoder.decode(view[start + FRAME.size : end]) for _, start, end in tagged(view))


class Key(Struct, frozen=True):
    spool_id: str


class Offset(Struct, frozen=True):
    """How many bytes of a spool are on the server's disk."""

    offset: int


class Ship(Struct, frozen=True):
    """What lies in a spool from `offset` on. If the server has another offset it changes nothing and answers with its own.

    `end` is where the spool goes on; 0: right behind the frames. If it is farther on, what lies between is damaged, and
    `damaged` says in words what is missing; it is kept with the run.
    """

    spool_id: str
    offset: int
    frames: bytes
    end: int = 0
    damaged: str = ""


class Flush(Struct, frozen=True):
    """Wait until all that lay in the local spools when this was asked can be read; `timeout` in seconds."""

    timeout: float = 10.0


class Flushed(Struct, frozen=True):
    done: bool


OFFSET = Endpoint("GET", f"{OWN}/spools/offset", Key, Offset)
SHIP = Endpoint("POST", f"{OWN}/spools/ship", Ship, Offset, "msgpack")
FLUSH = Endpoint("POST", f"{OWN}/spools/flush", Flush, Flushed)

State = Literal["open", "whole", "torn", "damaged"]
"""Of a spool's file: more may come; nothing is missing; its last record is cut short; bytes in the middle are unreadable."""
