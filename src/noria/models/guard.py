"""What a model's folder must not be, looked at before anything in it is believed: links, devices, paths that lead out, bombs.

Nothing here reads more of a file than its beginning or its table of contents.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from noria.errors import Invalid

_TRUST = "Do not trust it; get it again."
_MOST_FILES = 100_000
_DEEPEST = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ROOM = 64 * 2**20
"""Bytes that an archive may always unpack to; beyond, it is what it takes on the disk times _RATIO."""
_RATIO = 50
_HEADER = 16 * 2**20
_NOT_PATHS = {"uri", "source_model_name", "config", "loader_module", "skops_trusted_types", "metadata", "source_model_revision"}
"""Keys of MLmodel whose values may look like a way out, and are not followed: where something came from, or the author's own words."""


def files(folder: Path) -> dict[str, Path]:
    """All files of a model by their paths, sorted. Raises Invalid for anything in the folder that is no file or folder of its own."""
    root = folder.resolve()
    found: dict[str, Path] = {}
    links: dict[tuple[int, int], list[int]] = {}
    for path, status in _walk(root, 0):
        name = path.relative_to(root).as_posix()
        if len(found) >= _MOST_FILES:
            raise Invalid(f"The model in {folder} is made of more than {_MOST_FILES} files.", _TRUST)
        found[name] = path
        if status.st_nlink > 1:
            links.setdefault((status.st_dev, status.st_ino), [status.st_nlink]).append(1)
    if any(sum(seen[1:]) < seen[0] for seen in links.values()):
        raise Invalid(f"The model in {folder} shares a file with a place outside of its folder, by a hard link.",
                      "Copy it: cp -r --no-preserve=links.")  # fmt: skip
    return dict(sorted(found.items()))


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    if depth > _DEEPEST:
        raise Invalid(f"The folders in {folder} are nested too deep.", _TRUST)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path, status = Path(entry.path), entry.stat(follow_symlinks=False)
            if _CONTROL.search(entry.name):
                raise Invalid(f"The model in {folder} has a file whose name is no text: {entry.name!r:.80}.", _TRUST)
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(path, depth + 1)
            elif stat.S_ISREG(status.st_mode):
                yield path, status
            else:
                what = "link" if stat.S_ISLNK(status.st_mode) else "device, pipe or socket"
                raise Invalid(f"'{entry.name}' in the model's folder is a {what}, not a file.", "Copy the model: cp -rL.")


def inside(root: Path, path: object) -> Path:
    """A path that a model's own words name. Raises Invalid if it leads out of the folder."""
    text = str(path)
    if leads_out(text) or not (root / text).resolve().is_relative_to(root.resolve()):
        raise Invalid(f"The model in {root} points to data outside of its folder: '{text[:80]}'.", _TRUST)
    return root / text


def leads_out(text: str) -> bool:
    """Whether a relative path is none, or has a part that goes up."""
    parts = PurePosixPath(text.replace("\\", "/")).parts
    return bool(_CONTROL.search(text)) or ".." in parts or text.startswith(("/", "\\", "~", "file:")) or text[1:2] == ":"


def paths(record: Mapping[str, Any], folder: Path) -> None:
    """Raises Invalid if anything in these entries of MLmodel leads out of the folder, whoever would follow it."""
    for key, value in record.items():
        if key in _NOT_PATHS:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                paths(each, folder)
            elif isinstance(each, str) and leads_out(each):
                raise Invalid(f"The model in {folder} points to data outside of its folder: {key} is '{each[:80]}'.", _TRUST)


def contents(found: Mapping[str, Path]) -> None:
    """Raises Invalid for archives and arrays whose tables of contents promise more than they can hold."""
    for name, path in found.items():
        with path.open("rb") as file:
            start = file.read(8)
        if name.endswith(".safetensors"):
            _safetensors(path, start)
        elif start.startswith(b"\x93NUMPY"):
            with path.open("rb") as array:
                _npy(array, path.stat().st_size, name)
        elif start.startswith(b"PK") and zipfile.is_zipfile(path):
            _archive(path, name)


def _archive(path: Path, name: str) -> None:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _members(members, name, size)
            for member in members:
                if member.filename.endswith(".npy"):
                    with archive.open(member) as array:
                        _npy(array, member.file_size, f"{name}/{member.filename}")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
        raise Invalid(f"The archive {name} is damaged: {' '.join(str(error).split()):.120}.", _TRUST) from None


def _members(members: list[zipfile.ZipInfo], name: str, size: int) -> None:
    out = next((each.filename for each in members if leads_out(each.filename)), None)
    if out is not None:
        raise Invalid(f"The archive {name} has a member that would lie outside of it: {out!r:.80}.", _TRUST)
    if any(stat.S_ISLNK(each.external_attr >> 16) for each in members):
        raise Invalid(f"The archive {name} has a link among its members.", _TRUST)
    unpacked = sum(each.file_size for each in members)
    if len(members) > _MOST_FILES or unpacked > _ROOM + _RATIO * size or sum(each.compress_size for each in members) > size:
        raise Invalid(f"The archive {name} of {size} bytes would unpack to {unpacked}.", _TRUST)
    if len({each.filename for each in members}) < len(members):
        raise Invalid(f"The archive {name} has two members of one name.", _TRUST)


def _npy(file: Any, size: int, name: str) -> None:
    """The header of an array. Source: NumPy's NEP 1, "A Simple File Format for NumPy Arrays"."""
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise Invalid(f"The array {name} is damaged: {' '.join(str(error).split()):.120}.", _TRUST) from None
    whole = dtype.itemsize
    for length in shape:
        whole *= length
    if not dtype.hasobject and whole > size:
        raise Invalid(f"The array {name} says that it has {whole} bytes, and has {size}.", _TRUST)


def _safetensors(path: Path, start: bytes) -> None:
    """Source: safetensors, "Format": the header's length in 8 bytes, JSON, then the tensors without gaps."""
    size = path.stat().st_size
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(size - 8, _HEADER):
        raise Invalid(f"{path.name} is damaged: its header would have {length} bytes.", _TRUST)
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
        if max(ends, default=0) != size - 8 - length:
            raise ValueError("it is not as long as its tensors")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Invalid(f"{path.name} is damaged: {' '.join(str(error).split()):.120}.", _TRUST) from None
