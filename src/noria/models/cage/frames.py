"""Arrays, tables and plain values as bytes and back, for a pipe that leads to somebody who is not trusted: never a pickle.

A frame is 8 bytes, its length, and a MessagePack value; what has no form there is an extension of JSON's types.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import date
from typing import IO, Any

import msgspec

from noria.errors import Invalid
from noria.models.infer import is_array, is_frame

MOST = 2 * 2**30
"""Bytes of a frame that is read."""
_LENGTH = struct.Struct("<Q")
_MARK = "\x00noria"
_KINDS = "biufcmMSU"


def send(file: IO[bytes], value: Any) -> None:
    body = msgspec.msgpack.encode(_packed(value))
    file.write(_LENGTH.pack(len(body)))
    file.write(body)
    file.flush()


def receive(file: IO[bytes], most: int = MOST) -> Any:
    """The next value. Raises EOFError at the end, Invalid for bytes that are none, or too many."""
    length = _LENGTH.unpack(_exactly(file, _LENGTH.size))[0]
    if length > most:
        raise Invalid(f"The model answers with {length} bytes; at most {most} are taken.", "Ask for fewer rows at once.")
    try:
        return _unpacked(msgspec.msgpack.decode(_exactly(file, length)))
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Invalid(
            f"The model answers with what is no value ({' '.join(str(error).split()):.120}).", "Do not trust it."
        ) from None


def _exactly(file: IO[bytes], length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        block = file.read(min(length - len(found), 2**24))
        if not block:
            raise EOFError
        found += block
    return bytes(found)


def _packed(value: Any) -> Any:
    if is_array(value):
        if value.dtype.kind in _KINDS:
            return {_MARK: "array", "dtype": value.dtype.str, "shape": list(value.shape), "bytes": value.tobytes()}
        return {_MARK: "objects", "shape": list(value.shape), "values": [_packed(each) for each in value.ravel().tolist()]}
    if is_frame(value):
        columns = [[_packed(name), _column(value.iloc[:, place])] for place, name in enumerate(value.columns)]
        return {_MARK: "table", "columns": columns, "rows": len(value)}
    if isinstance(value, Mapping):
        return {str(name): _packed(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(each) for each in value]
    return _single(value)


def _single(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, date):
        return {_MARK: "date", "text": value.isoformat()}
    if hasattr(value, "detach"):
        return _packed(value.detach().cpu().numpy())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "to_frame"):
        return _packed(value.to_frame())
    if hasattr(value, "__array__") or hasattr(value, "item"):
        import numpy as np

        array = np.asarray(value)
        return _packed(array) if array.ndim else _single(array.item())
    raise Invalid(
        f"The model answers with a {type(value).__name__}, which is neither array nor table.", "Let it return an array."
    )


def _column(series: Any) -> Any:
    import numpy as np

    array = series.to_numpy()
    return _packed(array if array.dtype.kind in _KINDS else np.asarray([*series.tolist(), None], dtype=object)[:-1])


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(each) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_MARK)
    if kind is None:
        return {name: _unpacked(each) for name, each in value.items()}
    return {"array": _array, "objects": _objects, "table": _table, "date": _date}[kind](value)


def _array(value: Mapping[str, Any]) -> Any:
    import numpy as np

    dtype = np.dtype(str(value["dtype"]))
    if dtype.kind not in _KINDS:
        raise ValueError(f"there is no array of {dtype}")
    return np.frombuffer(value["bytes"], dtype).reshape(value["shape"]).copy()


def _objects(value: Mapping[str, Any]) -> Any:
    import numpy as np

    values = value["values"]
    array = np.empty(len(values), dtype=object)
    for place, each in enumerate(values):
        array[place] = _unpacked(each)
    return array.reshape(value["shape"])


def _table(value: Mapping[str, Any]) -> Any:
    import pandas as pd

    columns = [(name, _unpacked(each)) for name, each in value["columns"]]
    frame = pd.DataFrame({place: each for place, (_, each) in enumerate(columns)}, index=range(value["rows"]))
    frame.columns = pd.Index([name for name, _ in columns])
    return frame


def _date(value: Mapping[str, Any]) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(value["text"])
