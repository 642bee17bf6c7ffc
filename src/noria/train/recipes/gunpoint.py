"""Two films in a hundred and fifty numbers each: does the hand hold a gun, or only point? A recurrent network, `cell` says which."""

from __future__ import annotations

import os

import noria
from noria.errors import Invalid
from noria.train import architectures
from noria.train.data import Arrays
from noria.train.datasets import ucr
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import classification
from noria.train.trainer import Trainer, evaluate

STATED = {"test_accuracy": Goal(least=0.92)}


def train(
    *, cell: str = "gru", at_once: int = 5, width: int = 32, layers: int = 1, bidirectional: bool = True, epochs: int = 100, batch: int = 10,
    lr: float = 5e-3, weight_decay: float = 0.01, seed: int = 0,
) -> Trained:  # fmt: skip
    data = ucr("GunPoint")
    train, validation, test = (_bundled(part, at_once) for part in (data.train, data.validation, data.test))
    model = architectures.build(
        cell,
        task="classify",
        inputs=at_once,
        width=width,
        layers=layers,
        bidirectional=bidirectional,
        num_classes=len(data.classes),
    )
    result = Trainer(
        model, classification, epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed, clip=1.0,
        monitor="val_loss",
    ).fit(train, validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    noria.log_dataset(data, "GunPoint")
    found = evaluate(model, classification, test)
    return Trained(
        {"test_accuracy": found["accuracy"], "test_loss": found["loss"]}, result.steps - 1, model, test.inputs, result.findings
    )


def _bundled(part: Arrays, each: int) -> Arrays:
    """So many numbers at once: the fewer steps there are, the less is forgotten from the first to the last."""
    length = part.inputs.shape[1]
    if each < 1 or length % each:
        raise Invalid(f"A series of {length} numbers cannot be read {each} at once.", "Use a number that divides it, such as 5.")
    return Arrays(part.inputs.reshape(len(part), -1, each), part.targets)
