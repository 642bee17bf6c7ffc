"""A metric is beyond a threshold: `{metric = "val_loss", above = 3.0, experiment = "digits", for_steps = 100}`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from noria.automation.triggers import could, said
from noria.errors import Invalid
from noria.store.thresholds import Threshold as When
from noria.wire.rules import Event

__all__ = ["When"]
FIELDS = ("name", "metric", "value", "step", "since_step", "run_id", "run_name", "experiment")


def check(when: When) -> None:
    if when.above is None and when.below is None:
        raise Invalid(f"When does metric '{when.metric[:80]}' fire?", "Give above = 0.9, below = 0.1 or both.")
    if any(bound is not None and math.isnan(bound) for bound in (when.above, when.below)):
        raise Invalid("A threshold of NaN is never passed.", "Give a number.")
    if when.for_steps < 1:
        raise Invalid(f"for_steps = {when.for_steps} is no number of steps.", "Give 1 or more.")
    if when.on == "finished" and (when.for_steps > 1 or when.again):
        raise Invalid("A run finishes once, with one last value.", 'Leave for_steps and again out, or on = "finished".')


def listens(when: When) -> tuple[str, bytes] | None:
    return when.metric, msgspec.json.encode(when)


def matches(when: When, event: Event) -> bool:
    return True  # The store has looked at the points, and tells this rule alone.


def may(when: When, subject: Mapping[str, str]) -> bool:
    return could(when.metric, subject.get("metric")) and could(when.experiment, subject.get("experiment"))


def says(when: When) -> dict[str, str]:
    return said(name=when.metric, metric=when.metric, experiment=when.experiment)
