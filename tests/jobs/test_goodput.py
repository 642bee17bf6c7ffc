"""A simulated month of 1,000 GPUs (bench/goodput.py) trains nearly as long as the best that is possible."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import mean
from types import ModuleType

import pytest
from msgspec.structs import asdict


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    yield import_module("goodput")
    sys.modules.pop("goodput")


@pytest.mark.parametrize("policy", ["told", "known", "learned"])
def test_a_month_is_within_half_a_point_of_the_optimum(bench: ModuleType, policy: str) -> None:
    """What Noria's launcher tells, what somebody knows, and what is learned in the month."""
    site = bench.Site()
    found = bench.months(site, getattr(bench, policy)(site), bench.recover.blamed, 5)
    assert mean(each.failures for each in found) == pytest.approx(30 * 24 / 8.09, rel=0.2)
    assert 0.97 < site.best < 0.973 and mean(each.share for each in found) > site.best - 0.005


def test_a_guess_that_is_wrong_by_ten_times_is_made_good_within_the_month(bench: ModuleType) -> None:
    site = bench.Site()
    for factor in (0.1, 10):
        found = bench.months(site, bench.learned(site, factor), bench.recover.blamed, 5)
        assert mean(each.share for each in found) > site.best - 0.005


def test_all_of_a_month_is_accounted_for(bench: ModuleType) -> None:
    site = bench.Site(limit=4 * 3600, wait=600, restart=300, bad=2)
    spent = asdict(bench.month(site, bench.told(site), bench.recover.blamed, 7))
    assert spent.pop("failures") > 70 and spent.pop("stopped") == 0 and all(seconds > 0 for seconds in spent.values())
    assert sum(spent.values()) == pytest.approx(30 * 86_400)


def test_a_wrong_guess_that_is_kept_costs_more_than_one_that_is_learned_from(bench: ModuleType) -> None:
    site = bench.Site()
    kept, learned = (
        bench.month(site, policy(site, 1 / 64), bench.recover.blamed, 1).share for policy in (bench.known, bench.learned)
    )
    assert learned > kept + 0.05


def test_leaving_bad_nodes_out_pays_even_where_there_are_few_others(bench: ModuleType) -> None:
    """Nodes that failed once are not left out for good: then there would be too few of them soon, and the job would wait for ever."""
    site = bench.Site(bad=2, spares=4)
    kept, left_out = (
        [bench.month(site, bench.told(site), blamed, seed) for seed in range(3)]
        for blamed in (bench.nobody, bench.recover.blamed)
    )
    assert sum(each.stopped for each in left_out) == 0
    assert mean(each.failures for each in left_out) < mean(each.failures for each in kept) * 0.7
    assert mean(each.share for each in left_out) > mean(each.share for each in kept) + 0.01


def test_a_time_limit_right_after_a_failure_ends_no_job(bench: ModuleType) -> None:
    """The try that it ends has had no time to save anything; the one before has."""
    site = bench.Site(limit=3600)
    found = bench.months(site, bench.told(site), bench.recover.blamed, 3)
    assert sum(each.stopped for each in found) == 0


def test_expensive_checkpoints_are_saved_less_often(bench: ModuleType) -> None:
    site = bench.Site(checkpoint=300, mttf=72 * 3600)
    found = bench.months(site, bench.told(site), bench.recover.blamed, 5)
    assert mean(each.share for each in found) > site.best - 0.015
