"""A shelf: one file is one condition, and its name is what a rule says.

A condition is pure: it looks at evidence and says yes or no, in a sentence that a person can read in the log of promotions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from noria.plugins import Kind


class Evidence(Struct, frozen=True):
    """What is known about a candidate, and about the champion that it would replace (None: there is none yet).

    metrics: the candidate's, by name. candidate, champion: for each held-out example, in the same order, whether the answer
    was right.
    """

    metrics: Mapping[str, float] = {}
    candidate: Sequence[bool] = ()
    champion: Sequence[bool] | None = None


class Verdict(Struct, frozen=True):
    """`sentence` says what was found and what it means; `figures` are the numbers in it."""

    passed: bool
    sentence: str
    figures: dict[str, float] = {}


class Condition(Protocol):
    """`judge` takes its settings by keyword, each with a default. It raises Invalid if the evidence cannot be judged by it."""

    def judge(self, evidence: Evidence, **settings: Any) -> Verdict: ...


CONDITIONS: Kind[Condition] = Kind("noria.automation.conditions")
