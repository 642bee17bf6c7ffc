"""A metric of the candidate stays below a limit."""

from __future__ import annotations

from noria.automation.conditions import Evidence, Verdict
from noria.automation.conditions import metric as value_of


def judge(evidence: Evidence, *, metric: str = "log_loss", threshold: float = 0.5) -> Verdict:
    """Passes if the metric is `threshold` or less; a NaN does not pass. Raises Invalid if the candidate has no such metric."""
    value = value_of(evidence, metric)
    passed = value <= threshold
    said = "stays within" if passed else "exceeds"
    return Verdict(passed, f"{metric} is {value:g}, which {said} {threshold:g}.", {metric: value, "threshold": threshold})
