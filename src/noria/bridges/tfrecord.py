"""TFRecord, the format of TensorBoard's event files, read past damage.

https://www.tensorflow.org/tutorials/load_data/tfrecord: length (8 bytes), masked CRC-32C of it (4), data, masked CRC-32C of the data (4).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_HEAD = struct.Struct("<QI")
_CHECKED = 1 << 16
"""Bytes of data up to which its checksum is looked at: scalars are small, and there is no fast CRC-32C in Python."""


def _table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_TABLE = _table()


def masked(data: bytes) -> int:
    """The masked CRC-32C (RFC 3720, B.4) of some bytes."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFF_FFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


def records(data: bytes | memoryview, damaged: Callable[[int], None]) -> Iterator[bytes]:
    """The data of all records that are whole. A length that is damaged ends the file: nothing says where the next one begins.
    damaged: told the place of each record that cannot be read; not of a last one that is cut short, as it is while it is written."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        if masked(bytes(data[at : at + 8])) != checksum:
            damaged(at)
            return
        begin, end = at + _HEAD.size, at + _HEAD.size + length
        if end + 4 > len(data):
            return
        payload = bytes(data[begin:end])
        if length <= _CHECKED and masked(payload) != int.from_bytes(data[end : end + 4], "little"):
            damaged(at)
        else:
            yield payload
        at = end + 4
