"""Series: what comes next in one, and which class each of many belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from noria.errors import Invalid
from noria.train.data import Arrays, Windows, content, digest


class Forecast(NamedTuple):
    """Windows of float32 [b, past, values] and targets [b, horizon, values], brought to mean 0 and deviation 1 of the training part."""

    train: Windows
    validation: Windows
    test: Windows
    mean: Tensor
    std: Tensor
    digest: str


def forecast(values: Tensor, past: int, horizon: int, *, stride: int = 1, validation: float = 0.1, test: float = 0.1) -> Forecast:
    """values: [n] or [n, values], in the order of time. Its end is the test, what comes before that the validation.

    The first window of each may look back into the part before it, as it would when it is used; its targets lie behind the cut.
    """
    line = values.float()[:, None] if values.ndim == 1 else values.float()
    wrong = ~line.isfinite().flatten(1).all(1)
    if wrong.any():
        raise Invalid(f"The series has no number at place {int(wrong.int().argmax())}.", "Fill it in, or leave it out.")
    last, held = round(len(line) * (1 - test)), round(len(line) * (1 - test - validation))
    mean, std = line[:held].mean(0), line[:held].std(0, correction=0).clamp(min=1e-8)
    line = (line - mean) / std
    pieces = (line[:held], line[max(0, held - past) : last], line[max(0, last - past) :])
    train, middle, end = (Windows(piece, past, horizon, offset=past, stride=stride) for piece in pieces)
    return Forecast(train, middle, end, mean, std, digest([values.numpy(force=True).tobytes()]))


class Labelled(NamedTuple):
    """Series that have a class each: inputs float32 [n, length, values], targets int64 [n], the names of the classes."""

    arrays: Arrays
    classes: tuple[str, ...]
    digest: str


def labelled(file: Path | str) -> Labelled:
    """A file in the format .ts of the UCR and UEA archives, all of whose series have one length.

    A header of lines with @; behind @data one series a line: its values with commas, one list for each dimension, and its
    class, with colons between them.
    """
    path = Path(file)
    read = content(path)
    head, found, body = read.decode("utf-8", "replace").partition("@data")
    named = [line.split()[2:] for line in head.splitlines() if line.lower().startswith("@classlabel true")]
    if not found or not named:
        raise Invalid(f"{path} is no file of series with classes.", "It needs the lines '@classLabel true ...' and '@data'.")
    classes = tuple(named[0])
    first = head.count("\n") + 2
    series, targets = [], []
    for number, line in enumerate(body.lstrip("\r\n").splitlines(), first):
        if line.strip():
            *dimensions, name = line.strip().split(":")
            series.append(_values(path, number, dimensions))
            targets.append(_place(path, number, name, classes))
            if series[-1].shape != series[0].shape:
                raise Invalid(f"{path} has series of several lengths, as in line {number}.", "Cut or fill them to one.")
    if not series:
        raise Invalid(f"{path} has no series in it.", "Get the file again.")
    return Labelled(Arrays(torch.from_numpy(np.stack(series)), torch.tensor(targets)), classes, digest([read]))


def _values(path: Path, number: int, dimensions: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        found = np.array([dimension.split(",") for dimension in dimensions], np.float32).T
    except ValueError:
        raise Invalid(
            f"{path} has something else than numbers, or lists of different lengths in line {number}.", "Mend it."
        ) from None
    if not np.isfinite(found).all():
        raise Invalid(f"{path} lacks a value in line {number}.", "Fill it in, or leave the series out.")
    return found


def _place(path: Path, number: int, name: str, classes: tuple[str, ...]) -> int:
    if name not in classes:
        raise Invalid(f"{path} has the class '{name}' in line {number}, but its header names {', '.join(classes)}.", "Mend it.")
    return classes.index(name)
