"""The candidate is not significantly worse than the champion on any slice of the held-out examples.

Each slice is a test of its own, one-sided: McNemar's exact one for accuracy, signs flipped at random for other measures. With many slices some
look worse by chance; the correction makes up for that.
"""

from __future__ import annotations

from typing import Literal

from noria.automation import measures, resampling
from noria.automation.conditions import Evidence, Verdict, measured
from noria.errors import Invalid

_MOST = 1000


def judge(
    evidence: Evidence, *, names: tuple[str, ...] = (), metric: str = "accuracy", level: float = 0.05,
    correction: Literal["holm", "bonferroni", "none"] = "holm", resamples: int = 10_000, seed: int = 0
) -> Verdict:  # fmt: skip
    """Refuses if on any slice a candidate as good as the champion would do this badly with a corrected chance below `level`.

    names: of the held-out set's slice columns, all of them by default. Raises Invalid if there are none, or none of these names.
    """
    examples, standing = measured(evidence), evidence.standing
    masks = _masks(evidence, names)
    if standing is None:
        return Verdict(
            True,
            f"There is no champion yet, so none of the {len(masks)} slices can have regressed.",
            {"slices": float(len(masks))},
        )
    difference = measures.each(examples, metric) - measures.each(standing, metric)
    raw = [_chance(difference[mask], metric, resamples, seed) for mask in masks.values()]
    chances = dict(zip(masks, resampling.corrected(raw, correction), strict=True))
    worse = [label for label, p in chances.items() if p < level]
    figures = {"slices": float(len(masks)), **{f"p {label}": p for label, p in chances.items()}}
    by = f"{_CORRECTIONS[correction]} for {len(masks)} slices, level {level:g}"
    if not worse:
        lowest = min(chances, key=lambda label: chances[label])
        return Verdict(
            True, f"No slice is significantly worse in {metric} (lowest p = {chances[lowest]:.2g}, {lowest}; {by}).", figures
        )
    said = "; ".join(_said(examples, standing, label, masks[label], metric, chances[label]) for label in worse)
    return Verdict(False, f"The candidate is worse than the champion on {said} ({by}).", figures)


_CORRECTIONS = {"holm": "Holm's correction", "bonferroni": "Bonferroni's correction", "none": "no correction"}


def _masks(evidence: Evidence, names: tuple[str, ...]) -> dict[str, measures.Array]:
    """The examples of each slice, by `column=label`."""
    import numpy as np

    known = ", ".join(sorted(evidence.slices)) or "none"
    for name in names:
        if name not in evidence.slices:
            raise Invalid(
                f"The held-out set has no slice '{name}' (it has: {known}).", "Name another one, or add an array of labels."
            )
    found: dict[str, measures.Array] = {}
    for name in names or sorted(evidence.slices):
        labels = np.asarray(evidence.slices[name])
        found |= {f"{name}={label}": labels == label for label in np.unique(labels)[: _MOST + 1].tolist()}
    if not found:
        raise Invalid("The held-out set has no slices.", "Add an array of one label for each example, beside x and y.")
    if len(found) > _MOST:
        raise Invalid(f"The held-out set has more than {_MOST} slices.", "Name the columns that are meant, with names = [...].")
    return found


def _chance(difference: measures.Array, metric: str, resamples: int, seed: int) -> float:
    if metric != "accuracy":
        return resampling.chance(difference, resamples, seed)
    lost, gained = int((difference < 0).sum()), int((difference > 0).sum())
    return resampling.tail(lost, lost + gained)


def _said(
    examples: measures.Examples, standing: measures.Examples, label: str, mask: measures.Array, metric: str, p: float
) -> str:
    now, was = (measures.measure(measures.rows(each, mask), metric) for each in (examples, standing))
    return f"{label} ({metric} {now:.4g} against {was:.4g} on {int(mask.sum())} examples, p = {p:.2g})"
