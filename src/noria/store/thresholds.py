"""When a metric is beyond a threshold for long enough: pure, and the same for what is logged now and for what lies in a history."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from msgspec import Struct

_LEAST = -(2**63)


class Threshold(Struct, frozen=True, forbid_unknown_fields=True):
    """Beyond is greater than `above` or less than `below`; NaN is neither. for_steps: it must have been so from a step s to a step
    s + for_steps - 1, at each point in between. on: at each point as it comes ("live"), or at the last one of a run that has finished.
    again: each time that it goes beyond, and not just once in a run. experiment: of its runs alone, with `*` for any part of its name."""

    metric: str
    above: float | None = None
    below: float | None = None
    experiment: str = ""
    for_steps: int = 1
    on: Literal["live", "finished"] = "live"
    again: bool = False

    def beyond(self, value: float) -> bool:
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def covers(self, experiment: str) -> bool:
        return not self.experiment or fnmatchcase(experiment, self.experiment)


class Watch(NamedTuple):
    """How far a run is: the step from which on it has been beyond, None if it is not, and whether that was told."""

    begun: int | None = None
    told: bool = False


class Crossing(NamedTuple):
    value: float
    step: int
    time: int
    begun: int


def follow(
    asked: Threshold, watch: Watch, points: Iterable[tuple[float, int, int]], since: int = _LEAST
) -> tuple[list[Crossing], Watch]:
    """Go on with points (value, timestamp, step) in the order in which they came: what is to be told, and where that leads. Points from before
    `since`, in milliseconds since 1970, are none of the threshold's business."""
    begun, told = watch
    found: list[Crossing] = []
    for value, time, step in points:
        if (told and not asked.again) or time < since:
            continue
        if not asked.beyond(value):
            begun, told = None, False
            continue
        begun = step if begun is None else min(begun, step)
        if not told and step - begun + 1 >= asked.for_steps:
            found.append(Crossing(value, step, time, begun))
            told = True
    return found, Watch(begun, told)
