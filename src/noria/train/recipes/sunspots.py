"""The sunspots of a year, forecast from the eleven years before it: against saying that all stays as it is."""

from __future__ import annotations

import os

import torch
from torch import Tensor

import noria
from noria.train import architectures
from noria.train.datasets import sunspots
from noria.train.figures import figure
from noria.train.optimizers import adamw
from noria.train.recipes import Goal, Trained
from noria.train.schedules import one_cycle
from noria.train.steps import regression
from noria.train.trainer import Trainer

STATED = {"part_of_naive": Goal(most=0.77)}


def train(
    *, cell: str = "gru", past: int = 132, width: int = 32, epochs: int = 6, batch: int = 32, lr: float = 3e-3, weight_decay: float = 0.01,
    seed: int = 0,
) -> Trained:  # fmt: skip
    data = sunspots(past)
    model = architectures.build(cell, task="forecast", width=width, horizon=data.test.horizon)
    result = Trainer(
        model, regression, epochs=epochs, batch=batch, optimizer=adamw(lr, weight_decay), schedule=one_cycle(), seed=seed,
        clip=1.0
    ).fit(data.train, data.validation)  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return Trained()
    model = result.model.cpu()
    noria.log_dataset(data, "sunspots", source="statsmodels")
    inputs, truth = data.test.gather(torch.arange(len(data.test)))
    with torch.no_grad():
        forecast: Tensor = model(inputs)
    naive = [inputs[:, -1:]]  # As now,
    if past >= 132:  # or as a cycle of eleven years ago.
        naive.append(inputs[:, past - 132 : past - 120])
    least = min(_rmse(each, truth) for each in naive) * data.std.item()
    rmse = _rmse(forecast, truth) * data.std.item()
    _draw(*(each[::12].flatten() * data.std + data.mean for each in (truth, forecast)))
    return Trained(
        {"rmse": rmse, "naive_rmse": least, "part_of_naive": rmse / least}, result.steps - 1, model, inputs, result.findings
    )


def _rmse(said: Tensor, truth: Tensor) -> float:
    return (said - truth).square().mean().sqrt().item()


def _draw(truth: Tensor, forecast: Tensor) -> None:
    """Year after year, each forecast from what was known at its beginning."""
    drawing = figure(10, 4)
    axes = drawing.add_subplot(xlabel="months of the test", ylabel="sunspots")
    axes.plot(truth, label="truth")
    axes.plot(forecast, label="forecast")
    axes.legend()
    noria.log_figure(drawing, "forecast.png")
