"""Each trial on its own: the reference that every other algorithm has to beat, and hard to beat with many machines.

Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.search.space import Direction, Space, Trial, Value, check, draw, generator


def suggest(space: Space, history: Sequence[Trial], seed: int, direction: Direction = "minimize") -> dict[str, Value]:
    check(space)
    return draw(space, generator(seed, len(history)))
