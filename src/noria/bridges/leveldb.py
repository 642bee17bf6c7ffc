"""The log format of LevelDB, as W&B writes it: records that may be damaged, and what can still be read of them.

https://github.com/google/leveldb/blob/main/doc/log_format.md: blocks of 32 KiB; a record is checksum (4 bytes), length (2),
kind (1) and payload, and may go on in the next block. W&B has 7 bytes in front, and CRC-32 where LevelDB has a masked CRC-32C.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from zlib import crc32

MAGIC = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_HEAD = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
Buffer = bytes | memoryview


def records(data: Buffer, damaged: Callable[[int], None]) -> Iterator[bytes]:
    """The payloads of all whole records. damaged: told the place of each stretch that cannot be read."""
    at, parts = len(MAGIC), list[bytes]()
    checked = _sound(data, at, min(_BLOCK, len(data)))  # Some releases of W&B had another checksum: then none is looked at.
    while at + _HEAD.size <= len(data):
        end = min((at // _BLOCK + 1) * _BLOCK, len(data))
        if end - at < _HEAD.size:
            at = end
            continue
        _, length, kind = _HEAD.unpack_from(data, at)
        after = at + _HEAD.size + length
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or after > end or (checked and not _sound(data, at, end)):
            if any(data[at:end]):
                damaged(at)
            at = after if after < end and _sound(data, after, end) else end
            parts = []
            continue
        payload = bytes(data[at + _HEAD.size : after])
        at = after
        if kind == _WHOLE or (kind == _LAST and parts):
            yield b"".join([*parts, payload])
            parts = []
        elif kind == _FIRST:
            parts = [payload]
        elif kind == _MIDDLE and parts:
            parts.append(payload)


def _sound(data: Buffer, at: int, end: int) -> bool:
    """Whether a record with the right checksum begins here."""
    if end - at < _HEAD.size:
        return False
    checksum, length, kind = _HEAD.unpack_from(data, at)
    after = at + _HEAD.size + length
    return kind in (_WHOLE, _FIRST, _MIDDLE, _LAST) and after <= end and crc32(data[at + _HEAD.size - 1 : after]) == checksum
