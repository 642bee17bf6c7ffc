"""Figures to words, "1984" to "one thousand nine hundred eighty four": a small Transformer reads the one and writes the other."""

from __future__ import annotations

import os

import torch
from torch import nn

import noria
from noria.train import architectures
from noria.train.data import Batch
from noria.train.datasets import FIGURES, PAD, SPELLED, numbers
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import UNASKED, Sums, of_tokens
from noria.train.trainer import Trainer

STATED = {"exact": Goal(least=0.98)}


def translation(model: nn.Module, batch: Batch) -> Sums:
    """Each word is asked for with those before it at hand; what fills up a row is not asked for."""
    written, wanted = batch.targets[:, :-1], batch.targets[:, 1:]
    return of_tokens(model(batch.inputs, written), wanted.masked_fill(wanted == PAD, UNASKED), batch.weights)


def train(
    *, width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.0, epochs: int = 2, batch: int = 64, lr: float = 3e-3,
    weight_decay: float = 0.01, seed: int = 0,
) -> Trained:  # fmt: skip
    data = numbers()
    model = architectures.build(
        "translation", source_vocabulary=len(FIGURES), target_vocabulary=len(SPELLED), width=width, layers=layers, heads=heads,
        hidden=4 * width, dropout=dropout, longest=data.test.targets.shape[1] - 1,
    )  # fmt: skip
    result = Trainer(
        model, translation, epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed,
        clip=1.0,
    ).fit(data.train, data.validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    noria.log_dataset(data, "numbers")
    wanted = data.test.targets[:, 1:]
    with torch.no_grad():
        said = model(data.test.inputs)
    said = nn.functional.pad(said, (0, wanted.shape[1] - said.shape[1]), value=PAD)
    exact = (said == wanted).all(1).float().mean().item()
    return Trained(
        {"exact": exact, "val_loss": result.values["val_loss"]}, result.steps - 1, model, data.test.inputs, result.findings
    )
