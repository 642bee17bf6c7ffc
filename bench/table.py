"""Figures of rounds, as rows of a table that a person reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, TypeVar

from peers import MLFLOW, NORIA, POSTGRESQL, SQLITE, say

K = TypeVar("K")
Figures = dict[str, float]
"""What one turn of one contender gave; the first is what is compared."""


class Row(NamedTuple):
    """cell: how the medians of a contender's figures are written. less: whether less is better. note: the limit, or the goal."""

    what: str
    promise: str
    cell: str
    figures: Mapping[str, Sequence[Figures]]
    less: bool = True
    note: str = ""

    def medians(self, name: str) -> Figures:
        turns = self.figures[name]
        return {key: median(turn[key] for turn in turns) for key in turns[0]}

    def times(self, base: str) -> float | None:
        """How many times better Noria is than MLflow: the median of the rounds' ratios."""
        ours, theirs = (self.figures.get(f"{who}, {base}") for who in (NORIA, MLFLOW))
        if not ours or not theirs:
            return None
        pairs = [(next(iter(a.values())), next(iter(b.values()))) for a, b in zip(ours, theirs, strict=True)]
        ratios = [b / a if self.less else a / b for a, b in pairs if a and b]  # 0: not one answer in that time.
        return median(ratios) if ratios else None


def alternate(rounds: int, names: Iterable[K], turn: Callable[[K], Figures], what: str) -> dict[K, list[Figures]]:
    """All take turns, in each round in the other order."""
    found: dict[K, list[Figures]] = {name: [] for name in names}
    for number in range(rounds):
        for name in list(found)[:: -1 if number % 2 else 1]:
            start = time.monotonic()
            found[name].append(turn(name))
            shown = ", ".join(f"{key} {value:.4g}" for key, value in found[name][-1].items())
            say(f"{what}, round {number + 1} of {rounds}: {name}: {shown} ({time.monotonic() - start:.1f} s)")
    return found


def markdown(rows: Sequence[Row]) -> str:
    head = [
        "",
        "an answer promises",
        *(f"{who}, {base}" for base in (SQLITE, POSTGRESQL) for who in (NORIA, MLFLOW, "times")),
        "limit, goal",
    ]
    lines = [head, ["--"] * len(head)]
    for row in rows:
        cells = []
        for base in (SQLITE, POSTGRESQL):
            for who in (NORIA, MLFLOW):
                name = f"{who}, {base}"
                cells.append(row.cell.format(**row.medians(name)) if row.figures.get(name) else "")
            times = row.times(base)
            cells.append("" if times is None else f"**{times:,.1f}**")
        lines.append([row.what, row.promise, *cells, row.note])
    if not any(name.endswith(POSTGRESQL) for row in rows for name in row.figures):
        lines = [[*line[:5], line[-1]] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(row: Row) -> dict[str, Any]:
    """As JSON keeps it."""
    times = {base: row.times(base) for base in (SQLITE, POSTGRESQL)}
    return {"what": row.what, "promise": row.promise, "note": row.note, "times": times, "figures": dict(row.figures)}
