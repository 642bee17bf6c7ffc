"""Digits that nobody named: an autoencoder brings them to ten numbers each, and k-means finds groups among these."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

import noria
from noria.train import architectures
from noria.train.data import Arrays, seeded
from noria.train.datasets import digits
from noria.train.figures import figure
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import regression
from noria.train.trainer import Trainer

STATED = {"purity": Goal(least=0.55), "adjusted_rand": Goal(least=0.33)}


def train(
    *, code: int = 10, width: int = 256, groups: int = 10, epochs: int = 20, batch: int = 64, lr: float = 2e-3, weight_decay: float = 0.01,
    seed: int = 0,
) -> Trained:  # fmt: skip
    data = digits()
    model = architectures.build("autoencoder", hidden=[width, width], code=code)
    train, validation = (Arrays(part.inputs, part.inputs) for part in (data.train, data.validation))
    result = Trainer(
        model, regression, epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed, clip=1.0,
    ).fit(train, validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    noria.log_dataset(data, "mnist-5k")
    with torch.no_grad():
        learned, held = (model.get_submodule("encoder")(part.inputs) for part in (data.train, data.test))
    _draw(held, data.test.targets)
    found = nearest(held, means(learned, groups, seed))
    raw = nearest(data.test.inputs.flatten(1), means(data.train.inputs.flatten(1), groups, seed))
    values = {"purity": purity(found, data.test.targets), "adjusted_rand": adjusted_rand(found, data.test.targets),
              "purity_of_pixels": purity(raw, data.test.targets)}  # fmt: skip
    return Trained(values, result.steps - 1, model, data.test.inputs, result.findings)


def means(points: Tensor, count: int, seed: int, tries: int = 10, rounds: int = 50) -> Tensor:
    """The centres [count, values] of so many groups that lie closest around them (Lloyd 1982), the best of several tries."""
    chance = seeded(seed, "means")
    found = [points[torch.randperm(len(points), generator=chance)[:count]] for _ in range(tries)]
    for _ in range(rounds):
        groups = [nn.functional.one_hot(nearest(points, centres), count).float() for centres in found]
        found = [group.T @ points / group.sum(0)[:, None].clamp(min=1) for group in groups]
    return min(found, key=lambda centres: torch.cdist(points, centres).amin(1).square().sum())


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres).argmin(1)


def purity(groups: Tensor, classes: Tensor) -> float:
    """The part that has the class most of its group has."""
    return _table(groups, classes).amax(1).sum().item() / len(classes)


def adjusted_rand(groups: Tensor, classes: Tensor) -> float:
    """Of all pairs, whether both divisions put them together or both apart: 1 if always, 0 if as by chance (Hubert and Arabie 1985)."""
    table = _table(groups, classes)
    both, left, right = (_pairs(each).sum().item() for each in (table, table.sum(1), table.sum(0)))
    chance = left * right / _pairs(table.sum()).item()
    return (both - chance) / ((left + right) / 2 - chance)


def _table(groups: Tensor, classes: Tensor) -> Tensor:
    """How many are in each group and of each class."""
    wide = int(classes.max()) + 1
    return torch.bincount(groups * wide + classes, minlength=(int(groups.max()) + 1) * wide).reshape(-1, wide).double()


def _pairs(counts: Tensor) -> Tensor:
    return counts * (counts - 1) / 2


def _draw(codes: Tensor, classes: Tensor) -> None:
    """Along the two directions in which the codes differ most."""
    flat = (codes - codes.mean(0)) @ torch.linalg.svd(codes - codes.mean(0), full_matrices=False).Vh[:2].T
    drawing = figure(7, 6)
    axes = drawing.add_subplot()
    dots = axes.scatter(flat[:, 0], flat[:, 1], c=classes, cmap="tab10", s=8)
    drawing.colorbar(dots, label="digit")
    noria.log_figure(drawing, "embedding.png")
