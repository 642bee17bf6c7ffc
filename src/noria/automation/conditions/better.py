"""The candidate is better than the champion on the same held-out examples, by a measure and beyond chance.

The paired bootstrap: both are measured on the same examples, drawn anew with replacement, and the interval is that of the differences.
"""

from __future__ import annotations

from noria.automation import measures, resampling
from noria.automation.conditions import Evidence, Verdict, measured
from noria.errors import Invalid


def judge(
    evidence: Evidence,
    *,
    metric: str = "accuracy",
    by: float = 0.0,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Passes if the whole interval of the difference, more being better, lies above `by`; below 0 it allows to be that much worse.

    Without a champion it passes. Raises Invalid if the measure is none of held-out examples, or the two saw different ones.
    """
    examples = measured(evidence)
    if not 0 < confidence < 1 or resamples < 100:
        raise Invalid(f"better cannot take confidence = {confidence:g} with {resamples} resamples.",
                      "Give a confidence between 0 and 1, and 100 resamples or more.")  # fmt: skip
    value = measures.measure(examples, metric)
    if evidence.standing is None:
        return Verdict(True, f"There is no champion yet, and the candidate's {metric} is {value:.6g}.", {metric: value})
    found = resampling.paired(examples, evidence.standing, metric, confidence=confidence, resamples=resamples, seed=seed)
    before = measures.measure(evidence.standing, metric)
    passed = found.low > by
    figures = {
        metric: value,
        f"champion_{metric}": before,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "by": by,
    }
    less = " (less is better)" if measures.sign(metric) < 0 else ""
    said = "is better than the champion" if passed else "is not shown to be better than the champion"
    beyond = f" by more than {by:g}" if by else ""
    return Verdict(passed, f"The candidate {said}{beyond}: {metric} {value:.6g} against {before:.6g}{less}; {confidence:.0%} of {resamples} paired resamples "
                   f"put the gain between {found.low:.4g} and {found.high:.4g}.", figures)  # fmt: skip
