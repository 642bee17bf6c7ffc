"""Held-out examples in a file: .npz with arrays x and y, or a table (.csv, .parquet) with a column y.

Whatever else an .npz holds of the same length, and the columns of a table whose names begin with `slice_`, are labels of slices.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from noria.errors import Invalid, NotFound, Unsupported

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SLICE = "slice_"


class HeldOut(Struct, frozen=True):
    """x: [n, ...], y: [n] or [n, ...], slices: texts, [n] each. digest: SHA-256 of the file, in hex."""

    x: Any
    y: Any
    slices: Mapping[str, Any]
    digest: str


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises NotFound if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotFound(f"The held-out file {path} cannot be read ({error.strerror}).", "Give its path with --held-out.") from None


def load(path: Path) -> HeldOut:
    """Raises NotFound without such a file, Invalid if it holds no examples, Unsupported for a table without pandas."""
    whole = digest(path)
    x, y, others = _table(path) if path.suffix.lower() in (".csv", ".parquet") else _arrays(path)
    if x is None or y is None or not getattr(x, "ndim", 0) or not getattr(y, "ndim", 0) or len(x) != len(y) or not len(y):
        raise Invalid(f"{path} does not hold arrays x and y of one length.", "Write it with numpy.savez(path, x=..., y=...).")
    slices = {name: array.astype(str) for name, array in others.items() if array.ndim == 1 and len(array) == len(y)}
    return HeldOut(x, y, slices, whole)


def _arrays(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files} if hasattr(found, "files") else {}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise Invalid(
            f"{path} cannot be read as an .npz file ({error}).", "Write it with numpy.savez(path, x=..., y=...)."
        ) from None
    return arrays.pop("x", None), arrays.pop("y", None), arrays


def _table(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    try:
        import pandas
    except ImportError:
        raise Unsupported(f"{path} is a table, and pandas is not installed.", "pip install pandas, or write an .npz.") from None
    try:
        frame = pandas.read_csv(path) if path.suffix.lower() == ".csv" else pandas.read_parquet(path)
    except (ValueError, OSError, ImportError, UnicodeError) as error:  # pandas' and pyarrow's own errors are ValueErrors.
        raise Invalid(f"{path} cannot be read as a table ({' '.join(str(error).split()):.200}).", "Write it again.") from None
    if "y" not in frame.columns:
        raise Invalid(
            f"{path} has no column y (it has: {', '.join(map(str, frame.columns))}).", "Name the column of the right answers y."
        )
    labels = [name for name in frame.columns if str(name).startswith(SLICE)]
    x, y = frame.drop(columns=["y", *labels]).to_numpy(), frame["y"].to_numpy()
    others = {str(name).removeprefix(SLICE): frame[name].to_numpy() for name in labels}
    return x, y.astype(str) if y.dtype.kind == "O" else y, others


def rows(held_out: HeldOut) -> Array:
    """A digest of each example, uint64, [n]: by these a changed one is found."""
    import numpy as np

    columns = [held_out.x, held_out.y, *(held_out.slices[name] for name in sorted(held_out.slices))]
    found = np.empty(len(held_out.y), np.uint64)
    for index in range(len(found)):
        one = hashlib.blake2b(digest_size=8)
        for column in columns:
            part = column[index]
            one.update(
                part.tobytes() if hasattr(part, "tobytes") and not getattr(part, "dtype", part).hasobject else repr(part).encode()
            )
        found[index] = int.from_bytes(one.digest())
    return found
