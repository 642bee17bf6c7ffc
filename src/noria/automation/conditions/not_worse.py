"""The candidate is not significantly worse than the champion on the same held-out examples.

The exact, one-sided McNemar test: only examples that one of the two gets right and the other wrong count; if the two were
equally good, each of these would fall to either side like a coin. McNemar 1947, Note on the sampling error of the
difference between correlated proportions or percentages.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.automation.conditions import Evidence, Verdict
from noria.automation.resampling import tail
from noria.errors import Invalid


def judge(evidence: Evidence, *, level: float = 0.05, minimum: float = 0.0) -> Verdict:
    """Refuses if a candidate as good as the champion would do this badly with a chance below `level`, or if its accuracy is
    below `minimum`. Raises Invalid if the two were not judged on the same number of examples, or on none."""
    candidate, champion = evidence.candidate, evidence.champion
    if not candidate:
        raise Invalid(
            "There are no held-out examples to judge the candidate by.", "Give a held-out file, with --held-out or in the gate."
        )
    accuracy = sum(candidate) / len(candidate)
    figures = {"accuracy": accuracy, "examples": float(len(candidate))}
    if accuracy < minimum:
        return Verdict(False, f"The candidate's accuracy of {accuracy:.2%} is below the {minimum:.2%} asked for.", figures)
    if champion is None:
        return Verdict(True, f"There is no champion yet, and the candidate is right on {accuracy:.2%} of the examples.", figures)
    if len(champion) != len(candidate):
        raise Invalid(f"The candidate was judged on {len(candidate)} examples and the champion on {len(champion)}.",
                      "Evaluate both on the same held-out examples.")  # fmt: skip
    lost = sum(was and not now for was, now in zip(champion, candidate, strict=True))
    gained = sum(now and not was for was, now in zip(champion, candidate, strict=True))
    chance = tail(lost, lost + gained)
    figures |= {"champion_accuracy": _mean(champion), "lost": float(lost), "gained": float(gained), "p": chance}
    compared = f"{accuracy:.2%} against {_mean(champion):.2%}; it loses {lost} and gains {gained} of {len(candidate)} examples"
    if chance < level:
        return Verdict(False, f"The candidate is worse than the champion ({compared}): "
                       f"by chance this happens with p = {chance:.2g}, below {level:g}.", figures)  # fmt: skip
    return Verdict(True, f"The candidate is not significantly worse than the champion ({compared}; p = {chance:.2g}).", figures)


def _mean(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
