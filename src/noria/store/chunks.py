"""Points of one metric as columns: their order, their form on the disk, and what a chart shows of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

CHUNK = 16_384
"""Points of a chunk: large enough that a page of the database is seldom half empty, small enough to decode in a third of a ms."""
CELL = 256
"""Points of a cell of the pyramid."""
_PLANE = 512

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Points(NamedTuple):
    """Columns of one length: values, timestamps in milliseconds, steps."""

    values: Floats
    times: Ints
    steps: Ints

    def take(self, part: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        return Points(self.values[part], self.times[part], self.steps[part])

    @property
    def size(self) -> int:
        """How many points these are."""
        return int(self.values.size)


class Cells(NamedTuple):
    """One level above the points: of each CELL of them the least, greatest and mean value, first step and first timestamp."""

    mins: Floats
    maxs: Floats
    means: Floats
    steps: Ints
    times: Ints

    def take(self, part: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        return Cells(self.mins[part], self.maxs[part], self.means[part], self.steps[part], self.times[part])


def points(values: Sequence[float], times: Sequence[int], steps: Sequence[int]) -> Points:
    return Points(np.array(values, np.float64), np.array(times, np.int64), np.array(steps, np.int64))


NONE = points([], [], [])


def join(parts: Sequence[Points]) -> Points:
    """All the points, one part after the other."""
    parts = [part for part in parts if part.size]
    if len(parts) == 1:
        return parts[0]
    return Points(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else NONE


def ordered(given: Points) -> Points:
    """In MLflow's order (timestamp, step, value), each point once; NaN is the last of its step, and one NaN is like another."""
    if given.size < 2 or bool(np.all(given.times[1:] > given.times[:-1])):
        return given
    found = given.take(np.lexsort((given.values, given.steps, given.times)))
    same = (found.times[1:] == found.times[:-1]) & (found.steps[1:] == found.steps[:-1])
    if not same.any():
        return found
    same &= (found.values[1:] == found.values[:-1]) | (np.isnan(found.values[1:]) & np.isnan(found.values[:-1]))
    return found.take(np.concatenate(([True], ~same)))


def by_step(given: Points) -> Points:
    """In the order of a chart: (step, timestamp)."""
    rising = given.steps[1:] > given.steps[:-1]
    if bool(np.all(rising)):
        return given
    return given.take(np.lexsort((given.times, given.steps)))


def encode(given: Points) -> bytes:
    """Bit by bit the same after `decode`: bytes of equal weight lie together, and whole numbers are kept as differences. Steps at
    equal distances, which most are, are kept as the first and the distance."""
    gaps = np.diff(given.steps)
    even = gaps.size > 1 and bool(np.all(gaps == gaps[0]))
    steps = given.steps[:2].tobytes() if even else _shuffle(_differ(given.steps))
    return _pack(*_planes(_shuffle(given.values)), _shuffle(_differ(given.times)) + steps)


def decode(body: bytes, count: int) -> Points:
    into = room(count)
    decode_into(body, into)
    return into


def room(count: int) -> Points:
    """For so many points, to be written."""
    return Points(np.empty(count, np.float64), np.empty(count, np.int64), np.empty(count, np.int64))


def decode_into(body: bytes, into: Points) -> None:
    """Write the points there: many chunks into one room take half as long as one by one, and are joined then."""
    count = into.size
    raw = zstandard.decompress(body, max_output_size=24 * count)
    _unshuffle(raw, 0, into.values)
    np.cumsum(_unshuffle(raw, 1, into.times), out=into.times)
    if len(raw) == 24 * count:
        np.cumsum(_unshuffle(raw, 2, into.steps), out=into.steps)
    else:
        first, second = np.frombuffer(raw, np.int64, 2, 16 * count)
        with np.errstate(over="ignore"):  # Steps may lie on both sides of what 64 bits hold; the sums come out right.
            np.multiply(np.arange(count), second - first, out=into.steps)
            np.add(into.steps, first, out=into.steps)


def _pack(*parts: bytes) -> bytes:
    """As one frame with a block for each part, whose code is made for its bytes alone: noise beside what repeats itself would spoil it.
    With a checksum, so that what a disk has changed is noticed by whoever unpacks it."""
    frame = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=sum(map(len, parts)))
    blocks = [frame.compress(part) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts]
    return b"".join(blocks) + frame.flush()


def _planes(shuffled: bytes) -> list[bytes]:
    """The bytes of each weight, apart from each other if there are enough of them to pay for a code of their own."""
    size = len(shuffled) // 8
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)] if size >= _PLANE else [shuffled]


def _differ(column: Ints) -> Ints:
    return np.diff(column, prepend=np.int64(0))


def _shuffle(column: Floats | Ints) -> bytes:
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1, 8).T.tobytes()


def cells(given: Points) -> bytes:
    """The pyramid's cells, encoded."""
    starts = np.arange(0, given.size, CELL)
    mins, maxs, means = _reduce(given.values, starts)
    columns = (mins, maxs, means, _differ(given.steps[starts]), _differ(given.times[starts]))
    return _pack(b"".join(_shuffle(column) for column in columns))


def decode_cells(body: bytes, count: int) -> Cells:
    size = -(-count // CELL)
    raw = zstandard.decompress(body, max_output_size=40 * size)
    columns = [_unshuffle(raw, part, np.empty(size, np.int64)) for part in range(5)]
    mins, maxs, means = (column.view(np.float64) for column in columns[:3])
    return Cells(mins, maxs, means, np.cumsum(columns[3]), np.cumsum(columns[4]))


def _unshuffle(raw: bytes, part: int, into: NDArray[Any]) -> NDArray[Any]:
    """One of several columns that `_shuffle` wrote one after the other."""
    size = into.size
    start = 8 * size * part
    rows, column = np.frombuffer(raw, np.uint8, 8 * size, start).reshape(8, size), into.view(np.uint8).reshape(size, 8)
    zeros = bytes(size - 1)  # Of most bytes of whole numbers only the first is another, for they are kept as differences.
    sparse = [byte for byte in range(8) if raw[start + byte * size + 1 : start + (byte + 1) * size] == zeros]
    if sparse:
        into.view(np.int64)[:] = 0
        column[0, sparse] = rows[sparse, 0]
    for byte in range(8):  # Twice as fast as a copy of the transposed view.
        if byte not in sparse:
            column[:, byte] = rows[byte]
    return into


def _reduce(values: Floats, starts: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Least, greatest and mean of each part; NaN only where a part has nothing else."""
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        means = np.add.reduceat(np.where(known, values, 0.0), starts) / counts
    return np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts), means


def sample(given: Points, size: int) -> Points:
    """At most `size` points: the first of as many equal groups by rank, as MLflow has them, and the last for the last of these."""
    if given.size <= size:
        return given
    groups = np.arange(size)
    ranks = groups * (given.size // size) + np.minimum(groups, given.size % size)
    ranks[-1] = given.size - 1
    return given.take(ranks)


def pixels(given: Points, width: int) -> Cells:
    """The points of a chart, in order of their steps, as at most `width` columns of pixels of equal width in steps."""
    starts = _columns(given.steps, width)
    mins, maxs, means = _reduce(given.values, starts)
    return Cells(mins, maxs, means, given.steps[starts], given.times[starts])


def pixels_of_cells(given: Cells, width: int) -> Cells:
    """The same from the pyramid: exact but for the cells that two columns share, which go to the first."""
    order = np.lexsort((given.times, given.steps))
    given = given.take(order)
    starts = _columns(given.steps, width)
    return Cells(np.fmin.reduceat(given.mins, starts), np.fmax.reduceat(given.maxs, starts), _reduce(given.means, starts)[2],
                 given.steps[starts], given.times[starts])  # fmt: skip


def _columns(steps: Ints, width: int) -> NDArray[np.intp]:
    """Where in sorted steps each column of pixels begins that has any."""
    first, span = int(steps[0]), int(steps[-1]) - int(steps[0]) + 1
    edges = [first - -column * span // width for column in range(width)]  # Rounded up.
    starts = np.unique(np.searchsorted(steps, edges))
    return starts[starts < steps.size]
