"""Handwritten digits by the tutorials' network, turned and shifted a little: 4,000 of MNIST's to learn from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import noria
from noria.train import architectures
from noria.train.augment import Jitter
from noria.train.datasets import Splits
from noria.train.datasets import digits as scans
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import classification
from noria.train.trainer import Trainer, evaluate

STATED = {"test_accuracy": Goal(least=0.98)}


def train(
    *, architecture: str = "cnn", width: int = 32, dropout: float = 0.25, epochs: int = 13, batch: int = 64, lr: float = 4e-3,
    weight_decay: float = 0.01, degrees: float = 15.0, pixels: float = 2.0, patience: int | None = None,
    validate: bool = False, max_examples: int | None = None, seed: int = 0,
) -> Trained:  # fmt: skip
    """validate: keep 500 of the digits to choose the best epoch by, as `patience` does; else they are learned from too."""
    data, choose = scans(), validate or patience is not None
    known = data.train if choose else data.known
    extra = {"dropout": dropout} if architecture == "cnn" else {}
    model = architectures.build(architecture, width=width, **extra)
    if os.environ.get("RANK", "0") == "0":
        noria.log_dataset(data, "mnist-5k")
    result = Trainer(
        model, classification, epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed,
        augment=Jitter(degrees, pixels), clip=1.0, ema=0.98, patience=patience,
    ).fit(known.part(0, max_examples or len(known)), data.validation if choose else None)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    found = evaluate(model, classification, data.test)
    _keep_predictions(model, data)
    values = {"test_accuracy": found["accuracy"], "test_loss": found["loss"]}
    return Trained(values, result.steps - 1, model, data.test.inputs, result.findings)


@torch.no_grad()
def _keep_predictions(model: torch.nn.Module, data: Splits) -> None:
    """Log held_out.json: what the model says about each held-out digit. A promotion gate compares two runs' by it."""
    predicted = model(data.test.inputs).argmax(1)
    content = {"dataset": "mnist-5k", "digest": data.digest, "split": "test", "predicted": predicted.tolist(),
               "correct": (predicted == data.test.targets).tolist()}  # fmt: skip
    with TemporaryDirectory() as folder:
        file = Path(folder) / "held_out.json"
        file.write_text(json.dumps(content))
        noria.log_artifact(file)
