"""What is copied badly is unlike the data: one digit told from all others. And all digits in two dimensions."""

from __future__ import annotations

import os

import torch
from torch import Tensor

import noria
from noria.train.architectures import build
from noria.train.data import Arrays
from noria.train.datasets import digits
from noria.train.figures import figure, rows
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.results import Result
from noria.train.schedules import one_cycle
from noria.train.steps import regression
from noria.train.trainer import Trainer

STATED = {"auc": Goal(least=0.98), "alike": Goal(least=0.5)}


def train(*, digit: int = 0, code: int = 16, epochs: int = 30, batch: int = 32, lr: float = 3e-3, seed: int = 0) -> Trained:
    """digit: the one that is learned alone. auc: how often another one is copied worse. alike: how often the nearest neighbour of a digit in
    two dimensions is the same digit; alike_pca: by the two principal components instead."""
    data = digits()

    def learned(scans: Tensor, hidden: list[int], code: int, epochs: int) -> Result:
        return Trainer(
            build("autoencoder", hidden=hidden, code=code), regression, epochs=epochs, batch=batch, optimizer=adamw(lr), schedule=one_cycle(),
            seed=seed,
        ).fit(Arrays(scans, scans))  # fmt: skip

    known, test, kinds = data.known, data.test.inputs, data.test.targets
    flat = learned(known.inputs, [256, 64], 2, epochs // 2)
    result = learned(known.inputs[known.targets == digit], [128], code, epochs)
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    with torch.no_grad():
        copies = model(test)
        places = flat.model.cpu().encode(test)  # type: ignore[operator]  # an autoencoder has it
    errors = (copies - test).square().flatten(1).mean(1)
    noria.log_figure(rows({"scans": test[:16], f"copied by who knows {digit} alone": copies[:16]}), "copies.png")
    _draw(places, kinds)
    axes = torch.linalg.svd(known.inputs.flatten(1) - known.inputs.flatten(1).mean(0), full_matrices=False).Vh[:2]
    values = {"auc": auc(errors[kinds == digit], errors[kinds != digit]), "alike": alike(places, kinds),
              "alike_pca": alike(test.flatten(1) @ axes.T, kinds)}  # fmt: skip
    return Trained(values, result.steps - 1, model, test, result.findings)


def auc(low: Tensor, high: Tensor) -> float:
    """How often a value of `high` is above one of `low`: the area under the ROC curve."""
    return (high[:, None] > low).float().mean().item()


def alike(places: Tensor, kinds: Tensor) -> float:
    """How often the nearest neighbour is of the same kind."""
    away = torch.cdist(places, places).fill_diagonal_(torch.inf)
    return (kinds[away.argmin(1)] == kinds).float().mean().item()


def _draw(places: Tensor, kinds: Tensor) -> None:
    drawn = figure(6, 5)
    axis = drawn.subplots()
    dots = axis.scatter(places[:, 0].numpy(), places[:, 1].numpy(), c=kinds.numpy(), s=8, cmap="tab10")
    axis.legend(*dots.legend_elements(), title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
    noria.log_figure(drawn, "places.png")
