"""A metric of the candidate reaches a threshold."""

from __future__ import annotations

from noria.automation.conditions import Evidence, Verdict
from noria.automation.conditions import metric as value_of


def judge(evidence: Evidence, *, metric: str = "test_accuracy", threshold: float = 0.9) -> Verdict:
    """Passes if the metric is `threshold` or more; a NaN does not pass. Raises Invalid if the candidate has no such metric."""
    value = value_of(evidence, metric)
    passed = value >= threshold
    said = "reaches" if passed else "misses"
    return Verdict(passed, f"{metric} is {value:g}, which {said} {threshold:g}.", {metric: value, "threshold": threshold})
