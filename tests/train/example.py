"""A small training that the tests share, and that runs as a rank of its own: `python example.py FOLDER OUTPUT [STEP]`.

With STEP, the last rank sends itself SIGTERM before that step.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from noria.train import architectures
from noria.train.augment import Jitter
from noria.train.data import Arrays, Batch
from noria.train.recipes import Sums, adamw, classification, one_cycle
from noria.train.trainer import Plan, fit


def arrays(size: int, seed: int) -> Arrays:
    """Images of 18x18 whose class is the third that is brightest."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (size,), generator=generator)
    images = torch.rand(size, 1, 18, 18, generator=generator)
    for third in range(3):
        images[targets == third, :, 6 * third : 6 * third + 6] += 0.3
    return Arrays(images, targets)


torch.set_num_threads(1)  # Several threads gain nothing on 8 images, and repeat sums in another order.


TRAIN, VALIDATION = arrays(50, 1), arrays(31, 2)


def model(dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(3)
    return architectures.build("cnn", width=4, classes=3, side=18, dropout=dropout)


def plan(**changes: Any) -> Plan:
    """3 epochs of 7 steps; the last batch of an epoch has 2 examples of 8."""
    usual: dict[str, Any] = {"epochs": 3, "batch": 8, "optimizer": adamw(3e-3), "schedule": one_cycle(), "augment": Jitter()}
    return Plan(**{**usual, **changes})


def main() -> None:
    folder, output, *at = sys.argv[1:]
    rank, seen = int(os.environ["RANK"]), 0

    def step(model: torch.nn.Module, batch: Batch) -> Sums:
        nonlocal seen
        seen += model.training
        if at and rank == int(os.environ["WORLD_SIZE"]) - 1 and seen == int(at[0]):
            signal.raise_signal(signal.SIGTERM)
        return classification(model, batch)

    result = fit(model(), step, TRAIN, VALIDATION, plan(folder=Path(folder), clip=1.0))
    if rank == 0:
        torch.save({"weights": result.model.state_dict(), "values": result.values}, output)


if __name__ == "__main__":
    main()
