"""Digits that nobody wrote: a variational autoencoder, by what it takes to describe a digit that it has not seen."""

from __future__ import annotations

import os

import torch
from torch import Tensor

import noria
from noria.train.architectures import build
from noria.train.architectures.autoencoder import VAE
from noria.train.data import Arrays
from noria.train.datasets import digits
from noria.train.figures import rows
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import bound, variational
from noria.train.trainer import Trainer

STATED = {"nats": Goal(most=113)}


def train(*, hidden: int = 400, code: int = 20, epochs: int = 60, batch: int = 64, lr: float = 2e-3, seed: int = 0) -> Trained:
    """nats: for a digit of the test, by the bound, over ten draws of its code; nats_of_means: if each pixel were drawn by itself."""
    data = digits()
    model = build("vae", hidden=[hidden], code=code)
    scans, test = data.known.inputs, data.test.inputs
    result = Trainer(
        model, variational, epochs=epochs, batch=batch, optimizer=adamw(lr), schedule=one_cycle(), seed=seed
    ).fit(Arrays(scans, scans))  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    learned = result.model.cpu()
    assert isinstance(learned, VAE)
    drawn = torch.randn(32, code, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        pictures = learned.decode(drawn)
        copies = learned(test[:16]).copies
        nats = torch.stack([bound(learned.draw(test), test).sum(0).mean() for _ in range(10)]).mean().item()
    noria.log_figure(rows({"scans": test[:16], "copies": copies, "drawn": pictures[:16], "and more": pictures[16:]}), "drawn.png")
    values = {"nats": nats, "nats_of_means": _by_itself(scans, test)}
    return Trained(values, result.steps - 1, learned, test, result.findings)


def _by_itself(scans: Tensor, test: Tensor) -> float:
    """If all that is known of a digit is how often each pixel is lit."""
    often = scans.mean(0, keepdim=True).clamp(1e-3, 1 - 1e-3)
    return -(test * often.log() + (1 - test) * (1 - often).log()).flatten(1).sum(1).mean().item()
