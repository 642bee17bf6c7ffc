from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria.errors import NoriaError
from noria.train.data import Arrays, Batch
from noria.train.finders import find_lr, find_micro
from noria.train.optimizers import adamw
from noria.train.schedules import constant, cosine, warmup_stable_decay
from noria.train.steps import Sums, classification


def test_the_rate_that_is_found_is_near_the_best_of_a_grid() -> None:
    """Within a factor of 10 of the best, and none of the grid is twice as good."""
    net = example.mlp()
    before = [weight.clone() for weight in net.parameters()]
    found = find_lr(example.trainer(net, augment=None), example.TRAIN)
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))
    losses = {}
    for rate in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, found.best):
        plan = {"optimizer": adamw(rate), "schedule": constant, "augment": None, "epochs": 4, "monitor": "val_loss"}
        losses[rate] = example.trainer(example.mlp(), **plan).fit(example.TRAIN, example.VALIDATION).values["val_loss"]
    best = min(losses, key=losses.__getitem__)
    assert best / 30 <= found.best <= best * 30
    assert losses[found.best] < 2 * losses[best] + 0.1
    assert len(found.tried) == len(found.losses) > 20


def test_a_loss_that_no_rate_lowers_is_said() -> None:
    def stubborn(model: torch.nn.Module, batch: Batch) -> Sums:
        loss, weight, *_ = classification(model, batch)
        return loss * 0 + weight, weight

    with pytest.raises(NoriaError, match="fell at no learning rate"):
        find_lr(example.trainer(example.mlp(), step=stubborn), example.TRAIN)


def test_the_largest_part_that_fits_is_found() -> None:
    def heavy(limit: int) -> Any:
        def step(model: torch.nn.Module, batch: Batch) -> Sums:
            if len(batch.weights) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return classification(model, batch)

        return step

    assert find_micro(example.trainer(example.mlp(), step=heavy(20)), example.TRAIN) == 16
    assert find_micro(example.trainer(example.mlp(), step=heavy(1000)), example.TRAIN) == 32
    assert (
        find_micro(
            example.trainer(example.mlp(), step=heavy(1000)),
            Arrays(*(each[:5] for each in (example.TRAIN.inputs, example.TRAIN.targets))),
        )
        == 4
    )
    with pytest.raises(NoriaError, match="One example alone"):
        find_micro(example.trainer(example.mlp(), step=heavy(0)), example.TRAIN)


def test_schedules_go_where_they_say() -> None:
    curve = [cosine(warmup=0.1, last=0.1)(done / 100) for done in range(101)]
    assert (curve[0], curve[10], curve[100]) == pytest.approx((0.0, 1.0, 0.1))
    assert curve[:11] == sorted(curve[:11]) and curve[10:] == sorted(curve[10:], reverse=True)
    level = [warmup_stable_decay(0.1, 0.2)(done / 100) for done in range(101)]
    assert (level[0], level[10], level[50], level[80], level[90], level[100]) == pytest.approx((0, 1, 1, 1, 0.5, 0))
