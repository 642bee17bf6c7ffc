"""XOR, ten times from other weights: what one layer cannot learn, and two can."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from noria.client import fluent
from noria.train.architectures import build
from noria.train.data import Arrays
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.results import Result
from noria.train.schedules import cosine
from noria.train.trainer import Trainer

STATED = {"solved": Goal(least=10), "single_layer_accuracy": Goal(most=0.75)}
TABLE = Arrays(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0]))


def train(*, width: int = 16, times: int = 10, epochs: int = 2, batch: int = 8, lr: float = 0.03, seed: int = 0) -> Trained:
    """solved: of so many times, how often two layers have all four rows right. single_layer_accuracy: one layer's, at its best."""
    rows = Arrays(TABLE.inputs.repeat(200, 1), TABLE.targets.repeat(200))

    def learned(name: str, number: int, **arguments: int) -> Result:
        torch.manual_seed(times * seed + number)
        return Trainer(
            build(name, inputs=2, num_classes=2, **arguments), epochs=epochs, batch=batch, optimizer=adamw(lr), schedule=cosine(), seed=number,
            parallel="data", log=fluent.log if number == 0 and name == "mlp" else None, progress=None,
        ).fit(rows)  # fmt: skip

    two = [learned("mlp", number, width=width) for number in range(times)]
    one = [learned("perceptron", number) for number in range(times)]
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    solved = sum(_right(each.model) == 1 for each in two)
    return Trained(
        {"solved": solved, "single_layer_accuracy": max(_right(each.model) for each in one)}, two[0].steps - 1, two[0].model, TABLE.inputs
    )  # fmt: skip


@torch.no_grad()
def _right(model: nn.Module) -> float:
    """The part of the four rows."""
    said: Tensor = model.cpu()(TABLE.inputs).argmax(1)
    return (said == TABLE.targets).float().mean().item()
