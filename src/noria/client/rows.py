"""What the rows of a data set are called by, so that two versions of it can be told apart row by row when neither is at hand any more.

Each row has a number of 64 bits. Up to `MOST` rows keep theirs. Of more, rows are laid out in a square, and what is kept are the sums along it and
across it: 32 KiB for a million rows, and one row that changed is where the two sums cross that did. The numbers tell rows apart by
accident and not against anybody who means harm: the digest of the whole does that.
"""

from __future__ import annotations

import ast
import struct
import sys
import zipfile
from array import array
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from math import isqrt
from pathlib import Path
from typing import IO, Any
from zlib import crc32

from msgspec import Struct

from noria.errors import Invalid

MOST = 4096
BYTES = 64 << 20
"""Of a file; rows of more are not looked at."""
_OBJECTS = 2_000_000
_MASK = 2**64 - 1
_BLOCK = 4096
_ALIGNED = 4096
TEXT = {".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".arff", ".libsvm", ".svm", ".dat", ".data", ".md"}


class Rows(Struct, frozen=True, omit_defaults=True):
    """unit: what is counted, such as "line". each: 8 bytes a row, in their order; or down, across: 8 bytes for each sum over rows
    whose number divided by `width`, and the rest of that, are the same."""

    count: int
    unit: str = "row"
    each: bytes = b""
    width: int = 0
    down: bytes = b""
    across: bytes = b""


class Moved(Struct, frozen=True):
    """changed, added (of the new), removed (of the old): numbers of rows from 0. sure: these, and not some among them."""

    changed: list[int] = []
    added: list[int] = []
    removed: list[int] = []
    sure: bool = True


def kept(numbers: Sequence[int], unit: str = "row") -> Rows:
    """Of the number of each row."""
    count = len(numbers)
    if count <= MOST:
        return Rows(count, unit, _bytes(numbers))
    width = isqrt(count - 1) + 1
    down, across = [0] * -(-count // width), [0] * width
    for at, number in enumerate(numbers):
        down[at // width] = down[at // width] + number & _MASK
        across[at % width] = across[at % width] + number & _MASK
    return Rows(count, unit, b"", width, _bytes(down), _bytes(across))


def moved(old: Rows, new: Rows) -> Moved | None:
    """Which rows are others; None if that cannot be said."""
    if old.unit != new.unit:
        return None
    if old.each and new.each:
        return _aligned(_numbers(old.each), _numbers(new.each))
    if old.count != new.count or old.width != new.width or not old.width:
        return None
    down, across = _differ(old.down, new.down), _differ(old.across, new.across)
    crossings = [row * old.width + column for row in down for column in across]
    return Moved(
        [at for at in crossings if at < old.count][:MOST], sure=len(down) <= 1 or len(across) <= 1
    )  # Where both changed in several places, some of the crossings may be of rows that did not.


def _aligned(old: Sequence[int], new: Sequence[int]) -> Moved:
    """Rows that stand at the same place are compared; where some came or went, what comes before and after is found again."""
    if len(old) == len(new):
        other = [at for at, (one, two) in enumerate(zip(old, new, strict=True)) if one != two]
        if len(other) <= max(8, len(old) // 10):
            return Moved(other)
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[len(old) - 1 - end] == new[len(new) - 1 - end]:
        end += 1
    changed: list[int] = []
    added: list[int] = []
    removed: list[int] = []
    one, two = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(one), len(two)) > _ALIGNED:
        return Moved([*range(start, start + min(len(one), len(two)))], sure=False)
    for verb, a, b, c, d in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        both = min(b - a, d - c) if verb == "replace" else 0
        changed += range(start + c, start + c + both)
        if verb != "equal":
            removed += range(start + a + both, start + b)
            added += range(start + c + both, start + d)
    return Moved(changed, added, removed)


def of_file(path: Path, size: int, most: int = BYTES) -> Rows | None:
    """Lines of texts, rows of numpy's files, or else blocks of 4 KiB; None for what is too large or cannot be read."""
    if size > most:
        return None
    try:
        with path.open("rb") as file:
            return of_stream(file, path.suffix.lower())
    except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, struct.error, EOFError, NotImplementedError):
        return None


def of_stream(file: IO[bytes], ending: str) -> Rows:
    if ending in TEXT:
        return kept([_number(line.rstrip(b"\r\n")) for line in file], "line")
    if ending == ".npy":
        return kept(_npy(file.read()))
    if ending == ".npz":
        with zipfile.ZipFile(file) as packed:
            return _together([_npy(packed.read(name)) for name in sorted(packed.namelist())])
    return kept([_number(block) for block in iter(lambda: file.read(_BLOCK), b"")], "block of 4 KiB")


def _together(parts: Sequence[Sequence[int]]) -> Rows:
    """Arrays of one length are columns of the same rows; of others the rows follow each other."""
    if len({len(part) for part in parts}) == 1:
        return kept([_mixed(numbers) for numbers in zip(*parts, strict=True)])
    return kept([number for part in parts for number in part])


def _npy(data: bytes) -> list[int]:
    """The number of each row. Source: numpy.lib.format."""
    if data[:6] != b"\x93NUMPY":
        raise ValueError("no array of numpy's")
    wide = data[6] > 1
    (size,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    begin = (12 if wide else 10) + size
    said = ast.literal_eval(data[12 if wide else 10 : begin].decode("latin1"))
    if said["fortran_order"] or not said["shape"]:
        return [_number(data)]
    rows = said["shape"][0]
    each = (len(data) - begin) // rows if rows else 0
    return [_number(data[begin + at * each : begin + (at + 1) * each]) for at in range(rows)]


def of(data: Any) -> Rows | None:
    """Of arrays and tables in memory, of whatever library; None for what has no rows."""
    found = _columns(data)
    numpy = sys.modules.get("numpy")
    if numpy is None or not found or len({len(column) for column in found}) != 1:
        return None
    if sum(column.size for column in found if column.dtype.hasobject) > _OBJECTS:
        return None
    whole = numpy.zeros(len(found[0]), numpy.uint64)
    for column in found:
        whole = whole * numpy.uint64(0x100000001B3) + _vector(numpy, column)
    return kept(whole.tolist())


def _columns(data: Any) -> list[Any]:
    """Arrays of one length, each a column or more of the same rows."""
    from noria.client.content import _numpy

    if isinstance(data, Mapping):
        return [array for name in sorted(data, key=str) for array in _columns(data[name])]
    if isinstance(data, tuple | list):
        return [array for part in data for array in _columns(part)]
    if hasattr(data, "columns") and hasattr(data, "__getitem__") and not hasattr(data, "dtype"):
        return [_numpy(data[name]) for name in data.columns]
    if hasattr(data, "to_pandas") and not hasattr(data, "dtype"):
        return _columns(data.to_pandas())
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        return [*_columns(data.inputs), *_columns(data.targets)]
    array = _numpy(data)
    return [array] if array.ndim else []


def parts(data: Any) -> dict[str, Rows]:
    """The same for data that come in parts, such as what `noria.train.datasets` gives, by the name of each; "" is the whole. Nothing for what has no
    rows: a digest says all that can be said of it."""
    named = {name: part for name in getattr(data, "_fields", ()) if hasattr(part := getattr(data, name), "inputs")}
    try:
        return {name: rows for name, part in (named or {"": data}).items() if (rows := of(part)) is not None}
    except (Invalid, AttributeError, TypeError, ValueError):  # Whatever an object that only looks like an array does.
        return {}


def _vector(numpy: Any, column: Any) -> Any:
    if column.dtype.hasobject:
        flat = column.reshape(len(column), -1)
        return numpy.array([_mixed([_number(str(each).encode()) for each in row]) for row in flat], numpy.uint64)
    flat = numpy.ascontiguousarray(column).reshape(len(column), -1).view(numpy.uint8)
    if flat.shape[1] % 8:
        flat = numpy.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    words = flat.view(numpy.uint64)
    return words @ numpy.array([_mixed([at]) | 1 for at in range(words.shape[1])], numpy.uint64)


def _number(content: bytes) -> int:
    return crc32(content) << 32 | crc32(content, len(content) + 1)


def _mixed(numbers: Iterable[int]) -> int:
    """Source: G. Steele, D. Lea and C. Flood, Fast splittable pseudorandom number generators, 2014 (the mixing of SplitMix64)."""
    whole = 0
    for number in numbers:
        whole = whole + number + 0x9E3779B97F4A7C15 & _MASK
        whole = (whole ^ whole >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        whole = (whole ^ whole >> 27) * 0x94D049BB133111EB & _MASK
        whole ^= whole >> 31
    return whole


def _bytes(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _numbers(kept: bytes) -> Sequence[int]:
    found = array("Q", kept)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _differ(old: bytes, new: bytes) -> list[int]:
    return [at for at, (one, two) in enumerate(zip(_numbers(old), _numbers(new), strict=True)) if one != two]
