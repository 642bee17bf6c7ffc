from __future__ import annotations

import random
from math import exp, log

import pytest

from noria.train.reading import read


def curve(steps: int, begin: float, end: float, rate: float, noise: float = 0.05, seed: int = 0) -> list[float]:
    draw = random.Random(seed)  # Not for secrets.
    return [end + (begin - end) * exp(-rate * step / steps) + draw.gauss(0, noise) for step in range(steps)]


def names(*args: object, **more: object) -> list[str]:
    return [finding.name for finding in read(*args, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (lambda seed: curve(500, 2.3, 0.3, 20, seed=seed), "plateau"),
        (lambda seed: curve(500, 2.3, 0.3, 2, seed=seed), "improving"),
        (lambda seed: curve(500, 2.3, 2.29, 5, seed=seed), "flat"),
        (lambda seed: curve(500, 2.3, 6.0, 3, seed=seed), "diverging"),
        (lambda seed: [*curve(250, 2.3, 0.3, 10, seed=seed), *curve(250, 1.0, 1.5, 3, seed=seed)], "unstable"),
        (lambda seed: [*curve(60, 2.3, 1.3, 3, seed=seed), float("nan")], "diverging"),
    ],
)
def test_the_course_of_a_curve_is_named(losses, expected: str, seed: int) -> None:  # type: ignore[no-untyped-def]
    assert names(losses(seed)) == [expected]


def test_a_loss_at_chance_says_so() -> None:
    (finding,) = read(curve(500, 2.31, 2.30, 5), chance=log(10))
    assert finding.name == "flat" and "what guessing gives" in finding.says


def test_too_few_steps_say_nothing() -> None:
    assert read([2.0, 1.0, 0.5]) == []


def test_what_fits_too_well_and_what_does_not_fit_at_all() -> None:
    falling = [1.0, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08]
    assert "over-fitting" in names(curve(800, 1, 0.1, 3), [1.0, 0.7, 0.6, 0.62, 0.66, 0.7, 0.75, 0.8], train=falling)
    assert names(curve(800, 1, 0.1, 3), [1.0, 0.7, 0.5, 0.4, 0.35, 0.3, 0.28, 0.27], train=falling) == ["improving"]
    assert "under-fitting" in names(curve(800, 2.3, 2.2, 3, noise=0.01), [2.31, 2.3, 2.29, 2.29], train=[2.3, 2.28, 2.27, 2.27])


def test_layers_that_hardly_learn_or_learn_wildly_are_named() -> None:
    losses = curve(500, 2.3, 0.3, 20)
    (_, finding) = read(losses, gradients={"first": [1e-9] * 5, "second": [1e-2] * 5, "last": [1.0] * 5})
    assert finding.name == "vanishing" and "first" in finding.says and "second" not in finding.says
    (_, finding) = read(losses, gradients={"first": [1.0] * 5, "last": [1e5] * 5})
    assert finding.name == "exploding" and "last" in finding.says
    (_, finding) = read(losses, dead={"hidden": 0.8, "other": 0.1})
    assert finding.name == "dead" and "80% of the units of hidden" in finding.says
