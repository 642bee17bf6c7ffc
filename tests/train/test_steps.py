"""Steps sum what counts, and nothing of what only fills up."""

from __future__ import annotations

from math import log

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from noria.train.data import Batch
from noria.train.steps import UNASKED, Step, classification, regression, tokens


class Says(nn.Module):
    """Answers with its input."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


TARGETS = torch.tensor([[0, 1, 2], [2, UNASKED, 0], [1, 1, 1]])


def test_tokens_are_counted_one_by_one_where_they_are_asked_for() -> None:
    out = torch.zeros(3, 3, 4)
    out[:, :, 0] = 1e-3
    loss, weight, more = tokens(Says(), Batch(out, TARGETS, torch.tensor([1.0, 1.0, 0.0])))  # type: ignore[misc]  # both of these steps measure more
    assert weight == 5 and more["accuracy"] == 2
    assert loss.item() / 5 == pytest.approx(log(4), abs=1e-3)


def test_regression_measures_each_example_alike() -> None:
    batch = Batch(torch.tensor([[1.0, 3.0], [0.0, 0.0], [9.0, 9.0]]), torch.zeros(3, 2), torch.tensor([1.0, 1.0, 0.0]))
    loss, weight, more = regression(Says(), batch)  # type: ignore[misc]  # both of these steps measure more
    assert (loss, weight, more["error"]) == (5.0, 2.0, 2.0)


@pytest.mark.parametrize(("step", "inputs", "targets"), [
    (classification, torch.randn(6, 4), torch.arange(6) % 4),
    (tokens, torch.randn(6, 5, 4), torch.arange(30).reshape(6, 5) % 4),
    (regression, torch.randn(6, 5, 2), torch.randn(6, 5, 2)),
])  # fmt: skip
def test_an_example_without_weight_counts_nowhere_and_parts_add_up(step: Step, inputs: Tensor, targets: Tensor) -> None:
    def sums(low: int, high: int, weights: Tensor) -> list[float]:
        loss, weight, more = step(Says(), Batch(inputs[low:high], targets[low:high], weights))  # type: ignore[misc]  # both of these steps measure more
        return [loss.item(), weight.item(), *(value.item() for value in more.values())]

    whole, low, high = sums(0, 4, torch.ones(4)), sums(0, 1, torch.ones(1)), sums(1, 4, torch.ones(3))
    assert sums(0, 6, torch.tensor([1.0, 1, 1, 1, 0, 0])) == pytest.approx(whole, rel=1e-5)
    assert [one + other for one, other in zip(low, high, strict=True)] == pytest.approx(whole, rel=1e-5)
