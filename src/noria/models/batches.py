"""Batches, whatever they are made of: arrays, DataFrames, dicts of arrays. How long, of which kind, put together, cut apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.models.infer import is_array, is_frame


def length(batch: Any) -> int:
    """Rows; -1 for what has none."""
    if isinstance(batch, Mapping):
        return length(next(iter(batch.values()))) if batch else -1
    if getattr(batch, "ndim", 1) == 0 or isinstance(batch, str | bytes):
        return -1
    return len(batch) if hasattr(batch, "__len__") else -1


def kind(batch: Any) -> Any:
    """What is equal for batches that can be put together without changing any."""
    if isinstance(batch, Mapping):
        return tuple((name, kind(each)) for name, each in batch.items())
    if is_frame(batch):
        return tuple((str(name), str(dtype)) for name, dtype in batch.dtypes.items())
    return (batch.shape[1:], str(batch.dtype)) if is_array(batch) else id(batch)


def join(parts: Sequence[Any]) -> Any:
    """One batch of several of one kind."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Mapping):
        return {name: join([each[name] for each in parts]) for name in parts[0]}
    if is_frame(parts[0]):
        from pandas import concat

        return concat(parts, ignore_index=True)
    import numpy as np

    return np.concatenate(parts)


def cut(batch: Any, start: int, end: int) -> Any:
    """Rows of a batch."""
    if isinstance(batch, Mapping):
        return {name: cut(each, start, end) for name, each in batch.items()}
    return batch.iloc[start:end] if is_frame(batch) else batch[start:end]
