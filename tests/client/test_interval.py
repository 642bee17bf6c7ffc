"""When to save: Daly's estimate against the best that a search finds."""

import math

import pytest

from noria.client.interval import efficiency, estimate, interval


def test_a_thousand_gpus_that_fail_every_8_hours_can_be_useful_97_percent_of_the_time() -> None:
    mtbf = 7.9 * 3600
    best = interval(10, mtbf)
    assert 740 < best < 755
    assert efficiency(best, 10, 60, mtbf) == pytest.approx(0.9717, abs=1e-4)


@pytest.mark.parametrize("cost", [0.01, 1, 60, 600, 3600])
@pytest.mark.parametrize("mtbf", [3600, 86400, 30 * 86400])
def test_no_other_interval_is_much_better(cost: float, mtbf: float) -> None:
    shares = [efficiency(mtbf * 10 ** (power / 100), cost, 60, mtbf) for power in range(-600, 101)]
    assert efficiency(interval(cost, mtbf), cost, 60, mtbf) >= max(shares) - 0.01 * max(shares)


def test_the_model_is_what_failures_do_to_work() -> None:
    """Longer intervals lose more work, shorter ones save more often, and each restart is paid."""
    share = efficiency(1000, 10, 60, 20_000)
    assert share == pytest.approx(1 - 10 / 1010 - 505 / 20_000 - 60 / 20_000, abs=1e-3)


def test_at_the_limits() -> None:
    assert interval(0, 3600) == 0 and interval(10, 0) == 0 and interval(10, math.inf) == math.inf
    assert interval(1e6, 3600) == 3600
    assert efficiency(0, 0, 36, 3600) == pytest.approx(math.exp(-0.01))
    assert efficiency(0, 10, 60, 3600) == 0 and efficiency(1e9, 10, 60, 3600) == 0 and efficiency(100, 10, 60, 0) == 0
    assert efficiency(math.inf, 10, 60, math.inf) == 1 and efficiency(90, 10, 60, math.inf) == 0.9
    assert efficiency(math.inf, 10, 60, 3600) == 0


def test_a_guess_gives_way_to_what_was_seen() -> None:
    assert estimate(3600, 0, 0) == 3600 and estimate(3600, 3600, 0) == 7200
    assert estimate(36_000, 100 * 3600, 100) == pytest.approx(3600, rel=0.1)
