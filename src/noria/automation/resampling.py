"""What differences between two models on the same examples come to by chance. Pure: a seed gives the same figures anywhere.

Efron 1979, Bootstrap methods: another look at the jackknife. Fisher 1935, The design of experiments, section 21 (signs that are flipped).
Holm 1979, A simple sequentially rejective multiple test procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from noria.automation import measures
from noria.automation.measures import Examples
from noria.errors import Invalid

if TYPE_CHECKING:
    import numpy as np

_BLOCK = 1 << 22
"""Signs that are drawn at a time."""


class Difference(Struct, frozen=True):
    """Candidate minus champion, more being better, and the interval that holds it."""

    value: float
    low: float
    high: float


def paired(candidate: Examples, champion: Examples, metric: str, *, confidence: float, resamples: int, seed: int) -> Difference:
    """The percentile interval of the paired bootstrap: both models are measured on the same examples, drawn anew each time."""
    import numpy as np

    sign, count = measures.sign(metric), len(next(iter(candidate.values())))
    generator = np.random.default_rng(seed)
    held = _needed(metric, candidate), _needed(metric, champion)
    found = np.empty(resamples)
    for index in range(resamples):
        drawn = generator.integers(0, count, count)
        found[index] = sign * (_measured(held[0], metric, drawn) - _measured(held[1], metric, drawn))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = sign * (measures.measure(candidate, metric) - measures.measure(champion, metric))
    return Difference(value, float(low), float(high))


def _needed(metric: str, examples: Examples) -> dict[str, Any]:
    """Only what is measured is drawn."""
    array = measures.MEASURES.get(metric, ("", 1, None))[0]
    if metric.startswith("recall."):
        return {"right": examples["right"], "y": examples["y"]}
    return {array: examples[array]} if array and array in examples else {**examples}


def _measured(examples: Examples, metric: str, drawn: Any) -> float:
    chosen = measures.rows(examples, drawn)
    try:
        return measures.measure(chosen, metric)
    except Invalid:  # A rare class may not be among those drawn; neither model is better on nothing.
        if metric.startswith("recall."):
            return 0.0
        raise


def chance(difference: np.ndarray[Any, Any], resamples: int, seed: int) -> float:
    """The one-sided p of a mean difference this low or lower, if the two models were exchangeable on each example.

    Signs are flipped at random; the observed one counts as one of the draws, so that p is never 0.
    """
    import numpy as np

    told = difference[difference != 0]
    if not len(told):
        return 1.0
    generator, observed, low = np.random.default_rng(seed), float(told.sum()), 0
    most = max(1, _BLOCK // len(told))
    for start in range(0, resamples, most):
        signs = generator.integers(0, 2, (min(most, resamples - start), len(told)), dtype=np.int8) * 2 - 1
        low += int((signs @ told <= observed + 1e-12).sum())
    return (low + 1) / (resamples + 1)


def corrected(chances: Sequence[float], how: str) -> list[float]:
    """The p of each test, made larger for there being several. how: "holm", "bonferroni" or "none"."""
    if how == "none":
        return list(chances)
    if how == "bonferroni":
        return [min(1.0, p * len(chances)) for p in chances]
    order = sorted(range(len(chances)), key=lambda index: chances[index])
    result, highest = [0.0] * len(chances), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, chances[index] * (len(chances) - rank)))
        result[index] = highest
    return result


def tail(lost: int, tossed: int) -> float:
    """The chance that of `tossed` fair coins `lost` or more show heads; exact, in whole numbers until the last division."""
    ways, term = 0, 1  # term = tossed choose k, from k = tossed downwards.
    for k in range(tossed, lost - 1, -1):
        ways += term
        term = term * k // (tossed - k + 1)
    return ways / (1 << tossed)
