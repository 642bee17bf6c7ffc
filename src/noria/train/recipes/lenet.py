"""Handwritten digits by LeNet-5, ten times over 4,000 of MNIST's, shifted and turned a little."""

from __future__ import annotations

import os

from noria.train.architectures import build
from noria.train.augment import Jitter
from noria.train.datasets import digits
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import classification
from noria.train.trainer import Trainer, evaluate

STATED = {"test_accuracy": Goal(least=0.96)}


def train(
    *, epochs: int = 10, batch: int = 64, lr: float = 5e-3, weight_decay: float = 0.01, degrees: float = 10.0, pixels: float = 1.0,
    ema: float = 0.98, seed: int = 0,
) -> Trained:  # fmt: skip
    data = digits()
    result = Trainer(
        build("lenet"), epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed,
        augment=Jitter(degrees, pixels), ema=ema,
    ).fit(data.known)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    found = evaluate(model, classification, data.test)
    return Trained(
        {"test_accuracy": found["accuracy"], "test_loss": found["loss"]},
        result.steps - 1,
        model,
        data.test.inputs,
        result.findings,
    )
