"""What data sets are called by: a hash of their content, so that a copy under another name or on another machine is the same one.

A digest is the first 32 hexadecimal digits of a SHA-256: over a file's bytes; over the sorted paths and the content of a folder's files; over
type, shape and values of arrays; over names and values of columns. What was read of files is kept, so that they are read once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from noria import atomic
from noria.errors import Invalid, NotFound

Tell = Callable[[int, int], None]
"""Called with the bytes that were read by now, and those that there are to read."""
DIGITS = 32
_BLOCK = 4 << 20
_READERS = 4
_SETTLED = 2_000_000_000
"""Nanoseconds that a file must have been left alone: a change within its clock's tick would not be seen."""
_CURE = "Give a file, a folder, an array, a table of columns, or digest=."
_decode = msgspec.msgpack.Decoder(dict[bytes, tuple[tuple[int, ...], bytes]]).decode


class Content(Struct, frozen=True):
    """What was hashed: its digest, where it lies ("" in memory), and its bytes."""

    digest: str
    source: str = ""
    size: int = 0


def of(data: object, cache: Path | None = None, tell: Tell | None = None) -> Content:
    """The content of a path, an array, a table, or a dict, tuple or list of these. cache: the folder in which is kept what files were
    hashed to. Raises NotFound for a path where nothing is, Invalid for what has no content that could be read."""
    if isinstance(data, str | os.PathLike):
        return of_path(Path(data), cache, tell)
    whole, size = hashlib.sha256(), 0
    for block in _blocks(data):
        whole.update(block)
        size += len(block)
    return Content(whole.hexdigest()[:DIGITS], size=size)


def of_path(path: Path, cache: Path | None = None, tell: Tell | None = None) -> Content:
    """Of a file or a folder; links are followed."""
    root = path.expanduser().absolute()
    try:
        files = sorted(_walk(root)) if root.is_dir() else [b""] if root.is_file() else None
        if files is None:
            raise NotFound(
                f"There is no file or folder {str(path)!r} to hash.", "Check the path; it is relative to the working directory."
            )
        if not files:
            raise Invalid(f"The folder {str(path)!r} has no files, so that there is nothing to call it by.", "Fill it first.")
        hashes, size = _hashes(os.fsencode(root), files, cache, tell)
    except OSError as error:
        raise Invalid(
            f"{os.fspath(error.filename or path)!r} cannot be read ({error.strerror}).", "Check its permissions."
        ) from None
    if root.is_file():
        return Content(hashes[0].hex()[:DIGITS], str(root), size)
    whole = hashlib.sha256()
    for name, found in zip(files, hashes, strict=True):
        whole.update(b"%d:%b" % (len(name), name) + found)
    return Content(whole.hexdigest()[:DIGITS], str(root), size)


def _walk(root: Path) -> Iterator[bytes]:
    """The paths of all files below a folder, relative to it. A link that leads back to where one came from is passed over."""

    def inside(folder: bytes, before: bytes, above: frozenset[tuple[int, int]]) -> Iterator[bytes]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = before + entry.name
                if entry.is_file():
                    yield name
                elif entry.is_dir() and (found := _place(entry.path)) not in above:
                    yield from inside(entry.path, name + b"/", above | {found})

    return inside(os.fsencode(root), b"", frozenset({_place(os.fsencode(root))}))


def _place(path: bytes) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _hashes(root: bytes, files: Sequence[bytes], cache: Path | None, tell: Tell | None) -> tuple[list[bytes], int]:
    """The SHA-256 of each file, and their bytes together. What the cache has of a file stands while nothing about it has changed."""
    kept = cache / f"{hashlib.sha256(root).hexdigest()[:DIGITS]}.msgpack" if cache is not None else None
    known = _read(kept)
    seen = {name: _signs(os.stat(_at(root, name))) for name in files}
    total = sum(signs[0] for signs in seen.values())
    found = {name: known[name][1] for name in files if name in known and known[name][0] == seen[name]}
    missing = [name for name in files if name not in found]
    done = total - sum(seen[name][0] for name in missing)

    def read(count: int) -> None:
        nonlocal done
        done += count
        if tell is not None:
            tell(done, total)

    if missing:
        with ThreadPoolExecutor(_READERS) as readers:
            found |= zip(missing, readers.map(lambda name: _hash(_at(root, name), seen[name], read), missing), strict=True)
        settled = time.time_ns() - _SETTLED
        _write(kept, {name: (seen[name], found[name]) for name in files if max(seen[name][1:3]) < settled})
    return [found[name] for name in files], total


def _at(root: bytes, name: bytes) -> bytes:
    return os.path.join(root, name) if name else root


def _signs(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _hash(path: bytes, signs: tuple[int, ...], read: Callable[[int], None]) -> bytes:
    whole = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            whole.update(block)
            read(len(block))
        if _signs(os.fstat(file.fileno())) != signs:
            raise Invalid(f"{os.fsdecode(path)!r} was changed while it was read.", "Hash data that nobody writes to.")
    return whole.digest()


def _read(kept: Path | None) -> Mapping[bytes, tuple[tuple[int, ...], bytes]]:
    try:
        return _decode(kept.read_bytes()) if kept is not None else {}
    except (OSError, msgspec.MsgspecError):  # Nothing is kept yet, or it is damaged: the files are read again.
        return {}


def _write(kept: Path | None, hashes: Mapping[bytes, tuple[tuple[int, ...], bytes]]) -> None:
    if kept is None:
        return
    with suppress(OSError):  # A cache that cannot be written costs time, and nothing else.
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(kept, msgspec.msgpack.encode(hashes))


def _blocks(data: Any) -> Iterator[bytes]:
    """The bytes that say what data in memory hold, some MiB at a time."""
    if isinstance(data, Mapping):
        for name in sorted(data, key=str):
            yield _head("named", str(name))
            yield from _blocks(data[name])
    elif isinstance(data, tuple | list) and data:
        for part in data:
            yield _head("part")
            yield from _blocks(part)
    elif hasattr(data, "columns") and hasattr(data, "__getitem__") and not hasattr(data, "dtype"):
        yield from _table(data)
    elif hasattr(data, "to_pandas"):
        yield from _table(data.to_pandas())
    else:
        yield from _array(data)


def _table(data: Any) -> Iterator[bytes]:
    """Column by column. The index of pandas counts where it is more than the numbers of the rows."""
    index = getattr(data, "index", None)
    if index is not None and (getattr(index, "start", None), getattr(index, "step", None)) != (0, 1):
        yield _head("index")
        yield from _array(index)
    for name in data.columns:
        yield _head("column", str(name))
        yield from _array(data[name])


def _array(data: Any) -> Iterator[bytes]:
    array = _numpy(data)
    kind = array.dtype
    yield _head(
        "array", str(kind.descr) if getattr(kind, "names", None) else getattr(kind, "str", str(kind)), *map(str, array.shape)
    )
    if kind.hasobject:
        yield from (msgspec.msgpack.encode(part.tolist(), enc_hook=str) for part in _parts(array))
    else:
        yield from (part.tobytes() for part in _parts(array))


def _numpy(data: Any) -> Any:
    """As an array of numpy, whatever library made it; numpy itself is not imported for it."""
    try:
        for way in ("numpy", "to_numpy"):
            if hasattr(data, way) and not hasattr(data, "tobytes"):
                data = data.detach().cpu() if hasattr(data, "detach") else data
                data = getattr(data, way)()
        data = data if hasattr(data, "tobytes") else data.__array__()
        if hasattr(data, "dtype") and hasattr(data, "shape") and hasattr(data.dtype, "hasobject"):
            return data
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise Invalid(f"A {type(data).__qualname__} has no content that can be hashed ({error}).", _CURE) from None
    raise Invalid(f"A {type(data).__qualname__} has no content that can be hashed.", _CURE)


def _parts(array: Any) -> Iterator[Any]:
    """An array in pieces along its first axis: their bytes one after the other are those of the whole."""
    if not array.shape or not array.size:
        yield array
        return
    rows = max(1, _BLOCK * len(array) // max(array.nbytes, 1))
    yield from (array[start : start + rows] for start in range(0, len(array), rows))


def _head(*words: str) -> bytes:
    return msgspec.msgpack.encode(words)


def teller(what: str, after: float = 2.0) -> Tell:
    """How far one is, in one line of a terminal, once it has taken so many seconds; nothing where there is no terminal."""
    begun, last = time.monotonic(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - begun < after or (now - last < 0.2 and done < total):
            return
        last = now
        share = done / total if total else 1.0
        bar = "#" * round(20 * share)
        end = "\n" if done >= total else ""
        print(
            f"\rnoria: reading {what} [{bar:<20}] {share:4.0%} of {total / 2**30:.1f} GiB", end=end, file=sys.stderr, flush=True
        )

    return tell if sys.stderr is not None and sys.stderr.isatty() else lambda done, total: None
