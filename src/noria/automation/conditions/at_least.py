"""A metric of the candidate reaches a threshold."""

from __future__ import annotations

from noria.automation.conditions import Evidence, Verdict
from noria.errors import Invalid


def judge(evidence: Evidence, *, metric: str = "test_accuracy", threshold: float = 0.9) -> Verdict:
    """Passes if the metric is `threshold` or more; a NaN does not pass. Raises Invalid if the candidate has no such metric."""
    if metric not in evidence.metrics:
        known = ", ".join(sorted(evidence.metrics)) or "none"
        raise Invalid(f"The candidate has no metric '{metric}' (it has: {known}).", "Log it, or name another one.")
    value = evidence.metrics[metric]
    passed = value >= threshold
    said = "reaches" if passed else "misses"
    return Verdict(passed, f"{metric} is {value:g}, which {said} {threshold:g}.", {metric: value, "threshold": threshold})
