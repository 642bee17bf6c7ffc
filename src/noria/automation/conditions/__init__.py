"""A shelf: one file is one condition, and its name is what a gate says.

A condition is pure: it looks at evidence and says yes or no, in a sentence that a person can read in the log of promotions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from noria.automation.measures import Examples
from noria.errors import Invalid
from noria.plugins import Kind


class Evidence(Struct, frozen=True):
    """What is known about a candidate, and about the champion that it would replace (None: there is none yet).

    metrics: the candidate's, by name: those of its evaluation, and those that its run logged; `unlogged` says why the latter are missing.
    candidate, champion: for each held-out example, in the same order, whether the answer was right. examples, standing: all that is known
    about each answer of the two (see measures). slices: the label of each example, by the slice's name. cost: p50_ms, p99_ms,
    examples_per_second and size_bytes of the candidate. authors: who made it; approvals: who said yes to it.
    """

    metrics: Mapping[str, float] = {}
    unlogged: str = ""
    candidate: Sequence[bool] = ()
    champion: Sequence[bool] | None = None
    examples: Examples | None = None
    standing: Examples | None = None
    slices: Mapping[str, Sequence[str]] = {}
    cost: Mapping[str, float] = {}
    authors: Sequence[str] = ()
    approvals: Sequence[str] = ()


class Verdict(Struct, frozen=True):
    """`sentence` says what was found and what it means; `figures` are the numbers in it."""

    passed: bool
    sentence: str
    figures: dict[str, float] = {}


class Condition(Protocol):
    """`judge` takes its settings by keyword, each with a default. It raises Invalid if the evidence cannot be judged by it."""

    def judge(self, evidence: Evidence, **settings: Any) -> Verdict: ...


CONDITIONS: Kind[Condition] = Kind("noria.automation.conditions")


def metric(evidence: Evidence, name: str) -> float:
    """A metric of the candidate. Raises Invalid, with those there are, if it has none of this name."""
    if name not in evidence.metrics:
        known = ", ".join(sorted(evidence.metrics)) or "none"
        raise Invalid(
            f"{evidence.unlogged}The candidate has no metric '{name}' (it has: {known}).", "Log it, or name another one."
        )
    return evidence.metrics[name]


def measured(evidence: Evidence) -> Examples:
    """The candidate's answers. Raises Invalid if there are none, or the champion's are not to the same number of examples."""
    if not evidence.examples:
        raise Invalid(
            "There are no held-out examples to judge the candidate by.", "Give a held-out file, with --held-out or in the gate."
        )
    if evidence.standing is not None and _length(evidence.standing) != _length(evidence.examples):
        raise Invalid(f"The candidate was judged on {_length(evidence.examples)} examples and the champion on {_length(evidence.standing)}.",
                      "Evaluate both on the same held-out examples.")  # fmt: skip
    return evidence.examples


def _length(examples: Examples) -> int:
    return len(next(iter(examples.values())))
