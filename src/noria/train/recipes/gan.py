"""Handwritten digits that nobody wrote, by a small DCGAN; with epochs=20 they are clean."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

import noria
from noria.client import fluent
from noria.train.architectures import build
from noria.train.data import Arrays, Batch
from noria.train.datasets import digits
from noria.train.figures import rows
from noria.train.recipes import Goal, Trained
from noria.train.schedules import warmup_stable_decay
from noria.train.steps import Sums
from noria.train.trainer import Trainer

STATED = {"late_loss": Goal(most=4.0), "largest_late_loss": Goal(most=20.0)}
LATENT = 32


def adversarial(model: nn.Module, batch: Batch) -> Sums:
    """Both parts' cross-entropy in nats: the discriminator's for real images (0.9, as Salimans and others 2016 soften it) and made ones, and the
    generator's for being taken for real."""
    found = model(torch.randn(len(batch.inputs), LATENT, device=batch.inputs.device), batch.inputs)

    def against(logits: torch.Tensor, truth: float) -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth), reduction="none")
        return (losses * batch.weights).sum()

    discriminator, generator = (against(found.real, 0.9) + against(found.fake, 0.0)) / 2, against(found.fooled, 1.0)
    return (
        discriminator + generator,
        batch.weights.sum(),
        {"discriminator": discriminator.detach(), "generator": generator.detach()},
    )


def train(*, width: int = 16, epochs: int = 5, batch: int = 32, lr: float = 1e-3, seed: int = 0) -> Trained:
    """late_loss: of both parts together, over the second half of the steps; when one part has won, the other's grows without end."""
    data, losses = digits(), dict[int, float]()

    def heard(values: Mapping[str, float], /, *, step: int) -> None:
        fluent.log(values, step=step)
        losses.update({step: values["loss"]} if "loss" in values else {})

    result = Trainer(
        build("dcgan", latent=LATENT, width=width, channels=1, side=32), adversarial, epochs=epochs, batch=batch,
        optimizer=lambda weights: torch.optim.Adam(weights, lr=lr, betas=(0.5, 0.999)), schedule=warmup_stable_decay(0.0, 0.3), seed=seed,
        ema=0.99, log=heard,
    ).fit(_bordered(data.known))  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    with torch.no_grad():
        noise = torch.randn(48, LATENT, generator=torch.Generator().manual_seed(seed))
        made = (model(noise) + 1) / 2
    noria.log_figure(rows({"made": made[:16], "": made[16:32], " ": made[32:], "real": data.test.inputs[:16]}), "made.png")
    late = [loss for step, loss in losses.items() if step >= result.steps // 2]
    return Trained(
        {"late_loss": sum(late) / len(late), "largest_late_loss": max(late)}, result.steps - 1, model, noise, result.findings
    )


def _bordered(scans: Arrays) -> Arrays:
    """To 32x32 and -1 to 1, as the generator makes them."""
    return Arrays(F.pad(scans.inputs, (2, 2, 2, 2)) * 2 - 1, scans.targets)
