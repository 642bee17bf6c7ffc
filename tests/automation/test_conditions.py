from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.automation import gate, measures, resampling
from noria.automation.conditions import CONDITIONS, Evidence, Verdict
from noria.automation.resampling import tail
from noria.errors import Invalid


def judge(name: str, evidence: Evidence, **settings: Any) -> Verdict:
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


def examples(right: Sequence[bool], loss: Sequence[float] | None = None, y: Sequence[int] | None = None) -> dict[str, Any]:
    """A classification of which this was right."""
    label = np.zeros(len(right), int) if y is None else np.asarray(y)
    answers = {"y": label, "predicted": np.where(right, label, label + 1), "right": np.asarray(right)}
    return answers if loss is None else {**answers, "loss": np.asarray(loss, float)}


def test_at_most() -> None:
    evidence = Evidence(metrics={"log_loss": 0.2, "nan": math.nan})
    assert judge("at_most", evidence, threshold=0.2).passed and not judge("at_most", evidence, threshold=0.1).passed
    assert not judge("at_most", evidence, metric="nan", threshold=9).passed
    with pytest.raises(Invalid, match=r"^It has no run\. The candidate has no metric 'f1' \(it has: none\)\."):
        judge("at_most", Evidence(unlogged="It has no run. "), metric="f1")


def test_better_needs_the_whole_interval() -> None:
    generator = np.random.default_rng(1)
    was = generator.random(500) < 0.8
    now = was | (generator.random(500) < 0.5)
    evidence = Evidence(examples=examples(now), standing=examples(was))
    found = judge("better", evidence)
    assert found.passed and found.figures["low"] > 0 and found.figures["difference"] == pytest.approx(now.mean() - was.mean())
    assert judge("better", evidence) == found, "the seed decides"
    assert not judge("better", evidence, by=0.15).passed
    assert not judge("better", Evidence(examples=examples(was), standing=examples(was))).passed
    assert judge("better", Evidence(examples=examples(was), standing=examples(was)), by=-0.01).passed
    assert judge("better", Evidence(examples=examples(was))).passed, "there is no champion"


def test_the_interval_is_that_of_the_normal_distribution() -> None:
    difference = np.random.default_rng(2).normal(0.3, 1.0, 2000)
    zero = np.zeros(2000)
    found = judge(
        "better",
        Evidence(examples={"absolute": 5 - difference, "squared": zero}, standing={"absolute": zero + 5, "squared": zero}),
        metric="mae",
    )
    error = 1.96 * difference.std() / math.sqrt(2000)
    assert found.figures["low"] == pytest.approx(difference.mean() - error, abs=0.01)
    assert found.figures["high"] == pytest.approx(difference.mean() + error, abs=0.01)
    assert "(less is better)" in found.sentence


def test_slices_are_corrected_for_their_number() -> None:
    labels = [str(index // 50) for index in range(1000)]
    was = np.ones(1000, bool)
    now = was.copy()
    now[:6] = False  # p = 1/64 on the first of 20 slices: by chance one of so many looks like that.
    evidence = Evidence(examples=examples(now), standing=examples(was), slices={"part": labels})
    assert judge("slices", evidence).passed and not judge("slices", evidence, correction="none").passed
    now[:12] = False
    refused = judge("slices", Evidence(examples=examples(now), standing=examples(was), slices={"part": labels}))
    assert (
        not refused.passed
        and "part=0 (accuracy 0.76 against 1 on 50 examples" in refused.sentence
        and "part=1" not in refused.sentence
    )
    assert "Holm's correction for 20 slices" in refused.sentence and refused.figures["p part=0"] == pytest.approx(20 / 2**12)
    with pytest.raises(Invalid, match=r"no slice 'age' \(it has: part\)"):
        judge("slices", evidence, names=("age",))
    with pytest.raises(Invalid, match="no slices"):
        judge("slices", Evidence(examples=examples(now)))


def test_slices_by_a_loss() -> None:
    generator = np.random.default_rng(3)
    was = generator.random(400)
    now = np.where(np.arange(400) < 100, was + 0.1 * generator.random(400), was - 0.1)
    labels = ["low" if index < 100 else "high" for index in range(400)]
    right = [True] * 400
    refused = judge(
        "slices",
        Evidence(examples=examples(right, now), standing=examples(right, was), slices={"part": labels}),
        metric="log_loss",
    )
    assert not refused.passed and "part=low" in refused.sentence and "part=high" not in refused.sentence


def test_holm_and_bonferroni() -> None:
    assert resampling.corrected([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert resampling.corrected([0.01, 0.04, 0.5], "bonferroni") == pytest.approx([0.03, 0.12, 1.0])


def test_flipped_signs_agree_with_the_exact_test() -> None:
    difference = np.array([-1.0] * 9 + [1.0] * 2)
    assert resampling.chance(difference, 20_000, 0) == pytest.approx(tail(9, 11), abs=0.01)
    assert resampling.chance(np.zeros(5), 100, 0) == 1.0


def test_budgets() -> None:
    evidence = Evidence(cost={"p50_ms": 2.0, "p99_ms": 9.0, "examples_per_second": 500.0, "size_bytes": 1000.0})
    assert judge("latency", evidence, p50_ms=2, p99_ms=10, examples_per_second=400).passed
    slow = judge("latency", evidence, p50_ms=2, p99_ms=8)
    assert not slow.passed and "p99 of single predictions 9 ms, at most 8 ms allowed" in slow.sentence
    assert not judge("latency", evidence, examples_per_second=501).passed
    assert judge("size", evidence, most_bytes=1000).passed and not judge("size", evidence, most_bytes=999).passed


def test_the_authors_own_yes_does_not_count() -> None:
    assert not judge("approved", Evidence(authors=["ada"], approvals=["ada"])).passed
    assert judge("approved", Evidence(authors=["ada"], approvals=["ada", "grace"])).passed
    assert not judge("approved", Evidence(authors=["ada"], approvals=["grace", "grace"]), count=2).passed
    assert not judge("approved", Evidence(authors=["ada"], approvals=["grace"]), by=("eve",)).passed


def test_measures() -> None:
    scores = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.7, 0.2, 0.1]])
    task, kind, found = measures.judged(scores, np.array([0, 1, 0, 0]))
    assert (task, kind) == ("classification", "scores") and found["predicted"].tolist() == [0, 1, 2, 0]
    every = measures.every(found)
    assert (
        every["accuracy"] == 0.75
        and every["recall.0"] == pytest.approx(2 / 3)
        and every["balanced_accuracy"] == pytest.approx(5 / 6)
    )
    assert every["log_loss"] == pytest.approx(-np.log([0.5, 0.8, 0.2, 0.7]).mean())
    assert every["f1"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert measures.judged(np.exp(scores), np.array([0, 1, 0, 0]))[1] == "probabilities"
    assert measures.judged(np.array(["a", "b"]), np.array(["a", "a"]))[2]["right"].tolist() == [True, False]
    task, kind, found = measures.judged(np.array([[1.0], [2.0]]), np.array([1.5, 4.0]))
    assert task == "regression" and measures.every(found) == pytest.approx({"rmse": math.sqrt(4.25 / 2), "mae": 1.25})
    assert measures.judged(np.array([0.9, 0.2, 0.4]), np.array([1, 0, 1]))[1] == "probabilities"
    with pytest.raises(Invalid, match="gave 1 answers to 2 examples"):
        measures.judged(np.zeros(1), np.zeros(2))


def test_a_gate_reads_what_it_writes() -> None:
    text = """
held_out = { usual = "a.npz", night = "/data/night.npz" }
[[conditions]]
name = "slices"
names = ["site", "a\\"b"]
level = 0.01
[[conditions]]
name = "latency"
p99_ms = 5
held_out = "night"
"""
    found = gate.parse(text, "here", Path("/base"))
    assert found.held_out == {"usual": "/base/a.npz", "night": "/data/night.npz"}
    assert [each.held_out for each in found.rules] == ["usual", "night"]
    again = gate.parse(gate.dumps(found), "there", Path("/"))
    assert (again.rules, again.held_out) == (found.rules, found.held_out)
