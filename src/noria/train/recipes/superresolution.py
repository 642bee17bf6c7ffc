"""Photographs of twice as many pixels along a side: ESPCN says what bicubic interpolation misses."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import noria
from noria.train.architectures import build
from noria.train.augment import Both, Flip
from noria.train.data import Batch
from noria.train.datasets import sharpening
from noria.train.figures import rows
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import Sums
from noria.train.trainer import Trainer

STATED = {"gain_db": Goal(least=0.45)}


def train(
    *, side: int = 32, factor: int = 2, each: int = 200, epochs: int = 8, batch: int = 16, lr: float = 4e-3, seed: int = 0
) -> Trained:
    """each: patches of each of ten photographs. gain_db: by how much the signal stands further above the noise than in bicubic ones."""
    data = sharpening(side, factor, each)
    result = Trainer(
        build("superresolution", factor=factor, channels=3), missed, epochs=epochs, batch=batch, optimizer=adamw(lr, 0.0),
        schedule=one_cycle(), seed=seed, augment=Both(Flip()), clip=1.0,
    ).fit(data.train, data.validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model, small, sharp = result.model.cpu(), data.test.inputs, data.test.targets
    bicubic = larger(small, factor)
    with torch.no_grad():
        made = (bicubic + model(small)).clamp(0, 1)
    shown = torch.arange(0, len(small), len(small) // 10)
    pictures = {
        "given": small.repeat_interleave(factor, 2).repeat_interleave(factor, 3),
        "bicubic": bicubic,
        "network": made,
        "truth": sharp,
    }
    noria.log_figure(rows({name: each[shown] for name, each in pictures.items()}), "sharpened.png")
    ours, theirs = psnr(made, sharp).mean().item(), psnr(bicubic, sharp).mean().item()
    return Trained(
        {"psnr": ours, "bicubic_psnr": theirs, "gain_db": ours - theirs}, result.steps - 1, model, small, result.findings
    )


def missed(model: nn.Module, batch: Batch) -> Sums:
    """Minus the peak signal-to-noise ratio, of the bicubic picture and what the network adds to it: smooth pictures count as much as rough ones."""
    added = model(batch.inputs)
    made = larger(batch.inputs, added.shape[-1] // batch.inputs.shape[-1]) + added
    return -(psnr(made, batch.targets) * batch.weights).sum(), batch.weights.sum()


def larger(pictures: Tensor, factor: int) -> Tensor:
    return F.interpolate(pictures, scale_factor=factor, mode="bicubic").clamp(0, 1)


def psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Each picture's peak signal-to-noise ratio, in decibels."""
    ratios: Tensor = -10 * ((made - truth).square().flatten(1).mean(1) + 1e-7).log10()
    return ratios
