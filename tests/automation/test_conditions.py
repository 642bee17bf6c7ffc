from __future__ import annotations

import math

import pytest

from noria.automation.conditions import CONDITIONS, Evidence, Verdict
from noria.automation.conditions.not_worse import tail
from noria.errors import Invalid


def judge(name: str, evidence: Evidence, **settings: float | str) -> Verdict:
    return CONDITIONS.get(name).judge(evidence, **settings)


def pair(lost: int, gained: int, both: int = 900) -> Evidence:
    """A candidate that loses and gains so many examples against its champion."""
    return Evidence(
        candidate=[False] * lost + [True] * gained + [True] * both, champion=[True] * lost + [False] * gained + [True] * both
    )


@pytest.mark.parametrize("name", CONDITIONS.names())
def test_every_condition_refuses_to_judge_by_nothing(name: str) -> None:
    with pytest.raises(Invalid):
        judge(name, Evidence())


def test_a_candidate_is_refused_only_if_it_is_significantly_worse() -> None:
    assert judge("not_worse", pair(0, 0)).passed
    assert judge("not_worse", pair(5, 25)).passed
    slightly = judge("not_worse", pair(14, 10))
    assert slightly.passed
    assert "not significantly worse" in slightly.sentence
    clearly = judge("not_worse", pair(30, 10))
    assert not clearly.passed
    assert "loses 30 and gains 10 of 940 examples" in clearly.sentence
    assert clearly.figures["p"] == pytest.approx(0.00111, abs=1e-5)
    assert judge("not_worse", pair(30, 10), level=0.001).passed


def test_five_to_none_is_the_fewest_that_can_be_significant() -> None:
    assert judge("not_worse", pair(4, 0)).passed
    assert not judge("not_worse", pair(5, 0)).passed


def test_without_a_champion_the_minimum_decides() -> None:
    right = Evidence(candidate=[True] * 9 + [False])
    assert judge("not_worse", right, minimum=0.9).passed
    refused = judge("not_worse", right, minimum=0.95)
    assert not refused.passed
    assert "90.00%" in refused.sentence


def test_different_examples_cannot_be_compared() -> None:
    with pytest.raises(Invalid, match="same held-out examples"):
        judge("not_worse", Evidence(candidate=[True], champion=[True, False]))


def test_the_tail_is_exact() -> None:
    for tossed in range(12):
        for lost in range(tossed + 1):
            exact = sum(math.comb(tossed, k) for k in range(lost, tossed + 1)) / 2**tossed
            assert tail(lost, tossed) == exact
    assert tail(2600, 5000) == pytest.approx(0.00242, abs=5e-5)


def test_at_least() -> None:
    evidence = Evidence(metrics={"test_accuracy": 0.97, "loss": math.nan})
    assert judge("at_least", evidence, threshold=0.97).passed
    assert not judge("at_least", evidence, threshold=0.98).passed
    assert not judge("at_least", evidence, metric="loss", threshold=0).passed
    with pytest.raises(Invalid, match="it has: loss, test_accuracy"):
        judge("at_least", evidence, metric="f1")
