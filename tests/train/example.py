"""A small training that the tests share, and that runs as a rank of its own: `python example.py FOLDER PLAN...`.

PLAN is JSON: arguments of Trainer, of one training after the other. `net` is a model of this file; with `stop`, the last rank sends itself
SIGTERM before that step. What comes of number n is in FOLDER/n.pt, its checkpoints are in FOLDER/n or where `folder` says.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noria.train import architectures
from noria.train.augment import Jitter
from noria.train.data import Arrays, Batch
from noria.train.dropout import Dropout
from noria.train.optimizers import adamw
from noria.train.schedules import one_cycle
from noria.train.steps import Sums, classification, tokens
from noria.train.trainer import Trainer


def arrays(size: int, seed: int) -> Arrays:
    """Images of 18x18 whose class is the third that is brightest."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (size,), generator=generator)
    images = torch.rand(size, 1, 18, 18, generator=generator)
    for third in range(3):
        images[targets == third, :, 6 * third : 6 * third + 6] += 0.3
    return Arrays(images, targets)


torch.set_num_threads(1)  # Several threads gain nothing on 8 images, and repeat sums in another order.


TRAIN, VALIDATION = arrays(50, 1), arrays(31, 2)


def model(dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(3)
    return architectures.build("cnn", width=4, num_classes=3, side=18, dropout=dropout)


def mlp() -> torch.nn.Module:
    """What every layout can take: three pairs of linear layers in a row of their own, between which features are dropped."""
    torch.manual_seed(3)
    blocks = [
        torch.nn.Sequential(torch.nn.Linear(324, 32), torch.nn.GELU(), Dropout(0.2), torch.nn.Linear(32, 324)) for _ in range(3)
    ]
    return torch.nn.Sequential(torch.nn.Flatten(), *blocks, Dropout(0.1), torch.nn.LayerNorm(324), torch.nn.Linear(324, 3))


def gpt() -> torch.nn.Module:
    """The same for what says the next token. Attention drops by torch's own stream, which each process has for itself."""
    torch.manual_seed(3)
    net = architectures.build("gpt", vocabulary=11, context=16, width=16, layers=3, heads=2, tied=False)
    for block in net.transformer.h:
        block.attn.dropout = 0.0
    return net


def sentences(size: int, seed: int) -> Arrays:
    """Each token is the sum of the two before it."""
    rows = torch.randint(0, 11, (size, 17), generator=torch.Generator().manual_seed(seed))
    for place in range(2, 17):
        rows[:, place] = (rows[:, place - 1] + rows[:, place - 2]) % 11
    return Arrays(rows[:, :-1], rows[:, 1:])


def images() -> tuple[Arrays, Arrays]:
    return TRAIN, VALIDATION


def texts() -> tuple[Arrays, Arrays]:
    return sentences(50, 1), sentences(31, 2)


NETS = {"cnn": (model, images, classification), "mlp": (mlp, images, classification), "gpt": (gpt, texts, tokens)}
"""By name: what makes the model and the data, and the step."""


def trainer(net: torch.nn.Module, **changes: Any) -> Trainer:
    """3 epochs of 7 steps; the last batch of an epoch has 2 examples of 8."""
    usual: dict[str, Any] = {"epochs": 3, "batch": 8, "optimizer": adamw(3e-3), "schedule": one_cycle(), "augment": Jitter(),
                             "log": None, "rewind": None, "progress": None}  # fmt: skip
    return Trainer(net, **{"step": classification, **usual, **changes})


def run(folder: Path, number: int, plan: dict[str, Any]) -> None:
    stop, seen = plan.pop("stop", None), 0
    make, data, judge = NETS[plan.pop("net", "cnn")]
    if "thaw" in plan:
        plan["thaw"] = {int(epoch): names for epoch, names in plan["thaw"].items()}  # JSON has no numbers for keys.
    rank, last = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)) - 1
    losses: dict[int, float] = {}

    def step(model: torch.nn.Module, batch: Batch) -> Sums:
        nonlocal seen
        seen += model.training
        if rank == last and seen == stop:
            signal.raise_signal(signal.SIGTERM)
        return judge(model, batch)

    def log(values: Mapping[str, float], /, *, step: int) -> None:
        if "loss" in values:
            losses[step] = values["loss"]

    place = folder / plan.pop("folder", str(number))
    result = trainer(make(), step=step, folder=place, log=log, **plan).fit(*data())
    if rank == 0:
        found = {"weights": result.model.state_dict(), "values": result.values, "losses": losses}
        torch.save(found, folder / f"{number}.pt")


def main() -> None:
    folder, *plans = sys.argv[1:]
    for number, plan in enumerate(plans):
        run(Path(folder), number, json.loads(plan))


if __name__ == "__main__":
    main()
