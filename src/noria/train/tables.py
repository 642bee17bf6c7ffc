"""Tables: columns of a CSV or Parquet file as features and a target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from noria.errors import Invalid, Unsupported
from noria.train.data import Arrays, content, digest, seeded

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, eq=False)
class Table:
    """float32 [n, features], and targets: int64 [n] if they are classes, float32 [n] if they are numbers.

    features: the columns' names. words: of columns of words, what each code stands for; codes are features as they are.
    mean, std: float32 [features], of the training part; numbers were brought to mean 0 and deviation 1 with them.
    classes: the names of the target's classes, empty if it is a number.
    """

    train: Arrays
    validation: Arrays
    features: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...]
    digest: str


def table(
    file: Path | str, target: str, *, features: list[str] | None = None, classes: bool | None = None,
    validation: float = 0.2, seed: int = 0,
) -> Table:  # fmt: skip
    """features: all other columns by default. classes: whether the target is one of several; by default it is unless it has decimals."""
    path = Path(file)
    packed, read = _read(path)
    names = [name for name in read.column_names if name != target] if features is None else features
    _refuse(path, read, [*names, target])
    train, held = _split(read.num_rows, validation, seed, path)
    columns, words = [], {}
    for name in names:
        values, meaning = _codes(path, name, read[name]) if _is_words(read[name]) else (_numbers(path, name, read[name]), ())
        columns.append(values)
        if meaning:
            words[name] = meaning
    mean, std = _scale(columns, [name in words for name in names], train)
    inputs = ((torch.stack(columns, 1) - mean) / std).float()
    targets, kinds = _targets(path, target, read[target], classes)
    return Table(
        Arrays(inputs[train], targets[train]), Arrays(inputs[held], targets[held]), tuple(names), words, mean.float(), std.float(),
        kinds, digest([packed]),
    )  # fmt: skip


def _read(path: Path) -> tuple[bytes, pyarrow.Table]:
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError:
        raise Unsupported("Tables are read by pyarrow, which is not installed.", "pip install 'noria[parquet]'") from None
    read = content(path)
    buffer = pyarrow.BufferReader(read)
    try:
        return read, parquet.read_table(buffer) if path.suffix in (".parquet", ".pq") else csv.read_csv(buffer)
    except pyarrow.ArrowInvalid as error:
        raise Invalid(f"{path} cannot be read: {str(error).splitlines()[0]}.", "Mend the file.") from None


def _refuse(path: Path, read: pyarrow.Table, names: list[str]) -> None:
    for name in names:
        if name not in read.column_names:
            raise Invalid(f"{path} has no column '{name}'.", f"It has: {', '.join(read.column_names)}.")
        missing = read[name].is_null().to_numpy()
        if missing.any():
            raise Invalid(
                f"{path} has no value for '{name}' in row {int(missing.argmax()) + 1}.", "Fill it in, or leave the row out."
            )


def _is_words(column: pyarrow.ChunkedArray) -> bool:
    from pyarrow import types

    kind = column.type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind) or types.is_boolean(kind))


def _codes(path: Path, name: str, column: pyarrow.ChunkedArray) -> tuple[Tensor, tuple[str, ...]]:
    """Each value's place among all there are, in the order of the alphabet."""
    values = np.array(column.to_pylist(), str)
    known, codes = np.unique(values, return_inverse=True)
    odd = [word for word in known.tolist() if not _is_number(word)]
    if 2 * len(odd) < len(known) and odd:
        row = int((values == odd[0]).argmax()) + 1
        raise Invalid(
            f"{path} has '{odd[0]}' for '{name}' in row {row}, where others have numbers.", "Mend it, or leave the row out."
        )
    return torch.from_numpy(codes.astype(np.float64)), tuple(known.tolist())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(path: Path, name: str, column: pyarrow.ChunkedArray) -> Tensor:
    import pyarrow

    try:
        values = torch.from_numpy(column.cast(pyarrow.float64()).to_numpy().copy())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        raise Invalid(
            f"The column '{name}' of {path} is {column.type}, neither numbers nor words.", "Leave it out of `features`."
        ) from None
    wrong = ~values.isfinite()
    if wrong.any():
        row = int(wrong.int().argmax())
        raise Invalid(f"{path} has {values[row].item()} for '{name}' in row {row + 1}.", "Fill it in, or leave the row out.")
    return values


def _split(rows: int, validation: float, seed: int, path: Path) -> tuple[Tensor, Tensor]:
    cut = rows - round(rows * validation)
    if not 0 < cut < rows:
        raise Invalid(
            f"{path} has {rows} rows, of which {validation:.0%} cannot be held back.", "Add rows, or choose another share."
        )
    order = torch.randperm(rows, generator=seeded(seed, "table"))
    return order[:cut], order[cut:]


def _scale(columns: list[Tensor], kept: list[bool], train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column's training part; 0 and 1 for one that is kept, 1 for one that never changes."""
    means = [0.0 if keep else float(column[train].mean()) for column, keep in zip(columns, kept, strict=True)]
    stds = [1.0 if keep else float(column[train].std(correction=0)) or 1.0 for column, keep in zip(columns, kept, strict=True)]
    return torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)


def _targets(path: Path, name: str, column: pyarrow.ChunkedArray, classes: bool | None) -> tuple[Tensor, tuple[str, ...]]:
    from pyarrow import types

    if _is_words(column) and classes is not False:
        codes, known = _codes(path, name, column)
        return codes.long(), known
    values = _numbers(path, name, column)
    if classes is None:
        classes = not types.is_floating(column.type)
    if not classes:
        return values.float(), ()
    numbers, places = np.unique(values.numpy(), return_inverse=True)
    return torch.from_numpy(places.astype(np.int64)), tuple(f"{number:g}" for number in numbers.tolist())
