"""Handwritten digits on photographs: which pixels are of a digit, by a small U-Net."""

from __future__ import annotations

import os

import torch
from torch import Tensor

import noria
from noria.train.architectures import build
from noria.train.data import Arrays
from noria.train.datasets import segments
from noria.train.figures import rows
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import segmentation
from noria.train.trainer import Trainer

STATED = {"mean_iou": Goal(least=0.8)}


def train(
    *, side: int = 32, width: int = 8, depth: int = 3, epochs: int = 2, batch: int = 16, lr: float = 4e-3, seed: int = 0
) -> Trained:
    """mean_iou: of pixels of a digit and of the others, those that are rightly said to be by those that are said to be or are; the mean."""
    data = segments(side)
    train, validation, test = (
        Arrays(part.inputs, (part.targets > 0).long()) for part in (data.train, data.validation, data.test)
    )
    result = Trainer(
        build("unet", channels=3, width=width, depth=depth), segmentation, epochs=epochs, batch=batch,
        optimizer=adamw(lr), schedule=one_cycle(), seed=seed, clip=1.0, ema=0.98,
    ).fit(train, validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    with torch.no_grad():
        said = torch.cat([model(part).argmax(1) for part in test.inputs.chunk(4)])
    shown = {"photographs": test.inputs, "truth": test.targets[:, None], "network": said[:, None]}
    noria.log_figure(rows({name: each[:12] for name, each in shown.items()}), "segments.png")
    return Trained({"mean_iou": iou(said, test.targets, 2).mean().item()}, result.steps - 1, model, test.inputs, result.findings)


def iou(said: Tensor, truth: Tensor, classes: int) -> Tensor:
    """float32 [classes]: intersection over union, over all pixels."""
    pairs = torch.bincount(truth.flatten() * classes + said.flatten(), minlength=classes**2).view(classes, classes).float()
    both = pairs.diag()
    return both / (pairs.sum(0) + pairs.sum(1) - both).clamp(min=1)
