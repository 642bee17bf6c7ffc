"""A shelf: one file is one way to choose the next parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from noria.plugins import Kind
from noria.search.space import Direction, Space, Trial, Value


class Algorithm(Protocol):
    """`suggest` is a pure function: the same space, history, seed and direction give the same answer.

    history: all trials so far in the order in which they were suggested, running and failed ones too. So several may be
    asked for at once, each with the ones before it in the history as running. The values lie inside of the space.
    """

    def suggest(
        self, space: Space, history: Sequence[Trial], seed: int, direction: Direction = "minimize"
    ) -> dict[str, Value]: ...


ALGORITHMS: Kind[Algorithm] = Kind("noria.search.algorithms")
